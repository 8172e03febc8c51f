"""Python 2's httplib over `httpio.client`, for code that is being carried over: ``from httpio import httplib``.

Bodies are bytes; names and values are text. Responses are read by `httpio.client`, whose parser understands all of them
but those without a status line (HTTP/0.9), which have nothing to be parsed. The documentation lists what differs.
"""

from __future__ import annotations

import io
import socket
import ssl
import warnings
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPMessage as StandardMessage
from typing import Any
from urllib.parse import urlsplit

import httpio.client as client
from httpio.client import (
    HTTP_PORT,  # noqa: F401
    HTTPS_PORT,  # noqa: F401
    BadStatusLine,
    CannotSendHeader,
    CannotSendRequest,
    HTTPException,
    ImproperConnectionState,
    IncompleteRead,
    InvalidURL,
    LineTooLong,
    NotConnected,
    ResponseNotReady,
    UnimplementedFileMode,
    UnknownProtocol,
    UnknownTransferEncoding,
    error,
    responses,
)
from httpio.client.body import UNKNOWN as _UNKNOWN  # noqa: F401
from httpio.client.connection import (  # noqa: F401
    _CS_IDLE,
    _CS_REQ_SENT,
    _CS_REQ_STARTED,
    _METHODS_EXPECTING_BODY,
)
from httpio.client.errors import TunnelRefused
from httpio.httplib.message import Message

__all__ = [
    "HTTP",
    "HTTPS",
    "BadStatusLine",
    "CannotSendHeader",
    "CannotSendRequest",
    "FakeSocket",
    "HTTPConnection",
    "HTTPException",
    "HTTPMessage",
    "HTTPResponse",
    "HTTPSConnection",
    "ImproperConnectionState",
    "IncompleteRead",
    "InvalidURL",
    "LineAndFileWrapper",
    "LineTooLong",
    "NotConnected",
    "ResponseNotReady",
    "UnimplementedFileMode",
    "UnknownProtocol",
    "UnknownTransferEncoding",
    "error",
    "responses",
    "urlsplit",
]

globals().update(HTTPStatus.__members__)  # OK, NOT_FOUND and the others

MAXAMOUNT = 1048576
# Set from outside by those who need other limits, and so looked at in each response.
_MAXLINE = 65536
_MAXHEADERS = 100

_GLOBAL_DEFAULT_TIMEOUT: Any = socket._GLOBAL_DEFAULT_TIMEOUT  # type: ignore[attr-defined]
_HTTP = b"HTTP/"


def FakeSocket(sock: Any, sslobj: Any) -> Any:
    """*sslobj*: an SSLSocket has been a socket of its own since Python 2.6."""
    warnings.warn("FakeSocket is deprecated: use the SSLSocket itself", DeprecationWarning, stacklevel=2)
    return sslobj


class LineAndFileWrapper(io.BufferedIOBase):
    """A file before whose content stands *line*, which has been read from it already. Other names are the file's."""

    def __init__(self, line: bytes, file: Any) -> None:
        self._line = line
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def readable(self) -> bool:
        """True."""
        return True

    def fileno(self) -> int:
        """The file's descriptor."""
        return self._file.fileno()  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._file.close()

    def peek(self, size: int = 0, /) -> bytes:
        """What can be read at once, at least a byte unless the file has ended; it is not taken."""
        if not self._line and hasattr(self._file, "peek"):
            return self._file.peek(size)  # type: ignore[no-any-return]
        self._line = self._line or self._file.readline(_MAXLINE)
        return self._line

    def read(self, size: int | None = -1, /) -> bytes:
        """So many bytes, or all."""
        count = len(self._line) if size is None or size < 0 else size
        taken, self._line = self._line[:count], self._line[count:]
        if size is None or size < 0:
            return taken + bytes(self._file.read())
        return taken + self._file.read(size - len(taken)) if len(taken) < size else taken

    def read1(self, size: int = -1, /) -> bytes:
        """At most so many bytes by at most one receive."""
        if not self._line:
            return self._file.read1(size)  # type: ignore[no-any-return]
        return self.read(len(self._line) if size < 0 else min(size, len(self._line)))


class HTTPMessage(Message):
    """The header section of a response: `httpio.httplib.message.Message` with the limits of this module."""

    def _allowed(self) -> tuple[int, int]:
        return _MAXLINE, _MAXHEADERS


class HTTPResponse(client.HTTPResponse):
    """The response to a request, read from *sock*. `msg` is an HTTPMessage, `headers` what http.client has there.

    *strict*: what does not begin with "HTTP/" is refused with BadStatusLine. Else it is an HTTP/0.9 answer: `version`
    9, `status` 200, no header section, and all that comes up to the close is its body.
    """

    _msg: Any = None

    def __init__(
        self, sock: Any, debuglevel: int = 0, strict: int | None = 0, method: str | None = None, buffering: bool = False
    ) -> None:
        super().__init__(sock, debuglevel, method)
        self.strict = strict

    @property
    def msg(self) -> Any:
        """`headers` as an HTTPMessage, made when it is first looked at; None before `begin`."""
        if self._msg is self.headers and self._msg is not None:
            self._msg = HTTPMessage(None)
            self._msg.add_fields(self.headers.items())
        return self._msg

    @msg.setter
    def msg(self, message: Any) -> None:
        self._msg = message

    def _allowed(self) -> tuple[int, int, int]:
        return _MAXLINE, _MAXHEADERS, super()._allowed()[2]

    def _read_head(self, allowed: int | None, in_part: bool) -> None:
        # What answers CONNECT opens a tunnel, and must be understood.
        lax = not self.strict and self._method != "CONNECT" and not self._reads_status_otherwise()
        if self._parser is None and lax:
            self._parser = self._start(allowed)
            taken = self._take_few()
            if not _HTTP.startswith(taken):
                self.fp = LineAndFileWrapper(taken, self.fp)
                self._begin_0_9()
                return
            self._parser.feed(taken)
        super()._read_head(allowed, in_part)

    def _take_few(self) -> bytes:
        """As much of the answer's beginning as tells whether it is "HTTP/"; nothing where a look does."""
        fp = self.fp
        taken: bytes = b""
        if hasattr(fp, "peek"):
            taken = fp.peek(len(_HTTP))[: len(_HTTP)]
            if taken == _HTTP:
                return b""
            fp.read(len(taken))
        while taken != _HTTP and _HTTP.startswith(taken) and (more := fp.read(1)):
            taken += more
        return taken

    def _begin_0_9(self) -> None:
        if self.debuglevel > 0:
            self._say("reply:", repr("HTTP/0.9 200"))
        self.code = self.status = 200
        self.reason = ""
        self.version = 9
        self.headers = self.msg = StandardMessage()
        self.chunked = False
        self.length = self._parser = None
        self.will_close = True

    def getheaders(self) -> list[tuple[str, str]]:
        """(name in lower case, values joined by ", ") for each name. ResponseNotReady before `begin`."""
        values: dict[str, list[str]] = {}
        for name, value in super().getheaders():
            values.setdefault(name.lower(), []).append(value)
        return [(name, ", ".join(joined)) for name, joined in values.items()]


class HTTPConnection(client.HTTPConnection):
    """A connection to *host*, made by the first request.

    *strict*: see HTTPResponse; None for the class's. *timeout*: of connecting and of each receive and send, in seconds,
    None for none. *source_address*: (host, port) to connect from.
    """

    response_class: Callable[..., Any] = HTTPResponse
    strict: int | None = 0
    _answered_on: Any = None

    def __init__(
        self,
        host: str,
        port: int | None = None,
        strict: int | None = None,
        timeout: Any = _GLOBAL_DEFAULT_TIMEOUT,
        source_address: tuple[str, int] | None = None,
    ) -> None:
        client.HTTPConnection.__init__(self, host, port, timeout, source_address)
        if strict is not None:
            self.strict = strict

    @staticmethod
    def _get_content_length(body: Any, method: str) -> int | None:
        if hasattr(body, "read"):
            return _rest_of(body)
        return client.HTTPConnection._get_content_length(body, method)

    def putheader(self, header: str | bytes, *values: Any) -> None:
        """Add a field line. Values that are neither text nor bytes are sent as `str` has them."""
        plain = str, bytes, bytearray, memoryview
        super().putheader(header, *[value if isinstance(value, plain) else str(value) for value in values])  # type: ignore[arg-type]

    def _tunnel(self) -> None:
        try:
            super()._tunnel()
        except BadStatusLine as exc:
            self.close()
            if isinstance(exc, OSError):
                raise
            raise TunnelRefused("Invalid response from tunnel request") from exc

    def _new_response(self, method: str | None, debuglevel: int) -> Any:
        # Behind an answer only what begins as an answer can be one, and the rest is out of step.
        strict = self.strict or self.sock is self._answered_on
        if method != "CONNECT":
            self._answered_on = self.sock
        arguments: Any = (self.sock, debuglevel) if debuglevel > 0 else (self.sock,)
        return self.response_class(*arguments, strict=strict, method=method)

    def getresponse(self, buffering: bool = False) -> Any:
        """The response, its header section read. *buffering* has no meaning: it always is. Raises ResponseNotReady."""
        return super().getresponse()


class HTTPSConnection(HTTPConnection, client.HTTPSConnection):
    """The same over TLS, by *context*, or by one that verifies the peer.

    *cert_file*: a PEM file with the client's certificate and those that lead to its authority; *key_file*: its private
    key, where that is not in the same file. They are loaded into *context*.
    """

    def __init__(
        self,
        host: str,
        port: int | None = None,
        key_file: str | None = None,
        cert_file: str | None = None,
        strict: int | None = None,
        timeout: Any = _GLOBAL_DEFAULT_TIMEOUT,
        source_address: tuple[str, int] | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(host, port, strict, timeout, source_address)
        self.key_file = key_file
        self.cert_file = cert_file
        self._context = client._create_https_context(self._http_vsn) if context is None else context
        if key_file or cert_file:
            if not cert_file:
                raise ValueError("key_file without cert_file")
            self._context.load_cert_chain(cert_file, key_file)


class HTTP:
    """The interface of Python 1.5: one request after the other, in HTTP/1.0, each answered by `getreply`.

    *port*: 0 or None for that of the scheme. *strict*: see HTTPResponse.
    """

    _http_vsn = 10
    _http_vsn_str = "HTTP/1.0"
    _connection_class: type[HTTPConnection] = HTTPConnection
    debuglevel = 0

    def __init__(self, host: str = "", port: int | None = None, strict: int | None = None) -> None:
        self._setup(self._connection_class(host, port or None, strict))

    def _setup(self, conn: HTTPConnection) -> None:
        self._conn = conn
        self.send = conn.send
        self.putrequest = conn.putrequest
        self.putheader = conn.putheader
        self.endheaders = conn.endheaders
        self.set_debuglevel = conn.set_debuglevel
        conn._http_vsn = self._http_vsn
        conn._http_vsn_str = self._http_vsn_str
        self.file: Any = None
        self.headers: HTTPMessage | None = None

    def connect(self, host: str | None = None, port: int | None = None) -> None:
        """Connect, to another *host* if one is given."""
        if host is not None:
            self._conn._validate_host(host)
            self._conn.host, self._conn.port = self._conn._get_hostport(host, port)
        self._conn.connect()

    def getreply(self, buffering: bool = False) -> tuple[int, str, HTTPMessage | None]:
        """Status code, reason phrase and header section of the answer; -1, what is wrong and None where there is no
        status line, and the connection is closed then."""
        try:
            response = self._conn.getresponse()
        except BadStatusLine as exc:
            self.close()
            self.headers = None
            return -1, str(exc), None
        self.file = response
        self.headers = response.msg
        return response.status, response.reason, response.msg

    def getfile(self) -> Any:
        """The body of the answer as a file of bytes, which raises where the body is cut short; None without one."""
        return self.file

    def close(self) -> None:
        """Close the connection. A file that was had by `getfile` can be read on where the answer ends it."""
        self._conn.close()
        self.file = None


class HTTPS(HTTP):
    """The same over TLS; the arguments are HTTPSConnection's."""

    _connection_class = HTTPSConnection

    def __init__(
        self,
        host: str = "",
        port: int | None = None,
        key_file: str | None = None,
        cert_file: str | None = None,
        strict: int | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._setup(HTTPSConnection(host, port or None, key_file, cert_file, strict, context=context))
        self.key_file = key_file
        self.cert_file = cert_file


def _rest_of(file: Any) -> int | None:
    """How many bytes a file has from its position on; None for text, and where it cannot say."""
    if isinstance(file, io.TextIOBase):
        return None
    try:
        here = file.tell()
        file.seek(0, io.SEEK_END)
        end = file.tell()
        file.seek(here)
        return max(int(end - here), 0)
    except (AttributeError, OSError, TypeError, ValueError):  # not a file that can be moved in
        return len(file) if hasattr(file, "__len__") else None
