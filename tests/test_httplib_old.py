"""httpio.httplib: answers without a status line, and what must not be taken for one."""

from __future__ import annotations

import io
import socket
from typing import Any

import pytest

import httpio
from conftest import Contexts
from httpio import httplib
from servers.scripted import Peer, Scripted


def answer_to(data: bytes, method: str = "GET", response_class: Any = httplib.HTTPResponse) -> tuple[Any, Any]:
    """The response to *data*, after which the connection is closed, and its body."""

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(data)

    with Scripted(script) as server:
        conn = httplib.HTTPConnection("127.0.0.1", server.port)
        conn.response_class = response_class
        conn.request(method, "/")
        response = conn.getresponse()
        return response, response.read()


def pair(data: bytes, **options: Any) -> httplib.HTTPResponse:
    """The response in a file that gives one byte at a time, to be begun."""

    class OneByOne(io.RawIOBase):
        def __init__(self) -> None:
            self.left = data

        def readable(self) -> bool:
            return True

        def readinto(self, target: Any) -> int:
            piece, self.left = self.left[:1], self.left[1:]
            target[: len(piece)] = piece
            return len(piece)

    class Sock:
        def makefile(self, mode: str) -> Any:
            return io.BufferedReader(OneByOne())

    return httplib.HTTPResponse(Sock(), **options)


@pytest.mark.parametrize("data", [b"H", b"HTTP", b"HTTP/", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nA: b"])
def test_a_cut_status_line_is_no_old_answer(data: bytes) -> None:
    with pytest.raises(httplib.HTTPException) as caught:
        answer_to(data)
    assert isinstance(caught.value, httpio.ConnectionClosed)
    response = pair(data)
    with pytest.raises(httplib.HTTPException):
        response.begin()


@pytest.mark.parametrize(
    "data", [b"X", b"HTTX", b"\r\nHTTP/1.1 200 OK\r\n\r\n", b"http/1.0 200 OK\r\n\r\n", b"\0\xff" * 99]
)
def test_old_answers(data: bytes) -> None:
    response, body = answer_to(data)
    assert (response.version, response.status, response.msg.items(), body) == (9, 200, [], data)
    assert response.isclosed()
    response = pair(data)
    response.begin()
    assert (response.version, response.will_close, response.read()) == (9, True, data)


def test_a_status_line_byte_by_byte() -> None:
    """The first bytes tell which it is; what is put back is read once, and nothing behind the message."""
    response = pair(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nA: b\r\n\r\nabcHTTP/1.1")
    response.begin()
    fp = response.fp
    assert type(fp) is io.BufferedReader
    assert (response.version, response.getheader("a"), response.read(2)) == (11, "b", b"ab")
    assert fp.raw.left == b"cHTTP/1.1"
    assert response.read() == b"c"


def test_a_file_without_peek() -> None:
    class Sock:
        file = io.BytesIO(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcNEXT")

        def makefile(self, mode: str) -> Any:
            return self.file

    response = httplib.HTTPResponse(Sock())
    response.begin()
    assert response.read(3) == b"abc"
    Sock.file = io.BytesIO(b"old answer\nsecond")
    response = httplib.HTTPResponse(Sock())
    response.begin()
    assert [response.readline(), response.read()] == [b"old answer\n", b"second"]


def test_a_status_line_read_by_a_subclass() -> None:
    """What follows it is a header section, and no old answer."""

    class Response(httplib.HTTPResponse):
        def _read_status(self) -> tuple[str, int, str]:
            return "HTTP/1.1", 204, "None"

    response, body = answer_to(b"A: b\r\n\r\n", response_class=Response)
    assert (response.version, response.status, response.getheader("a"), body) == (11, 204, "b", b"")


class OneByte(socket.socket):
    """Of what has come, each receive takes a byte."""

    def recv_into(self, target: Any, *rest: Any) -> int:
        return super().recv_into(memoryview(target)[:1], *rest)


def test_an_answer_in_pieces_that_is_not_read_to_its_end() -> None:
    """No other is read from the middle of its body."""
    near, theirs = socket.socketpair()
    with OneByte(fileno=near.detach()) as ours, theirs:
        theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        response = httplib.HTTPResponse(ours)
        response.begin()
        assert response.length == 40
        response.close()
        with pytest.raises(httplib.BadStatusLine):
            httplib.HTTPResponse(ours).begin()


def test_only_the_first_answer_may_be_old() -> None:
    """What follows an answer, and is none, is the rest of it: here a body that is longer than was said."""

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")
        peer.head()
        peer.send(b"more of it")

    with Scripted(script) as server:
        conn = httplib.HTTPConnection("127.0.0.1", server.port)
        conn.request("GET", "/")
        assert conn.getresponse().read() == b"body"
        conn.request("GET", "/")
        with pytest.raises(httplib.BadStatusLine):
            conn.getresponse()
        conn.close()


def test_answers_that_came_together() -> None:
    """Each response on a socket begins where the one before ended, and not with what comes next."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
        theirs.sendall(head + b"one" + head + b"two" + head[:4])
        for body in b"one", b"two", b"six":
            response = httplib.HTTPResponse(ours)
            if body == b"six":
                theirs.sendall(head[4:] + b"six")
            response.begin()
            assert (response.version, response.read()) == (11, body)


def test_no_tunnel_through_an_old_answer() -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"what?\r\n\r\n")

    with Scripted(script) as server:
        conn = httplib.HTTPConnection("127.0.0.1", server.port)
        conn.set_tunnel("example.org", 80)
        with pytest.raises(OSError, match="Invalid response from tunnel request") as caught:
            conn.request("GET", "/")
        assert isinstance(caught.value, httpio.ProxyError)
        assert conn.sock is None
        assert server.targets() == ["example.org:80"]


def test_an_old_answer_through_a_tunnel() -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.head()
        peer.send(b"old")

    with Scripted(script) as server:
        conn = httplib.HTTPConnection("127.0.0.1", server.port)
        conn.set_tunnel("example.org", 80)
        conn.request("GET", "/")
        response = conn.getresponse()
        assert (response.version, response.read()) == (9, b"old")


def test_debuglevel(capsys: pytest.CaptureFixture[str]) -> None:
    response = pair(b"old", debuglevel=1)
    response.begin()
    assert "reply: 'HTTP/0.9 200'" in capsys.readouterr().out


def test_a_short_body() -> None:
    with pytest.raises(httplib.IncompleteRead) as caught:
        answer_to(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort")
    assert caught.value.partial == b"short"
    assert isinstance(caught.value, httpio.ConnectionClosed)


def test_limits_of_this_module(monkeypatch: pytest.MonkeyPatch) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: 1\r\nB: 2\r\n\r\n"
    monkeypatch.setattr(httplib, "_MAXHEADERS", 2)
    with pytest.raises(httplib.HTTPException, match="more than 2 headers"):
        answer_to(head)
    with pytest.raises(httplib.HTTPException, match="more than 2 headers"):
        httplib.HTTPMessage(io.BytesIO(b"A: 1\r\nB: 2\r\nC: 3\r\n\r\n"))
    assert len(httplib.HTTPMessage(io.BytesIO(b"A: 1\r\nB: 2\r\n\r\n"))) == 2
    monkeypatch.setattr(httplib, "_MAXHEADERS", 100)
    monkeypatch.setattr(httplib, "_MAXLINE", 30)
    with pytest.raises(httplib.LineTooLong):
        answer_to(head.replace(b"A: 1", b"A: " + b"1" * 40))
    with pytest.raises(httplib.LineTooLong):
        httplib.HTTPMessage(io.BytesIO(b"A: " + b"1" * 40 + b"\r\n\r\n"))


# -- the wrapper --


def test_line_and_file_wrapper() -> None:
    def wrapper(line: bytes = b"one\n") -> Any:
        return httplib.LineAndFileWrapper(line, io.BytesIO(b"two\nthree"))

    assert wrapper().read() == wrapper().read(-1) == b"one\ntwo\nthree"
    file = wrapper()
    assert [file.read(2), file.read(4), file.read(0), file.read()] == [b"on", b"e\ntw", b"", b"o\nthree"]
    assert wrapper().readlines() == [b"one\n", b"two\n", b"three"]
    assert wrapper().readlines(5) == [b"one\n", b"two\n"]
    file = wrapper(b"on")
    assert [file.readline(1), file.readline(), file.readline(9)] == [b"o", b"ntwo\n", b"three"]
    file = wrapper()
    assert [file.peek(), file.read1(2), file.read1(), file.read1()] == [b"one\n", b"on", b"e\n", b"two\nthree"]
    assert [wrapper(b"").peek(), file.getvalue()] == [b"two\n", b"two\nthree"]
    target = bytearray(6)
    assert (wrapper().readinto(target), bytes(target)) == (6, b"one\ntw")
    file = wrapper()
    assert not file.closed
    file.close()
    assert file.closed
    with pytest.raises(ValueError, match="closed"):
        file.getvalue()


def test_a_cut_old_answer_under_tls(contexts: Contexts) -> None:
    """Without TLS nobody can tell; under TLS the end has a word of its own."""
    server_side, client_side = contexts

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"old answer")
        if peer.server.connections == 1 and server_side is not None:
            peer.finish()
        elif server_side is not None:
            peer.notify()

    def read(port: int) -> bytes:
        if client_side is None:
            conn = httplib.HTTPConnection("localhost", port)
        else:
            conn = httplib.HTTPSConnection("localhost", port, context=client_side)
        conn.request("GET", "/")
        response = conn.getresponse()
        assert response.version == 9
        body: bytes = response.read()
        return body

    with Scripted(script, server_side) as server:
        if server_side is not None:
            with pytest.raises(httplib.IncompleteRead):
                read(server.port)
        assert read(server.port) == b"old answer"
