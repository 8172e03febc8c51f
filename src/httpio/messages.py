"""What is exchanged: requests, responses, and the limits that responses are held to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from enum import IntFlag
from typing import Any, BinaryIO, TypeAlias, cast

from httpio._parser import ResponseHead
from httpio.headers import FieldsLike, Headers

__all__ = [
    "MAX_HEADER_SIZE",
    "MAX_LINE_SIZE",
    "Body",
    "BodyFollowing",
    "HTTPResponse",
    "Lenient",
    "Limits",
    "Request",
    "Trailers",
]

IDEMPOTENT_METHODS = frozenset(("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"))
"""RFC 9110 section 9.2.2."""


class BodyFollowing:
    """Stands for a request body that is sent by `write` after `send_request`.

    *length*: its size in bytes; None: not known in advance, so it is sent in chunks and its end is told by
    `end_body`.
    """

    __slots__ = ("length",)

    def __init__(self, length: int | None = None) -> None:
        if length is not None and (not isinstance(length, int) or isinstance(length, bool)):
            raise TypeError("the length of a body must be int, not " + type(length).__name__)
        if length is not None and length < 0:
            raise ValueError("the length of a body cannot be negative")
        self.length = length

    def __repr__(self) -> str:
        return f"BodyFollowing({'' if self.length is None else self.length})"


Body: TypeAlias = bytes | bytearray | memoryview | BodyFollowing | BinaryIO | Iterable[bytes] | None
"""What a request may carry: nothing, bytes, a binary file, an iterable of bytes, or a `BodyFollowing`."""


Trailers: TypeAlias = FieldsLike | Callable[[], FieldsLike]
"""Fields that follow a body: as for a header section, or a function that gives them once the body has been sent."""


class Request:
    """One request for `pipeline` and everything above it.

    *method*, *path* (the request target), *headers*, *body* and *trailers* as for `send_request`. *idempotent*:
    whether sending it twice is the same as sending it once; None: what RFC 9110 section 9.2.2 says of the
    method. *tag*: anything, for the caller.
    """

    __slots__ = ("_idempotent", "body", "headers", "method", "path", "tag", "trailers")

    def __init__(
        self,
        method: str,
        path: str,
        headers: FieldsLike = None,
        body: Body = None,
        *,
        idempotent: bool | None = None,
        tag: Any = None,
        trailers: Trailers = None,
    ) -> None:
        self.method = method
        self.path = path
        # An iterator could be read once only, and the fields are looked at more often.
        self.headers = tuple(headers) if isinstance(headers, Iterator) else headers
        self.body = body
        self._idempotent = idempotent
        self.tag = tag
        self.trailers = tuple(trailers) if isinstance(trailers, Iterator) else trailers

    @property
    def idempotent(self) -> bool:
        """Whether sending it twice is the same as sending it once."""
        return self.method in IDEMPOTENT_METHODS if self._idempotent is None else self._idempotent

    @property
    def replayable(self) -> bool:
        """Whether its body can be sent again from its beginning."""
        return self.body is None or isinstance(self.body, bytes | bytearray | memoryview)

    @property
    def repeatable(self) -> bool:
        """Idempotent and replayable: it may ride in a pipeline, and be sent again after a loss."""
        return self.idempotent and self.replayable

    def with_path(self, path: str) -> Request:
        """The same request with another path."""
        return Request(
            self.method,
            path,
            self.headers,
            self.body,
            idempotent=self._idempotent,
            tag=self.tag,
            trailers=self.trailers,
        )

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path}>"


class HTTPResponse(ResponseHead):
    """One response. Its `body` holds the content when that was collected; else the content is read through
    the connection."""

    __slots__ = ()

    @property
    def headers(self) -> Headers:
        """The header section."""
        headers = self._headers
        if headers is None:
            headers = self._headers = Headers(self.fields())
        return cast(Headers, headers)

    @property
    def trailers(self) -> Headers:
        """The trailer section (RFC 9110 section 6.5), empty before the body has ended."""
        if self.complete_by is None:
            return Headers()
        trailers = self._trailers
        if trailers is None:
            trailers = self._trailers = Headers(self.trailer_fields())
        return cast(Headers, trailers)

    @property
    def request(self) -> Request:
        """The request that this answers."""
        item = self._item
        if isinstance(item, str):
            item = self._item = Request("GET", item)
        return cast(Request, item)

    @property
    def item(self) -> str | Request:
        """What was asked for as it was handed in: a target, or a Request."""
        return cast("str | Request", self._item)

    def answers(self, item: object) -> bool:
        """Whether it is the response to this very object, a request target or `Request`."""
        return self._item is item

    @property
    def method(self) -> str:
        """The request's method."""
        item = self._item
        return "GET" if isinstance(item, str) else cast(Request, item).method

    @property
    def path(self) -> str:
        """The request's target."""
        item = self._item
        return item if isinstance(item, str) else cast(Request, item).path

    def __repr__(self) -> str:
        return f"<HTTPResponse {self.status} {self.reason} to {self.method} {self.path}>"


MAX_LINE_SIZE = 65536
"""`Limits.max_line_size` where nothing else is said."""

MAX_HEADER_SIZE = 256 * 1024
"""`Limits.max_field_size` where nothing else is said."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest parts of a response that are accepted; what is larger raises InvalidResponse. Sizes are
    in bytes.

    The last three hold where content codings are undone (``decode``).
    """

    max_line_size: int = MAX_LINE_SIZE
    """A status line or a field line."""
    max_headers: int = 100
    """Field lines in a header section."""
    max_field_size: int = MAX_HEADER_SIZE
    """A header section."""
    max_interim: int = 100
    """Interim responses before a final one; together they may have max_field_size."""
    max_chunk_line: int = 4096
    """A chunk's size and extensions."""
    max_chunk_ext: int = 16 * 1024
    """The chunk extensions of a message."""
    max_trailers: int = 100
    """Field lines in a trailer section, which may have max_field_size."""
    max_leading: int = 64 * 1024
    """Empty lines before a status line."""
    max_codings: int = 5
    """Content codings on top of each other."""
    max_decoded: int = 64 * 1024 * 1024
    """Decoded content that is collected in memory; read piece by piece it may be longer."""
    max_ratio: int = 1000
    """How many times its size a body may grow in decoding, once it has grown to 1 MiB. Of what has come so far no more
    than that is given out."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int):
                raise TypeError(f"{field.name} must be int, not {type(value).__name__}")
            if value < 0:
                raise ValueError(f"{field.name} must not be negative")

    @classmethod
    def of(cls, given: Limits | None) -> Limits:
        """The limits that a caller means; None: the default. TypeError for anything else."""
        if given is None:
            return cls()
        if isinstance(given, cls):
            return given
        raise TypeError("limits must be a Limits or None, not " + type(given).__name__)


class Lenient(IntFlag):
    """What may be forgiven in a response, each for itself. The default is nothing."""

    LF = 1
    """A bare LF ends a line of a header section."""
    CTL = 2
    """Control bytes but CR, LF and NUL may stand in a field value."""
    CHUNK_SPACE = 4
    """Blanks may follow a chunk's size."""
    UNTIL_CLOSE = 8
    """An HTTP/1.1 response with no framing and no Connection: close is read until the connection closes."""
