"""Responses on real sockets: what each takes of them, and what its end, or the want of it, leaves."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import httpio
from client_ways import WAYS, Dribbling
from httpio.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from servers.scripted import Peer, Scripted, answers

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nsec\r\n3;x\r\nond\r\n0\r\nA: b\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
NONE = b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n"
CODE_304 = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + LENGTH
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + b"l" * 9000
SERIES = [
    (LENGTH, b"first"), (CHUNKED, b"second"), (EMPTY, b""), (NONE, b""), (LARGE, b"l" * 9000), (CODE_304, b""),
    (HINTS, b"first"), (CHUNKED, b"second"), (LENGTH, b"first"),
]  # fmt: skip


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(20)
        other.settimeout(20)
        yield one, other


Pair = tuple[socket.socket, socket.socket]


def response_on(sock: Any, method: str = "GET") -> HTTPResponse:
    response = HTTPResponse(sock, method=method)
    response.begin()
    return response


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pieces", ["one segment", "byte by byte", "in pieces", "one by one"])
def test_each_response_reads_its_own(way: str, pieces: str) -> None:
    wire = b"".join(wire for wire, _ in SERIES)
    size = {"one segment": len(wire), "byte by byte": 1, "in pieces": 1000}.get(pieces)
    parts = [wire for wire, _ in SERIES] if size is None else [wire[at : at + size] for at in range(0, len(wire), size)]
    with Dribbling(parts) as sock:
        for _, content in SERIES:
            response = response_on(sock)
            assert b"".join(WAYS[way](response)) == content
            response.close()
        assert sock.left() == b""


def test_a_file_of_its_own_is_not_taken_by_the_one_before(pair: Pair) -> None:
    """Three answers in one segment, and each HTTPResponse closed before the next is made, or behind all."""
    sock, peer = pair
    for close_first in (True, False):
        peer.sendall(LENGTH + CHUNKED + LENGTH)
        kept = []
        for content in (b"first", b"second", b"first"):
            response = response_on(sock)
            assert response.read() == content
            kept.append(response)
            if close_first:
                response.close()
        for response in kept:
            response.close()
            assert response.isclosed()


@pytest.mark.parametrize("wire", [EMPTY, NONE, CODE_304])
@pytest.mark.parametrize("way", ["peek", "read()", "read(4)", "read1()", "readinto(3)", "readline()", "iteration"])
def test_what_has_no_body_waits_for_nothing(wire: bytes, way: str, pair: Pair) -> None:
    sock, peer = pair
    sock.settimeout(0.05)
    peer.sendall(wire)
    response = response_on(sock)
    assert b"".join(WAYS[way](response)) == b""
    response.close()
    peer.sendall(LENGTH)
    assert response_on(sock).read() == b"first"


@pytest.mark.parametrize("way", ["read(4)", "read1()", "readinto(3)", "peek", "readline(2)"])
@pytest.mark.parametrize("wire", [LENGTH, CHUNKED])
def test_a_body_that_is_here_waits_for_nothing(wire: bytes, way: str, pair: Pair) -> None:
    """Read to its last byte, and to the end that is behind it."""
    sock, peer = pair
    sock.settimeout(0.05)
    peer.sendall(wire)
    assert b"".join(WAYS[way](response_on(sock))) in (b"first", b"second")


def test_read1_gives_what_is_here(pair: Pair) -> None:
    sock, peer = pair
    sock.settimeout(0.05)
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhere")
    response = response_on(sock)
    assert response.read1() == b"here"
    peer.sendall(b"more")
    assert (response.peek(), response.read1(3), response.read1()) == (b"more", b"mor", b"e")
    with pytest.raises(TimeoutError):
        response.read1()
    response.close()


def conversing(*wires: bytes) -> Any:
    """A script that answers the requests of each connection by these wires, and then with their targets."""

    def script(peer: Peer) -> None:
        for wire in wires:
            if peer.request() is None:
                return
            peer.send(wire)
        answers(peer)

    return script


READ: dict[str, Any] = {
    "nothing": lambda response: None,
    "a part": lambda response: response.read(2),
    "a part by readinto": lambda response: response.readinto(bytearray(2)),
    "a line": lambda response: response.readline(2),
    "a look": lambda response: response.peek(),
}


@pytest.mark.parametrize(("wire", "content"), [(LENGTH, b"first"), (CHUNKED, b"second"), (LARGE, b"l" * 9000)])
@pytest.mark.parametrize("read", READ)
@pytest.mark.parametrize("how", ["close", "with", "forgotten"])
def test_an_unread_response_closes_its_connection(wire: bytes, content: bytes, read: str, how: str) -> None:
    """http.client reads what is left of it as the next answer."""
    with Scripted(conversing(wire)) as server:
        conn = HTTPConnection("127.0.0.1", server.port, timeout=20)
        conn.request("GET", "/")
        response = conn.getresponse()
        READ[read](response)
        if how == "forgotten":
            conn._HTTPConnection__response = None  # type: ignore[attr-defined]
            del response
            gc.collect()
        elif how == "with":
            with response:
                pass
        else:
            response.close()
        assert conn.sock is None
        conn.request("GET", "/")
        assert conn.getresponse().read() == content
        conn.close()
        server.settle(2)
        assert server.connections == 2


@pytest.mark.parametrize("wire", [LENGTH, CHUNKED, EMPTY, NONE, CODE_304, LARGE])
@pytest.mark.parametrize("way", ["read()", "read(4)", "readinto(9999)", "read1()", "readline()", "iteration"])
def test_a_response_that_was_read_keeps_its_connection(wire: bytes, way: str) -> None:
    with Scripted(conversing(wire, wire)) as server:
        conn = HTTPConnection("127.0.0.1", server.port, timeout=20)
        for _ in range(2):
            conn.request("GET", "/")
            response = conn.getresponse()
            list(WAYS[way](response))
            response.close()
        conn.request("GET", "/then")
        assert conn.getresponse().read() == b"/then"
        conn.close()
        assert server.connections == 1


@pytest.mark.parametrize("wire", [LENGTH.partition(b"first")[0], EMPTY, CHUNKED.partition(b"3\r\n")[0]])
def test_HEAD_keeps_its_connection(wire: bytes) -> None:
    with Scripted(conversing(wire)) as server:
        conn = HTTPConnection("127.0.0.1", server.port, timeout=20)
        conn.request("HEAD", "/")
        response = conn.getresponse()
        assert (response.peek(), response.read(), response.read1(), response.readline()) == (b"", b"", b"", b"")
        conn.request("GET", "/then")
        assert conn.getresponse().read() == b"/then"
        conn.close()
        assert server.connections == 1


def test_what_a_closed_response_leaves_is_nobodys(pair: Pair) -> None:
    """By hand there is no connection to close, and the next HTTPResponse on the socket refuses to read."""
    sock, peer = pair
    peer.sendall(LENGTH + LENGTH)
    response_on(sock).close()
    with pytest.raises(httpio.ConnectionClosed):
        response_on(sock)


def test_the_response_keeps_the_socket_that_the_connection_has_given_up() -> None:
    """urllib.request closes `sock`, and reads on."""
    with Scripted(conversing(LARGE, LARGE)) as server:
        for how in ("sock", "connection"):
            conn = HTTPConnection("127.0.0.1", server.port, timeout=20)
            conn.request("GET", "/", headers={"Connection": "close"})
            response = conn.getresponse()
            if how == "sock":
                assert conn.sock is not None
                conn.sock.close()
                conn.sock = None
                assert response.read() == b"l" * 9000
            else:
                conn.close()
                assert response.isclosed()


def test_Connection_close_gives_the_socket_to_the_response() -> None:
    wire = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nfirst"
    with Scripted(conversing(wire)) as server:
        conn = HTTPConnection("127.0.0.1", server.port, timeout=20)
        conn.request("GET", "/")
        response = conn.getresponse()
        assert (conn.sock, response.will_close) == (None, True)
        assert response.fileno() > 0
        assert response.fp.raw._sock.getpeername()[1] == server.port
        assert response.read() == b"first"
        conn.request("GET", "/then")
        assert conn.getresponse().read() == b"first"
        conn.close()
        assert server.connections == 2


def test_a_timeout_that_is_set_between_reads() -> None:
    with Scripted(conversing(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfi")) as server:
        conn = HTTPConnection("127.0.0.1", server.port, timeout=20)
        conn.request("GET", "/")
        response = conn.getresponse()
        assert conn.sock is not None
        conn.sock.settimeout(0.02)
        assert response.read(2) == b"fi"
        with pytest.raises(TimeoutError) as caught:
            response.read()
        assert isinstance(caught.value, httpio.ConnectionTimedOut)
        conn.close()


def test_another_thread_closes_it() -> None:
    """A read that waits ends, in one way or another."""
    with Scripted(conversing(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfi")) as server:
        conn = HTTPConnection("127.0.0.1", server.port, timeout=20)
        conn.request("GET", "/")
        response = conn.getresponse()
        sock = conn.sock
        threading.Timer(0.05, lambda: sock.shutdown(socket.SHUT_RDWR)).start()
        with pytest.raises((HTTPException, OSError)):
            response.read()
        conn.close()


class Forgiving(HTTPResponse):
    legacy_short_reads = True


SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"


@pytest.mark.parametrize("way", ["read(4)", "readinto(3)", "read1()", "readline()", "iteration"])
def test_the_switch(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a subclass it holds for that; in the class for all."""
    for kind, forgives in ((Forgiving, True), (HTTPResponse, False)):
        with Dribbling([SHORT]) as sock:
            response = kind(sock)
            response.begin()
            if forgives:
                assert b"".join(WAYS[way](response)) == b"short"
                assert response.isclosed()
            else:
                with pytest.raises(IncompleteRead):
                    list(WAYS[way](response))
    monkeypatch.setattr(HTTPResponse, "legacy_short_reads", True)
    with Dribbling([SHORT]) as sock:
        response = response_on(sock)
        assert b"".join(WAYS[way](response)) == b"short"


def forgiven(wire: bytes) -> tuple[int, bytes]:
    """Status and content, read at once."""
    with Dribbling([wire]) as sock:
        response = Forgiving(sock)
        response.begin()
        return response.status, response.read()


def test_the_switch_and_read_of_all() -> None:
    """`read()` raises with it too, as in http.client; heads and trailers end with the connection."""
    for wire in (b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nX: y\r\n"):
        assert forgiven(wire) == (200, b"")
    for wire in (CHUNKED[:-2], CHUNKED[:-8]):
        assert forgiven(wire) == (200, b"second")
    for wire in (SHORT, CHUNKED[:-15]):
        with pytest.raises(IncompleteRead):
            forgiven(wire)


def test_the_switch_through_a_connection() -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(SHORT)

    with Scripted(script) as server:
        conn = HTTPConnection("127.0.0.1", server.port, timeout=20)
        conn.response_class = Forgiving
        for _ in range(2):
            conn.request("GET", "/")
            response = conn.getresponse()
            assert response.read(100) == b"short"
            assert response.read(100) == b""
            response.close()
        assert server.connections == 2


def test_an_unread_response_on_a_foreign_socket_closes_its_connection() -> None:
    """One whose `makefile` is its own, as pyOpenSSL's stand-ins have: what it has buffered is gone with its file."""

    class Foreign(socket.socket):
        def makefile(self, *args: Any, **options: Any) -> Any:
            return super().makefile(*args, **options)

    ours, theirs = socket.socketpair()
    theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")
    with theirs:
        conn = HTTPConnection("localhost")
        conn.sock = Foreign(fileno=ours.detach())
        conn.request("GET", "/")
        response = conn.getresponse()
        assert response.read(2) == b"fi"
        response.close()
        assert conn.sock is None
