"""The connection of `httpio.client`: the states of http.client, requests step by step, tunnels."""

from __future__ import annotations

import errno
import io
import re
import socket
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from http.client import CannotSendHeader, CannotSendRequest, NotConnected, ResponseNotReady
from typing import Any
from urllib.parse import urlsplit

from httpio.client.errors import BadHead, BadURL, BodyTooLong, BodyTooShort, NoAnswer, TunnelRefused, raise_meant
from httpio.client.file import SocketFile, file_of
from httpio.client.request import (
    ascii_host,
    bracket,
    buffer_size,
    check_framing,
    check_method,
    encode,
    field_line,
    host_field,
    name_bytes,
    own_line,
    strip_zone,
)
from httpio.client.response import Response

__all__ = ["HTTPConnection"]

_CS_IDLE = "Idle"
_CS_REQ_STARTED = "Request-started"
_CS_REQ_SENT = "Request-sent"
_METHODS_EXPECTING_BODY = {"PATCH", "POST", "PUT"}
_FRAMING = {"content-length", "transfer-encoding"}
_SKIPS = (("host", "skip_host"), ("accept-encoding", "skip_accept_encoding"))

_EXPECTATION = b"\r\nexpect: 100-continue\r\n"
_contains_disallowed_url_pchar_re = re.compile("[\x00-\x20\x7f]")
_contains_disallowed_method_pchar_re = re.compile("[\x00-\x1f]")

_GLOBAL_DEFAULT_TIMEOUT: Any = socket._GLOBAL_DEFAULT_TIMEOUT  # type: ignore[attr-defined]


class HTTPConnection:
    """A connection without what its module's globals decide. It has the name of the class that people use, since they
    know its state by the mangled name ``_HTTPConnection__state``.
    """

    _http_vsn = 11
    _http_vsn_str = "HTTP/1.1"

    response_class: Callable[..., Any]
    default_port = 80
    auto_open = 1
    debuglevel = 0
    expect_timeout: float | None = 1.0
    """Seconds for which a body waits for 100 (Continue), where the request asks for it; None: until an answer comes."""
    max_response_headers: int | None = None

    # What a connection has that http.client has not, so that one of its own goes on with these methods.
    __early: Any = None  # the response that came, or began to come, before the body was sent
    _declared: int | None = None  # the Content-Length of the request
    _hosts = 0  # Host fields since putrequest
    _frames = False  # whether a field since then frames a body
    _head = b"\r\nUpgrade:"  # that was sent last; one that was sent otherwise may have asked for an upgrade
    _unanswered = 0  # requests sent on this socket whose response was not asked for
    _made: weakref.ref[Any] | None = None  # the socket, where `connect` has made it

    @staticmethod
    def _is_textIO(stream: object) -> bool:
        return isinstance(stream, io.TextIOBase)

    @staticmethod
    def _get_content_length(body: Any, method: str) -> int | None:
        """What Content-Length to send; None: none, since there is no body or nobody knows its length."""
        if body is None:
            return 0 if method.upper() in _METHODS_EXPECTING_BODY else None
        if hasattr(body, "read"):
            return None
        return len(body) if isinstance(body, str) else buffer_size(body)

    def __init__(
        self,
        host: str,
        port: int | None = None,
        timeout: Any = _GLOBAL_DEFAULT_TIMEOUT,
        source_address: tuple[str, int] | None = None,
        blocksize: int = 8192,
        max_response_headers: int | None = None,
    ) -> None:
        self.timeout = timeout
        self.source_address = source_address
        self.blocksize = blocksize
        if max_response_headers is not None:
            self.max_response_headers = max_response_headers
        self.sock: Any = None
        self._buffer: list[bytes] = []
        self.__response: Any = None
        self.__state = _CS_IDLE
        self._method: str | None = None
        self._tunnel_host: str | None = None
        self._tunnel_port: int | None = None
        self._tunnel_headers: dict[str, Any] = {}
        self._raw_proxy_headers: list[bytes] | None = None
        self._proxy_headers: Any = None
        self.host, self.port = self._get_hostport(host, port)
        self._validate_host(self.host)
        self._create_connection: Callable[..., Any] = socket.create_connection

    def _say(self, *words: object) -> None:
        """Print, for `debuglevel`."""
        raise NotImplementedError

    # -- the way --

    def _get_hostport(self, host: str, port: int | None) -> tuple[str, int]:
        if port is None:
            port = self.default_port
            name, colon, number = host.rpartition(":")
            if colon and "]" not in number:
                host = name
                if number:
                    try:
                        port = int(number)
                    except ValueError:
                        raise BadURL(f"nonnumeric port: {number!r}") from None
        if host[:1] == "[" and host[-1:] == "]":
            host = host[1:-1]
        return host, port

    def set_debuglevel(self, level: int) -> None:
        """1 or more: what is sent and received is printed."""
        self.debuglevel = level

    def set_tunnel(self, host: str, port: int | None = None, headers: Mapping[str, Any] | None = None) -> None:
        """Reach *host* through the proxy that this connection is made to, by CONNECT, with these *headers* for the
        proxy. RuntimeError where it is connected.

        What would not be sent as it is is refused when the tunnel is made: InvalidURL for the host, ValueError for a
        header."""
        if self.sock:
            raise RuntimeError("Can't set up tunnel for established connection")
        self._tunnel_host, self._tunnel_port = self._get_hostport(host, port)
        self._tunnel_headers = dict(headers) if headers else {}
        if sys.version_info >= (3, 12):
            self._add_tunnel_host(self._tunnel_headers)

    def _add_tunnel_host(self, headers: dict[str, Any]) -> None:
        if not any(name.lower() == "host" for name in headers):
            host = self._wrap_ipv6(str(self._tunnel_host).encode("idna")).decode("ascii")
            headers["Host"] = f"{host}:{self._tunnel_port}"

    def _wrap_ipv6(self, ip: bytes) -> bytes:
        return bracket(ip)

    def _checked_tunnel_host(self) -> str:
        host = str(self._tunnel_host)
        if _contains_disallowed_url_pchar_re.search(host):
            raise BadURL(f"Tunnel host can't contain control characters: {host!r}")
        return host

    def _tunnel(self) -> None:
        host = self._checked_tunnel_host()
        address = self._wrap_ipv6(host.encode("idna"))
        lines = [b"CONNECT %b:%d %b" % (address, self._tunnel_port or 0, self._http_vsn_str.encode("ascii"))]
        headers = dict(self._tunnel_headers)
        self._add_tunnel_host(headers)
        lines += [field_line(name, (value,)) for name, value in headers.items()]
        self.send(b"\r\n".join([*lines, b"", b""]))
        response = self._new_response("CONNECT", 0)
        try:
            response.begin()
            self._proxy_headers = response.headers
            self._raw_proxy_headers = [f"{n}: {v}\r\n".encode("latin-1") for n, v in response.headers.items()] + [
                b"\r\n"
            ]
            if self.debuglevel > 0:
                for line in self._raw_proxy_headers:
                    self._say("header:", line.decode("latin-1"))
            if not 200 <= response.status < 300:
                self.close()
                raise TunnelRefused(f"Tunnel connection failed: {response.status} {response.reason}", response=response)
            response._in_sync = True
        finally:
            response.close()
        file = file_of(self.sock)
        if file is not None and (file.occupied or file.buffered()):
            self.close()
            raise BadHead("the proxy sent bytes behind its answer, where the peer's would begin")

    def get_proxy_response_headers(self) -> Any:
        """The fields of the proxy's answer to CONNECT; None where there was none."""
        return self._proxy_headers

    def connect(self) -> None:
        """Connect to `host` and `port`, and through there to what `set_tunnel` named."""
        sys.audit("http.client.connect", self, self.host, self.port)
        self.sock = self._create_connection((self.host, self.port), self.timeout, self.source_address)
        try:
            try:
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except AttributeError:  # a stand-in
                pass
            except OSError as exc:
                if exc.errno != errno.ENOPROTOOPT:
                    raise
            if self._tunnel_host:
                self._tunnel()
        except BaseException:
            self._drop()
            raise
        self._note_socket()

    def _note_socket(self) -> None:
        with suppress(TypeError):  # a stand-in that cannot be referred to
            self._made = weakref.ref(self.sock)

    def _drop(self) -> None:
        """Close the socket, of which nothing can be made."""
        sock, self.sock, self._made = self.sock, None, None
        if sock:
            sock.close()

    def _end_with(self, response: Response, file: Any) -> None:
        """A response that was read from *file* is given up: close, where the rest of it is still to come here."""
        if file_of(self.sock) is file if type(file) is SocketFile else self.__response is response:
            self.close()

    def close(self) -> None:
        """Close the connection, and the response that is read from it. The next request makes a new one."""
        self.__state = _CS_IDLE
        self._unanswered = 0
        del self._buffer[:]
        try:
            self._drop()
        finally:
            response, self.__response = self.__response, None
            early, self.__early = self.__early, None
            if response:
                response.close()
            if early:
                early.close()

    # -- a request, step by step --

    def putrequest(self, method: str, url: str, skip_host: bool = False, skip_accept_encoding: bool = False) -> None:
        """Begin a request. Host and Accept-Encoding: identity are added unless they are to be skipped.

        Raises CannotSendRequest, ValueError for the method, InvalidURL for the target.
        """
        response = self.__response
        if response and response.isclosed():
            response = self.__response = None
        if self.__state != _CS_IDLE:
            raise CannotSendRequest(self.__state)
        sock = self.sock
        if sock is not None and response is None and not self._unanswered:
            file = file_of(sock)
            if file is not None and not file.in_order(sock):
                made = self._made is not None and self._made() is sock
                self.close()
                if not made:  # `connect` would make another one than the caller has given
                    raise NoAnswer("the peer has closed, or has sent what nobody asked for")
        self.__state = _CS_REQ_STARTED
        self._validate_method(method)
        self._method = method
        url = url or "/"
        self._validate_path(url)
        self._hosts = 0
        self._frames = False
        self._output(self._encode_request(" ".join((method, url, self._http_vsn_str))))
        if self._http_vsn == 11:
            # A subclass may want to see what is added here, too.
            plain = type(self).putheader is HTTPConnection.putheader and "putheader" not in self.__dict__
            if not skip_host:
                host = self._host_value(url)
                if plain:
                    self._output(own_line("Host", host))
                    self._hosts = 1
                else:
                    self.putheader("Host", host)
            if not skip_accept_encoding:
                if plain:
                    self._output(b"Accept-Encoding: identity")
                else:
                    self.putheader("Accept-Encoding", "identity")

    def _host_value(self, url: str) -> bytes:
        if url.startswith("http"):
            netloc = urlsplit(url).netloc.rpartition("@")[2]
            if netloc:
                return strip_zone(ascii_host(netloc))
        if self._tunnel_host:
            return host_field(self._checked_tunnel_host(), self._tunnel_port, self.default_port)
        return host_field(self.host, self.port, self.default_port)

    def _encode_request(self, request: str) -> bytes:
        return request.encode("ascii")

    def _validate_method(self, method: str) -> None:
        check_method(method)

    def _validate_path(self, url: str) -> None:
        found = _contains_disallowed_url_pchar_re.search(url)
        if found:
            raise BadURL(f"URL can't contain control characters. {url!r} (found at least {found.group()!r})")

    def _validate_host(self, host: str) -> None:
        found = _contains_disallowed_url_pchar_re.search(host)
        if found:
            raise BadURL(f"URL can't contain control characters. {host!r} (found at least {found.group()!r})")

    def putheader(self, header: str | bytes, *values: str | bytes | int) -> None:
        """Add a field line; of several values each further one stands on a line of its own (obs-fold).

        Raises CannotSendHeader, and ValueError for what would end the name, the line or the section.
        """
        if self.__state != _CS_REQ_STARTED:
            raise CannotSendHeader
        self._output(field_line(header, values))
        name = _text(header).lower()
        if name == "host":
            self._hosts += 1
        elif name in _FRAMING:
            self._frames = True

    def endheaders(self, message_body: Any = None, *, encode_chunked: bool = False) -> None:
        """End the header section, and send the request with its body. Raises CannotSendHeader."""
        if self.__state != _CS_REQ_STARTED:
            raise CannotSendHeader
        declared = check_framing(self._buffer, message_body) if self._frames or self._hosts > 1 else None
        if message_body is not None:
            self._check_body(message_body)
            if encode_chunked and declared is not None:
                raise ValueError("both Content-Length and chunks")
        self._declared = declared
        self.__state = _CS_REQ_SENT
        self._unanswered += 1
        self._send_output(message_body, encode_chunked=encode_chunked)

    def _output(self, s: bytes) -> None:
        self._buffer.append(s)

    def _send_output(self, message_body: Any = None, encode_chunked: bool = False) -> None:
        """Send the header section that is buffered, and a body."""
        self._buffer += (b"", b"")
        head = b"\r\n".join(self._buffer)
        del self._buffer[:]
        self._head = head
        self.send(head)
        if message_body is None or (_EXPECTATION in head.lower() and not self._may_send_body()):
            return
        chunked = encode_chunked and self._http_vsn == 11
        for piece in self._framed(message_body, chunked):
            self.send(piece)

    def _framed(self, body: Any, chunked: bool) -> Iterator[Any]:
        """What goes out for a body. Where it cannot be drawn to its end, the connection is closed."""
        declared = None if chunked else self._declared
        sent = 0
        try:
            for piece in self._pieces(body):
                if not piece:
                    if self.debuglevel > 0:
                        self._say("Zero length chunk ignored")
                    continue
                size = memoryview(piece).nbytes
                sent += size
                if declared is not None and sent > declared:
                    raise BodyTooLong(f"the body is longer than its Content-Length of {declared}")
                yield b"%X\r\n%b\r\n" % (size, piece) if chunked else piece
            if declared is not None and sent < declared:
                raise BodyTooShort(f"the body has {sent} bytes and not the {declared} of its Content-Length")
        except GeneratorExit:  # sending has failed, and not the body
            raise
        except BaseException:
            self.close()
            raise
        if chunked:
            yield b"0\r\n\r\n"

    def _may_send_body(self) -> bool:
        """Wait for 100 (Continue), RFC 9110 section 10.1.1; False where the final response has come instead."""
        if not isinstance(self.sock, socket.socket):
            return True
        response = self._new_response(self._method, self.debuglevel)
        if not hasattr(response, "_lets_send") or response._reads_status_otherwise():
            response.close()  # of a response_class that knows nothing of this
            return True
        self.__early = response
        try:
            return response._lets_send(self.expect_timeout, self.max_response_headers)  # type: ignore[no-any-return]
        except BaseException:
            self.close()
            raise

    def _check_body(self, body: Any) -> None:
        if buffer_size(body) is None and not any(hasattr(body, name) for name in ("read", "__iter__", "__getitem__")):
            kind = type(body)
            raise TypeError(f"message_body should be a bytes-like object or an iterable, got {kind!r}")

    def _pieces(self, body: Any) -> Iterable[Any]:
        if hasattr(body, "read"):  # before the buffer of an mmap, which has a position
            return self._read_readable(body)
        return body if buffer_size(body) is None else (body,)

    def _read_readable(self, readable: Any) -> Iterator[bytes]:
        encode = self._is_textIO(readable)
        if self.debuglevel > 0:
            self._say("reading a readable")
            if encode:
                self._say("encoding file using iso-8859-1")
        while block := readable.read(self.blocksize):
            yield block.encode("latin-1") if encode else block

    def send(self, data: Any) -> None:
        """Send bytes, what a file holds, or what an iterable gives, as they are; connects where `auto_open` says so."""
        if self.sock is None:
            if not self.auto_open:
                raise NotConnected
            self.connect()
            self._note_socket()  # where a subclass connects
        if self.debuglevel > 0:
            self._say("send:", repr(data))
        if type(data) is not bytes and hasattr(data, "read"):
            for block in self._read_readable(data):
                sys.audit("http.client.send", self, block)
                self._sendall(block)
            return
        sys.audit("http.client.send", self, data)
        try:
            self.sock.sendall(data)
        except (ConnectionError, TimeoutError) as exc:
            raise_meant(exc)
        except TypeError:
            if not isinstance(data, Iterable):
                kind = type(data)
                raise TypeError(f"data should be a bytes-like object or an iterable, got {kind!r}") from None
            for piece in data:
                self._sendall(piece)

    def _sendall(self, data: Any) -> None:
        try:
            self.sock.sendall(data)
        except (ConnectionError, TimeoutError) as exc:
            raise_meant(exc)

    # -- a request and its response --

    def request(
        self,
        method: str,
        url: str,
        body: Any = None,
        headers: Mapping[str, Any] = {},
        *,
        encode_chunked: bool = False,
    ) -> None:
        """Send a request.

        *body*: bytes-like, str (sent in Latin-1), a file, or an iterable of bytes; it is chunked where its length is
        not known and *headers* frame it neither way. *encode_chunked*: the caller's own Transfer-Encoding says so.
        """
        before = self.__state
        try:
            self._send_request(method, url, body, headers, encode_chunked)
        except BaseException:
            if self.__state == _CS_REQ_STARTED != before:  # refused before anything was sent
                self.__state = _CS_IDLE
                del self._buffer[:]
            raise

    def _send_request(self, method: str, url: str, body: Any, headers: Mapping[str, Any], encode_chunked: bool) -> None:
        names = {_text(name).lower() for name in headers} if headers else ()
        skips = {skip: True for name, skip in _SKIPS if name in names} if names else {}
        self.putrequest(method, url, **skips)
        if "content-length" in names:
            encode_chunked = False
        elif "transfer-encoding" not in names and (body is not None or method.upper() in _METHODS_EXPECTING_BODY):
            length = self._get_content_length(body, method)
            encode_chunked = length is None and body is not None
            if length is not None:
                self.putheader("Content-Length", str(length))
            elif body is not None:
                if self.debuglevel > 0:
                    self._say(f"Unable to determine size of {body!r}")
                if self._http_vsn != 11:
                    raise ValueError("HTTP/1.0 has no chunks, and the length of the body is not known")
                self.putheader("Transfer-Encoding", "chunked")
        for name, value in headers.items():
            self.putheader(name, value)
        if isinstance(body, str):
            body = encode(body, "body")
        self.endheaders(body, encode_chunked=encode_chunked)

    def _new_response(self, method: str | None, debuglevel: int) -> Any:
        if debuglevel > 0:
            return self.response_class(self.sock, debuglevel, method=method)
        return self.response_class(self.sock, method=method)

    def getresponse(self) -> Any:
        """The response, its header section read: an object of `response_class`.

        Raises ResponseNotReady where no request was sent or the response before was not read to its end. A response
        that ends the connection has it for itself: `sock` is None then.
        """
        response = self.__response
        if response and response.isclosed():
            response = self.__response = None
        if self.__state != _CS_REQ_SENT or response:
            raise ResponseNotReady(self.__state)
        response, self.__early = self.__early, None
        if response is None:
            response = self._new_response(self._method, self.debuglevel)
        try:
            try:
                if self.max_response_headers is None:
                    response.begin()
                else:
                    response.begin(_max_headers=self.max_response_headers)
            except ConnectionError:
                self.close()
                raise
            except (TimeoutError, BlockingIOError):
                if hasattr(response, "_lets_send"):  # which goes on where it is, when it is asked again
                    self.__early = response
                raise
            if response.status == 101 and b"\r\nupgrade:" not in self._head.lower():
                self.close()
                raise BadHead("101 Switching Protocols that was not asked for")
            self.__state = _CS_IDLE
            self._unanswered -= 1
            if response.will_close:
                self.close()
            else:
                self.__response = response
                if hasattr(response, "_owner"):
                    response._owner = weakref.ref(self)
            return response
        except BaseException:
            if response is not self.__early:
                response.close()
            raise


def _text(name: Any) -> str:
    return name if isinstance(name, str) else name_bytes(name).decode("latin-1")
