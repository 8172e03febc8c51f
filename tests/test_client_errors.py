"""Each error of `httpio.client` is of http.client's class and of httpio's, and says what both say."""

from __future__ import annotations

import copy
import errno
import http.client as standard
import pickle
import socket
from collections.abc import Callable
from typing import Any

import pytest

import httpio
from client_ways import WAYS, Buffered, Came, Dribbling, come
from httpio import client
from httpio.client import HTTPConnection, HTTPResponse
from servers.scripted import Peer, Scripted

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = b"a" * 70_000

IN_HEAD: dict[str, tuple[bytes, type, type]] = {
    "nothing": (b"", standard.RemoteDisconnected, httpio.ConnectionClosed),
    "only empty lines": (b"\r\n\r\n", standard.RemoteDisconnected, httpio.ConnectionClosed),
    "no HTTP": (b"garbage\r\n\r\n", standard.BadStatusLine, httpio.InvalidResponse),
    "no status": (b"HTTP/1.1 abc OK\r\n\r\n", standard.BadStatusLine, httpio.InvalidResponse),
    "a low status": (b"HTTP/1.1 099 OK\r\n\r\n", standard.BadStatusLine, httpio.InvalidResponse),
    "HTTP/0.9": (b"<html>\r\n", standard.BadStatusLine, httpio.InvalidResponse),
    "another version": (b"HTTP/2.0 200 OK\r\n\r\n", standard.UnknownProtocol, httpio.UnsupportedResponse),
    "a long reason": (b"HTTP/1.1 200 " + LONG + b"\r\n\r\n", standard.LineTooLong, httpio.InvalidResponse),
    "a long field": (OK + b"X: " + LONG + b"\r\n\r\n", standard.LineTooLong, httpio.InvalidResponse),
    "a long name": (OK + LONG + b": x\r\n\r\n", standard.LineTooLong, httpio.InvalidResponse),
    "many fields": (OK + b"X: y\r\n" * 101 + b"\r\n", standard.HTTPException, httpio.InvalidResponse),
    "no colon": (OK + b"X\r\n\r\n", standard.HTTPException, httpio.InvalidResponse),
    "two lengths": (
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        standard.HTTPException,
        httpio.InvalidResponse,
    ),
    "a coding": (
        OK + b"Transfer-Encoding: gzip\r\n\r\n",
        standard.UnknownTransferEncoding,
        httpio.UnsupportedResponse,
    ),
    "cut in the status line": (b"HTTP/1.", standard.IncompleteRead, httpio.ConnectionClosed),
    "cut in a field": (OK + b"X: y", standard.IncompleteRead, httpio.ConnectionClosed),
    "cut behind a field": (OK + b"X: y\r\n", standard.IncompleteRead, httpio.ConnectionClosed),
}
IN_BODY: dict[str, tuple[bytes, type, type]] = {
    "short": (OK + b"Content-Length: 5\r\n\r\nab", standard.IncompleteRead, httpio.ConnectionClosed),
    "cut in a chunk": (CHUNKED + b"3\r\nabc\r\n5\r\nde", standard.IncompleteRead, httpio.ConnectionClosed),
    "cut in a chunk's end": (CHUNKED + b"3\r\nabc", standard.IncompleteRead, httpio.ConnectionClosed),
    "cut in a size": (CHUNKED + b"3\r\nabc\r\n5", standard.IncompleteRead, httpio.ConnectionClosed),
    "cut behind the last chunk": (CHUNKED + b"0\r\n", standard.IncompleteRead, httpio.ConnectionClosed),
    "cut in a trailer": (CHUNKED + b"0\r\nX: y\r\n", standard.IncompleteRead, httpio.ConnectionClosed),
    "no size": (CHUNKED + b"3\r\nabc\r\nxy\r\n", standard.IncompleteRead, httpio.InvalidResponse),
    "no end of a chunk": (CHUNKED + b"3\r\nabcdef\r\n", standard.IncompleteRead, httpio.InvalidResponse),
    "a long extension": (CHUNKED + b"3;" + LONG + b"\r\nabc\r\n", standard.LineTooLong, httpio.InvalidResponse),
}


def failed(wire: bytes, way: str = "read()") -> Any:
    _, came = come(Buffered([wire]), "GET", WAYS[way])
    assert came.error is not None
    return came.error


@pytest.mark.parametrize(("wire", "theirs", "ours"), (IN_HEAD | IN_BODY).values(), ids=[*IN_HEAD, *IN_BODY])
def test_both_families(wire: bytes, theirs: type, ours: type) -> None:
    error = failed(wire)
    assert isinstance(error, theirs)
    assert isinstance(error, ours)
    assert isinstance(error, standard.HTTPException)
    assert isinstance(error, httpio.HTTPError)
    assert error.outstanding == ()
    assert not type(error).__name__.startswith("_")
    assert len(str(error)) < 300
    assert str(error).isprintable()


@pytest.mark.parametrize("wire", [case[0] for case in IN_HEAD.values()], ids=IN_HEAD)
def test_where_a_head_fails(wire: bytes) -> None:
    error = failed(wire)
    assert error.where == ("awaiting response" if not wire.strip() else "in head")
    assert error.received is None


@pytest.mark.parametrize("wire", [case[0] for case in IN_BODY.values()], ids=IN_BODY)
def test_where_a_body_fails(wire: bytes) -> None:
    assert failed(wire).where == "in body"


def test_the_facts_of_http_client() -> None:
    """`line`, `version`, `partial`, `expected` and `args`, as http.client has them."""
    for wire, name in (
        (b"garbage\r\n\r\n", "line"),
        (b"HTTP/1.1 abc OK\r\n\r\n", "line"),
        (b"HTTP/1.1 099 OK\r\n\r\n", "line"),
        (b"", "line"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "version"),
        (OK + b"Content-Length: 5\r\n\r\nab", "partial"),
        (OK + b"Content-Length: 5\r\n\r\nab", "expected"),
        (OK + b"Content-Length: 5\r\n\r\nab", "args"),
        (CHUNKED + b"3\r\nabc\r\n", "partial"),
        (CHUNKED + b"3\r\nabc\r\n", "expected"),
        (CHUNKED + b"3\r\nabc\r\nxy\r\n", "partial"),
    ):
        theirs = standard.HTTPResponse(Buffered([wire]))  # type: ignore[arg-type]
        error = raised(lambda: (theirs.begin(), theirs.read()))  # type: ignore[func-returns-value]  # noqa: B023
        theirs.close()
        assert getattr(failed(wire), name) == getattr(error, name), wire


@pytest.mark.parametrize(
    ("way", "partial"),
    [
        ("read()", b"abcde"),
        ("read(4)", b"e"),
        ("read(1)", b""),
        ("readinto(3)", b"de"),
        ("readinto(9999)", b"abcde"),
        ("read1()", b""),
        ("readline()", b"abcde"),
    ],
)
@pytest.mark.parametrize("source", [Buffered, Dribbling])
def test_partial_is_what_the_failed_call_has_read(source: Any, way: str, partial: bytes) -> None:
    for wire in (OK + b"Content-Length: 9\r\n\r\nabcde", CHUNKED + b"5\r\nabcde\r\n", CHUNKED + b"9\r\nabcde"):
        with source([wire]) as sock:
            _, came = come(sock, "GET", WAYS[way])
        error: Any = came.error
        assert error.partial == partial
        assert error.expected == (4 if b"Length" in wire else None)
        assert came.content == b"abcde"
        assert isinstance(error, standard.IncompleteRead)


@pytest.mark.parametrize("way", ["read()", "read(1)", "readinto(3)", "read1()", "readline()", "peek"])
def test_received_is_what_has_come_of_the_body(way: str) -> None:
    for wire in (OK + b"Content-Length: 9\r\n\r\nabcde", CHUNKED + b"5\r\nabcde\r\n", CHUNKED + b"9\r\nabcde"):
        assert failed(wire, way).received == 5, wire


def test_content_before_a_fault_is_not_lost() -> None:
    """However much came in one piece."""
    for wire in (
        CHUNKED + b"3\r\nabc\r\nxy\r\n",
        CHUNKED + b"3\r\nabcdef\r\n",
        CHUNKED + b"3\r\nabc\r\n0\r\nX\r\n\r\n",
    ):
        for way in ("read()", "read(4)", "readinto(9999)", "readline()"):
            assert failed(wire, way).partial == b"abc", (wire, way)
        for way in ("read1()", "read(1)", "peek"):
            _, came = come(Buffered([wire]), "GET", WAYS[way])
            assert came.content == b"abc", (wire, way)


def test_what_the_system_says_of_a_loss() -> None:
    class Reset(Dribbling):
        def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:  # type: ignore[override]
            count = super().recv_into(buffer)
            if not count:
                raise ConnectionResetError(errno.ECONNRESET, "reset")
            return count

    for wire in (OK + b"\r\nabc", OK + b"Content-Length: 9\r\n\r\nabc", CHUNKED + b"9\r\nabc", OK, b""):
        with Reset([wire]) as sock:
            _, came = come(sock, "GET", WAYS["read(1)"])
        error: Any = came.error
        assert isinstance(error, ConnectionResetError)
        assert isinstance(error, httpio.ConnectionClosed)
        assert error.errno == errno.ECONNRESET
        assert isinstance(error.__cause__, ConnectionResetError)
        assert came.content == (b"abc" if b"abc" in wire else b"")


def test_a_timeout() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(0.01)
        response = HTTPResponse(one)
        with pytest.raises(TimeoutError) as caught:
            response.begin()
        assert isinstance(caught.value, httpio.ConnectionTimedOut)
        with pytest.raises(OSError, match="timed out"):
            response.fp.read()
        response.close()


def raised(call: Callable[[], object]) -> Any:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is asserted
        call()
    return caught.value


def test_states_and_arguments() -> None:
    conn = HTTPConnection("h")
    assert type(raised(conn.getresponse)) is standard.ResponseNotReady
    assert type(raised(lambda: conn.putheader("X", "y"))) is standard.CannotSendHeader
    assert type(raised(conn.endheaders)) is standard.CannotSendHeader
    conn.auto_open = 0
    assert type(raised(lambda: conn.send(b"x"))) is standard.NotConnected
    for call in (
        lambda: HTTPConnection("h:x"),
        lambda: HTTPConnection("h\n"),
        lambda: conn.request("GET", "/ x"),
        lambda: HTTPConnection("h\x7f"),
    ):
        error = raised(call)
        assert isinstance(error, standard.InvalidURL)
        assert isinstance(error, httpio.InvalidURL)
    response = HTTPResponse(Buffered([b""]))
    assert type(raised(lambda: response.getheader("X"))) is standard.ResponseNotReady
    assert type(raised(response.getheaders)) is standard.ResponseNotReady


def reset(peer: Peer) -> None:
    peer.request()
    peer.reset()


def closes(peer: Peer) -> None:
    peer.request()


@pytest.mark.parametrize(
    ("script", "kinds"),
    [
        (reset, (ConnectionResetError, httpio.ConnectionClosed)),
        (closes, (standard.RemoteDisconnected, httpio.ConnectionClosed)),
    ],
)
def test_a_loss_closes_the_connection_and_the_next_request_makes_another(script: Any, kinds: Any) -> None:
    with Scripted(script) as server:
        conn = HTTPConnection("127.0.0.1", server.port, timeout=20)
        for _ in range(2):
            conn.request("GET", "/")
            error = raised(conn.getresponse)
            assert all(isinstance(error, kind) for kind in kinds)
            assert conn.sock is None
        assert server.connections == 2


@pytest.mark.parametrize("wire", [case[0] for case in (IN_HEAD | IN_BODY).values()], ids=[*IN_HEAD, *IN_BODY])
def test_errors_are_copied_and_pickled(wire: bytes) -> None:
    same_after_a_copy(failed(wire))


def same_after_a_copy(error: Any) -> None:
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is type(error)
        assert (str(again), repr(again), again.args) == (str(error), repr(error), error.args)
        for name in ("partial", "line", "version", "where", "received", "expected", "errno"):
            assert getattr(again, name, None) == getattr(error, name, None), name


def test_more_errors_are_copied_and_pickled() -> None:
    with Scripted(reset) as server:
        conn = HTTPConnection("127.0.0.1", server.port, timeout=20)
        conn.request("GET", "/")
        same_after_a_copy(raised(conn.getresponse))
    same_after_a_copy(raised(lambda: HTTPConnection("h:x")))
    same_after_a_copy(raised(lambda: HTTPConnection("h").request("GET", "/ x")))


def test_old_and_new_clauses_catch() -> None:
    """By whichever name, for whoever imports it from where."""
    wire = OK + b"Content-Length: 5\r\n\r\nab"
    for kind in (standard.IncompleteRead, client.IncompleteRead, httpio.ConnectionClosed, ConnectionError, OSError):
        response = HTTPResponse(Buffered([wire]))
        response.begin()
        with pytest.raises(kind):
            response.read(9)
    assert Came("ok").error is None


@pytest.mark.parametrize("read", ["read", "read1", "readline", "peek"])
def test_nothing_is_read_before_begin(read: str) -> None:
    """http.client has an AssertionError there, not an empty body."""
    ours, theirs = socket.socketpair()
    with ours, theirs, client.HTTPResponse(ours) as response, pytest.raises(client.ResponseNotReady):
        getattr(response, read)()
