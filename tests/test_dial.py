"""Getting connected: names, sockets, deadlines and TLS; and what is left behind when that fails."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

import httpio.dial
from conftest import Authority
from fake_network import black_hole, needs_black_hole, no_descriptor_is_left
from httpio import ConnectionClosed, ConnectionTimedOut, DNSUnavailable, HostnameNotResolvable, HTTPConnection
from httpio.dial import Attempt, co_dial
from httpio.messages import Lenient, Limits
from httpio.reaching import Acquaintance, Target, co_reach
from httpio.tls import co_secure
from httpio.transport import Transport
from httpio.waiting import POLLIN, PollNeeded, Step, run
from servers.scripted import Peer, Scripted, answers, server_context


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    with no_descriptor_is_left():
        yield


def reach(
    host: str, port: int, context: ssl.SSLContext | None = None, attempt: Attempt | None = None
) -> Step[Transport]:
    """The name, the connect, and TLS where there is a *context*."""
    target = Target(
        host=host,
        port=port,
        defaults=(),
        ssl_context=context,
        unix_socket=None,
        source_address=None,
        socket_options=(),
        limits=Limits(),
        lenient=Lenient(0),
    )
    return co_reach(target, Attempt() if attempt is None else attempt, Acquaintance())


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


@pytest.fixture
def refused_port() -> Iterator[int]:
    """A port that nobody listens at, and nobody else is given."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield int(sock.getsockname()[1])


def test_refused(refused_port: int) -> None:
    conn = HTTPConnection("127.0.0.1", refused_port, timeout=20)
    for call in (conn.connect, lambda: conn.send_request("GET", "/")):
        with pytest.raises(ConnectionRefusedError) as caught:
            call()
        assert caught.value.errno == errno.ECONNREFUSED
        assert not conn.response_pending()


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


@pytest.mark.parametrize(
    ("code", "known", "kind", "asked"),
    [
        (socket.EAI_NONAME, ["one", "two"], HostnameNotResolvable, ["one"]),
        (socket.EAI_NONAME, ["two"], HostnameNotResolvable, ["one", "two"]),
        (socket.EAI_NONAME, [], DNSUnavailable, ["one", "two"]),
        (socket.EAI_AGAIN, ["one", "two"], DNSUnavailable, []),
    ],
)
def test_names_to_test_the_name_service_by(
    code: int, known: list[str], kind: type[Exception], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        seen.append((host, port))
        if host in known:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        raise socket.gaierror(code, "no")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(HostnameNotResolvable if code == socket.EAI_NONAME else DNSUnavailable):
        run(co_dial("some.example", 80))
    assert seen == [("some.example", 80)]
    monkeypatch.setattr(httpio.dial, "DNS_TEST_HOSTNAMES", [("one", 1), ("two", 1)])
    with pytest.raises(kind, match=r"some\.example") as caught:
        run(co_dial("some.example", 80))
    assert seen[1:] == [("some.example", 80), *((name, 1) for name in asked)]
    assert isinstance(caught.value.__cause__, socket.gaierror)
    assert caught.value.__cause__.errno == code


def test_a_look_up_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="thread"):
        run(co_dial("some.example", 80))


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


@needs_black_hole
def test_a_connect_that_takes_too_long() -> None:
    with black_hole() as port:
        conn = HTTPConnection("127.0.0.1", port, connect_timeout=0.2)
        begun = time.monotonic()
        with pytest.raises(ConnectionTimedOut) as caught:
            conn.send_request("GET", "/")
        assert time.monotonic() - begun >= 0.2
        assert caught.value.where == "connecting"
        assert isinstance(caught.value, TimeoutError)
        conn.connect_timeout = None
        step = conn.co_connect()
        next(step)
        step.close()


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

    all_lead_here(monkeypatch)
    host, context = strangers(authority)[kind]
    with Scripted(script, server_context(authority.chain, authority.key)) as server:
        conn = HTTPConnection(host, server.port, context, timeout=20)
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


def all_lead_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """All names and addresses lead to 127.0.0.1."""
    look_up, connect_ex = socket.getaddrinfo, socket.socket.connect_ex
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, **options: look_up("127.0.0.1", port, **options))
    monkeypatch.setattr(socket.socket, "connect_ex", lambda sock, address: connect_ex(sock, ("127.0.0.1", address[1])))


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
        conn.connect_timeout = None
        step = conn.co_connect()
        for _ in range(2):
            next(step)
        step.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ETIMEDOUT, "too long"), ConnectionTimedOut),
        (OSError(errno.EHOSTUNREACH, "no way"), ConnectionClosed),
        (OSError(errno.ENOTCONN, "gone"), ConnectionClosed),
        (ssl.SSLSyscallError(5, "gone"), ConnectionClosed),
        (ssl.SSLError(1, "wrong version"), ssl.SSLError),
    ],
)
def test_errors_in_the_handshake(
    error: OSError, kind: type[OSError], authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: ssl.SSLSocket, *_: Any) -> None:
        raise error

    context = ssl.create_default_context(cafile=authority.ca)
    with Scripted(lambda peer: peer.drain()) as server:
        monkeypatch.setattr(ssl.SSLSocket, "do_handshake", fail)
        with pytest.raises(kind) as caught:
            run(reach("127.0.0.1", server.port, context))
    if kind is ssl.SSLError:
        assert caught.value is error
    else:
        assert caught.value.where == "connecting"  # type: ignore[attr-defined]
        assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("data", [b"", b"x"])
def test_a_reset_between_the_connect_and_the_handshake(data: bytes, authority: Authority) -> None:
    connected = threading.Event()

    def script(peer: Peer) -> None:
        connected.wait(20)
        peer.send(data)
        peer.reset()

    context = ssl.create_default_context(cafile=authority.ca)
    with Scripted(script) as server:
        sock = run(co_dial("127.0.0.1", server.port))
        connected.set()
        server.settle(1)
        assert PollNeeded(sock.fileno(), 0).poll(20)  # which it always says: the connection has ended
        with pytest.raises(ConnectionClosed) as caught:
            run(co_secure(Transport(sock), context, "localhost", Attempt()))
    assert caught.value.where == "connecting"
    assert isinstance(caught.value.__cause__, OSError)


def test_a_reset_that_comes_with_the_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the reset is met by the connect or by the first call after it is a matter of time: the same error."""

    def connect_ex(sock: socket.socket, address: object) -> int:
        return errno.ECONNRESET

    monkeypatch.setattr(socket.socket, "connect_ex", connect_ex)
    with pytest.raises(ConnectionClosed) as caught:
        HTTPConnection("127.0.0.1", 1).connect()
    assert caught.value.where == "connecting"
    assert isinstance(caught.value.__cause__, ConnectionResetError)


# -- aborting --


def slow_look_up(monkeypatch: pytest.MonkeyPatch, stack: contextlib.ExitStack) -> None:
    over = threading.Event()
    stack.callback(over.set)

    def look_up(*_: Any, **__: Any) -> list[Any]:
        over.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 9))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.fixture(params=["looking up", pytest.param("connecting", marks=needs_black_hole), "shaking hands"])
def endless(
    request: pytest.FixtureRequest, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Attempt], Step[Transport]]]:
    """A function that begins to dial, which waits for ever in the named phase."""
    with contextlib.ExitStack() as stack:
        context = None
        if request.param == "looking up":
            slow_look_up(monkeypatch, stack)
            host, port = "slow.example", 80
        elif request.param == "connecting":
            host, port = "127.0.0.1", stack.enter_context(black_hole())
        else:
            server = stack.enter_context(Scripted(lambda peer: peer.drain()))
            host, port = "127.0.0.1", server.port
            context = ssl.create_default_context(cafile=authority.ca)
        yield lambda attempt: reach(host, port, context, attempt)


def last_wait(step: Step[Transport]) -> PollNeeded:
    """Go on until the step waits for what does not happen."""
    for need in step:
        if not need.poll(0.05):
            return need
    raise AssertionError("it has ended")


def assert_aborted(step: Step[Transport]) -> None:
    """It says so without another wait."""
    with pytest.raises(ConnectionClosed, match="aborted") as caught:
        next(step)
    assert caught.value.where == "connecting"
    assert caught.value.errno is None


def test_abort_wakes_a_thread_that_waits(endless: Callable[[Attempt], Step[Transport]]) -> None:
    for _ in range(5):
        attempt, waiting = Attempt(), threading.Event()
        errors: list[BaseException] = []

        def wait(step: Step[Transport], waiting: threading.Event, errors: list[BaseException]) -> None:
            try:
                for need in step:
                    waiting.set()
                    need.poll(20)
            except BaseException as exc:
                errors.append(exc)

        thread = threading.Thread(target=wait, args=(endless(attempt), waiting, errors))
        thread.start()
        assert waiting.wait(20)
        begun = time.monotonic()
        attempt.abort()
        thread.join(30)
        assert time.monotonic() - begun < 20
        assert isinstance(errors[0], ConnectionClosed)
        assert errors[0].where == "connecting"


def test_abort_before_it_begins(endless: Callable[[Attempt], Step[Transport]]) -> None:
    attempt = Attempt()
    attempt.abort()
    attempt.abort()
    assert_aborted(endless(attempt))


def test_abort_between_two_waits(endless: Callable[[Attempt], Step[Transport]]) -> None:
    attempt = Attempt()
    step = endless(attempt)
    need = last_wait(step)
    attempt.abort()
    assert need.poll(20)
    assert_aborted(step)


def test_abort_of_a_step_that_was_closed(endless: Callable[[Attempt], Step[Transport]]) -> None:
    attempt = Attempt()
    step = endless(attempt)
    last_wait(step)
    step.close()
    attempt.abort()
    assert attempt.aborted


@pytest.mark.parametrize("code", [0, errno.ECONNREFUSED, errno.EINPROGRESS])
def test_abort_while_nothing_waits(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other address is tried, no wait begun, and no socket handed out."""
    attempt = Attempt()
    calls = []

    def connect_ex(sock: socket.socket, address: Any) -> int:
        calls.append(address)
        attempt.abort()
        return code

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        addresses = [("127.0.0.1", port), ("127.0.0.2", port)]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket.socket, "connect_ex", connect_ex)
    step = reach("many.example", 1, None, attempt)
    with pytest.raises(ConnectionClosed, match="aborted"):
        assert all(need.mask == POLLIN and need.poll(20) for need in step)  # no more than the look-up
    assert len(calls) == 1


def test_abort_in_the_last_moment(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = Attempt()
    shake = ssl.SSLSocket.do_handshake

    def do_handshake(sock: ssl.SSLSocket) -> None:
        shake(sock)
        attempt.abort()

    monkeypatch.setattr(ssl.SSLSocket, "do_handshake", do_handshake)
    client = ssl.create_default_context(cafile=authority.ca)
    with Scripted(answers, server_context(authority.chain, authority.key)) as server:
        with pytest.raises(ConnectionClosed, match="aborted"):
            run(reach("127.0.0.1", server.port, client, attempt))
        server.settle(1)


def test_abort_leaves_a_socket_that_was_handed_out_alone() -> None:
    attempt = Attempt()
    with Scripted(answers) as server, run(co_dial("127.0.0.1", server.port, attempt=attempt)) as sock:
        attempt.abort()
        sock.settimeout(20)
        sock.sendall(b"GET /a HTTP/1.1\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 200")


# -- the log --


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "httpio.dial"]


def test_the_log_of_a_connect(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    client = ssl.create_default_context(cafile=authority.ca)
    with Scripted(answers, server_context(authority.chain, authority.key)) as server:
        run(reach("localhost", server.port, client)).drop()
        assert logged(caplog) == []
        with caplog.at_level(logging.DEBUG, "httpio.dial"):
            transport = run(reach("localhost", server.port, client))
        lines = logged(caplog)
        assert lines[0] == "looking up 'localhost'"
        assert lines[1].startswith("'localhost' has ")
        assert lines[-2].startswith(f"connected to 127.0.0.1 port {server.port} (")
        tls = transport.socket
        assert isinstance(tls, ssl.SSLSocket)
        cipher = tls.cipher()
        assert cipher is not None
        assert lines[-1].startswith(f"TLS with 'localhost': {tls.version()}, {cipher[0]} (")
        transport.drop()


def test_the_log_of_failures(
    authority: Authority, refused_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "httpio.dial")
    with pytest.raises(ConnectionRefusedError):
        run(co_dial("127.0.0.1", refused_port))
    with (
        Scripted(lambda peer: peer.reset()) as server,
        pytest.raises(ConnectionClosed),
    ):
        run(reach("127.0.0.1", server.port, ssl.create_default_context(cafile=authority.ca)))

    def look_up(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(HostnameNotResolvable):
        run(co_dial("some.example", 80))
    text = "\n".join(logged(caplog))
    assert f"no connection to 127.0.0.1 port {refused_port}: ConnectionRefusedError(" in text
    assert "no TLS with '127.0.0.1': " in text or f"no connection to 127.0.0.1 port {server.port}: " in text
    assert "'some.example' was not found: gaierror(" in text
