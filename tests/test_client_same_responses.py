"""The same response through http.client and `httpio.client`: each call gives the same, in any order of calls."""

from __future__ import annotations

import array
import http.client as standard
import io
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import httpio.client as ours
from client_ways import WAYS, Buffered, Dribbling, Held

MODULES = [standard, ours]


class Made(NamedTuple):
    """A good response. *ends*: behind it the peer closes, since that is how its body ends."""

    wire: bytes
    method: str
    content: bytes
    ends: bool


def in_chunks(content: bytes, sizes: list[int], extension: bytes, trailers: bytes) -> bytes:
    parts = []
    for size in sizes:
        piece, content = content[:size], content[size:]
        if piece:
            parts.append(b"%X%s\r\n%s\r\n" % (len(piece), extension, piece))
    if content:
        parts.append(b"0%x\r\n%s\r\n" % (len(content), content))
    return b"".join(parts) + b"0\r\n" + trailers + b"\r\n"


CONTENT = st.lists(
    st.sampled_from([b"\n", b"\r\n", b"a", b"bc\nd", b"\0\xff", b"x" * 300, b"y" * 9000]), max_size=8
).map(b"".join)
NAME = st.text("!#$%&'*+-.^_`|~0123456789ABCXYZabcxyz", min_size=1, max_size=10).map("X-".__add__)
VALUE = st.text(
    st.characters(
        min_codepoint=32, max_codepoint=255, exclude_characters="\x7f" + "".join(map(chr, range(0x80, 0xA0)))
    ),
    max_size=20,
)


@st.composite
def responses(draw: st.DrawFn) -> Made:
    version = draw(st.sampled_from(["1.1", "1.1", "1.0"]))
    method = draw(st.sampled_from(["GET", "GET", "GET", "POST", "HEAD"]))
    status = draw(st.sampled_from(["200 OK", "200 ", "404 Not Found", "500 caf\xe9", "999 Odd", "204 No", "304 Not"]))
    fields = [f"{name}: {value.strip()}" for name, value in draw(st.lists(st.tuples(NAME, VALUE), max_size=5))]
    persistence = draw(st.sampled_from(["", "", "close", "keep-alive", "Keep-Alive", "x, close"]))
    if persistence:
        fields.append(f"Connection: {persistence}")
    content = draw(CONTENT)
    framing = draw(st.sampled_from(["length", "chunked", "close"] if version == "1.1" else ["length", "close"]))
    body = content
    if framing == "length":
        fields.insert(draw(st.integers(0, len(fields))), f"Content-Length:{len(content):>{draw(st.integers(1, 9))}}")
    elif framing == "chunked":
        fields.append("transfer-encoding: Chunked")
        extension = draw(st.sampled_from([b"", b";a", b";a=b"]))
        trailers = draw(st.sampled_from([b"", b"", b"X-Sum: 1\r\n", b"A: b\r\nC: d\r\n"]))
        body = in_chunks(content, draw(st.lists(st.integers(1, 5000), max_size=6)), extension, trailers)
    if status[:3] in ("204", "304") or method == "HEAD":
        body = content = b""
    interim = draw(st.sampled_from([b"", b"", b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n"]))
    head = "\r\n".join([f"HTTP/{version} {status}", *fields, "", ""])
    ends = framing == "close" and bool(body or method != "HEAD") and status[:3] not in ("204", "304")
    return Made(interim + head.encode("latin-1") + body, method, content, ends)


SIZES = st.sampled_from([0, 1, 2, 7, 300, 8191, 8192, 8193, 20000])
PLAIN = [
    "read", "readline", "read1", "peek", "next", "isclosed", "closed", "readable", "attributes", "getheader",
    "getheaders", "flush",
]  # fmt: skip
CALLS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["read", "readinto", "read1", "peek", "readline"]), SIZES),
        st.tuples(st.sampled_from(PLAIN)),
    ),
    max_size=12,
)
ENDS = st.sampled_from(["read", "close", "with", "lines", "copy", "nothing"])


class Reader:
    """A response, how much of its content was taken, and what each call has come to."""

    def __init__(self, module: Any, made: Made, sock: Any) -> None:
        self.response = module.HTTPResponse(sock, method=made.method)
        self.made = made
        self.at = 0
        self.log: list[Any] = []
        self.response.begin()
        self.attributes()

    @property
    def rest(self) -> bytes:
        return self.made.content[self.at :]

    def took(self, piece: bytes) -> None:
        assert self.rest.startswith(piece)
        self.at += len(piece)

    def read(self, size: int | None = None) -> None:
        piece = self.response.read() if size is None else self.response.read(size)
        assert piece == self.rest[:size]
        self.took(piece)

    def readinto(self, size: int) -> None:
        buffer = bytearray(size)
        count = self.response.readinto(buffer)
        assert count == len(self.rest[:size])
        self.took(bytes(buffer[:count]))

    def read1(self, size: int = -1) -> None:
        """How many bytes it has is left to it: one at least, unless there is none."""
        piece = self.response.read1(size)
        assert size < 0 or len(piece) <= size
        assert bool(piece) == bool(self.rest and size)
        self.took(piece)

    def peek(self, size: int = -1) -> None:
        seen = self.response.peek(size)
        assert self.rest.startswith(seen)
        assert bool(seen) == bool(self.rest)

    def readline(self, size: int = -1) -> None:
        line = self.response.readline(size)
        assert line == io.BytesIO(self.rest).readline(size)
        self.took(line)

    def next(self) -> None:
        line = next(self.response, b"")
        assert line == io.BytesIO(self.rest).readline()
        self.took(line)

    def isclosed(self) -> None:
        """That all has been read is known at the latest when no more can be read."""
        closed = self.response.isclosed()
        assert not (closed and self.rest)

    def closed(self) -> None:
        self.log.append(self.response.closed)

    def readable(self) -> None:
        self.log.append(self.response.readable())

    def flush(self) -> None:
        self.log.append(self.response.flush())

    def attributes(self) -> None:
        response = self.response
        names = ["status", "code", "reason", "version", "will_close", "debuglevel", "_method"]
        if self.made.method != "HEAD" and response.status not in (204, 304):
            names.append("chunked")
        self.log.append([getattr(response, name) for name in names])
        self.log.append([response.getcode(), response.info() is response.headers, response.msg is response.headers])
        if response.length is not None and not response.isclosed() and self.made.method != "HEAD":
            assert response.length == len(self.rest)

    def getheader(self) -> None:
        response = self.response
        names = [name for name, _ in response.getheaders()]
        for name in [*names, "absent", "CONNECTION"]:
            self.log.append([response.getheader(name), response.getheader(name.upper(), "default")])
        self.log.append([response.getheader("absent", ["a", "b"]), response.getheader("absent", 5)])

    def getheaders(self) -> None:
        response = self.response
        self.log.append([response.getheaders(), response.headers.items(), str(response.headers), dict(response.msg)])

    def end(self, how: str) -> None:
        response = self.response
        if how == "read":
            self.read()
            assert response.isclosed()
            assert response.read(5) == response.read1(5) == response.readline() == response.peek() == b""
            assert response.readinto(bytearray(3)) == 0
        elif how == "lines":
            assert response.readlines() == self.rest.splitlines(True) if b"\r" not in self.rest else True
            self.at = len(self.made.content)
        elif how == "copy":
            target = io.BytesIO()
            shutil.copyfileobj(response, target, 1000)
            self.took(target.getvalue())
            assert not self.rest
        elif how == "with":
            with response as same:
                assert same is response
            self.log.append(response.closed)
        if how != "nothing":
            response.close()
            self.log.append([response.closed, response.isclosed(), response.fp, response.read()])
            for call in (response.readline, response.readlines, response.flush, response.__enter__, response.__iter__):
                try:
                    self.log.append(list(call()) if call == response.readlines else bool(call()))
                except ValueError:
                    self.log.append("ValueError")


def play(module: Any, made: Made, source: type, calls: list[Any], end: str) -> list[Any]:
    """What all of the calls have come to."""
    with source([made.wire]) as sock:
        reader = Reader(module, made, sock)
        try:
            for name, *args in calls:
                getattr(reader, name)(*args)
            reader.end(end)
        finally:
            reader.response.close()
    return reader.log


@settings(max_examples=600, deadline=None)
@given(made=responses(), calls=CALLS, end=ENDS, source=st.sampled_from([Buffered, Dribbling]))
def test_any_calls(made: Made, calls: list[Any], end: str, source: type) -> None:
    """http.client's own answers count where it reads the content right, which depends on its version."""
    found = play(ours, made, source, calls, end)
    try:
        expected = play(standard, made, source, calls, end)
    except (AssertionError, standard.HTTPException, ValueError, OSError):
        event("http.client is wrong")
    else:
        assert found == expected


BODY = b"one\ntwo\r\n\nfour" + bytes(range(256)) * 50
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + in_chunks(BODY, [1, 5, 1000], b"", b"")
CLOSED = b"HTTP/1.0 200 OK\r\n\r\n" + BODY


@pytest.mark.parametrize("way", [way for way in WAYS if way != "mixed"])
@pytest.mark.parametrize("wire", [LENGTH, CHUNKS, CLOSED], ids=["length", "chunked", "close"])
def test_each_way_of_reading(wire: bytes, way: str) -> None:
    for source in (Buffered, Dribbling, Held) if "peek" not in way else (Buffered, Dribbling):
        with source([wire]) as sock:
            response = ours.HTTPResponse(sock)
            response.begin()
            assert b"".join(WAYS[way](response)) == BODY
            assert response.isclosed()
            assert not response.closed
            response.close()
            assert response.closed


def wrapped_text(response: Any) -> Any:
    return io.TextIOWrapper(response, encoding="latin-1", newline="").read()


def wrapped_buffer(response: Any) -> Any:
    with io.BufferedReader(response) as file:
        return [file.read(3), file.readline(), file.peek(1)[:1], file.read()]


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "TextIOWrapper": wrapped_text,
    "BufferedReader": wrapped_buffer,
    "readlines": lambda response: response.readlines(),
    "readlines(20)": lambda response: response.readlines(20),
    "for": list,
    "memoryview": lambda response: (response.readinto(memoryview(buffer := bytearray(9))[2:5]), buffer),
    "what it is": lambda response: (
        isinstance(response, io.BufferedIOBase), response.seekable(), response.writable(), response.isatty(),
    ),
    "what it cannot": lambda response: [
        refused(call) for call in (response.seek, response.tell, response.truncate, response.write, response.detach)
    ],
}  # fmt: skip


def refused(call: Any) -> str:
    try:
        call(0) if call.__name__ in ("seek", "truncate", "write") else call()
    except (OSError, TypeError) as exc:
        return type(exc).__name__
    return "done"


@pytest.mark.parametrize("use", WRAPPERS)
@pytest.mark.parametrize("wire", [LENGTH, CHUNKS, CLOSED], ids=["length", "chunked", "close"])
def test_as_a_file(wire: bytes, use: str) -> None:
    results = []
    for module in MODULES:
        response = module.HTTPResponse(Buffered([wire]))
        response.begin()
        results.append(WRAPPERS[use](response))
        response.close()
    assert results[1] == results[0]


@pytest.mark.parametrize("wire", [LENGTH, CHUNKS, CLOSED], ids=["length", "chunked", "close"])
def test_a_buffer_of_words(wire: bytes) -> None:
    """http.client counts items where it should count bytes."""
    for way in ("readinto", "readinto1"):
        response = ours.HTTPResponse(Buffered([wire]))
        response.begin()
        words = array.array("H", bytes(8))
        count = getattr(response, way)(words)
        assert count == 8 or (way == "readinto1" and 0 < count < 8)
        assert words.tobytes()[:count] + response.read() == BODY


def test_chunked_is_said_of_a_body_that_there_is() -> None:
    """http.client says it of the answer to HEAD as well, and reads chunks where a 204 tells of some."""
    head = CHUNKS.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    for wire, method in ((head, "HEAD"), (head.replace(b"200 OK", b"204 No"), "GET")):
        response = ours.HTTPResponse(Buffered([wire]), method=method)
        response.begin()
        assert response.chunked is False
        assert response.read() == b""
        assert response.isclosed()
