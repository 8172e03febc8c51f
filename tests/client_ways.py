"""One response of `httpio.client`, from whatever it can be read, and by each way that there is to read it."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import httpio
from httpio.client import HTTPException, HTTPResponse

Pieces = Iterable[bytes | memoryview]


class _Open(io.BytesIO):
    """One that the close of a response leaves open."""

    def close(self) -> None:
        self.closes = getattr(self, "closes", 0) + 1


class Held:
    """A stand-in for a socket, whose file is in memory and cannot be peeked into."""

    def __init__(self, pieces: Pieces) -> None:
        self.file: Any = _Open(b"".join(pieces))

    def makefile(self, mode: str) -> Any:
        assert mode == "rb"
        return self.file

    def left(self) -> bytes:
        """What nobody has read."""
        return bytes(self.file.read())

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """There is nothing to close."""


class _Raw(io.RawIOBase):
    def __init__(self, pieces: Pieces) -> None:
        self.pieces = [memoryview(piece) for piece in pieces]

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        return receive_into(self.pieces, target)


def receive_into(pieces: list[memoryview], target: Any) -> int:
    """As much of the first piece as there is room for."""
    with memoryview(target) as view:
        if not pieces:
            return 0
        count = min(len(view), len(pieces[0]))
        view[:count] = pieces[0][:count]
    pieces[0] = pieces[0][count:]
    if not pieces[0]:
        del pieces[0]
    return count


class _Reader(io.BufferedReader):
    """One that the close of a response leaves open."""

    def close(self) -> None:
        self.closes = getattr(self, "closes", 0) + 1


class Buffered(Held):
    """A stand-in for a socket, whose file is like that which `socket.makefile` gives."""

    def __init__(self, pieces: Pieces) -> None:
        self.file = _Reader(_Raw(pieces))


class Dribbling(socket.socket):
    """A socket on which the pieces come one by one, and then the end."""

    def __init__(self, pieces: Pieces) -> None:
        super().__init__()
        self.pieces = [memoryview(piece) for piece in pieces]

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:  # type: ignore[override]
        return receive_into(self.pieces, buffer)

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        buffer = bytearray(bufsize)
        return bytes(buffer[: self.recv_into(buffer)])

    def left(self) -> bytes:
        """What nobody has received."""
        return b"".join(self.pieces)


SOURCES: dict[str, Callable[[Pieces], Any]] = {"held": Held, "buffered": Buffered, "socket": Dribbling}


# -- ways of reading --

Read = Callable[[Any], Iterator[bytes]]


def _read(response: Any) -> Iterator[bytes]:
    yield response.read()


def _pieces_of(size: int) -> Read:
    def read(response: Any) -> Iterator[bytes]:
        while piece := response.read(size):
            assert len(piece) <= size
            yield piece

    return read


def _into(size: int) -> Read:
    def read(response: Any) -> Iterator[bytes]:
        buffer = bytearray(size)
        while count := response.readinto(buffer):
            yield bytes(buffer[:count])

    return read


def _read1(size: int) -> Read:
    def read(response: Any) -> Iterator[bytes]:
        while piece := response.read1(size):
            assert size < 0 or len(piece) <= size
            yield piece

    return read


def _lines(limit: int) -> Read:
    def read(response: Any) -> Iterator[bytes]:
        while line := response.readline(limit):
            assert b"\n" not in line[:-1]
            assert limit < 0 or len(line) <= limit
            yield line

    return read


def _peeked(response: Any) -> Iterator[bytes]:
    while True:
        seen = response.peek()
        assert response.peek()[: len(seen)] == seen
        piece = response.read(len(seen) or 1)
        if not piece:
            return
        if seen:
            assert piece == seen
        yield piece


def _mixed(response: Any) -> Iterator[bytes]:
    buffer = bytearray(2)
    while not response.isclosed():
        for call in (
            lambda: response.read(1),
            lambda: response.peek()[:0],
            lambda: response.readline(3),
            lambda: bytes(buffer[: response.readinto(buffer)]),
            lambda: response.read1(2),
        ):
            yield call()
    assert response.read() == b""


WAYS: dict[str, Read] = {
    "read()": _read,
    "read(1)": _pieces_of(1),
    "read(4)": _pieces_of(4),
    "read(9999)": _pieces_of(9999),
    "readinto(3)": _into(3),
    "readinto(9999)": _into(9999),
    "read1()": _read1(-1),
    "read1(2)": _read1(2),
    "readline()": _lines(-1),
    "readline(2)": _lines(2),
    "iteration": iter,
    "peek": _peeked,
    "mixed": _mixed,
}
SLOW = {"read(1)", "read(4)", "readinto(3)", "read1(2)", "readline(2)", "mixed"}
"""Those that are not for large bodies."""


class Came(NamedTuple):
    """What came of a response. *content*: all that was handed out, with what the error has in `partial`."""

    verdict: str
    content: bytes = b""
    error: Exception | None = None


def verdict_of(error: Exception) -> str:
    """In the words of the cases."""
    for kind, verdict in (
        (httpio.InvalidResponse, "invalid"),
        (httpio.UnsupportedResponse, "unsupported"),
        (httpio.ConnectionClosed, "closed"),
    ):
        if isinstance(error, kind):
            return verdict
    raise error


def content_by(way: Read, response: Any) -> Came:
    """Read the body to its end."""
    content = bytearray()
    try:
        for piece in way(response):
            content += piece
    except httpio.HTTPError as error:
        content += getattr(error, "partial", b"")
        return Came(verdict_of(error), bytes(content), error)
    return Came("ok", bytes(content))


def come(sock: Any, method: str, way: Read = _read) -> tuple[Any, Came]:
    """A response, and what comes of it. The response is not closed where its end has been reached."""
    response = HTTPResponse(sock, method=method)
    try:
        response.begin()
    except httpio.HTTPError as error:
        response.close()
        return response, Came(verdict_of(error), b"", error)
    came = content_by(way, response)
    if isinstance(came.error, HTTPException):
        assert response.isclosed()
        assert response.read() == b""
        response.close()
    return response, came
