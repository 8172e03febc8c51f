"""The private names of http.client that others use: small stand-ins for what each does with them, over both modules."""

from __future__ import annotations

import functools
import http.client
import io
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

import httpio.client
from conftest import Authority
from servers.scripted import WAIT, Peer, Scripted, answers, server_context

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3;a=b\r\ntwo\r\n0\r\nX: y\r\n\r\n"


@pytest.fixture(params=[http.client, httpio.client], ids=lambda module: module.__name__)
def module(request: pytest.FixtureRequest) -> ModuleType:
    tested: ModuleType = request.param
    return tested


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted(answers) as server:
        yield server


def fetch(conn: Any, target: str = "/") -> bytes:
    conn.request("GET", target)
    body: bytes = conn.getresponse().read()
    return body


# -- botocore: a wait for 100-continue of its own --


def waiting(module: ModuleType) -> Any:
    """A connection that sends a body after the server has asked for it; else the response is to know its status."""

    class Response(module.HTTPResponse):  # type: ignore[name-defined,misc]
        def __init__(self, *args: Any, seen: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.seen = seen

        def _read_status(self) -> Any:
            seen, self.seen = self.seen, None
            return seen or super()._read_status()

    class Connection(module.HTTPConnection):  # type: ignore[name-defined,misc]
        def request(self, *args: Any, **options: Any) -> None:
            self.response_class = module.HTTPResponse
            super().request(*args, **options)

        def _send_output(self, message_body: Any = None, *args: Any, **options: Any) -> None:
            self._buffer.extend((b"", b""))
            self.send(b"\r\n".join(self._buffer))
            del self._buffer[:]
            if message_body is None:
                return
            with self.sock.makefile("rb", 0) as file:
                version, status, reason = file.readline().decode().split(None, 2)
                if status == "100":
                    while file.readline() != b"\r\n":
                        pass
                    self.send(message_body)
                else:
                    self.response_class = functools.partial(Response, seen=(version, int(status), reason))

    return Connection


def expecting(peer: Peer) -> None:
    while (seen := peer.head()) is not None:
        if seen.target == "/no":
            peer.answer(b"not that", "403 Forbidden", "X-Name: value\r\n")
        elif seen.target == "/yes":
            peer.send(b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n")
            peer.answer(peer.take(int(seen.field("Content-Length") or 0)))
        else:
            peer.answer(seen.target.encode())


def test_a_body_behind_100_continue(module: ModuleType) -> None:
    with Scripted(expecting) as server:
        conn = waiting(module)("127.0.0.1", server.port, timeout=WAIT)
        for _ in range(2):
            conn.request("PUT", "/yes", b"content", {"Expect": "100-continue"})
            assert conn.getresponse().read() == b"content"
            conn.request("PUT", "/no", b"content", {"Expect": "100-continue"})
            response = conn.getresponse()
            assert (response.status, response.reason, response.version) == (403, "Forbidden", 11)
            assert (response.getheader("x-name"), response.read()) == ("value", b"not that")
            assert fetch(conn, "/next") == b"/next"
        assert server.connections == 1
        conn.close()


# -- urllib3 --


def tunnelling(module: ModuleType) -> Any:
    """A connection that connects and makes the tunnel itself, and reads the proxy's answer piece by piece."""

    class Connection(module.HTTPConnection):  # type: ignore[name-defined,misc]
        def connect(self) -> None:
            self.sock = socket.create_connection((self.host, self.port), self.timeout)
            if self._tunnel_host:
                self._tunnel()

        def _tunnel(self) -> None:
            self.send(b"CONNECT %s:%d HTTP/1.1\r\n" % (self._tunnel_host.encode(), self._tunnel_port))
            for name, value in self._tunnel_headers.items():
                self.send(f"{name}: {value}\r\n".encode())
            self.send(b"\r\n")
            response = self.response_class(self.sock, method=self._method)
            try:
                version, status, reason = response._read_status()
                self._raw_proxy_headers = module._read_headers(response.fp)
                if status != 200:
                    self.close()
                    raise OSError(f"{version} {status} {reason.strip()}")
            finally:
                response.close()

    return Connection


def proxying(peer: Peer) -> None:
    seen = peer.head()
    if seen is not None and seen.target.startswith("refused"):
        return peer.answer(b"", "407 Proxy Authentication Required")
    peer.send(b"HTTP/1.1 200 Connection established\r\nVia: proxy\r\n\r\n")
    return answers(peer)


def test_a_tunnel_of_its_own(module: ModuleType) -> None:
    with Scripted(proxying) as server:
        conn = tunnelling(module)("127.0.0.1", server.port, timeout=WAIT)
        conn.set_tunnel("peer.example", 80, {"X-Name": "value"})
        assert [fetch(conn, "/a"), fetch(conn, "/b")] == [b"/a", b"/b"]
        assert conn._raw_proxy_headers == [b"Via: proxy\r\n", b"\r\n"]
        assert server.targets() == ["peer.example:80", "/a", "/b"]
        assert server.seen[0].field("X-Name") == "value"
        conn.close()
        conn.set_tunnel("refused.example", 80)
        with pytest.raises(OSError, match=r"^HTTP/1.1 407 Proxy Authentication Required$"):
            conn.request("GET", "/")
        assert conn.sock is None


def test_the_tunnel_of_the_module(module: ModuleType) -> None:
    """Called by a subclass that has connected by itself, and its names set by hand."""

    class Connection(module.HTTPConnection):  # type: ignore[name-defined,misc]
        def connect(self) -> None:
            self.sock = socket.create_connection((self.host, self.port), self.timeout)
            self._tunnel()

    with Scripted(proxying) as server:
        conn = Connection("127.0.0.1", server.port, timeout=WAIT)
        conn._tunnel_host, conn._tunnel_port, conn._tunnel_headers = "peer.example", 81, {"X-Name": "value"}
        assert fetch(conn) == b"/"
        assert server.seen[0].target == "peer.example:81"
        assert server.seen[0].field("X-Name") == "value"
        assert server.seen[1].field("Host") == "peer.example:81"
        conn.close()


def test_tls_through_a_tunnel(module: ModuleType, authority: Authority) -> None:
    """The socket is replaced by TLS on it when the tunnel is made."""

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.sock = server_context(authority.chain, authority.key).wrap_socket(peer.sock, server_side=True)
        answers(peer)

    class Connection(tunnelling(module)):  # type: ignore[misc]
        def connect(self) -> None:
            super().connect()
            context = ssl.create_default_context(cafile=authority.ca)
            self.sock = context.wrap_socket(self.sock, server_hostname=self._tunnel_host)

    with Scripted(script) as server:
        conn = Connection("127.0.0.1", server.port, timeout=WAIT)
        conn.set_tunnel("localhost", 443)
        assert [fetch(conn, "/a"), fetch(conn, "/b")] == [b"/a", b"/b"]
        assert server.connections == 1
        conn.close()


def test_chunks_read_from_the_file(module: ModuleType) -> None:
    """By `fp.readline` and `_safe_read`; the response is closed behind them, and the connection goes on."""

    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(CHUNKED)

    with Scripted(script) as server:
        conn = module.HTTPConnection("127.0.0.1", server.port, timeout=WAIT)
        for _ in range(3):
            conn.request("GET", "/")
            response = conn.getresponse()
            assert response.chunked
            content = b""
            while size := int(response.fp.readline(65537).partition(b";")[0], 16):
                content += response._safe_read(size)
                assert response._safe_read(2) == b"\r\n"
            while response.fp.readline(65537) != b"\r\n":
                pass
            response.close()
            assert (content, response.isclosed(), response.fp) == (b"onetwo", True, None)
        assert server.connections == 1
        conn.close()


def test_what_tells_of_a_response(module: ModuleType, server: Scripted) -> None:
    conn = module.HTTPConnection("127.0.0.1", server.port, timeout=WAIT)
    for method, body in (("HEAD", b""), ("GET", b"/")):
        conn.request(method, "/")
        response = conn.getresponse()
        assert (conn._method, response._method) == (method, method)
        assert (response.msg.defects, response.msg.is_multipart(), response.msg.get_payload()) == ([], False, "")
        assert response.fp is not None
        assert not response._check_close()
        assert response.read() == body
        assert response.fp is None
        conn.sock.settimeout(WAIT)
        assert select.select([conn.sock], [], [], 0)[0] == []
    assert server.connections == 1
    conn.close()


def test_host_as_a_property(module: ModuleType, server: Scripted) -> None:
    class Connection(module.HTTPConnection):  # type: ignore[name-defined,misc]
        @property
        def host(self) -> str:
            return str(self._name).rstrip(".")

        @host.setter
        def host(self, value: str) -> None:
            self._name = value

    conn = Connection("localhost.", server.port, timeout=WAIT)
    conn._create_connection = lambda address, timeout, source: socket.create_connection(("127.0.0.1", address[1]))
    assert fetch(conn) == b"/"
    assert server.seen[0].field("Host") == f"localhost:{server.port}"
    conn.close()


# -- urllib.request --


@pytest.mark.parametrize(
    ("body", "method", "length"),
    [
        (None, "GET", None),
        (None, "post", 0),
        (b"123", "GET", 3),
        ("123", "PUT", 3),
        (memoryview(b"12345678").cast("I"), "POST", 8),
        (io.BytesIO(b"123"), "POST", None),
        (iter([b"123"]), "POST", None),
    ],
)
def test_length_of_a_body(body: Any, method: str, length: int | None, module: ModuleType) -> None:
    assert module.HTTPConnection._get_content_length(body, method) == length


def test_a_connection_taken_away_from_its_response(module: ModuleType) -> None:
    """The socket is closed and forgotten before the body is read, and `msg` and `url` are set."""
    gate = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nContent-Type: text/plain\r\n\r\nhalf")
        assert gate.wait(WAIT)
        peer.send(b"half")
        peer.drain()

    with Scripted(script) as server:
        conn = module.HTTPConnection("127.0.0.1", server.port, timeout=WAIT)
        conn.request("GET", "/")
        response = conn.getresponse()
        conn.sock.close()
        conn.sock = None
        response.url = server.url
        response.msg = response.reason
        gate.set()
        assert (response.read(), response.geturl(), response.msg) == (b"halfhalf", server.url, "OK")
        assert response.info().get_content_type() == "text/plain"


def test_the_file_of_a_last_response(module: ModuleType) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end")

    with Scripted(script) as server:
        conn = module.HTTPConnection("127.0.0.1", server.port, timeout=WAIT)
        conn.request("GET", "/")
        with conn.getresponse() as response:
            assert response._check_close()
            assert response.fp.read() == b"to the end"


# -- requests_toolbelt --


def test_a_body_that_can_only_be_read(module: ModuleType, server: Scripted) -> None:
    """In pieces of `blocksize`; its length stands in a field."""

    class Streamed:
        def __init__(self) -> None:
            self.sizes: list[int] = []
            self.read_from = io.BytesIO(bytes(10_000)).read

        def read(self, size: int = -1) -> bytes:
            self.sizes.append(size)
            return self.read_from(size)

    body = Streamed()
    conn = module.HTTPConnection("127.0.0.1", server.port, timeout=WAIT, blocksize=4000)
    conn.request("POST", "/", body, {"Content-Length": "10000"})
    assert conn.getresponse().status == 200
    assert body.sizes == [4000] * 4
    conn.close()


# -- what is overridden --


def test_checks_that_are_overridden(module: ModuleType) -> None:
    class Unsafe(module.HTTPConnection):  # type: ignore[name-defined,misc]
        def _validate_method(self, method: str) -> None:
            pass

        def _validate_path(self, url: str) -> None:
            pass

        def _validate_host(self, host: str) -> None:
            pass

        def _encode_request(self, request: str) -> bytes:
            return request.encode("utf-8")

    conn = Unsafe("a b")
    conn.putrequest("G T", "/a b/\N{SNOWMAN}", skip_host=True)
    assert conn._buffer[0] == b"G T /a b/\xe2\x98\x83 HTTP/1.1"


@pytest.mark.parametrize("name", ["_validate_method", "_validate_path", "_encode_request"])
def test_checks_of_a_subclass(name: str, module: ModuleType) -> None:
    """They are asked before anything is sent."""

    def refuse(self: Any, what: str) -> None:
        raise LookupError(what)

    conn = type("Connection", (module.HTTPConnection,), {name: refuse})("127.0.0.1", 9)
    with pytest.raises(LookupError):
        conn.request("GET", "/")
    host = type("Connection", (module.HTTPConnection,), {"_validate_host": refuse})
    with pytest.raises(LookupError, match="name"):
        host("name")


def test_lines_that_a_subclass_adds(module: ModuleType, server: Scripted) -> None:
    """`putheader` and `_output` see every field, and `send` all that goes out."""
    put: list[Any] = []
    sent: list[bytes] = []

    class Connection(module.HTTPConnection):  # type: ignore[name-defined,misc]
        def putheader(self, header: Any, *values: Any) -> None:
            put.append(header)
            super().putheader(header, *values)

        def send(self, data: Any) -> None:
            sent.append(data)
            super().send(data)

    conn = Connection("127.0.0.1", server.port, timeout=WAIT)
    conn.putrequest("PUT", "/")
    conn._output(b"X-Raw: 1")
    conn.putheader("Content-Length", 7)
    conn.endheaders(b"content")
    assert conn.getresponse().read() == b"/"
    assert put == ["Host", "Accept-Encoding", "Content-Length"]
    assert server.seen[0].field("X-Raw") == "1"
    assert b"".join(sent) == server.seen[0].head + b"content"
    conn.close()


def test_the_version_of_a_class(module: ModuleType, server: Scripted) -> None:
    old = {"_http_vsn": 10, "_http_vsn_str": "HTTP/1.0"}
    conn = type("Connection", (module.HTTPConnection,), old)("127.0.0.1", server.port)
    assert fetch(conn) == b"/"
    assert server.seen[0].head == b"GET / HTTP/1.0\r\n\r\n"
    conn.close()


@pytest.mark.parametrize(
    "read", [lambda r: r.read(), lambda r: [*iter(lambda: r.read(4), b"")], lambda r: r.readinto(bytearray(99))]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_told_of_the_end(read: Callable[[Any], object], method: str, module: ModuleType) -> None:
    """`_close_conn` is called once, when the body has been read."""
    calls: list[int] = []

    class Response(module.HTTPResponse):  # type: ignore[name-defined,misc]
        def _close_conn(self) -> None:
            calls.append(self.status)
            super()._close_conn()

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            head = CHUNKED.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
            peer.send(head if seen.method == "HEAD" else CHUNKED)

    with Scripted(script) as server:
        conn = module.HTTPConnection("127.0.0.1", server.port, timeout=WAIT)
        conn.response_class = Response
        for count in range(2):
            conn.request(method, "/")
            response = conn.getresponse()
            assert len(calls) == count
            read(response)
            read(response)
            assert len(calls) == count + 1
        conn.close()


def test_the_steps_of_a_chunked_body(module: ModuleType) -> None:
    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(CHUNKED)

    with Scripted(script) as server:
        conn = module.HTTPConnection("127.0.0.1", server.port, timeout=WAIT)
        for _ in range(2):
            conn.request("GET", "/")
            response = conn.getresponse()
            assert (response.chunk_left, response.length) == (None, None)
            pieces = []
            while size := response._read_next_chunk_size():
                pieces.append(response._safe_read(size))
                response._safe_read(2)
            response._read_and_discard_trailer()
            response._close_conn()
            assert pieces == [b"one", b"two"]
        assert server.connections == 1
        conn.close()


# -- states set from outside, and the socket below --


def test_an_answer_before_the_body(module: ModuleType) -> None:
    """A script's own wait for 100: a response made by hand reads the interim one, and `getresponse` the final."""
    with Scripted(expecting) as server:
        conn = module.HTTPConnection("127.0.0.1", server.port, timeout=WAIT)
        conn.putrequest("PUT", "/yes")
        conn.putheader("Content-Length", "7")
        conn.putheader("Expect", "100-continue")
        conn.endheaders()
        response = conn.response_class(conn.sock, method=conn._method)
        version, status, _reason = response._read_status()
        assert (version, status) == ("HTTP/1.1", 100)
        while response.fp.readline() != b"\r\n":
            pass
        conn.send(b"content")
        assert conn._HTTPConnection__state == module._CS_REQ_SENT
        assert conn.getresponse().read() == b"content"
        conn.close()
        response.close()


def test_a_response_that_is_forgotten(module: ModuleType, server: Scripted) -> None:
    """The next request is sent before the response has been read, and each reads its own."""
    conn = module.HTTPConnection("127.0.0.1", server.port, timeout=WAIT)
    conn.request("GET", "/a")
    first = conn.getresponse()
    assert conn._HTTPConnection__response is first
    conn._HTTPConnection__response = None
    conn._HTTPConnection__state = module._CS_IDLE
    conn.request("GET", "/b")
    assert first.read() == b"/a"
    assert conn.getresponse().read() == b"/b"
    conn.close()


def test_the_socket_below_a_response(module: ModuleType) -> None:
    """Its time limit and its peer's name, and the end of a read in another thread."""
    waits = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        waits.set()
        peer.drain()

    with Scripted(script) as server:
        conn = module.HTTPConnection("127.0.0.1", server.port, timeout=WAIT)
        conn.request("GET", "/")
        response = conn.getresponse()
        sock = response.fp.raw._sock
        assert sock.getpeername() == ("127.0.0.1", server.port)
        assert response.fileno() == response.fp.fileno() == sock.fileno()
        sock.settimeout(WAIT / 2)
        assert waits.wait(WAIT)
        timer = threading.Timer(0.01, sock.shutdown, [socket.SHUT_RDWR])
        timer.start()
        with pytest.raises(module.IncompleteRead) as caught:
            response.read()
        assert caught.value.partial == b"half"
        timer.join()
        conn.close()


# -- where connecting fails --


@pytest.mark.parametrize("fault", ["header", "answer", "context"])
def test_a_connect_that_failed_leaves_no_socket(fault: str) -> None:
    """Else the next request would go to a proxy that has made no tunnel, or without TLS. http.client has both."""

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"what?\r\n\r\n")
        peer.drain()

    with Scripted(script) as server:
        context = ssl.create_default_context()
        conn = httpio.client.HTTPSConnection("127.0.0.1", server.port, timeout=WAIT, context=context)
        conn._create_connection = lambda *_: socket.create_connection(("127.0.0.1", server.port))
        if fault == "context":
            conn.host = ""  # which the context refuses before it takes the socket
        else:
            conn.set_tunnel("peer.example", 443, {"X": "a\r\nB: c"} if fault == "header" else None)
        with pytest.raises((ValueError, httpio.client.BadStatusLine)):
            conn.connect()
        assert conn.sock is None
