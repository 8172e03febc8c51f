"""Answers that come while the body is still going out: from real servers, and from hostile ones."""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from conftest import Authority, Contexts, Serve, ServeApache, ServeHAProxy
from httpio import BodyFollowing, ConnectionClosed, HTTPConnection, HTTPResponse, Request
from kernel import sent
from servers.process import ServerProcess
from servers.scripted import Peer, Scripted

SIZE = 64 << 20
"""Many times what the sockets of two ends hold."""
PIECE = 1 << 20


class Upload:
    """Sends a body of SIZE zeros in one of four ways. `drawn`: bytes that were taken from an iterable."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.drawn = 0
        self._file = folder / "body"

    def _pieces(self) -> Iterator[bytes]:
        for _ in range(SIZE // PIECE):
            self.drawn += PIECE
            yield bytes(PIECE)

    def body(self, stack: ExitStack) -> Any:
        if self.kind == "bytes":
            return bytes(SIZE)
        if self.kind == "iterable":
            return self._pieces()
        if self.kind == "following":
            return BodyFollowing(SIZE)
        with self._file.open("wb") as fh:
            fh.truncate(SIZE)
        return stack.enter_context(self._file.open("rb"))

    def send(self, conn: HTTPConnection, path: str) -> bool:
        """Returns whether all of it was sent without an error."""
        with ExitStack() as stack:
            try:
                conn.send_request("PUT", path, body=self.body(stack))
                if self.kind == "following":
                    for _ in range(SIZE // PIECE):
                        conn.write(bytes(PIECE))
            except ConnectionClosed:
                return False
        return True


@pytest.fixture(params=["bytes", "following", "file", "iterable"])
def upload(request: pytest.FixtureRequest, tmp_path: Path) -> Upload:
    return Upload(request.param, tmp_path)


class Watched:
    """Aborts a connection that hangs, so that its test fails soon."""

    def __init__(self, conn: HTTPConnection) -> None:
        self._timer = threading.Timer(60, conn.abort)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        hung = self._timer.finished.is_set()
        self._timer.cancel()
        self._timer.join()
        assert not hung, "the connection hung"


def assert_over(conn: HTTPConnection) -> None:
    """Nothing can be sent until `connect`."""
    for _ in range(2):
        with pytest.raises(ConnectionClosed):
            conn.send_request("GET", "/never")


def assert_refused(conn: HTTPConnection, upload: Upload, status: int) -> HTTPResponse:
    """The answer to *upload* is an early refusal, which is delivered whole, and most of the body was not sent."""
    response = conn.read_response()
    assert (response.status, response.request_complete) == (status, False)
    assert conn.readall()
    assert response.complete_by is not None
    assert sent(conn) < SIZE
    assert upload.drawn < SIZE
    assert_over(conn)
    assert conn.outstanding == ()
    return response


# -- real servers --


@pytest.mark.parametrize("lingering", [True, False], ids=["lingers", "closes"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_nginx_refuses_what_is_too_large(
    tls: bool, lingering: bool, upload: Upload, serve: Serve, tmp_path: Path, authority: Authority
) -> None:
    """nginx reads on for a while; told not to, it closes with what has come unread, and its kernel sends a RST. (On TLS
    it reads on either way, for the close_notify.)"""
    root = tmp_path / "root"
    root.mkdir()
    (root / "small").write_bytes(b"content")
    server = serve(
        root,
        certificate=(authority.chain, authority.key) if tls else None,
        directives=[
            "client_max_body_size 1m;",
            "dav_methods PUT;",
            f"lingering_close {'on' if lingering else 'off'};",
        ],
    )
    context = ssl.create_default_context(cafile=authority.ca) if tls else None
    with HTTPConnection("127.0.0.1", server.port, context, timeout=20) as conn:
        all_sent = upload.send(conn, "/large")
        if upload.kind == "following":
            assert not all_sent  # a write says that the rest is not wanted
        elif lingering:
            assert all_sent  # the call returns, and the answer tells
        response = assert_refused(conn, upload, 413)
        assert response.headers["Connection"] == "close"
        conn.connect()
        conn.send_request("GET", "/small")
        assert conn.read_response().status == 200
        assert conn.readall() == b"content"
    server.stop()
    assert sorted((line.status, line.target) for line in server.served()) == [(200, "/small"), (413, "/large")]
    assert not (root / "large").exists()


@pytest.mark.parametrize("status", [401, 413])
def test_haproxy_refuses_and_closes(status: int, upload: Upload, serve_haproxy: ServeHAProxy) -> None:
    rule = "http-request auth realm x" if status == 401 else "http-request deny deny_status 413"
    with Scripted(lambda peer: peer.drain()) as behind:
        server = serve_haproxy(behind.port, [rule])
        with HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
            upload.send(conn, "/")
            response = assert_refused(conn, upload, status)
            assert response.headers["Connection"] == "close"
        assert behind.connections == 0


def test_apache_refuses_what_is_too_large(upload: Upload, serve_apache: ServeApache) -> None:
    server = serve_apache(["<Location />", "SetHandler reflector", f"LimitRequestBody {PIECE}", "</Location>"])
    with HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        upload.send(conn, "/")
        assert assert_refused(conn, upload, 413).complete_by == "close"


def test_uvicorn_refuses_and_does_not_close(upload: Upload, uvicorn: ServerProcess) -> None:
    with HTTPConnection("127.0.0.1", uvicorn.port, timeout=20) as conn:
        upload.send(conn, "/413")
        response = assert_refused(conn, upload, 413)
        assert response.persistent
        conn.connect()
        conn.send_request("PUT", "/", body=b"12345")
        conn.read_response()
        assert conn.readall() == b"5"
    assert uvicorn.stop() == {"requests": 2, "received": 5}


@pytest.mark.parametrize("close", [False, True], ids=["stays", "closes"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_nginx_answers_200_at_once(
    tls: bool, close: bool, upload: Upload, serve: Serve, tmp_path: Path, authority: Authority
) -> None:
    """The body goes out to its end, and the connection stays; unless the answer says that it does not."""
    server = serve(
        tmp_path,
        certificate=(authority.chain, authority.key) if tls else None,
        directives=[
            "client_max_body_size 0;",
            "location /early { return 200 early; }",
            "location /next { return 200 next; }",
            *(["keepalive_timeout 0;"] if close else []),
        ],
    )
    context = ssl.create_default_context(cafile=authority.ca) if tls else None
    with HTTPConnection("127.0.0.1", server.port, context, timeout=20) as conn:
        all_sent = upload.send(conn, "/early")
        if close:
            assert_refused(conn, upload, 200)
            conn.connect()
        else:
            response = conn.read_response()
            assert (all_sent, response.status, response.request_complete) == (True, 200, True)
            assert conn.readall() == b"early"
        conn.send_request("GET", "/next")
        assert conn.read_response().path == "/next"
        assert conn.readall() == b"next"
        assert close or sent(conn) > SIZE
    server.stop()
    lines = server.served()
    assert sorted((line.status, line.target) for line in lines) == [(200, "/early"), (200, "/next")]
    assert len({line.connection for line in lines}) == 1 + close


@pytest.mark.parametrize("kind", ["bytes", "file", "iterable"])
@pytest.mark.parametrize("status", [200, 413])
def test_nginx_answers_early_in_a_pipeline(status: int, kind: str, serve: Serve, tmp_path: Path) -> None:
    """After a 413 the pipeline goes on with another connection; the upload is not repeated."""
    server = serve(
        tmp_path,
        directives=[
            "location /200 { return 200 early; client_max_body_size 0; }",
            "location /413 { dav_methods PUT; client_max_body_size 1m; }",
            "location /other { return 200 other; }",
        ],
    )
    upload = Upload(kind, tmp_path)
    with ExitStack() as stack:
        requests = [
            Request("GET", "/other"),
            Request("PUT", f"/{status}", body=upload.body(stack)),
            Request("GET", "/other"),
        ]
        conn = stack.enter_context(HTTPConnection("127.0.0.1", server.port, timeout=20))
        responses = list(conn.pipeline(requests))
    assert [response.request for response in responses] == requests
    assert [response.status for response in responses] == [200, status, 200]
    assert [response.request_complete for response in responses] == [True, status == 200, True]
    assert [responses[0].body, responses[2].body] == [b"other", b"other"]
    server.stop()
    lines = server.served()
    expected = sorted([(200, "/other"), (status, f"/{status}"), (200, "/other")])
    assert sorted((line.status, line.target) for line in lines) == expected
    assert len({line.connection for line in lines}) == (1 if status == 200 else 2)


# -- hostile ones --

ROUNDS = 40


@pytest.mark.parametrize("before", [0, 1], ids=["alone", "behind another"])
def test_a_reset_right_behind_the_answer(before: int, upload: Upload, contexts: Contexts) -> None:
    """The peer closes with the client's data unread, so that its kernel sends a RST, when the client is known to be
    sending. What came before a RST stays readable on Linux, whether the send or the receive meets the error."""

    def script(peer: Peer) -> None:
        for _ in range(before + 1):
            assert peer.head() is not None
        while not peer.buffer:
            assert peer.receive()
        for number in range(before):
            peer.answer(b"%d" % number)
        peer.answer(b"too large", "413 No")
        peer.reset()

    with Scripted(script, contexts[0]) as server:
        for _ in range(ROUNDS):
            with HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=20) as conn:
                for number in range(before):
                    conn.send_request("GET", f"/{number}")
                upload.drawn = 0
                upload.send(conn, "/large")
                for number in range(before):
                    assert conn.read_response().status == 200
                    assert conn.readall() == b"%d" % number
                assert_refused(conn, upload, 413)
        assert server.connections == ROUNDS
        assert server.received() < ROUNDS * SIZE


@pytest.mark.parametrize("kind", ["bytes", "file", "iterable"])
def test_a_reset_right_behind_the_answer_in_a_pipeline(kind: str, tmp_path: Path) -> None:
    """The answer stands: the upload is not repeated, and the pipeline goes on with another connection."""

    def script(peer: Peer) -> None:
        while (seen := peer.head()) is not None:
            if seen.method == "PUT":
                while not peer.buffer:
                    assert peer.receive()
                peer.answer(b"too large", "413 No")
                return peer.reset()
            peer.answer(seen.target.encode())

    upload = Upload(kind, tmp_path)
    for _ in range(ROUNDS // 4):
        with Scripted(script) as server, ExitStack() as stack:
            conn = stack.enter_context(HTTPConnection("127.0.0.1", server.port, timeout=20))
            requests = ["/1", Request("PUT", "/2", body=upload.body(stack)), "/3", "/4"]
            responses = list(conn.pipeline(requests))
            assert [response.body for response in responses] == [b"/1", b"too large", b"/3", b"/4"]
            assert [response.request_complete for response in responses] == [True, False, True, True]
            assert sorted(server.targets()) == ["/1", "/2", "/3", "/4"]
            assert server.connections == 2


@pytest.mark.parametrize("chunked", [False, True], ids=["until close", "chunked"])
def test_a_reset_inside_the_answer(chunked: bool, upload: Upload, contexts: Contexts) -> None:
    """The send takes the kernel's error away, and what follows looks like an ordinary end: it must not end the body."""

    def script(peer: Peer) -> None:
        assert peer.head() is not None
        while not peer.buffer:
            assert peer.receive()
        framing = b"Transfer-Encoding: chunked\r\n\r\n20\r\n" if chunked else b"\r\n"
        peer.send(b"HTTP/1.1 413 No\r\nConnection: close\r\n" + framing + b"too la")
        peer.reset()

    with Scripted(script, contexts[0]) as server:
        for _ in range(ROUNDS):
            with HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=20) as conn:
                upload.send(conn, "/large")
                response = conn.read_response()
                assert (response.status, response.request_complete) == (413, False)
                with pytest.raises(ConnectionClosed) as caught:
                    conn.readall()
                assert caught.value.where == "in body"
                assert response.complete_by is None


def wait_until_full(conn: HTTPConnection) -> None:
    """Until the socket takes no more, so that its sender waits, or is about to."""
    end = monotonic() + 20
    with socket.socket(fileno=os.dup(conn.fileno())) as sock:
        while select.select([], [sock], [], 0)[1]:
            assert monotonic() < end
            threading.Event().wait(0.001)


@pytest.mark.parametrize("status", [413, 200])
def test_a_sender_beside_a_reader_stops_too(status: int, upload: Upload, contexts: Contexts) -> None:
    """The server answers, and reads nothing more. The reader takes the answer while the sender waits to go on."""
    full, over = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        for _ in range(2):
            assert peer.head() is not None
        peer.answer(b"first")
        assert full.wait(20)
        peer.answer(b"early", f"{status} No", "Connection: close\r\n" if status == 200 else "")
        assert over.wait(20)

    def read() -> list[tuple[HTTPResponse, bytes]]:
        return [(conn.read_response(), conn.readall()) for _ in range(2)]

    with Scripted(script, contexts[0], small=True) as server, ThreadPoolExecutor() as threads:
        conn = HTTPConnection("127.0.0.1", server.port, contexts[1])
        conn.send_request("GET", "/first")
        with Watched(conn):
            reading = threads.submit(read)
            sending = threads.submit(upload.send, conn, "/large")
            wait_until_full(conn)
            full.set()
            (first, _), (early, content) = reading.result(20)
            sending.result(20)
        over.set()
        assert (first.status, first.request_complete) == (200, True)
        assert (early.status, early.request_complete, content) == (status, False, b"early")
        assert server.received() < SIZE
        assert_over(conn)
        conn.close()
