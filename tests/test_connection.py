"""HTTPConnection: requests and responses, bodies both ways, and its ends."""

from __future__ import annotations

import io
import ssl
import threading
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Authority
from httpio import BodyFollowing, ConnectionClosed, ExcessBodyData, HTTPConnection, StateError
from httpio.waiting import run
from kernel import arrived
from servers.scripted import Peer, Script, Scripted, answers, server_context

BIG = 24 << 20
"""More than the sockets of two ends can hold."""


@pytest.fixture(params=["plain", "tls"])
def served(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Callable[..., Any]]:
    """A function that runs a script, and gives the server and a connection to it, plain and over TLS."""
    tls = request.param == "tls"
    opened: list[Any] = []

    def serve(script: Script, **options: Any) -> tuple[Scripted, HTTPConnection]:
        context = server_context(authority.chain, authority.key) if tls else None
        tickets = options.pop("tickets", True)
        if context is not None and not tickets:
            context.num_tickets = 0
        server = Scripted(script, context, small=options.pop("small", False))
        opened.append(server.__enter__())
        client = ssl.create_default_context(cafile=authority.ca) if tls else None
        conn = HTTPConnection("127.0.0.1", server.port, client, **{"timeout": 20, **options})
        opened.append(conn)
        return server, conn

    yield serve
    for one in reversed(opened):
        one.__exit__(None, None, None)


@pytest.fixture
def plain() -> Iterator[Callable[..., Any]]:
    opened: list[Any] = []

    def serve(script: Script, **options: Any) -> tuple[Scripted, HTTPConnection]:
        server = Scripted(script, small=options.pop("small", False))
        opened.append(server.__enter__())
        conn = HTTPConnection("127.0.0.1", server.port, **{"timeout": 20, **options})
        opened.append(conn)
        return server, conn

    yield serve
    for one in reversed(opened):
        one.__exit__(None, None, None)


def wire(data: bytes, requests: int = 1, end: str = "") -> Script:
    """A script: after so many requests it sends *data*, and then does *end*: finish, reset, notify."""

    def script(peer: Peer) -> None:
        for _ in range(requests):
            assert peer.request() is not None
        if data:
            peer.send(data)
        if end:
            getattr(peer, end)()
        if end != "reset":
            peer.drain()

    return script


# -- requests --


def test_request_after_response(served: Callable[..., Any]) -> None:
    server, conn = served(answers)
    for number in range(5):
        conn.send_request("GET", f"/{number}")
        response = conn.read_response()
        assert (response.status, response.path, response.method) == (200, f"/{number}", "GET")
        assert conn.read() == f"/{number}".encode()
        assert not conn.response_pending()
    assert server.connections == 1
    assert server.targets() == [f"/{number}" for number in range(5)]


def test_many_requests_before_reading(served: Callable[..., Any]) -> None:
    server, conn = served(answers)
    paths = [f"/{number}" for number in range(300)]
    for path in paths:
        conn.send_request("HEAD" if path.endswith("7") else "GET", path)
    assert [request.path for request in conn.outstanding] == paths
    for path in paths:
        assert conn.response_pending()
        response = conn.read_response()
        assert response.path == path
        assert conn.readall() == (b"" if path.endswith("7") else path.encode())
    assert conn.outstanding == ()
    assert not conn.response_pending()
    assert server.connections == 1


class Unseekable(io.RawIOBase):
    def __init__(self, data: bytes) -> None:
        self.data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self.data.readinto(buffer)


def advanced(data: bytes) -> io.BytesIO:
    file = io.BytesIO(b"skipped" + data)
    file.seek(7)
    return file


BODIES: dict[str, tuple[Callable[[bytes], Any], bool]] = {
    "bytes": (bytes, False),
    "bytearray": (bytearray, False),
    "memoryview": (memoryview, False),
    "array": (lambda data: memoryview(array("I", data)), False),
    "BytesIO": (io.BytesIO, False),
    "BytesIO advanced": (advanced, False),
    "unseekable": (Unseekable, True),
    "list": (lambda data: [data[:1], b"", data[1:]], True),
    "generator": (lambda data: (data[at : at + 50_000] for at in range(0, len(data), 50_000)), True),
}


@pytest.mark.parametrize("size", [0, 4, 100_000, 3_000_000])
@pytest.mark.parametrize("kind", BODIES)
def test_bodies(kind: str, size: int, plain: Callable[..., Any]) -> None:
    bodies = []

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            bodies.append(seen.body)
            peer.answer(b"ok")

    server, conn = plain(script)
    make, chunked = BODIES[kind]
    data = bytes(range(250)) * (size // 250) + bytes(size % 250)
    conn.send_request("PUT", "/up", body=make(data))
    assert conn.read_response().request_complete
    assert conn.readall() == b"ok"
    conn.send_request("GET", "/behind")
    assert conn.read_response().status == 200
    sent = bytes(make(data)) if kind == "array" else data
    assert bodies == [sent, b""]
    seen = server.seen[0]
    assert seen.field("Content-Length") == (None if chunked else str(len(sent)))
    assert seen.field("Transfer-Encoding") == ("chunked" if chunked else None)


def test_a_real_file(tmp_path: Path, served: Callable[..., Any]) -> None:
    bodies = []

    def script(peer: Peer) -> None:
        seen = peer.request()
        assert seen is not None
        bodies.append(seen.body)
        peer.answer()

    _, conn = served(script)
    data = bytes(range(256)) * 5000
    path = tmp_path / "file"
    path.write_bytes(data)
    with path.open("rb") as file:
        file.seek(100)
        conn.send_request("PUT", "/", body=file)
        assert conn.read_response().status == 200
    assert bodies == [data[100:]]


@pytest.mark.parametrize("length", [None, 10])
def test_body_following(length: int | None, served: Callable[..., Any]) -> None:
    bodies = []

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            bodies.append(seen.body)
            peer.answer()

    _, conn = served(script)
    conn.send_request("PUT", "/", body=BodyFollowing(length))
    with pytest.raises(StateError):
        conn.send_request("GET", "/never")
    conn.write(b"01234")
    conn.write(b"")
    if length is not None:
        with pytest.raises(ExcessBodyData):
            conn.write(b"567890")
        with pytest.raises(StateError):
            conn.end_body()
    conn.write(memoryview(b"56789"))
    if length is None:
        conn.end_body()
    for call in (conn.end_body, lambda: conn.write(b"x")):
        with pytest.raises(StateError):
            call()
    assert conn.read_response().request_complete
    conn.send_request("GET", "/behind")
    assert conn.read_response().status == 200
    assert bodies == [b"0123456789", b""]


def test_the_callers_headers_are_left_alone(plain: Callable[..., Any]) -> None:
    server, conn = plain(answers)
    given = {"host": "other", "X-A": "1"}
    kept = dict(given)
    for _ in range(2):
        conn.send_request("GET", "/", given)
        assert conn.read_response().status == 200
        conn.close()
    conn.send_request("GET", "/", iter([("X-B", "2")]))
    assert conn.read_response().status == 200
    assert given == kept
    assert [seen.field("Host") for seen in server.seen[:2]] == ["other", "other"]
    assert server.seen[0].head.lower().count(b"\r\nhost:") == 1
    assert server.seen[2].field("X-B") == "2"


# -- responses --

CONTENT = bytes(range(256)) * 40
CHUNKS = b"".join(b"%x\r\n%b\r\n" % (1000, bytes([n]) * 1000) for n in range(200))
RESPONSES = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 10240\r\n\r\n" + CONTENT, CONTENT),
    "one byte": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", b"x"),
    "empty": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS + b"0\r\nX-T: 1\r\n\r\n",
        b"".join(bytes([n]) * 1000 for n in range(200)),
    ),
    "large": (b"HTTP/1.1 200 OK\r\nContent-Length: 1024000\r\n\r\n" + CONTENT * 100, CONTENT * 100),
}


class Short(io.RawIOBase):
    """Takes at most 7 bytes, or a third, at a time."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        count = max(min(7, len(data)), len(data) // 3)
        self.data += data[:count]
        return count


def by_readinto(size: int) -> Callable[[HTTPConnection], bytes]:
    def read(conn: HTTPConnection) -> bytes:
        out, buffer = bytearray(), bytearray(size)
        while count := conn.readinto(buffer):
            assert 0 < count <= size
            out += buffer[:count]
        return bytes(out)

    return read


def by_read(size: int) -> Callable[[HTTPConnection], bytes]:
    def read(conn: HTTPConnection) -> bytes:
        pieces = list(iter(lambda: conn.read(size), b""))
        assert all(len(piece) <= size for piece in pieces)
        return b"".join(pieces)

    return read


def by_short_writes(conn: HTTPConnection) -> bytes:
    file = Short()
    assert conn.write_to(file) == len(file.data)  # type: ignore[arg-type]
    return bytes(file.data)


def in_parts(conn: HTTPConnection) -> bytes:
    first, one = conn.read(3), bytearray(1)
    second = bytes(one[: conn.readinto(one)])
    file = io.BytesIO()
    conn.write_to(file)
    return first + second + file.getvalue() + conn.readall()


READERS: dict[str, Callable[[HTTPConnection], bytes]] = {
    "read": lambda conn: conn.read(),
    "read 1000": by_read(1000),
    "readinto 1": by_readinto(1),
    "readinto 100000": by_readinto(100_000),
    "readall": lambda conn: conn.readall(),
    "write_to": by_short_writes,
    "parts": in_parts,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", RESPONSES)
def test_reading(kind: str, reader: str, served: Callable[..., Any]) -> None:
    if reader == "readinto 1" and kind == "large":
        pytest.skip("the same as with a length, a hundred times")
    data, content = RESPONSES[kind]
    _, conn = served(wire(data + RESPONSES["length"][0], 2))
    conn.send_request("GET", "/")
    conn.send_request("GET", "/behind")
    response = conn.read_response()
    assert READERS[reader](conn) == content
    assert response.complete_by is not None
    assert conn.read() == conn.readall() == conn.read(5) == b""
    assert conn.readinto(bytearray(5)) == 0
    assert response.trailers["X-T"] == ("1" if kind == "chunked" else None)
    assert conn.read_response().path == "/behind"
    assert conn.readall() == CONTENT


def test_write_to_a_file(tmp_path: Path, served: Callable[..., Any]) -> None:
    data, content = RESPONSES["large"]
    _, conn = served(wire(data))
    conn.send_request("GET", "/")
    conn.read_response()
    begun = conn.read(10)
    with (tmp_path / "file").open("wb") as file:
        file.write(begun)
        assert conn.write_to(file) == len(content) - len(begun)
    assert (tmp_path / "file").read_bytes() == content


@pytest.mark.parametrize("taken", [None, 0])
def test_write_to_what_takes_nothing(taken: int | None, plain: Callable[..., Any]) -> None:
    class Stuck:
        calls = 0

        def write(self, data: Any) -> int | None:
            self.calls += 1
            assert self.calls < 100
            return taken

    _, conn = plain(wire(RESPONSES["length"][0]))
    conn.send_request("GET", "/")
    conn.read_response()
    if taken is None:  # as many file-like objects do, which have taken all
        assert conn.write_to(Stuck()) == len(CONTENT)
    else:
        with pytest.raises(OSError):  # noqa: PT011
            conn.write_to(Stuck())


@pytest.mark.parametrize("kind", ["length", "chunked", "large"])
def test_partial_read_then_discard(kind: str, served: Callable[..., Any]) -> None:
    data, content = RESPONSES[kind]
    _, conn = served(wire(data * 3, 3))
    for _ in range(3):
        conn.send_request("GET", "/")
    for size in (0, 1, 5000):
        response = conn.read_response()
        begun = conn.read(size)
        assert content.startswith(begun)
        assert bool(begun) == bool(size)
        with pytest.raises(StateError):
            conn.read_response()
        conn.discard()
        assert response.complete_by is not None
        assert conn.readall() == b""
    assert not conn.response_pending()


def test_state_errors_change_nothing(plain: Callable[..., Any]) -> None:
    _, conn = plain(answers)
    for call in (conn.read_response, conn.fileno, conn.detach, conn.end_body, lambda: conn.write(b"x")):
        with pytest.raises(StateError):
            call()
    conn.send_request("GET", "/a")
    for call in (conn.detach, conn.end_body, lambda: conn.write(b"x"), lambda: conn.pipeline(["/"])):
        with pytest.raises(StateError):
            call()
    conn.read_response()
    for call in (conn.read_response, conn.detach, lambda: conn.pipeline(["/"])):
        with pytest.raises(StateError):
            call()
    assert conn.readall() == b"/a"
    with pytest.raises(StateError):
        conn.read_response()
    conn.send_request("GET", "/b")
    assert conn.read_response().path == "/b"


def test_buffered(served: Callable[..., Any]) -> None:
    data, content = RESPONSES["one byte"]
    _, conn = served(wire(data * 2, 2))
    assert not conn.buffered
    conn.send_request("GET", "/")
    conn.send_request("GET", "/")
    assert not conn.buffered
    conn.read_response()
    assert conn.readall() == content
    assert conn.buffered  # both came in one piece, and no select would tell
    conn.read_response()
    assert conn.readall() == content
    assert not conn.buffered


# -- its ends --


def test_reconnecting(served: Callable[..., Any]) -> None:
    server, conn = served(answers)
    for end in (conn.close, conn.disconnect, conn.reset):
        conn.send_request("GET", "/answered")
        conn.read_response()
        conn.readall()
        conn.send_request("GET", "/given-up")
        end()
        assert conn.outstanding == ()
        assert not conn.response_pending()
        with pytest.raises(ConnectionClosed):
            conn.read_response()
    conn.connect()
    conn.connect()
    conn.send_request("GET", "/")
    assert conn.read_response().path == "/"
    assert server.connections == 5


def test_connection_close_in_a_response(served: Callable[..., Any]) -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"

    def script(peer: Peer) -> None:
        assert peer.request() is not None
        peer.send(closing)
        peer.drain()  # it does not even close

    server, conn = served(script)
    for end in (conn.connect, conn.close):
        conn.send_request("GET", "/")
        assert not conn.read_response().persistent
        for body in (b"x", b""):
            with pytest.raises(ConnectionClosed):
                conn.send_request("GET", "/refused")
            assert conn.readall() == body
        end()
    assert server.targets() == ["/", "/"]


@pytest.mark.parametrize("end", ["finish", "reset"])
def test_after_a_loss(end: str, served: Callable[..., Any]) -> None:
    done = threading.Event()

    def script(peer: Peer) -> None:
        assert peer.request() is not None
        peer.answer(b"x")
        getattr(peer, end)()
        done.set()
        if end == "finish":
            peer.drain()

    server, conn = served(script)
    conn.send_request("GET", "/")
    conn.read_response()
    assert conn.readall() == b"x"
    assert done.wait(20)
    arrived(conn)
    for _ in range(2):
        with pytest.raises(ConnectionClosed) as caught:
            conn.send_request("GET", "/refused")
        assert caught.value.outstanding == ()
        assert conn.outstanding == ()
    conn.close()
    conn.send_request("GET", "/anew")
    assert conn.read_response().path == "/anew"
    assert server.targets() == ["/", "/anew"]


@pytest.mark.parametrize("unasked", ["same segment", "later", "first"])
def test_unsolicited_bytes(unasked: str, served: Callable[..., Any]) -> None:
    """What comes before it is asked for answers nothing; the good response before it stands."""
    good, evil = (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + body for body in (b"good", b"evil"))
    done = threading.Event()

    def script(peer: Peer) -> None:
        if unasked == "first" and peer.number == 0:
            peer.send(evil)
            done.set()
        while (seen := peer.request()) is not None:
            if seen.target != "/":
                peer.send(good)
            elif unasked == "same segment":
                peer.send(good + evil)
            else:
                peer.send(good)
                peer.send(evil)
            done.set()

    server, conn = served(script, tickets=False)  # so that what can be received is what was not asked for
    if unasked == "first":
        conn.connect()
    else:
        conn.send_request("GET", "/")
        conn.read_response()
        assert conn.readall() == b"good"
    assert done.wait(20)
    if not conn.buffered:  # else it came with the answer
        arrived(conn)
    for _ in range(2):
        with pytest.raises(ConnectionClosed):
            conn.send_request("GET", "/never")
        assert conn.outstanding == ()
    conn.close()
    conn.send_request("GET", "/anew")
    conn.read_response()
    assert conn.readall() == b"good"
    assert "/never" not in server.targets()


def test_detach_after_101(served: Callable[..., Any]) -> None:
    def script(peer: Peer) -> None:
        assert peer.request() is not None
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello")
        peer.send(peer.take(4).upper())
        peer.drain()

    _, conn = served(script)
    conn.send_request("GET", "/", {"Connection": "upgrade", "Upgrade": "x"})
    with pytest.raises(StateError):
        conn.detach()
    assert conn.read_response().status == 101
    assert conn.readall() == b""
    with pytest.raises((StateError, ConnectionClosed)):
        conn.send_request("GET", "/never")
    sock, leftover = conn.detach()
    with sock:
        sock.settimeout(20)
        sock.sendall(b"ping")
        while len(leftover) < 9:
            leftover += sock.recv(100)
        assert leftover == b"helloPING"
        with pytest.raises(StateError):
            conn.detach()
        conn.close()
        sock.sendall(b"still open")


def test_detach_after_connect(plain: Callable[..., Any]) -> None:
    def script(peer: Peer) -> None:
        if peer.number == 0:
            assert peer.request() is not None
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst bytes")
            peer.drain()
        answers(peer)

    server, conn = plain(script)
    conn.send_request("CONNECT", "example.org:443")
    assert conn.read_response().framing == "tunnel"
    sock, leftover = conn.detach()
    with sock:
        assert leftover == b"first bytes"
        conn.send_request("GET", "/anew")
        assert conn.read_response().path == "/anew"
        assert server.connections == 2


def test_abort_wakes_a_reader(served: Callable[..., Any]) -> None:
    read = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        read.set()
        peer.drain()

    _, conn = served(script, timeout=None)
    conn.abort()  # not connected: nothing to do
    conn.send_request("GET", "/")

    def end() -> None:
        assert read.wait(20)
        conn.abort()

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(ConnectionClosed) as caught:
        conn.read_response()
    thread.join(20)
    assert [fact.state for fact in caught.value.outstanding] == ["sent"]


@pytest.mark.parametrize("head", [b"Connection: close\r\n\r\n", b"Content-Length: 100\r\n\r\n"])
def test_abort_inside_a_body(head: bytes, served: Callable[..., Any]) -> None:
    """What came so far is never taken for all of a close-delimited body."""
    _, conn = served(wire(b"HTTP/1.1 200 OK\r\n" + head + b"hello"), timeout=None)
    conn.send_request("GET", "/")
    conn.read_response()
    assert conn.read(5) == b"hello"
    conn.abort()
    with pytest.raises(ConnectionClosed):
        conn.readall()


def test_abort_wakes_a_sender(plain: Callable[..., Any]) -> None:
    waiting = threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        assert waiting.wait(20)

    _, conn = plain(script, timeout=None)
    conn.connect()
    step = conn.co_send_request("PUT", "/", body=bytes(BIG))
    next(step)
    thread = threading.Thread(target=conn.abort)
    thread.start()
    with pytest.raises(ConnectionClosed) as caught:
        run(step)
    thread.join(20)
    waiting.set()
    assert caught.value.where == "sending"
