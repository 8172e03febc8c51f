"""An exchange of three pipelined requests, and what must come of it when only so many bytes of the answers arrive.

The bodies of the answers end in each of the three ways that there are. What is expected is counted here from
the parts that the answers are made of, without a parser.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from itertools import accumulate
from typing import NamedTuple

import pytest

from httpio import ConnectionClosed, HTTPConnection, HTTPError, HTTPResponse, StateError, eval_coroutine


class Answer(NamedTuple):
    """A request, and the answer to it."""

    method: str
    body: bytes | None
    status: int
    head: bytes
    parts: tuple[bytes, ...]
    """What follows the head: framing and content in turns."""
    complete_by: str
    length: int | None = None
    trailers: tuple[tuple[str, str], ...] = ()

    @property
    def wire(self) -> bytes:
        """All of its bytes."""
        return self.head + b"".join(self.parts)

    def content(self, count: int) -> bytes:
        """What its first *count* bytes hold of its content."""
        content = b""
        left = max(0, count - len(self.head))
        for index, part in enumerate(self.parts):
            content += part[:left] if index % 2 else b""
            left = max(0, left - len(part))
        return content


ANSWERS = (
    Answer(
        "GET", None, 200, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Number: 0\r\n\r\n", (b"", b"first"), "length", 5,
    ),
    Answer(
        "POST", b"body", 201, b"HTTP/1.1 201 Created\r\nX-Number: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        (b"3\r\n", b"sec", b"\r\n4;x=y\r\n", b"ond!", b"\r\n0\r\nX-One: a\r\nX-Two: b\r\n\r\n"),
        "last chunk", None, (("X-One", "a"), ("X-Two", "b")),
    ),
    Answer(
        "GET", None, 203, b"HTTP/1.1 203 Fine\r\nConnection: close\r\nX-Number: 2\r\n\r\n",
        (b"", b"third, to the end"), "close",
    ),
)  # fmt: skip
WIRE = b"".join(answer.wire for answer in ANSWERS)
ENDS = tuple(accumulate(len(answer.wire) for answer in ANSWERS))
STARTS = (0, *ENDS[:-1])
PATHS = ("/0", "/1", "/2")


def head_end(index: int) -> int:
    """Where in WIRE the body of an answer begins."""
    return STARTS[index] + len(ANSWERS[index].head)


def whole(cut: int, clean: bool) -> int:
    """How many answers are complete when *cut* bytes came, and then the end.

    *clean*: an end that may be the end of a close-delimited body: a FIN on plain TCP, close_notify on TLS.
    """
    return sum(cut >= end for end in ENDS[:-1]) + (clean and cut >= head_end(2))


def send_all(conn: HTTPConnection) -> None:
    """Send the three requests."""
    for path, answer in zip(PATHS, ANSWERS, strict=True):
        conn.send_request(answer.method, path, body=answer.body)


# -- ways of reading one response --

Way = Callable[[HTTPConnection], tuple[HTTPResponse, bytes | None]]


def by_readall(conn: HTTPConnection) -> tuple[HTTPResponse, bytes]:
    return conn.read_response(), conn.readall()


def by_read(conn: HTTPConnection) -> tuple[HTTPResponse, bytes]:
    return conn.read_response(), b"".join(iter(lambda: conn.read(4), b""))


def by_readinto(conn: HTTPConnection) -> tuple[HTTPResponse, bytes]:
    response, content, buffer = conn.read_response(), b"", bytearray(3)
    while count := conn.readinto(buffer):
        content += buffer[:count]
    return response, content


def by_write_to(conn: HTTPConnection) -> tuple[HTTPResponse, bytes]:
    response, file = conn.read_response(), BytesIO()
    assert conn.write_to(file) == len(file.getvalue())
    return response, file.getvalue()


def by_steps(conn: HTTPConnection) -> tuple[HTTPResponse, bytes]:
    return eval_coroutine(conn.co_read_response()), eval_coroutine(conn.co_readall())


def by_discard(conn: HTTPConnection) -> tuple[HTTPResponse, None]:
    response = conn.read_response()
    conn.discard()
    return response, None


# -- what must come of it --


def facts(error: HTTPError) -> list[tuple[str, str, bool]]:
    """What an error tells of the requests that were outstanding."""
    return [(fact.request.path, fact.state, fact.safe) for fact in error.outstanding]


def paths(conn: HTTPConnection) -> tuple[str, ...]:
    """The targets of the requests that are outstanding."""
    return tuple(request.path for request in conn.outstanding)


def check_answer(index: int, response: HTTPResponse, content: bytes | None, cut: int = len(WIRE)) -> None:
    """The answer is whole, and the right one; a close-delimited one as far as it came. *content*: None: it was not
    looked at."""
    answer = ANSWERS[index]
    assert response.status == answer.status
    assert response.headers["X-Number"] == str(index)
    assert response.complete_by == answer.complete_by
    assert response.trailers.items() == list(answer.trailers)
    assert content is None or content == answer.content(cut - STARTS[index])


def check(
    conn: HTTPConnection, way: Way, cut: int, clean: bool, kind: type[HTTPError] = ConnectionClosed
) -> HTTPError | None:
    """Read the answers, of which *cut* bytes come and then an end; returns the error, which must be a *kind*, or
    None where all are complete."""
    complete = whole(cut, clean)
    for index in range(complete):
        assert paths(conn) == PATHS[index:]
        response, content = way(conn)
        check_answer(index, response, content, cut)
    assert paths(conn) == PATHS[complete:]
    if complete == len(ANSWERS):
        with pytest.raises(StateError):
            conn.read_response()
        error = None
    else:
        error = _check_failure(conn, way, cut, complete, kind)
    with pytest.raises(ConnectionClosed) as caught:
        conn.send_request("GET", "/never")
    assert [fact[0] for fact in facts(caught.value)] == list(PATHS[complete:])
    assert paths(conn) == PATHS[complete:]
    return error


def _check_failure(conn: HTTPConnection, way: Way, cut: int, index: int, kind: type[HTTPError]) -> HTTPError:
    """The answer *index* cannot be had, nor those behind it, and the errors say what came."""
    came = cut - STARTS[index]
    in_body = cut >= head_end(index)
    expected: list[tuple[str, str, bool]] = []
    for path, answer in zip(PATHS[index:], ANSWERS[index:], strict=True):
        begun = came > 0 and not expected
        expected.append((path, "answering" if begun else "sent", answer.method == "GET" and not begun))
    with pytest.raises(HTTPError) as caught:
        way(conn)
    error = caught.value
    assert type(error) is kind
    assert error.where == ("in body" if in_body else "in head" if came else "awaiting response")
    assert error.received == (len(ANSWERS[index].content(came)) if in_body else None)
    assert error.expected == (ANSWERS[index].length if in_body else None)
    assert facts(error) == expected
    assert paths(conn) == PATHS[index:]
    with pytest.raises(ConnectionClosed) as again:
        conn.read_response()
    assert facts(again.value) == expected
    return error
