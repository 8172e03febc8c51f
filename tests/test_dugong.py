"""Programs in the manner of those written for dugong 3.8: only the import is new."""

from __future__ import annotations

import asyncio
import inspect
import select
import ssl
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from io import BytesIO, TextIOWrapper
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import httpio as dugong
from conftest import Authority
from servers.scripted import Peer, Script, Scripted, answers, server_context

TIMEOUT = 20
PIECE = bytes(64 << 10)
MANY = 1000
"""Pieces: more than the sockets of two ends can hold."""

Meet = Callable[..., tuple[Scripted, dugong.HTTPConnection]]


@pytest.fixture(params=["plain", "tls"])
def meet(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Meet]:
    """A function that runs a script, and gives the server and a connection to it."""
    tls = request.param == "tls"
    context = server_context(authority.chain, authority.key) if tls else None
    with ExitStack() as stack:

        def start(script: Script, small: bool = False) -> tuple[Scripted, dugong.HTTPConnection]:
            server = stack.enter_context(Scripted(script, context, small=small))
            ssl_context = ssl.create_default_context(cafile=authority.ca) if tls else None
            conn = dugong.HTTPConnection("localhost", server.port, ssl_context)
            conn.timeout = TIMEOUT
            conn.expect_timeout = TIMEOUT
            stack.callback(conn.disconnect)
            return server, conn

        yield start


def says(*pieces: bytes, close: bool = False) -> Script:
    """A script: each request gets the next of *pieces*; then nothing more comes, or with *close* the end."""

    def script(peer: Peer) -> None:
        for piece in pieces:
            if peer.request() is None:
                return
            peer.send(piece)
        if close and isinstance(peer.sock, ssl.SSLSocket):
            peer.notify()
        elif close:
            peer.finish()
        peer.drain()

    return script


def content(path: str) -> bytes:
    return path.encode() * 4000


def documents(peer: Peer) -> None:
    """Every path is a document; those with an odd number come in chunks."""
    while (seen := peer.request()) is not None:
        body = content(seen.target)
        if seen.method == "HEAD":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        elif int(seen.target[1:]) % 2:
            parts = [body[:7], body[7:], b""]
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        else:
            peer.answer(body)


def store(peer: Peer) -> None:
    """Takes uploads, after a 100 (Continue) where one is expected; it says how large they were. /refused it refuses."""
    while (seen := peer.head()) is not None:
        if seen.target == "/refused":
            peer.answer(b"not here", "403 Forbidden")
            continue
        if seen.field("Expect"):
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        peer.answer(b"%d" % len(peer.take(int(seen.field("Content-Length") or 0))), "201 Created")


# -- names --

NAMES = """
    HTTPConnection HTTPResponse BodyFollowing CaseInsensitiveDict PollNeeded POLLIN POLLOUT AioFuture eval_coroutine
    is_temp_network_error BUFFER_SIZE MAX_LINE_SIZE MAX_HEADER_SIZE DNS_TEST_HOSTNAMES ConnectionClosed
    ConnectionTimedOut StateError ExcessBodyData InvalidResponse UnsupportedResponse HostnameNotResolvable
    DNSUnavailable log __version__
"""
ARGUMENTS = {
    "send_request": ["method", "path", "headers", "body", "expect100"],
    "write": ["buf"],
    "read": ["len_"],
    "readinto": ["buf"],
    "read_response": [],
    "readall": [],
    "discard": [],
}


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dugong", dugong)
    found: dict[str, Any] = {}
    exec(f"from dugong import {', '.join(NAMES.split())}", found)
    assert found["POLLIN"] == select.POLLIN
    assert found["POLLOUT"] == select.POLLOUT
    need = found["PollNeeded"](3, found["POLLIN"])
    assert (need.fd, need.mask) == tuple(need) == (3, select.POLLIN)
    assert found["BUFFER_SIZE"] == 65536
    with pytest.raises(dugong.ExcessBodyData, match=r"^told$"):
        raise found["ExcessBodyData"]("told")
    assert str(found["StateError"]())
    assert found["DNSUnavailable"]("host").name == "host"


@pytest.mark.parametrize("prefix", ["", "co_"])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments(name: str, prefix: str) -> None:
    parameters = inspect.signature(getattr(dugong.HTTPConnection, prefix + name)).parameters
    assert list(parameters)[1 : 1 + len(ARGUMENTS[name])] == ARGUMENTS[name]


# -- one request after another --


def test_a_request_and_its_response(meet: Meet) -> None:
    server, conn = meet(answers)
    for connections in (1, 2):  # it connects anew
        with conn:
            conn.send_request("GET", "/index.html")
            resp = conn.read_response()
            assert (resp.status, resp.reason) == (200, "OK")
            assert (resp.method, resp.path, resp.length) == ("GET", "/index.html", 11)
            assert resp.headers.items() == [("Content-Length", "11")]
            assert "content-length" in resp.headers
            assert (resp.headers["CONTENT-LENGTH"], resp.headers["X"], resp.headers.get("X", "-")) == ("11", None, "-")
            assert conn.readall() == b"/index.html"
            assert conn.readall() == b""
        assert server.connections == connections


def by_read(conn: dugong.HTTPConnection) -> bytes:
    out = BytesIO()
    while True:
        buf = conn.read(3000)
        if not buf:
            return out.getvalue()
        out.write(buf)


def by_readinto(conn: dugong.HTTPConnection) -> bytes:
    out, buf = BytesIO(), bytearray(3000)
    while True:
        len_ = conn.readinto(buf)
        if not len_:
            return out.getvalue()
        out.write(buf[:len_])


def by_steps(conn: dugong.HTTPConnection) -> bytes:
    crt = conn.co_readall()
    try:
        while True:
            io_req = next(crt)
            read_fds = (io_req.fd,) if io_req.mask & dugong.POLLIN else ()
            write_fds = (io_req.fd,) if io_req.mask & dugong.POLLOUT else ()
            select.select(read_fds, write_fds, ())
    except StopIteration as exc:
        return bytes(exc.value)


def by_text(conn: dugong.HTTPConnection) -> bytes:
    fh = TextIOWrapper(conn, encoding="latin1")  # type: ignore[type-var]
    return "".join(iter(lambda: fh.read(777), "")).encode("latin1")


@pytest.mark.parametrize(
    "way",
    [
        by_read, by_readinto, by_steps, by_text,
        lambda conn: conn.read(),
        lambda conn: dugong.eval_coroutine(conn.co_read(), TIMEOUT),
        lambda conn: conn.read(17) + conn.readall(),
    ],
)  # fmt: skip
def test_pipelining_by_hand(way: Callable[[dugong.HTTPConnection], bytes], meet: Meet) -> None:
    """Also what a body is read by; a TextIOWrapper that is done with leaves the connection to the next."""
    server, conn = meet(documents)
    paths = [f"/{number}" for number in range(6)]
    for path in paths:
        conn.send_request("GET", path)
    for path in paths:
        resp = conn.read_response()
        assert (resp.status, resp.path) == (200, path)
        assert way(conn) == content(path)
    assert not conn.response_pending()
    assert server.connections == 1


def test_response_pending(meet: Meet) -> None:
    _, conn = meet(documents)
    assert not conn.response_pending()
    conn.send_request("HEAD", "/0")
    conn.send_request("GET", "/2")
    assert conn.response_pending()
    assert conn.read_response().length == 0
    assert conn.response_pending()
    assert conn.read_response().length == len(content("/2"))
    assert conn.read(10)
    with pytest.raises(dugong.StateError):
        conn.read_response()
    conn.discard()
    assert not conn.response_pending()
    with pytest.raises(dugong.StateError):
        conn.read_response()
    conn.send_request("GET", "/2")
    conn.disconnect()
    assert not conn.response_pending()
    with pytest.raises(dugong.ConnectionClosed):
        conn.read_response()


# -- sending and reading at the same time --

PATHS = [f"/{number}" for number in range(40)]

Step = Generator[dugong.PollNeeded, None, Any]


def send_requests(conn: dugong.HTTPConnection) -> Step:
    for path in PATHS:
        yield from conn.co_send_request("POST", path, body=bytes(200_000))


def read_responses(conn: dugong.HTTPConnection) -> Step:
    bodies = []
    for path in PATHS:
        resp = yield from conn.co_read_response()
        assert (resp.status, resp.path) == (200, path)
        bodies.append((yield from conn.co_readall()))
    return bodies


def loop_as_documented(sender: Step, reader: Step) -> Any:
    """Both are resumed each time; the one that sends is taken to wait for room, the other for data."""
    sending = True
    while True:
        if sending:
            try:
                io_req_1 = next(sender)
            except StopIteration:
                sending = False
        try:
            io_req_2 = next(reader)
        except StopIteration as exc:
            return exc.value
        assert any(select.select((io_req_2.fd,), (io_req_1.fd,) if sending else (), (), TIMEOUT))


def loop_by_masks(sender: Step, reader: Step) -> Any:
    """Only what can go on is resumed."""
    waiting = {}
    ready = [sender, reader]
    while True:
        for crt in ready:
            try:
                waiting[crt] = next(crt)
            except StopIteration as exc:
                if crt is reader:
                    return exc.value
                waiting.pop(crt, None)
        readable, writable, _ = select.select(
            {need.fd for need in waiting.values() if need.mask & dugong.POLLIN},
            {need.fd for need in waiting.values() if need.mask & dugong.POLLOUT},
            (),
            TIMEOUT,
        )
        assert readable or writable
        ready = [
            crt
            for crt, (fd, mask) in waiting.items()
            if (mask & dugong.POLLIN and fd in readable) or (mask & dugong.POLLOUT and fd in writable)
        ]


def loop_of_asyncio(sender: Step, reader: Step) -> Any:
    loop = asyncio.new_event_loop()
    try:
        send_future = dugong.AioFuture(sender, loop=loop)
        recv_future = dugong.AioFuture(reader, loop=loop)
        loop.run_until_complete(recv_future)
        assert send_future.done()
        return recv_future.result()
    finally:
        loop.close()


@pytest.mark.parametrize("loop", [loop_as_documented, loop_by_masks, loop_of_asyncio])
def test_two_coroutines(loop: Callable[[Step, Step], Any], meet: Meet) -> None:
    server, conn = meet(documents)
    assert loop(send_requests(conn), read_responses(conn)) == [content(path) for path in PATHS]
    assert server.connections == 1


def test_many_connections_under_asyncio(meet: Meet) -> None:
    server, conn = meet(documents)

    def get(path: str) -> Step:
        with dugong.HTTPConnection(conn.hostname, conn.port, conn.ssl_context) as one:
            yield from one.co_send_request("GET", path)
            assert (yield from one.co_read_response()).status == 200
            return (yield from one.co_readall())

    async def gather() -> list[bytes]:
        return await asyncio.gather(*(dugong.AioFuture(get(path)) for path in PATHS[:8]))

    assert asyncio.run(gather()) == [content(path) for path in PATHS[:8]]
    assert server.connections == 8


def test_wrapped_call_by_call(meet: Meet) -> None:
    _, conn = meet(documents)

    async def get() -> bytes:
        await dugong.AioFuture(conn.co_send_request("GET", "/1"))
        await dugong.AioFuture(conn.co_read_response())
        await asyncio.sleep(0)
        begun = await dugong.AioFuture(conn.co_read(10))
        return bytes(begun + await dugong.AioFuture(conn.co_readall()))

    assert asyncio.run(get()) == content("/1")


# -- uploads --


def write_all(conn: dugong.HTTPConnection) -> None:
    for _ in range(MANY):
        conn.write(PIECE)


def test_uploads(meet: Meet) -> None:
    server, conn = meet(store)
    conn.send_request("POST", "/form", body=b"a=1")
    conn.read_response()
    assert conn.readall() == b"3"
    conn.send_request("PUT", "/large", body=dugong.BodyFollowing(3 * len(PIECE)))
    with pytest.raises(dugong.StateError):
        conn.send_request("GET", "/too-early")
    for _ in range(3):
        conn.write(PIECE)
    with pytest.raises(dugong.StateError):
        conn.write(b"x")
    conn.read_response()
    assert int(conn.readall()) == 3 * len(PIECE)
    conn.send_request("PUT", "/small", body=dugong.BodyFollowing(2))
    with pytest.raises(dugong.ExcessBodyData):
        conn.write(b"123")
    conn.write(b"12")
    assert conn.read_response().status == 201
    assert server.connections == 1


def test_upload_in_two_steps(meet: Meet) -> None:
    """Refused by a response after which the connection could go on, then accepted, on the same object."""
    server, conn = meet(store)
    length = 3 * len(PIECE)
    conn.send_request("PUT", "/refused", body=dugong.BodyFollowing(length), expect100=True)
    for call in (lambda: conn.write(PIECE), lambda: conn.send_request("GET", "/too-early")):
        with pytest.raises(dugong.StateError):
            call()
    resp = conn.read_response()
    assert (resp.status, resp.reason) == (403, "Forbidden")
    assert conn.readall() == b"not here"
    assert not conn.response_pending()

    conn.send_request("PUT", "/taken", body=dugong.BodyFollowing(length), expect100=True)
    resp = conn.read_response()
    assert (resp.status, resp.length) == (100, 0)
    for _ in range(3):
        conn.write(PIECE)
    assert conn.read_response().status == 201
    assert int(conn.readall()) == length
    assert [(seen.target, seen.field("Expect")) for seen in server.seen] == [
        ("/refused", "100-continue"),
        ("/taken", "100-continue"),
    ]
    assert server.connections == 2  # the server of the first may still wait for its body


def test_two_steps_behind_other_requests(meet: Meet) -> None:
    _, conn = meet(store)
    conn.send_request("POST", "/first", body=b"12")
    conn.send_request("PUT", "/second", body=dugong.BodyFollowing(3), expect100=True)
    assert (conn.read_response().path, conn.readall()) == ("/first", b"2")
    resp = conn.read_response()
    assert (resp.status, resp.path) == (100, "/second")
    conn.write(b"123")
    assert (conn.read_response().status, conn.readall()) == (201, b"3")


@pytest.mark.parametrize("silently", [False, True])
def test_upload_that_the_server_ends(silently: bool, meet: Meet) -> None:
    def script(peer: Peer) -> None:
        if peer.number:
            return answers(peer)
        assert peer.head() is not None
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        peer.take(len(PIECE))
        if silently:
            return peer.reset()
        peer.answer(b"enough", "401 Please stop!", "Connection: close\r\n")
        peer.finish()
        peer.drain()

    server, conn = meet(script)
    conn.send_request("PUT", "/", body=dugong.BodyFollowing(MANY * len(PIECE)), expect100=True)
    assert conn.read_response().status == 100
    with pytest.raises(dugong.ConnectionClosed) as caught:
        write_all(conn)
    assert dugong.is_temp_network_error(caught.value)
    if silently:
        with pytest.raises(dugong.ConnectionClosed):
            conn.read_response()
    else:
        resp = conn.read_response()
        assert (resp.status, resp.reason, conn.readall()) == (401, "Please stop!", b"enough")
    conn.reset()
    conn.send_request("GET", "/anew")
    assert conn.read_response().path == "/anew"
    assert server.connections == 2


# -- what goes wrong --


@pytest.mark.parametrize("framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
def test_disconnect_inside_a_response(framing: bytes, meet: Meet) -> None:
    _, conn = meet(says(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n9\r\nsomething"))
    calls: list[Callable[[], Any]] = [
        lambda: conn.read(200), lambda: conn.readinto(bytearray(200)), conn.readall, conn.discard,
    ]  # fmt: skip
    for call in calls:
        conn.send_request("GET", "/")
        assert conn.read_response().status == 200
        while not conn.read(3).endswith(b"ing"):
            pass
        waiting = conn.co_read(200)
        assert next(waiting).mask & dugong.POLLIN
        conn.disconnect()
        conn.disconnect()
        with pytest.raises(dugong.ConnectionClosed):
            next(waiting)
        with pytest.raises(dugong.ConnectionClosed):
            call()


def test_disconnect_inside_an_upload(meet: Meet) -> None:
    _, conn = meet(store)
    conn.send_request("PUT", "/", body=dugong.BodyFollowing(42))
    conn.write(b"some")
    conn.disconnect()
    with pytest.raises(dugong.ConnectionClosed):
        conn.write(b"more")
    conn.send_request("PUT", "/", body=b"all")
    assert conn.read_response().status == 201
    assert [conn.readall(), conn.readall()] == [b"3", b""]


def test_timeout_while_receiving(meet: Meet) -> None:
    _, conn = meet(says(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n" + b"x" * 25))
    conn.send_request("GET", "/")
    conn.read_response()
    conn.timeout = 0.1
    received = 0
    while received < 25:
        received += len(conn.read(50))
    with pytest.raises(dugong.ConnectionTimedOut) as caught:
        conn.read(50)
    assert dugong.is_temp_network_error(caught.value)


def test_timeout_while_sending(meet: Meet) -> None:
    over = threading.Event()

    def script(peer: Peer) -> None:
        assert peer.head() is not None
        assert over.wait(TIMEOUT)

    _, conn = meet(script, small=True)
    conn.send_request("PUT", "/", body=dugong.BodyFollowing(MANY * len(PIECE)))
    conn.timeout = 0.2
    with pytest.raises(dugong.ConnectionTimedOut):
        write_all(conn)
    over.set()


def test_timeout_of_eval_coroutine(meet: Meet) -> None:
    _, conn = meet(says(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n"))
    conn.timeout = None
    conn.send_request("GET", "/")
    assert dugong.eval_coroutine(conn.co_read_response(), timeout=TIMEOUT).status == 200
    with pytest.raises(dugong.ConnectionTimedOut):
        dugong.eval_coroutine(conn.co_read(50), timeout=0.1)


def test_trying_again(meet: Meet) -> None:
    """The server closes before the answer, resets inside the body, and then answers."""

    def script(peer: Peer) -> None:
        if peer.number == 2:
            return answers(peer)
        assert peer.request() is not None
        if peer.number == 1:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
            peer.reset()

    server, conn = meet(script)
    for tries in count():
        assert tries < 10
        try:
            conn.send_request("GET", "/index.html")
            conn.read_response()
            body = conn.readall()
        except Exception as exc:
            if not dugong.is_temp_network_error(exc):
                raise
        else:
            break
        finally:
            conn.disconnect()
    assert (body, server.connections) == (b"/index.html", 3)


def test_read_raw(meet: Meet) -> None:
    _, conn = meet(says(b"HTTP/1.1 200 OK\r\nContent-Type: x/y\r\n\r\nbody data", close=True))
    conn.send_request("GET", "/")
    resp = conn.read_response()
    assert (resp.status, resp.headers["Content-Type"]) == (200, "x/y")
    with pytest.raises(dugong.UnsupportedResponse):
        conn.readall()
    assert conn.read_raw(512) == b"body data"
    assert conn.read_raw(512) == b""


# -- TLS, traces --


def test_of_tls(meet: Meet) -> None:
    """Both connect; without TLS there is nothing to connect for."""
    server, conn = meet(answers)
    certificate, cipher = conn.get_ssl_peercert(), conn.get_ssl_cipher()
    if conn.ssl_context is None:
        assert (certificate, cipher, conn.peername) == (None, None, None)
        return
    assert isinstance(certificate, dict)
    assert ("DNS", "localhost") in certificate["subjectAltName"]
    assert isinstance(conn.get_ssl_peercert(binary_form=True), bytes)
    assert cipher is not None
    assert cipher[1].startswith("TLSv1")
    conn.send_request("GET", "/")
    assert conn.read_response().status == 200
    assert server.connections == 1


def test_trace(meet: Meet, tmp_path: Path) -> None:
    _, conn = meet(answers)
    with (tmp_path / "trace").open("wb", buffering=0) as fh:
        conn.trace_fh = fh
        for path in ("/first", "/second"):
            conn.send_request("GET", path)
            conn.read_response()
            conn.discard()
            conn.disconnect()
        trace = (tmp_path / "trace").read_bytes()
        conn.trace_fh = None
        conn.send_request("GET", "/third")
        assert (tmp_path / "trace").read_bytes() == trace
    for line in (b"GET /first HTTP/1.1\r\n", b"GET /second HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\n", b"/second"):
        assert line in trace
