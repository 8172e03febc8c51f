"""The errors of `httpio.client`: each is of http.client's family and of httpio's, so that either `except` clause works.

::

    http.client               httpio                 here
    RemoteDisconnected        ConnectionClosed       NoAnswer          the peer closed before it answered
    IncompleteRead            ConnectionClosed       ShortMessage      it closed inside a message
    IncompleteRead            InvalidResponse        BadChunks         the chunks cannot be understood
    BadStatusLine             InvalidResponse        BadStatus
    LineTooLong               InvalidResponse        TooLong
    HTTPException             InvalidResponse        BadHead           any other fault of a header section
    UnknownProtocol           UnsupportedResponse    UnknownVersion
    UnknownTransferEncoding   UnsupportedResponse    UnknownCoding
    InvalidURL                InvalidURL             BadURL
    HTTPException             UnsupportedResponse    Unsupported       any other that httpio does not read
    ConnectionResetError      ConnectionClosed       ConnectionReset, BrokenPipe
    OSError                   StateError             Interrupted       a read that cannot be gone on with
    OSError                   ProxyError             TunnelRefused
    ValueError                ExcessBodyData         BodyTooLong
    ValueError                StateError             BodyTooShort
"""

from __future__ import annotations

import http.client as standard
import re
from typing import NoReturn

from httpio.exceptions import (
    ConnectionClosed,
    ConnectionTimedOut,
    ExcessBodyData,
    HTTPError,
    InvalidResponse,
    InvalidURL,
    ProxyError,
    StateError,
    UnsupportedResponse,
    Where,
)

__all__ = [
    "BadChunks",
    "BadHead",
    "BadStatus",
    "BadURL",
    "BodyTooLong",
    "BodyTooShort",
    "BrokenPipe",
    "ConnectionReset",
    "Interrupted",
    "NoAnswer",
    "ShortMessage",
    "TooLong",
    "TunnelRefused",
    "UnknownCoding",
    "UnknownVersion",
    "Unsupported",
    "interrupted",
    "raise_meant",
    "refusal",
]


class NoAnswer(standard.RemoteDisconnected, ConnectionClosed):
    """The connection ended before the first byte of the answer."""

    def __init__(self, message: str) -> None:
        standard.BadStatusLine.__init__(self, "")
        ConnectionClosed.__init__(self, message, where="awaiting response")


class ConnectionReset(ConnectionResetError, ConnectionClosed):
    """The operating system says that the connection is lost; its error is the ``__cause__``, its number `errno`."""

    def __init__(self, cause: OSError) -> None:
        ConnectionClosed.__init__(self, str(cause))
        self.errno = cause.errno
        self.strerror = cause.strerror

    def __reduce__(self) -> tuple[object, ...]:
        state = {**self.__dict__, "errno": self.errno, "strerror": self.strerror}
        return _again, (type(self), self.args, state)


class BrokenPipe(BrokenPipeError, ConnectionReset):
    """The same, of a peer that reads no more."""


class Interrupted(StateError, OSError):
    """A read ended in its middle, by a timeout for instance: it cannot be gone on with."""

    def __init__(self, message: str) -> None:
        StateError.__init__(self, message, where="in body")


def interrupted(cause: BaseException) -> str:
    """What `Interrupted` says later of what ended a read; http.client's words for a timeout."""
    if isinstance(cause, TimeoutError):
        return "cannot read from timed out object"
    return f"an earlier read was interrupted: {cause!r}"


def raise_meant(cause: OSError) -> NoReturn:
    """Raise what an error of the operating system's means, as one of both families; itself where there is no better."""
    if isinstance(cause, TimeoutError) and not isinstance(cause, HTTPError):
        raise ConnectionTimedOut(str(cause) or "timed out") from cause
    if isinstance(cause, ConnectionError) and not isinstance(cause, HTTPError):
        raise (BrokenPipe if isinstance(cause, BrokenPipeError) else ConnectionReset)(cause) from cause
    raise cause


class _Incomplete(standard.IncompleteRead, HTTPError):
    """What is lost of a message: `partial`, the content of the call that failed, and `expected`, by http.client's
    meaning: how many bytes are missing, None where that is not known."""

    def __init__(
        self,
        partial: bytes,
        expected: int | None = None,
        message: str = "",
        *,
        where: Where = "in body",
        received: int | None = None,
    ) -> None:
        HTTPError.__init__(self, message, where=where, received=received)
        standard.IncompleteRead.__init__(self, partial, expected)
        self.message = message
        """What is wrong, in a sentence."""

    def __reduce__(self) -> tuple[object, ...]:
        return _again, (type(self), self.args, self.__dict__)

    def __repr__(self) -> str:
        missing = "" if self.expected is None else f", {self.expected} more expected"
        return f"IncompleteRead({len(self.partial)} bytes read{missing})"

    def __str__(self) -> str:
        return repr(self)


class ShortMessage(_Incomplete, ConnectionClosed):
    """The peer closed inside a header section or a body."""


class BadChunks(_Incomplete, InvalidResponse):
    """The chunks of a body cannot be understood."""


class BadStatus(standard.BadStatusLine, InvalidResponse):
    """The status line cannot be understood: `line`, as it came."""

    def __init__(self, message: str, line: str = "") -> None:
        InvalidResponse.__init__(self, message, where="in head")
        self.line = line


class TooLong(standard.LineTooLong, InvalidResponse):
    """A line is longer than is allowed."""

    def __init__(self, message: str, *, where: Where = "in head", received: int | None = None) -> None:
        InvalidResponse.__init__(self, message, where=where, received=received)


class BadHead(standard.HTTPException, InvalidResponse):
    """A header section, or the body's framing that it declares, is refused."""

    def __init__(self, message: str) -> None:
        InvalidResponse.__init__(self, message, where="in head")


class UnknownVersion(standard.UnknownProtocol, UnsupportedResponse):
    """The response is of another version than HTTP/1.0 or HTTP/1.1: `version`, such as "HTTP/2.0"."""

    def __init__(self, message: str) -> None:
        UnsupportedResponse.__init__(self, message, where="in head")
        self.version = "HTTP/" + message.removeprefix("HTTP version ").partition(",")[0]


class UnknownCoding(standard.UnknownTransferEncoding, UnsupportedResponse):
    """The body has a transfer coding that httpio does not know."""

    def __init__(self, message: str) -> None:
        UnsupportedResponse.__init__(self, message, where="in head")


class Unsupported(standard.HTTPException, UnsupportedResponse):
    """Another response that httpio does not read: a 101 to CONNECT."""

    def __init__(self, message: str) -> None:
        UnsupportedResponse.__init__(self, message, where="in head")


class BadURL(standard.InvalidURL, InvalidURL):
    """A request target, host or port that is not sent."""


class BodyTooLong(ExcessBodyData, ValueError):
    """A file or an iterable gives more than its request declared. The connection is closed."""


class BodyTooShort(StateError, ValueError):
    """A file or an iterable gives less than its request declared. The connection is closed."""


class TunnelRefused(ProxyError, OSError):
    """A proxy does not open the tunnel."""


_OF_STATUS_LINE = (
    "the status",
    "the reason phrase",
    "Expected HTTP/",
    "Invalid HTTP version",
    "Invalid major version",
    "Invalid minor version",
    "Expected dot",
    "Expected space after version",
    "Invalid response status",
    "Invalid status code",
    "Response line",
)


_SECTION_END = re.compile(rb"\r?\n\r?\n")


def _again(cls: type[HTTPError], args: tuple[object, ...], state: dict[str, object]) -> HTTPError:
    """The error that was copied or pickled, with all that it knew."""
    exc = cls.__new__(cls)
    exc.args = args
    for name, value in state.items():
        setattr(exc, name, value)
    return exc


def refusal(
    exc: InvalidResponse | UnsupportedResponse, max_headers: int, came: bytes = b"", interim: int = 0
) -> HTTPError:
    """The same refusal of a header section, as an error of both families. *came*: what was read of the response, which
    begins with so many *interim* ones."""
    message = str(exc)
    if message.startswith("HTTP version"):
        return UnknownVersion(message)
    if isinstance(exc, UnsupportedResponse):
        return (UnknownCoding if message.startswith("unsupported transfer coding") else Unsupported)(message)
    if message.startswith("more fields"):
        return BadHead(f"got more than {max_headers} headers: {message}")
    if message.startswith(("the status line is longer", "a field line is longer")):
        return TooLong(message)
    if message.startswith(_OF_STATUS_LINE):
        for _ in range(interim):
            came = came[end.end() :] if (end := _SECTION_END.search(came)) else b""
        line = came.lstrip(b"\r\n").partition(b"\n")
        return BadStatus(message, (line[0] + line[1]).decode("latin-1"))
    return BadHead(message)
