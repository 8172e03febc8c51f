"""Getting connected: names, sockets, deadlines and TLS; and what is left behind when that fails."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

import httpio.dial
from conftest import Authority
from httpio import ConnectionClosed, ConnectionTimedOut, DNSUnavailable, HostnameNotResolvable, HTTPConnection
from httpio.waiting import run
from servers.scripted import Peer, Scripted, answers, server_context


@pytest.fixture(autouse=True)
def no_socket_is_left() -> Iterator[None]:
    """Every test closes what it has opened, also where connecting fails."""
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    yield
    if before:
        for _ in range(200):  # a thread that looks a name up may just be ending
            if len(os.listdir("/proc/self/fd")) <= before:
                break
            time.sleep(0.01)
        assert len(os.listdir("/proc/self/fd")) <= before


def one_exchange(conn: HTTPConnection) -> None:
    with conn:
        conn.send_request("GET", "/a")
        assert conn.read_response().status == 200
        assert conn.readall() == b"/a"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST"])
def test_hosts(host: str) -> None:
    with Scripted(answers) as server:
        one_exchange(HTTPConnection(host, server.port, timeout=20, connect_timeout=20))
        assert server.seen[0].field("Host") == f"{host.lower()}:{server.port}"


def test_unix_socket(tmp_path: Path, authority: Authority) -> None:
    for number, tls in enumerate((False, True)):
        path = tmp_path / f"socket{number}"
        context = server_context(authority.chain, authority.key) if tls else None
        client = ssl.create_default_context(cafile=authority.ca) if tls else None
        with Scripted(answers, context, path) as server:
            one_exchange(HTTPConnection("localhost", None, client, unix_socket=path, timeout=20))
            one_exchange(HTTPConnection("localhost", None, client, unix_socket=str(path), timeout=20))
            assert server.seen[0].field("Host") == "localhost"


def test_unix_socket_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        HTTPConnection("h", unix_socket=tmp_path / "none").connect()


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="elsewhere the kernel says ECONNREFUSED")
def test_unix_socket_with_a_full_queue(tmp_path: Path) -> None:
    """It waits or fails, but does not turn in circles."""
    path = str(tmp_path / "full")
    waiting = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        code = 0
        while code == 0 and len(waiting) < 100:
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            code = waiting[-1].connect_ex(path)
        assert code == errno.EAGAIN
        step = HTTPConnection("h", unix_socket=path, connect_timeout=0.5).co_connect()
        try:
            with pytest.raises(OSError):  # noqa: PT011 - ConnectionTimedOut is one, too
                assert [need.poll() for need in itertools.islice(step, 1000)] == []
        finally:
            step.close()
            for sock in waiting:
                sock.close()


def refused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_refused() -> None:
    conn = HTTPConnection("127.0.0.1", refused_port(), timeout=20)
    for call in (conn.connect, lambda: conn.send_request("GET", "/")):
        with pytest.raises(ConnectionRefusedError) as caught:
            call()
        assert caught.value.errno == errno.ECONNREFUSED
        assert not conn.response_pending()


def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = refused_port()

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", number)) for number in (bad, bad, port)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with Scripted(answers) as server:
        one_exchange(HTTPConnection("many.example", server.port, timeout=20))
        assert server.connections == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (socket.EAI_NONAME, HostnameNotResolvable),
        (socket.EAI_AGAIN, DNSUnavailable),
        (socket.EAI_FAIL, DNSUnavailable),
    ],
)
def test_names_that_are_not_found(code: int, kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(code, "no")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(kind, match=r"some\.example") as caught:
        HTTPConnection("some.example", timeout=20).connect()
    assert isinstance(caught.value.__cause__, socket.gaierror)
    assert caught.value.where == "connecting"  # type: ignore[attr-defined]


def test_a_look_up_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def look_up(*_: Any, **__: Any) -> list[Any]:
        over.wait(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(ConnectionTimedOut) as caught:
        HTTPConnection("slow.example", connect_timeout=0.1).connect()
    assert caught.value.where == "connecting"
    step = HTTPConnection("slow.example").co_connect()
    next(step)
    step.close()
    over.set()


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="a full queue drops connects on Linux only")
def test_a_connect_that_takes_too_long() -> None:
    waiting = []
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        for _ in range(4):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(listener.getsockname())
        conn = HTTPConnection("127.0.0.1", listener.getsockname()[1], connect_timeout=0.2)
        begun = time.monotonic()
        with pytest.raises(ConnectionTimedOut) as caught:
            conn.send_request("GET", "/")
        assert time.monotonic() - begun >= 0.2
        assert caught.value.where == "connecting"
        assert isinstance(caught.value, TimeoutError)
        step = conn.co_connect()
        next(step)
        step.close()
        for sock in waiting:
            sock.close()


def test_the_kernels_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(socket.socket):
        def connect_ex(self, address: Any) -> int:
            return errno.ETIMEDOUT

    monkeypatch.setattr(httpio.dial.socket, "socket", Slow)
    with pytest.raises(ConnectionTimedOut) as caught:
        run(httpio.dial.co_dial("127.0.0.1", 1))
    assert isinstance(caught.value.__cause__, OSError)


def test_source_address_and_options() -> None:
    with Scripted(answers) as server:
        conn = HTTPConnection(
            "127.0.0.1", server.port, timeout=20, source_address=("127.0.0.2", 0),
            socket_options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)],
        )  # fmt: skip
        with conn:
            conn.connect()
            sock = conn._link.transport.socket  # type: ignore[union-attr]
            assert sock.getsockname()[0] == "127.0.0.2"
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert conn.fileno() == sock.fileno()


# -- TLS --


def strangers(authority: Authority) -> dict[str, tuple[str, ssl.SSLContext]]:
    """Hosts and contexts for which the authority's server cannot be verified."""
    other = ssl.create_default_context()
    trustme.CA().configure_trust(other)
    return {
        "unknown authority": ("localhost", other),
        "no authority": ("localhost", ssl.create_default_context()),
        "other name": ("wrong.localhost", ssl.create_default_context(cafile=authority.ca)),
        "other address": ("127.0.0.3", ssl.create_default_context(cafile=authority.ca)),
    }


@pytest.mark.parametrize("kind", ["unknown authority", "no authority", "other name", "other address"])
def test_what_cannot_be_verified_gets_no_byte_of_a_request(
    kind: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = []

    def script(peer: Peer) -> None:
        try:
            peer.drain()
        finally:
            received.append(bytes(peer.buffer))

    look_up = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, port, **options: look_up("127.0.0.1", port, **options)
    )
    host, context = strangers(authority)[kind]
    with Scripted(script, server_context(authority.chain, authority.key)) as server:
        port = server.port
        if kind == "other address":  # the server listens on 127.0.0.1 only
            monkeypatch.setattr(httpio.dial, "_co_resolve", no_look_up)
        conn = HTTPConnection(host, port, context, timeout=20)
        for _ in range(2):
            with pytest.raises(ssl.SSLCertVerificationError):
                conn.send_request("GET", "/secret", {"Authorization": "secret"})
        assert not conn.response_pending()
        with pytest.raises(ssl.SSLCertVerificationError):
            next(conn.pipeline(["/secret"]))
        conn.close()
        server.settle(3)
        assert all(data == b"" for data in received)
        assert server.seen == []


def no_look_up(host: str, port: int, deadline: float | None) -> Iterator[Any]:
    yield from ()
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@pytest.mark.parametrize("when", ["at once", "after the hello"])
@pytest.mark.parametrize("end", ["finish", "reset"])
def test_the_peer_goes_away_in_the_handshake(when: str, end: str, authority: Authority) -> None:
    def script(peer: Peer) -> None:
        if when != "at once":
            peer.receive()
        getattr(peer, end)()

    context = ssl.create_default_context(cafile=authority.ca)
    with Scripted(script) as server:
        conn = HTTPConnection("127.0.0.1", server.port, context, timeout=20, connect_timeout=20)
        for call in (conn.connect, lambda: conn.send_request("GET", "/")):
            with pytest.raises(ConnectionClosed) as caught:
                call()
            assert caught.value.where in ("connecting", None)
            assert isinstance(caught.value.__cause__, OSError)


def test_a_peer_that_does_not_speak_tls(authority: Authority) -> None:
    def script(peer: Peer) -> None:
        peer.receive()
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    context = ssl.create_default_context(cafile=authority.ca)
    with Scripted(script) as server, pytest.raises(ssl.SSLError):
        HTTPConnection("127.0.0.1", server.port, context, timeout=20).connect()


def test_a_handshake_that_takes_too_long(authority: Authority) -> None:
    context = ssl.create_default_context(cafile=authority.ca)
    with Scripted(lambda peer: peer.drain()) as server:
        conn = HTTPConnection("127.0.0.1", server.port, context, connect_timeout=0.2)
        with pytest.raises(ConnectionTimedOut) as caught:
            conn.connect()
        assert caught.value.where == "connecting"
        step = conn.co_connect()
        for _ in range(2):
            next(step)
        step.close()


def test_a_reset_that_comes_with_the_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the reset is met by the connect or by the first call after it is a matter of time: the same error."""

    def connect_ex(sock: socket.socket, address: object) -> int:
        return errno.ECONNRESET

    monkeypatch.setattr(socket.socket, "connect_ex", connect_ex)
    with pytest.raises(ConnectionClosed) as caught:
        HTTPConnection("127.0.0.1", 1).connect()
    assert caught.value.where == "connecting"
    assert isinstance(caught.value.__cause__, ConnectionResetError)
