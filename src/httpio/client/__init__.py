"""http.client's names, states and calls, with httpio's parser inside: change one import, or use `httpio.dropin`.

What differs from http.client, and why, stands in the documentation. In short: a body or header section that is cut
short raises wherever it is read; interim responses are skipped; a response that is closed before its end closes its
connection; what RFC 9112 does not allow is refused, and so is a request that would say something else than it seems
to. Every error is an instance of http.client's class and of httpio's.
"""

from __future__ import annotations

import email.parser
import socket
import ssl
import sys
import warnings
from collections.abc import Callable, Iterable
from http import HTTPStatus
from http.client import (
    BadStatusLine,
    CannotSendHeader,
    CannotSendRequest,
    HTTPException,
    HTTPMessage,
    ImproperConnectionState,
    IncompleteRead,
    InvalidURL,
    LineTooLong,
    NotConnected,
    RemoteDisconnected,
    ResponseNotReady,
    UnimplementedFileMode,
    UnknownProtocol,
    UnknownTransferEncoding,
)
from typing import Any

from httpio.client.body import UNKNOWN as _UNKNOWN  # noqa: F401
from httpio.client.connection import (  # noqa: F401
    _CS_IDLE,
    _CS_REQ_SENT,
    _CS_REQ_STARTED,
    _METHODS_EXPECTING_BODY,
    _contains_disallowed_method_pchar_re,
    _contains_disallowed_url_pchar_re,
)
from httpio.client.connection import HTTPConnection as Connection
from httpio.client.errors import BadHead, TooLong
from httpio.client.message import parsed
from httpio.client.request import encode as _encode  # noqa: F401
from httpio.client.request import is_illegal_value as _is_illegal_header_value  # noqa: F401
from httpio.client.request import is_legal_name as _is_legal_header_name  # noqa: F401
from httpio.client.request import strip_zone as _strip_ipv6_iface  # noqa: F401
from httpio.client.response import Response, limits_of

__all__ = [
    "BadStatusLine",
    "CannotSendHeader",
    "CannotSendRequest",
    "HTTPConnection",
    "HTTPException",
    "HTTPResponse",
    "HTTPSConnection",
    "ImproperConnectionState",
    "IncompleteRead",
    "InvalidURL",
    "LineTooLong",
    "NotConnected",
    "RemoteDisconnected",
    "ResponseNotReady",
    "UnimplementedFileMode",
    "UnknownProtocol",
    "UnknownTransferEncoding",
    "error",
    "responses",
]

error = HTTPException
HTTP_PORT = 80
HTTPS_PORT = 443
responses = {status: status.phrase for status in HTTPStatus.__members__.values()}
"""Status codes to reason phrases."""
globals().update(HTTPStatus.__members__)  # OK, NOT_FOUND and the others


# Set from outside by those who need other limits, and so looked at in each response.
_MAXLINE = 65536
_MAXHEADERS = 100
_MAXINTERIMRESPONSES = 100
_MIN_READ_BUF_SIZE = 1 << 20

_GLOBAL_DEFAULT_TIMEOUT: Any = socket._GLOBAL_DEFAULT_TIMEOUT  # type: ignore[attr-defined]


_ENDS = b"\r\n", b"\n", b""


def _read_headers(fp: Any, max_headers: int | None = None) -> list[bytes]:
    """The lines of a header section up to and with the empty one."""
    allowed = _MAXHEADERS if max_headers is None else max_headers
    readline, longest = fp.readline, _MAXLINE
    lines: list[bytes] = []
    while True:
        line = readline(longest + 1)
        lines.append(line)
        if len(line) > longest:
            raise TooLong(f"got more than {longest} bytes when reading header line")
        if len(lines) > allowed:
            raise BadHead(f"got more than {allowed} headers")
        if line in _ENDS:
            return lines


def _parse_header_lines(header_lines: Iterable[bytes], _class: type[Any] = HTTPMessage) -> Any:
    text = b"".join(header_lines).decode("latin-1")
    return email.parser.Parser(_class=_class).parsestr(text)


def parse_headers(fp: Any, _class: type[Any] = HTTPMessage, *, _max_headers: int | None = None) -> Any:
    """A header section that is read from a file, of a request, too: what is not valid in a response is taken as
    `email.parser` understands it.

    Raises LineTooLong and HTTPException.
    """
    allowed = _MAXHEADERS if _max_headers is None else _max_headers
    lines = _read_headers(fp, allowed)
    message = parsed(b"".join(lines), limits_of(_MAXLINE, allowed, 0)) if _class is HTTPMessage else None
    return _parse_header_lines(lines, _class) if message is None else message


class HTTPResponse(Response):
    """The response to a request, read from *sock*: a socket, or any object with ``makefile("rb")``.

    *method*: of the request. Nothing is read before `begin`, and never a byte behind the message.
    """

    def _say(self, *words: object) -> None:
        print(*words)

    def _allowed(self) -> tuple[int, int, int]:
        return _MAXLINE, _MAXHEADERS, _MAXINTERIMRESPONSES


class HTTPConnection(Connection):
    """A connection to *host*, made by the first request.

    *timeout*: of connecting and of each receive and send, in seconds, None for none. *source_address*: (host, port) to
    connect from. *blocksize*: bytes read from a file at a time. *max_response_headers*: field lines that a response may
    have, None for `_MAXHEADERS`.

    A second request may not be started until the head of the response has been read; its own response is read when
    the one before has been. http.client's exceptions say which call came too early.
    """

    response_class: Callable[..., Any] = HTTPResponse
    default_port = HTTP_PORT

    def _say(self, *words: object) -> None:
        print(*words)


class HTTPSConnection(HTTPConnection):
    """The same over TLS. *context*: an ssl.SSLContext; without it one that verifies the peer."""

    default_port = HTTPS_PORT

    if sys.version_info >= (3, 12):

        def __init__(
            self,
            host: str,
            port: int | None = None,
            *,
            timeout: Any = _GLOBAL_DEFAULT_TIMEOUT,
            source_address: tuple[str, int] | None = None,
            context: ssl.SSLContext | None = None,
            blocksize: int = 8192,
            max_response_headers: int | None = None,
        ) -> None:
            super().__init__(host, port, timeout, source_address, blocksize, max_response_headers)
            self._context = _create_https_context(self._http_vsn) if context is None else context

    else:

        def __init__(
            self,
            host: str,
            port: int | None = None,
            key_file: str | None = None,
            cert_file: str | None = None,
            timeout: Any = _GLOBAL_DEFAULT_TIMEOUT,
            source_address: tuple[str, int] | None = None,
            *,
            context: ssl.SSLContext | None = None,
            check_hostname: bool | None = None,
            blocksize: int = 8192,
            max_response_headers: int | None = None,
        ) -> None:
            super().__init__(host, port, timeout, source_address, blocksize, max_response_headers)
            if key_file is not None or cert_file is not None or check_hostname is not None:
                what = "key_file, cert_file and check_hostname are deprecated, use a custom context instead."
                warnings.warn(what, DeprecationWarning, 2)
            self.key_file = key_file
            self.cert_file = cert_file
            self._context = _create_https_context(self._http_vsn) if context is None else context
            if check_hostname is not None:
                if check_hostname and self._context.verify_mode == ssl.CERT_NONE:
                    raise ValueError("check_hostname needs a SSL context with either CERT_OPTIONAL or CERT_REQUIRED")
                self._context.check_hostname = check_hostname
            if cert_file is not None:
                self._context.load_cert_chain(cert_file, key_file)
                if getattr(self._context, "post_handshake_auth", None) is not None:
                    self._context.post_handshake_auth = True

    def connect(self) -> None:
        """Connect, and make TLS with `host`, or with what `set_tunnel` named."""
        super().connect()
        try:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self._tunnel_host or self.host)
        except BaseException:
            self._drop()
            raise
        self._note_socket()


def _create_https_context(http_version: int) -> ssl.SSLContext:
    context: ssl.SSLContext = ssl._create_default_https_context()
    if http_version == 11:
        context.set_alpn_protocols(["http/1.1"])
    if getattr(context, "post_handshake_auth", None) is not None:
        context.post_handshake_auth = True
    return context
