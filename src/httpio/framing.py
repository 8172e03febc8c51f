"""How a request goes on the wire: its head, the framing of its body (RFC 9112 section 6), and chunks."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import Any, BinaryIO, NamedTuple

from httpio.exceptions import ExcessBodyData, StateError
from httpio.headers import FieldsLike, encode_fields, is_token
from httpio.messages import Body, BodyFollowing, Trailers
from httpio.urls import check_target, split_url

__all__ = [
    "BodyKind",
    "FilePart",
    "Frame",
    "chunk",
    "encode_get",
    "file_length",
    "frame_request",
    "join_targets",
    "last_chunk",
    "pieces",
    "refuse_for_proxy",
]

READ_SIZE = 256 * 1024
"""Bytes read from a file at a time."""

_EXPECTING_BODY = frozenset(("PATCH", "POST", "PUT"))
_TARGET_BYTES = bytes(byte for byte in range(0x21, 0x7F) if byte != 0x23)
_FORBIDDEN_TRAILERS = frozenset(
    b"authorization cache-control connection content-encoding content-length content-range content-type expect host"
    b" if-match if-modified-since if-none-match if-range if-unmodified-since keep-alive max-forwards"
    b" proxy-authorization proxy-connection range te trailer transfer-encoding upgrade".split()
)
"""What is needed before the content: framing, routing, conditions, authentication, and how to read the content (RFC
9110 section 6.5.1)."""


_FOR_PROXIES = frozenset((b"proxy-authorization", b"proxy-connection"))


class BodyKind(Enum):
    """Where the bytes of a body come from."""

    NONE = "no body"
    BYTES = "bytes, sent with the head"
    FOLLOWING = "the caller's writes"
    SOURCE = "a file or an iterable"


_PLAIN_FILES = (io.FileIO, io.BufferedReader, io.BufferedRandom)


@dataclass(frozen=True, slots=True)
class FilePart:
    """Bytes of a file that are sent by the operating system, from the file to the socket."""

    file: BinaryIO
    offset: int
    count: int

    @classmethod
    def of(cls, file: Any, count: int | None) -> FilePart | None:
        """The next *count* bytes of a file, None: all to its end; None where *file* is no regular file of the operating
        system's, or has a way of its own to read it."""
        if type(file) not in _PLAIN_FILES or type(getattr(file, "raw", file)) is not io.FileIO:
            return None
        try:
            if file.writable():
                file.flush()
            status = os.fstat(file.fileno())
            offset = file.tell()
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return cls(file, offset, max(0, status.st_size - offset) if count is None else count)

    def __len__(self) -> int:
        return self.count

    def behind(self, count: int) -> FilePart:
        """What is left of it behind its first *count* bytes."""
        return replace(self, offset=self.offset + count, count=self.count - count)


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
    expects: bool
    """It asks whether its body is wanted: Expect: 100-continue."""


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
    trailers: Trailers = None,
    expect: bool | None = None,
    *,
    origin: bytes = b"",
    tunnelled: bool = False,
) -> Frame:
    """Check and encode one request. *defaults*: fields as `encode_fields` gives them, sent where the
    caller has none of that name. *trailers*: what will follow the body. *expect*: whether to ask for 100
    (Continue) where there is a body; None: as the caller's own fields say. *origin*: what makes absolute-form of a
    target in origin-form, for a proxy (RFC 9112 section 3.2.2). *tunnelled*: the request goes past a proxy, and must
    not carry what is meant for it.

    Raises InvalidURL, ValueError or TypeError. Nothing that the caller passed is changed or consumed.
    """
    verb = _check_method(method)
    goal = check_target(method, target)
    authority = _authority(verb, goal)
    if origin and goal[:1] in (b"/", b"*"):
        goal = origin if goal == b"*" else origin + goal  # RFC 9112 section 3.2.4
    fields = encode_fields(headers)
    if fields:
        given: dict[bytes, list[bytes]] = {}
        for _, name, value in fields:
            given.setdefault(name, []).append(value)
        _check_given(given)
        if tunnelled:
            refuse_for_proxy(given)
        close, upgrade = _connection_options(given)
    else:
        given = {}
        close = upgrade = False
    kind, length = _measure(method, body)
    length, framing = _frame_body(method, given, kind, None if trailers is not None else length)
    empty = kind is BodyKind.NONE or length == 0
    asks = _members(given.get(b"expect", ())) == [b"100-continue"]
    if expect and not asks and b"expect" in given:
        raise ValueError("the Expect field asks for something else than 100-continue")
    # 100-continue cannot be asked for without content (RFC 9110 section 10.1.1).
    expects = not empty and (asks if expect is None else expect)
    lines = [b"%b %b HTTP/1.1\r\n" % (verb, goal)]
    for original, name, value in defaults:
        if name not in given:
            if authority and name == b"host":
                value = authority
            lines.append(b"%b: %b\r\n" % (original, value))
    for original, name, value in fields:
        if name != b"expect" or (expects if asks else not empty):
            lines.append(b"%b: %b\r\n" % (original, value))
    if expects and not asks:
        lines.append(b"Expect: 100-continue\r\n")
    lines.append(framing)
    if trailers is not None:
        lines.append(_announce(trailers, given, kind, length))
    lines.append(b"\r\n")
    if expect is None and kind is BodyKind.FOLLOWING:
        expects = False  # who writes the body is to say that they will wait
    return Frame(b"".join(lines), kind, length, close, upgrade, expects)


def _authority(verb: bytes, goal: bytes) -> bytes:
    """Where the target names one, which Host has to repeat (RFC 9112 section 3.2)."""
    if verb == b"CONNECT":
        return goal
    return b"" if goal[:1] in (b"/", b"*") else split_url(goal.decode("ascii"))[0].field.encode("ascii")


def refuse_for_proxy(names: Iterable[bytes]) -> None:
    """ValueError where one of these fields, in lower case, is meant for a proxy: through a tunnel it would reach the
    origin (RFC 9110 section 11.7.2)."""
    for name in names:
        if name in _FOR_PROXIES:
            raise ValueError(
                f"the field {name.decode()} would reach the origin through the tunnel: give it to the Proxy"
            )


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


def _announce(trailers: Trailers, given: dict[bytes, list[bytes]], kind: BodyKind, length: int | None) -> bytes:
    """The Trailer field for a body that trailers will follow, where their names are known and the caller has not
    given it."""
    if kind is BodyKind.NONE:
        raise ValueError("trailers without a body")
    if length is not None:
        raise ValueError("trailers follow a chunked body only, and the Content-Length is given")
    if callable(trailers) or b"trailer" in given:
        return b""
    names = [name for name, _, _ in _encode_trailers(trailers)]
    return b"Trailer: %b\r\n" % b", ".join(names) if names else b""


def _encode_trailers(trailers: Trailers) -> list[tuple[bytes, bytes, bytes]]:
    fields = encode_fields(trailers() if callable(trailers) else trailers)
    for name, lower, _ in fields:
        if lower in _FORBIDDEN_TRAILERS:
            raise ValueError(f"{name.decode()} cannot be a trailer (RFC 9110 section 6.5.1)")
    return fields


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
        return BodyKind.SOURCE, file_length(body)
    if not isinstance(body, Iterable) or isinstance(body, dict):
        raise TypeError(
            "a body must be bytes, a binary file, an iterable of bytes or BodyFollowing, not " + type(body).__name__
        )
    return BodyKind.SOURCE, None


def file_length(file: Any) -> int | None:
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


def encode_get(target: str, rest: bytes, start: bytes = b"GET ") -> bytes | None:
    """The head of a GET request, *start* and *rest* being what stands before and behind its target; None: *target* is
    no plain origin-form target, and `frame_request` will say why."""
    try:
        data = target.encode("ascii")
    except (UnicodeEncodeError, AttributeError):
        return None
    return None if data[:1] != b"/" or data.translate(None, _TARGET_BYTES) else start + data + rest


def join_targets(targets: list[str], rest: bytes, start: bytes = b"GET ") -> bytes | None:
    """The heads of GET requests for *targets*, *start* and *rest* being what stands before and behind each target, in a
    few passes over all of them.

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
    return start + joined.replace(b"\n", rest + start) + rest


def chunk(data: bytes | bytearray | memoryview) -> bytes:
    """One chunk (RFC 9112 section 7.1). *data* must not be empty: an empty chunk would be the last."""
    return b"%x\r\n%b\r\n" % (memoryview(data).nbytes, data)  # type: ignore[str-format]


def last_chunk(trailers: Trailers = None) -> bytes:
    """The last chunk and the trailer section, which end a chunked body. Raises as `encode_fields` does, ValueError for
    a field that cannot be a trailer, and what *trailers* raises where it is called for them."""
    lines = [b"%b: %b\r\n" % (name, value) for name, _, value in _encode_trailers(trailers)]
    return b"0\r\n%b\r\n" % b"".join(lines)


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
