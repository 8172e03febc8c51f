"""How a request goes on the wire: its head, the framing of its body (RFC 9112 section 6), and chunks."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple

from httpio.exceptions import ExcessBodyData, StateError
from httpio.headers import FieldsLike, encode_fields, is_token
from httpio.messages import Body, BodyFollowing
from httpio.urls import check_target

__all__ = [
    "LAST_CHUNK",
    "BodyKind",
    "Frame",
    "chunk",
    "encode_get",
    "frame_request",
    "join_targets",
    "pieces",
]

LAST_CHUNK = b"0\r\n\r\n"
READ_SIZE = 256 * 1024
"""Bytes read from a file at a time."""

_EXPECTING_BODY = frozenset(("PATCH", "POST", "PUT"))
_TARGET_BYTES = bytes(byte for byte in range(0x21, 0x7F) if byte != 0x23)
_FORBIDDEN_TRAILERS = frozenset((b"content-length", b"transfer-encoding", b"host", b"trailer", b"te", b"connection"))


class BodyKind(Enum):
    """Where the bytes of a body come from."""

    NONE = "no body"
    BYTES = "bytes, sent with the head"
    FOLLOWING = "the caller's writes"
    SOURCE = "a file or an iterable"


class Frame(NamedTuple):
    """A request's head, ready to send, and how its body is framed."""

    head: bytes
    kind: BodyKind
    length: int | None
    """Bytes of the body; None: it is chunked."""
    close: bool
    """The request says that it is the connection's last."""
    upgrade: bool
    """The request asks for another protocol."""


@lru_cache(maxsize=64)
def _check_method(method: str) -> bytes:
    if not isinstance(method, str):
        raise TypeError("the method must be str, not " + type(method).__name__)
    if not method.isascii() or not is_token(method.encode("ascii")):
        raise ValueError("the method must be a token (RFC 9110 section 5.6.2)")
    return method.encode("ascii")


def frame_request(
    method: str,
    target: str | bytes,
    headers: FieldsLike,
    body: Body,
    defaults: Sequence[tuple[bytes, bytes, bytes]],
) -> Frame:
    """Check and encode one request. *defaults*: fields as `encode_fields` gives them, sent where the
    caller has none of that name.

    Raises InvalidURL, ValueError or TypeError. Nothing that the caller passed is changed or consumed.
    """
    verb = _check_method(method)
    goal = check_target(method, target)
    fields = encode_fields(headers)
    if fields:
        given: dict[bytes, list[bytes]] = {}
        for _, name, value in fields:
            given.setdefault(name, []).append(value)
        _check_given(given)
        close, upgrade = _connection_options(given)
    else:
        given = {}
        close = upgrade = False
    kind, length = _measure(method, body)
    lines = [b"%b %b HTTP/1.1\r\n" % (verb, goal)]
    for original, name, value in defaults:
        if name not in given:
            lines.append(b"%b: %b\r\n" % (original, value))
    for original, name, value in fields:
        if name != b"expect" or kind is not BodyKind.NONE:  # 100-continue without content (RFC 9110 section 10.1.1)
            lines.append(b"%b: %b\r\n" % (original, value))
    length, framing = _frame_body(method, given, kind, length)
    lines.append(framing)
    lines.append(b"\r\n")
    return Frame(b"".join(lines), kind, length, close, upgrade)


def _check_given(given: dict[bytes, list[bytes]]) -> None:
    """What the caller may say once only, or not at all."""
    for name in (b"host", b"content-length", b"transfer-encoding"):
        if len(given.get(name, ())) > 1:
            raise ValueError(f"more than one {name.decode()} field")
    host = given.get(b"host")
    if host is not None and (b" " in host[0] or b"\t" in host[0] or b"@" in host[0] or b"/" in host[0]):
        raise ValueError("the Host field must hold a host, and a port where it is not the default")
    if b"chunked" in _members(given.get(b"te", ())):
        raise ValueError("TE cannot name chunked (RFC 9112 section 7.4)")
    if not _FORBIDDEN_TRAILERS.isdisjoint(_members(given.get(b"trailer", ()))):
        raise ValueError("Trailer names a field that cannot be a trailer (RFC 9110 section 6.5.1)")


def _members(values: Iterable[bytes]) -> list[bytes]:
    return [member.strip(b" \t").lower() for value in values for member in value.split(b",")]


def _connection_options(given: dict[bytes, list[bytes]]) -> tuple[bool, bool]:
    options = _members(given.get(b"connection", ()))
    return b"close" in options, b"upgrade" in given and b"upgrade" in options


def _measure(method: str, body: Body) -> tuple[BodyKind, int | None]:
    """Where the body comes from, and its length where that can be known."""
    if body is None:
        return BodyKind.NONE, 0
    if method in ("TRACE", "CONNECT"):
        raise ValueError(f"a {method} request has no body (RFC 9110 section 9.3)")
    if isinstance(body, bytes | bytearray):
        return (BodyKind.BYTES if body else BodyKind.NONE), len(body)
    if isinstance(body, memoryview):
        if not body.c_contiguous:
            raise ValueError("a memoryview must be contiguous to be a body")
        return (BodyKind.BYTES if body.nbytes else BodyKind.NONE), body.nbytes
    if isinstance(body, BodyFollowing):
        return BodyKind.FOLLOWING, body.length
    if isinstance(body, str):
        raise TypeError("a body must be bytes, not str: encode it")
    if isinstance(body, io.TextIOBase):
        raise TypeError("a body must be a binary file, not a text file")
    if hasattr(body, "read"):
        return BodyKind.SOURCE, _file_length(body)
    if not isinstance(body, Iterable) or isinstance(body, dict):
        raise TypeError(
            "a body must be bytes, a binary file, an iterable of bytes or BodyFollowing, not " + type(body).__name__
        )
    return BodyKind.SOURCE, None


def _file_length(file: Any) -> int | None:
    """What a seekable file holds from its position on; None where that cannot be known."""
    try:
        if not file.seekable():
            return None
        position: int = file.tell()
        # A file that decompresses has a descriptor too, and its size is not that of what is read.
        if isinstance(getattr(file, "raw", file), io.FileIO):
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode):
                return max(0, status.st_size - position)
        end: int = file.seek(0, io.SEEK_END)
        file.seek(position)
        return max(0, end - position)
    except (AttributeError, OSError, ValueError):
        return None


def _frame_body(
    method: str, given: dict[bytes, list[bytes]], kind: BodyKind, length: int | None
) -> tuple[int | None, bytes]:
    """The length to hold the body to (None: chunked), and the framing field to add to the head (RFC 9112
    section 6.2, 6.1)."""
    declared = given.get(b"content-length")
    coding = given.get(b"transfer-encoding")
    if coding is not None:
        if declared is not None:
            raise ValueError("Content-Length and Transfer-Encoding in one request")
        if coding[0].lower() != b"chunked":
            raise ValueError("the only transfer coding that can be sent is chunked")
        if kind is BodyKind.NONE:
            raise ValueError("Transfer-Encoding without a body")
        return None, b""
    if declared is not None:
        digits = declared[0]
        if not digits or digits.translate(None, b"0123456789") or len(digits) > 19:
            raise ValueError("Content-Length must be a number of bytes, in digits")
        wanted = int(digits)
        if length is not None and wanted != length and kind is not BodyKind.SOURCE:
            raise ValueError(f"Content-Length says {wanted} bytes and the body has {length}")
        return wanted, b""
    if kind is BodyKind.NONE and method not in _EXPECTING_BODY:
        return 0, b""
    if length is None:
        return None, b"Transfer-Encoding: chunked\r\n"
    return length, b"Content-Length: %d\r\n" % length


def encode_get(target: str, rest: bytes) -> bytes | None:
    """The head of a GET request, *rest* being what follows its target; None: *target* is no plain origin-form
    target, and `frame_request` will say why."""
    try:
        data = target.encode("ascii")
    except (UnicodeEncodeError, AttributeError):
        return None
    return None if data[:1] != b"/" or data.translate(None, _TARGET_BYTES) else b"GET %b%b" % (data, rest)


def join_targets(targets: list[str], rest: bytes) -> bytes | None:
    """The heads of GET requests for *targets*, *rest* being what follows each target, in a few passes over
    all of them.

    None: one of them is not a plain origin-form target, and `frame_request` will say which and why.
    """
    try:
        joined = "\n".join(targets).encode("ascii")
    except (UnicodeEncodeError, TypeError):
        return None
    count = len(targets)
    if (
        joined.translate(None, _TARGET_BYTES) != b"\n" * (count - 1)
        or joined[:1] != b"/"
        or joined.count(b"\n/") != count - 1
    ):
        return None
    return b"GET " + joined.replace(b"\n", rest + b"GET ") + rest


def chunk(data: bytes | bytearray | memoryview) -> bytes:
    """One chunk (RFC 9112 section 7.1). *data* must not be empty: an empty chunk would be the last."""
    return b"%x\r\n%b\r\n" % (memoryview(data).nbytes, data)  # type: ignore[str-format]


def pieces(source: Any, length: int | None) -> Iterator[bytes | memoryview]:
    """The bytes of a file or an iterable, in pieces, none of them empty.

    With a *length*, at most so many bytes of a file are read, and StateError says that there were fewer,
    ExcessBodyData that an iterable gave more. TypeError: a piece is not bytes.
    """
    left = length
    if hasattr(source, "read"):
        while left is None or left > 0:
            piece = source.read(READ_SIZE if left is None else min(READ_SIZE, left))
            if not isinstance(piece, bytes | bytearray | memoryview):
                raise TypeError("a file that is a body must give bytes, not " + type(piece).__name__)
            if not piece:
                break
            if left is not None:
                left -= len(piece)
            yield memoryview(piece)
    else:
        for piece in source:
            if not isinstance(piece, bytes | bytearray | memoryview):
                raise TypeError("an iterable that is a body must give bytes, not " + type(piece).__name__)
            size = memoryview(piece).nbytes
            if left is not None:
                if size > left:
                    raise ExcessBodyData(f"the iterable gave more than the {length} bytes that were declared")
                left -= size
            if size:
                yield memoryview(piece).cast("B")
    if left:
        raise StateError(f"the body had {left} bytes less than the {length} that were declared")
