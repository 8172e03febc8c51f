"""The errors of httpio, and how untrusted text is shown in them.

::

    Exception
     +-- HTTPError
          +-- ConnectionClosed        also a ConnectionError: the peer went away
          +-- ConnectionTimedOut      also a TimeoutError: no progress in time, or the deadline passed
          +-- InvalidResponse         the peer broke the protocol
          +-- UnsupportedResponse     the protocol allows it, httpio cannot read it
          +-- StateError              the call is not allowed now
          +-- ExcessBodyData          more body bytes than were declared
          +-- InvalidURL              also a ValueError: a URL, host, port or request target is refused
          +-- HostnameNotResolvable   the name does not exist
          +-- DNSUnavailable          no name can be resolved at present
          +-- ProxyError              a proxy refuses the way to the peer

Bad arguments other than URLs are plain ``ValueError`` and ``TypeError``. A refused connect and a certificate
that does not verify pass through as the operating system and ``ssl`` raise them.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, NamedTuple

__all__ = [
    "ConnectionClosed",
    "ConnectionTimedOut",
    "DNSUnavailable",
    "ExcessBodyData",
    "HTTPError",
    "HostnameNotResolvable",
    "InvalidResponse",
    "InvalidURL",
    "ProxyError",
    "StateError",
    "Unanswered",
    "UnsupportedResponse",
    "Where",
    "is_temp_network_error",
    "quote",
]

Where = Literal["connecting", "sending", "awaiting response", "in head", "in body"]


class Unanswered(NamedTuple):
    """One request that had not been answered in full when a connection failed."""

    request: Any
    """The request as it was handed in."""

    state: Literal["unsent", "sent", "answering"]
    """``unsent``: the peer cannot have acted on it. ``sent``: all or part of it went out, and nothing of its
    response came. ``answering``: part of its response has been received."""

    safe: bool
    """True when it may be repeated: unsent, or idempotent with nothing received; and its body can be
    replayed."""


class HTTPError(Exception):
    """The base of all errors that httpio raises of its own.

    *message*: one sentence; without it ``str()`` gives the sentence of the class. The other arguments are
    kept as attributes. The original error of the operating system, where there was one, is ``__cause__``.
    """

    _sentence: ClassVar[str] = "The HTTP exchange failed."

    where: Where | None
    """The step of the exchange that failed; None when it does not belong to a step."""

    received: int | None
    """Bytes of the response's body received so far; None outside a body."""

    expected: int | None
    """Bytes that the body should have had; None when that is not known."""

    outstanding: tuple[Unanswered, ...]
    """The requests not answered in full, oldest first."""

    def __init__(
        self,
        message: str = "",
        *,
        where: Where | None = None,
        received: int | None = None,
        expected: int | None = None,
        outstanding: Iterable[Unanswered] = (),
    ) -> None:
        # One argument only: with two, OSError would read them as errno and strerror.
        super().__init__(message or self._sentence)
        self.where = where
        self.received = received
        self.expected = expected
        self.outstanding = tuple(outstanding)


class ConnectionClosed(HTTPError, ConnectionError):
    """The connection ended before the exchange was complete, whatever the operating system called it."""

    _sentence = "The connection was closed."


class ConnectionTimedOut(HTTPError, TimeoutError):
    """Nothing moved for ``timeout`` seconds, or the deadline of the exchange passed."""

    _sentence = "The connection timed out."


class InvalidResponse(HTTPError):
    """What the peer sent is not a valid HTTP/1 response, or is over a limit."""

    _sentence = "The peer sent an invalid response."


class UnsupportedResponse(HTTPError):
    """A response whose body httpio cannot read: an unknown transfer coding, or no framing at all."""

    _sentence = "The peer sent a response of an unsupported kind."


class StateError(HTTPError):
    """The call does not fit the state of the connection. The connection stays as it was."""

    _sentence = "The connection is in the wrong state for this call."


class ExcessBodyData(HTTPError):
    """More body bytes were given than the request declared. The surplus was not sent."""

    _sentence = "More body data than was announced."


class InvalidURL(HTTPError, ValueError):
    """A URL, host, port or request target that httpio refuses to use. Nothing was sent."""

    _sentence = "The URL is not valid."


class _NameError(HTTPError):
    """What the two failures of a look-up share: the host name, as the only positional argument."""

    def __init__(
        self,
        hostname: str,
        *,
        where: Where | None = "connecting",
        received: int | None = None,
        expected: int | None = None,
        outstanding: Iterable[Unanswered] = (),
    ) -> None:
        super().__init__(hostname, where=where, received=received, expected=expected, outstanding=outstanding)
        self.name = hostname

    def __str__(self) -> str:
        return self._sentence.format(quote(self.name))


class HostnameNotResolvable(_NameError):
    """The name service answered that *hostname* does not exist, or has no address."""

    _sentence = "The host name {} does not exist."


class DNSUnavailable(_NameError):
    """The name service could not be asked, so nothing is known about *hostname*. Another try may succeed."""

    _sentence = "The host name {} could not be looked up: the name service is not available."


class ProxyError(HTTPError):
    """A proxy refuses to open a way to the peer.

    *response*: what an HTTP proxy answered to CONNECT, an `HTTPResponse` with its body where that is whole and up to
    64 KiB; None of a SOCKS proxy. The other arguments are those of `HTTPError`.
    """

    _sentence = "The proxy refuses the way to the peer."

    response: Any

    def __init__(
        self,
        message: str = "",
        *,
        response: Any = None,
        where: Where | None = "connecting",
        received: int | None = None,
        expected: int | None = None,
        outstanding: Iterable[Unanswered] = (),
    ) -> None:
        super().__init__(message, where=where, received=received, expected=expected, outstanding=outstanding)
        self.response = response


def quote(text: str | bytes, limit: int = 64) -> str:
    """*text* in quotes and printable ASCII, cut after *limit* characters: safe in a message, a log, or a
    terminal."""
    shown = ascii(text[:limit])
    return shown if len(text) <= limit else shown + "..."


_TEMPORARY = (
    ConnectionError,  # ConnectionClosed among them
    TimeoutError,  # ConnectionTimedOut among them
    InterruptedError,
    DNSUnavailable,
    ssl.SSLZeroReturnError,
    ssl.SSLEOFError,
    ssl.SSLSyscallError,
)
_TEMPORARY_NUMBERS = frozenset(
    getattr(errno, name)
    for name in (
        "EAGAIN",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ENETDOWN",
        "ENETRESET",
        "ENETUNREACH",
        "ENOLINK",
        "ENONET",
        "ENOTCONN",
        "ENXIO",
        "EPIPE",
        "EREMCHG",
        "ESHUTDOWN",
        "ETIMEDOUT",
    )
    if hasattr(errno, name)
)


def is_temp_network_error(exc: BaseException) -> bool:
    """Whether *exc* is a failure of the network that may be over at another try: a connection that was lost or
    refused, a timeout, a network or name service that cannot be reached.

    It looks at *exc* alone, not at its cause. True says nothing about whether a request may be sent again:
    see `HTTPError.outstanding`.
    """
    if isinstance(exc, ProxyError):
        return exc.response is not None and exc.response.status in (502, 503, 504)
    if isinstance(exc, socket.gaierror):  # its numbers are not those of `errno`
        return exc.errno == socket.EAI_AGAIN
    return isinstance(exc, _TEMPORARY) or (isinstance(exc, OSError) and exc.errno in _TEMPORARY_NUMBERS)
