"""What comes in one piece with something else, and what comes while nothing is awaited: TM-09 to TM-12."""

from __future__ import annotations

import select
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from shutil import which
from typing import Any

import pytest

import awkward
from awkward import Habits
from conftest import Authority, Contexts
from faces import FACES
from httpio import ConnectionClosed, HTTPConnection, Request
from servers.objects import content
from servers.scripted import Peer, Scripted, answers, server_context

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
FIRST = OK + b"Content-Length: 5\r\n\r\nfirst"


def readable(conn: HTTPConnection) -> None:
    """Wait until something has come from the peer."""
    assert select.select([conn.fileno()], [], [], 20)[0]


# -- TM-09 --

SECOND = CHUNKED + b"6\r\nsecond\r\n0\r\nX: y\r\n\r\n"
THIRD = OK + b"Content-Length: 5\r\n\r\nthird"


@pytest.mark.parametrize("face", ["low", "pipeline"])
def test_tm_09_an_answer_that_begins_anywhere(face: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece ends in another place of three answers, and the next begins there."""
    wire = FIRST + SECOND + THIRD
    habits = Habits()
    awkward.use(habits, monkeypatch)

    def script(peer: Peer) -> None:
        for _ in range(3):
            assert peer.request() is not None
        peer.send(wire)
        peer.drain()

    def after(name: str, sock: Any, result: Any) -> None:
        if name == "recv_into" and isinstance(result, int):
            habits.received = 0

    habits.after = after
    with Scripted(script) as server:
        for cut in range(1, len(wire)):
            habits.received = cut
            options: dict[str, Any] = {"depth": 3} if face == "pipeline" else {}
            found = FACES[face](server, ["/1", "/2", "/3"], timeout=15, **options)
            assert [got.body for got in found] == [b"first", b"second", b"third"]
        assert server.connections == len(wire) - 1


# -- TM-10 --

TIMEOUT_408 = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlate"


def idle_timeout(go: threading.Event) -> Callable[[Peer], None]:
    """The first connection ends with a 408, when told so, behind its first answer."""

    def script(peer: Peer) -> None:
        if peer.number == 0:
            assert peer.request() is not None
            peer.answer(b"/1")
            assert go.wait(20)
            peer.send(TIMEOUT_408)
            peer.finish()
        answers(peer)

    return script


@pytest.mark.parametrize("face", ["low", "pipeline"])
def test_tm_10_a_408_before_the_next_request(face: str, contexts: Contexts) -> None:
    go = threading.Event()
    if contexts[0] is not None:
        contexts[0].num_tickets = 0  # so that only the 408 can be received
    with (
        Scripted(idle_timeout(go), contexts[0]) as server,
        HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=15) as conn,
    ):
        conn.send_request("GET", "/1")
        assert conn.read_response().status == 200
        assert conn.readall() == b"/1"
        go.set()
        readable(conn)
        if face == "low":
            with pytest.raises(ConnectionClosed) as caught:
                conn.send_request("POST", "/2", body=b"x")
            assert caught.value.outstanding == ()
            assert conn.outstanding == ()
            conn.close()
            conn.send_request("POST", "/2", body=b"x")
            assert (conn.read_response().status, conn.readall()) == (200, b"/2")
        else:
            (response,) = conn.pipeline([Request("POST", "/2", body=b"x")])
            assert (response.status, response.body) == (200, b"/2")
        assert server.targets() == ["/1", "/2"]
        assert server.connections == 2


@pytest.mark.parametrize("face", FACES)
def test_tm_10_a_408_just_behind_the_idle_check(face: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes after the look at the connection and before the request, so that nobody can tell it from an answer.

    It ends a connection that has answered before: `pipeline` and `fetch` repeat a request that may be repeated (RFC
    9110 section 15.5.9). The caller of the low level gets the 408, and no other request behind it.
    """
    go = threading.Event()
    habits = Habits()
    awkward.use(habits, monkeypatch)
    sends = 0

    def before(name: str, sock: Any) -> None:
        nonlocal sends
        sends += name == "send"
        if sends == 2 and not go.is_set():
            go.set()
            assert select.select([sock], [], [], 20)[0]

    habits.before = before
    with Scripted(idle_timeout(go)) as server:
        if face == "low":
            with HTTPConnection("127.0.0.1", server.port, timeout=15) as conn:
                for status in (200, 408):
                    conn.send_request("GET", f"/{status}")
                    assert conn.read_response().status == status
                    conn.discard()
                with pytest.raises(ConnectionClosed):
                    conn.send_request("GET", "/never")
            return
        options: dict[str, Any] = {"depth": 1} if face == "pipeline" else {}
        found = FACES[face](server, ["/1", "/2", "/3"], timeout=15, **options)
        assert [(got.status, got.body) for got in found] == [(200, b"/1"), (200, b"/2"), (200, b"/3")]
        assert server.connections == 2


# -- TM-11 --


def test_tm_11_session_tickets_while_idle(authority: Authority) -> None:
    """They can be received, and are no data: the connection is kept."""
    server_side = server_context(authority.chain, authority.key)
    server_side.minimum_version = ssl.TLSVersion.TLSv1_3
    server_side.num_tickets = 4
    with (
        Scripted(answers, server_side) as server,
        HTTPConnection("127.0.0.1", server.port, ssl.create_default_context(cafile=authority.ca), timeout=15) as conn,
    ):
        conn.connect()
        readable(conn)
        conn.send_request("POST", "/1", body=b"x")
        assert conn.read_response().path == "/1"
        conn.discard()
        conn.close()
        conn.connect()
        readable(conn)
        assert [response.body for response in conn.pipeline(["/2", "/3"])] == [b"/2", b"/3"]
        assert server.connections == 2


@pytest.mark.parametrize("face", ["low", "pipeline"])
def test_tm_11_close_notify_while_idle(face: str, authority: Authority) -> None:
    go = threading.Event()

    def script(peer: Peer) -> None:
        if peer.number == 0:
            assert peer.request() is not None
            peer.answer(b"/1")
            assert go.wait(20)
            return peer.notify()
        answers(peer)

    server_side = server_context(authority.chain, authority.key)
    server_side.num_tickets = 0
    with (
        Scripted(script, server_side) as server,
        HTTPConnection("127.0.0.1", server.port, ssl.create_default_context(cafile=authority.ca), timeout=15) as conn,
    ):
        conn.send_request("GET", "/1")
        conn.read_response()
        assert conn.readall() == b"/1"
        go.set()
        readable(conn)
        if face == "low":
            with pytest.raises(ConnectionClosed):
                conn.send_request("POST", "/2", body=b"x")
            assert conn.outstanding == ()
        else:
            (response,) = conn.pipeline([Request("POST", "/2", body=b"x")])
            assert response.body == b"/2"
            assert server.targets() == ["/1", "/2"]


@contextmanager
def openssl_server(authority: Authority) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """openssl's own server, which sends what it is told on its standard input; and its port."""
    program = which("openssl")
    if program is None:
        pytest.skip("the program openssl is missing: Python has no call for a key update")
    command = [program, "s_server", "-accept", "127.0.0.1:0", "-tls1_3", "-num_tickets", "0", "-naccept", "1"]
    command += ["-cert", str(authority.chain), "-key", str(authority.key)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            yield process, int(wait_for(process, b"ACCEPT ").rpartition(b":")[2])
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[bytes], start: bytes) -> bytes:
    """The next line of its output that begins so."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(start):
            return line
    raise AssertionError(f"openssl ended before it wrote {start!r}")


@pytest.mark.parametrize("command", [b"k\n", b"K\n"], ids=["update", "update requested"])
def test_tm_11_key_update_while_idle(command: bytes, authority: Authority) -> None:
    with (
        openssl_server(authority) as (process, port),
        HTTPConnection("127.0.0.1", port, ssl.create_default_context(cafile=authority.ca), timeout=15) as conn,
    ):
        assert process.stdin is not None
        conn.connect()
        for number in range(3):
            process.stdin.write(command)
            process.stdin.flush()
            readable(conn)
            conn.send_request("GET", f"/{number}")
            wait_for(process, b"GET /%d " % number)
            wait_for(process, b"\r\n")
            process.stdin.write(OK + b"Content-Length: 5\r\n\r\nhello")
            process.stdin.flush()
            assert conn.read_response().status == 200
            assert conn.readall() == b"hello"


# -- TM-12 --


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("size", [1, 2, 7, 16384])
def test_tm_12_records_of_every_size(size: int, face: str, authority: Authority) -> None:
    body = content(1, 3000 if size < 100 else 200_000)
    wire = OK + b"Content-Length: %d\r\nX: y\r\n\r\n" % len(body) + body

    def script(peer: Peer) -> None:
        while peer.request() is not None:
            for at in range(0, len(wire), size):
                peer.send(wire[at : at + size])

    client = ssl.create_default_context(cafile=authority.ca)
    with Scripted(script, server_context(authority.chain, authority.key)) as server:
        found = FACES[face](server, ["/1", "/2"], client, timeout=15)
        assert [(got.body == body, got.headers["X"]) for got in found] == [(True, "y")] * 2


def test_tm_12_records_split_at_every_byte(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """One record ends inside the header section, and each byte of each record comes when all before was looked at."""
    habits = Habits()
    client = ssl.create_default_context(cafile=authority.ca)
    awkward.use(habits, monkeypatch, client)
    turn = threading.Semaphore(0)
    context = server_context(authority.chain, authority.key)
    context.num_tickets = 0
    waits = 0

    def after(name: str, sock: Any, result: Any) -> None:
        nonlocal waits
        if name == "recv_into":
            waits += isinstance(result, ssl.SSLWantReadError)
            turn.release()

    def script(peer: Peer) -> None:
        received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(received, to_send, server_side=True)

        def until_done(call: Callable[[], Any]) -> Any:
            while True:
                try:
                    return call()
                except ssl.SSLWantReadError:
                    peer.send(to_send.read())
                    received.write(peer.sock.recv(65536))

        until_done(tls.do_handshake)
        peer.send(to_send.read())
        assert until_done(lambda: tls.read(65536)).endswith(b"\r\n\r\n")
        tls.write(FIRST[:9])
        tls.write(FIRST[9:30])
        tls.write(FIRST[30:])
        for byte in to_send.read():
            assert turn.acquire(timeout=20)
            peer.send(bytes([byte]))
        peer.drain()

    with Scripted(script) as server, HTTPConnection("127.0.0.1", server.port, client, timeout=15) as conn:
        conn.connect()
        conn.send_request("GET", "/")
        habits.after = after
        turn.release()
        response = conn.read_response()
        assert (response.status, conn.readall()) == (200, b"first")
        assert waits > len(FIRST)
