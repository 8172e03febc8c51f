"""100-continue with real servers: accepted, refused, never answered."""

from __future__ import annotations

import http.server
import io
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import pytest

from conftest import Authority, Serve
from httpio import BodyFollowing, ConnectionClosed, HTTPConnection, Request, StateError, fetch
from kernel import sent
from servers.process import ServerProcess
from servers.scripted import Peer, Scripted, answers

CONTENT = bytes(range(256)) * 400
TIMEOUT = 60.0
HEADS = 5000
"""More than the heads of all requests of a test, and TLS around them."""
EXPECT = {"Expect": "100-continue"}


class Server(NamedTuple):
    """It takes a body at /take, refuses it at /401, /413 and /417, and answers at /next."""

    port: int
    method: str
    """What it takes bodies by."""
    stop: Callable[[], int]
    """Ends it; how many bytes of bodies it has taken, with or without their heads."""
    context: ssl.SSLContext | None = None


def start_nginx(request: pytest.FixtureRequest, tls: bool) -> Server:
    authority: Authority = request.getfixturevalue("authority")
    root: Path = request.getfixturevalue("tmp_path") / "root"
    root.mkdir()
    nginx = request.getfixturevalue("serve")(
        root,
        certificate=(authority.chain, authority.key) if tls else None,
        directives=[
            "location /take { dav_methods PUT; }",
            "location /401 { dav_methods PUT; auth_basic x; auth_basic_user_file /missing; }",
            "location /413 { dav_methods PUT; client_max_body_size 10k; }",
            "location /417 { return 417; }",
            "location /next { return 200 next; }",
        ],
    )

    def stop() -> int:
        nginx.stop()
        assert all(path.read_bytes() == CONTENT for path in root.iterdir())
        return sum(line.received for line in nginx.served())

    return Server(nginx.port, "PUT", stop, ssl.create_default_context(cafile=authority.ca) if tls else None)


def start_apache(request: pytest.FixtureRequest) -> Server:
    apache = request.getfixturevalue("serve_apache")(
        [
            "<Location />",
            "SetHandler reflector",
            "</Location>",
            "<Location /401>",
            "AuthType Basic",
            "AuthName x",
            "AuthUserFile /missing",
            "Require valid-user",
            "</Location>",
            "<Location /413>",
            "LimitRequestBody 10000",
            "</Location>",
            "Redirect 417 /417",
            "Redirect 410 /next",
            "ErrorDocument 410 next",
        ]
    )

    def stop() -> int:
        apache.stop()
        return sum(apache.received())

    return Server(apache.port, "POST", stop)


def behind_haproxy(peer: Peer) -> None:
    """Takes bodies and says how large they were; /401 it refuses, and at /silent it says nothing before."""
    while (seen := peer.head()) is not None:
        if seen.target == "/401":
            peer.answer(b"no", "401 No")
            continue
        if seen.field("Expect") and seen.target != "/silent":
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        chunked = seen.field("Transfer-Encoding") is not None
        body = peer.chunks() if chunked else peer.take(int(seen.field("Content-Length") or 0))
        # Briefly: HAProxy 2.6 stalls in a long answer where the body came before the 100 that it hands on.
        peer.answer(b"%d" % len(body))


@contextmanager
def started_haproxy(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Scripted(behind_haproxy) as behind:
        haproxy = request.getfixturevalue("serve_haproxy")(
            behind.port,
            [
                "http-request deny deny_status 413 if { path /413 }",
                "http-request return status 417 content-type text/plain string no if { path /417 }",
            ],
        )

        def stop() -> int:
            haproxy.stop()
            return behind.received()

        yield Server(haproxy.port, "PUT", stop)


@pytest.fixture(params=["nginx", "nginx over TLS", "apache", "haproxy", "uvicorn"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param == "apache":
        yield start_apache(request)
    elif request.param == "haproxy":
        with started_haproxy(request) as started:
            yield started
    elif request.param == "uvicorn":
        uvicorn: ServerProcess = request.getfixturevalue("uvicorn")
        yield Server(uvicorn.port, "PUT", lambda: uvicorn.stop()["received"])
    else:
        yield start_nginx(request, tls="TLS" in request.param)


class Upload:
    """Sends CONTENT with Expect in one of four ways."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._file = io.BytesIO(CONTENT)
        self._drawn = 0

    def _pieces(self) -> Iterator[bytes]:
        for start in range(0, len(CONTENT), 10_000):
            self._drawn += 10_000
            yield CONTENT[start : start + 10_000]

    def taken(self) -> int:
        """Bytes that were taken from the file or the iterable."""
        return self._file.tell() + self._drawn

    def start(self, conn: HTTPConnection, method: str, path: str) -> None:
        """Send all of it, but for the two-step form only the head."""
        body: Any = {
            "following": BodyFollowing(len(CONTENT)),
            "bytes": CONTENT,
            "file": self._file,
            "iterable": self._pieces(),
        }[self.kind]
        conn.send_request(method, path, body=body, expect100=True)

    def finish(self, conn: HTTPConnection, reason: str) -> None:
        """The second step of the two, where the answer to the first has that reason."""
        if self.kind != "following":
            return
        with pytest.raises(StateError):
            conn.write(CONTENT)
        interim = conn.read_response()
        assert (interim.status, interim.reason, interim.length) == (100, reason, 0)
        assert conn.read() == b""
        conn.write(CONTENT[:1000])
        conn.write(CONTENT[1000:])


KINDS = ["following", "bytes", "file", "iterable"]
# An iterable has no length, by which it could be known to be too large.
REFUSED = [(status, kind) for status in (401, 413, 417) for kind in KINDS if (status, kind) != (413, "iterable")]


@pytest.fixture(params=KINDS)
def upload(request: pytest.FixtureRequest) -> Upload:
    return Upload(request.param)


@contextmanager
def connected(server: Server) -> Iterator[HTTPConnection]:
    """A connection that waits for 100 without a limit: none can be assumed. No wait may end by its timeout."""
    begun = monotonic()
    with HTTPConnection("127.0.0.1", server.port, server.context, timeout=TIMEOUT, expect_timeout=None) as conn:
        yield conn
    assert monotonic() - begun < TIMEOUT


def assert_next(conn: HTTPConnection) -> None:
    """The connection is in step: it gives the right answer to the next request."""
    conn.send_request("GET", "/next")
    response = conn.read_response()
    assert response.path == "/next"
    assert conn.readall() in (b"next", b"0")


def assert_once(taken: int) -> None:
    """The body was sent once."""
    assert len(CONTENT) <= taken < len(CONTENT) + HEADS


# -- real servers --


def test_accepted(server: Server, upload: Upload) -> None:
    with connected(server) as conn:
        upload.start(conn, server.method, "/take")
        upload.finish(conn, "Continue")
        response = conn.read_response()
        assert response.status in (200, 201)
        assert response.request_complete
        assert conn.readall() in (b"", CONTENT, b"%d" % len(CONTENT))
        address = conn.local_address
        assert_next(conn)
        assert conn.local_address == address
        assert_once(sent(conn))
    assert_once(server.stop())


@pytest.mark.parametrize(("status", "upload"), REFUSED, indirect=["upload"])
def test_refused(server: Server, status: int, upload: Upload) -> None:
    """Not a byte of the body is sent, and the connection is not used again: the server may take what follows for the
    body (nginx and uvicorn do). Where it did not say that it closes, the next request takes a new one by itself."""
    with connected(server) as conn:
        upload.start(conn, server.method, f"/{status}")
        response = conn.read_response()
        assert (response.status, response.request_complete) == (status, False)
        with pytest.raises((StateError, ConnectionClosed)):
            conn.write(CONTENT)
        conn.readall()
        assert response.complete_by is not None
        assert sent(conn) < HEADS
        assert upload.taken() == 0
        if not response.persistent:
            for _ in range(2):
                with pytest.raises(ConnectionClosed):
                    conn.send_request("GET", "/never")
            conn.connect()
        address = conn.local_address
        assert_next(conn)
        assert (conn.local_address != address) == response.persistent
        assert sent(conn) < HEADS
    assert server.stop() < HEADS


def test_behind_another_request(server: Server, upload: Upload) -> None:
    """The answers to the earlier requests come first, also where the waiting happens inside `send_request`."""
    with connected(server) as conn:
        conn.send_request("GET", "/next")
        upload.start(conn, server.method, "/take")
        assert conn.read_response().path == "/next"
        conn.readall()
        upload.finish(conn, "Continue")
        response = conn.read_response()
        assert (response.path, response.request_complete) == ("/take", True)
        conn.readall()
        assert_next(conn)
    assert_once(server.stop())


@pytest.mark.parametrize("upload", ["bytes", "file", "iterable"], indirect=True)
def test_waited_for_behind_an_unread_answer(upload: Upload) -> None:
    """The answer to the earlier request, which nobody can read meanwhile, does not count for the 100. What comes behind
    it cannot be seen: the body goes out when the time for that is over."""

    def script(peer: Peer) -> None:
        assert peer.head() is not None
        assert peer.head() is not None
        assert not peer.buffer
        peer.answer(b"earlier")
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert len(peer.chunks() if upload.kind == "iterable" else peer.take(len(CONTENT))) == len(CONTENT)
        peer.answer(b"taken")

    with Scripted(script) as scripted:
        conn = HTTPConnection("127.0.0.1", scripted.port, timeout=TIMEOUT, expect_timeout=0.5)
        conn.send_request("GET", "/earlier")
        begun = monotonic()
        upload.start(conn, "PUT", "/take")
        assert monotonic() - begun >= 0.5
        for content in (b"earlier", b"taken"):
            assert conn.read_response().status == 200
            assert conn.readall() == content
        conn.close()


def test_accepted_in_a_pipeline(server: Server) -> None:
    requests = [
        Request("GET", "/next"),
        Request(server.method, "/take", EXPECT, CONTENT),
        Request("GET", "/next"),
        Request("GET", "/next"),
    ]
    with connected(server) as conn:
        responses = list(conn.pipeline(requests))
        assert_once(sent(conn))
    assert [response.request for response in responses] == requests
    assert responses[1].status in (200, 201)
    assert all(response.request_complete for response in responses)
    assert_once(server.stop())


@pytest.mark.parametrize("status", [401, 413])
def test_refused_in_a_pipeline(server: Server, status: int) -> None:
    requests = [
        Request("GET", "/next"),
        Request(server.method, f"/{status}", EXPECT, CONTENT),
        Request("GET", "/next"),
    ]
    with connected(server) as conn:
        responses = list(conn.pipeline(requests))
    assert [response.request for response in responses] == requests
    assert responses[1].status == status
    assert [response.request_complete for response in responses] == [True, False, True]
    assert server.stop() < HEADS


@pytest.mark.parametrize("way", ["pipeline", "fetch"])
def test_a_417_is_repeated_without_expect(way: str, serve: Serve, tmp_path: Path) -> None:
    """Once, on a new connection; and the server is not asked again."""
    root = tmp_path / "root"
    root.mkdir()
    server = serve(root, directives=["dav_methods PUT;", "if ($http_expect) { return 417; }"])
    base = server.url if way == "fetch" else ""
    requests = [Request("PUT", f"{base}/{name}", EXPECT, CONTENT) for name in "abc"]
    if way == "fetch":
        statuses = [result.status for result in fetch(requests)]
    else:
        with HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
            statuses = [response.status for response in conn.pipeline(requests)]
    assert statuses == [201, 201, 201]
    server.stop()
    assert [path.read_bytes() for path in sorted(root.iterdir())] == [CONTENT] * 3
    lines = server.served()
    lines.sort(key=lambda line: line.connection)  # a line is written when nginx is done with a request
    assert [(line.status, line.target) for line in lines] == [(417, "/a"), (201, "/a"), (201, "/b"), (201, "/c")]
    assert lines[0].connection != lines[1].connection
    assert len({line.connection for line in lines}) == 2


# -- never answered --


class Old(http.server.BaseHTTPRequestHandler):
    """Python's own server, which speaks HTTP/1.0 unless told otherwise, and then knows no 100."""

    taken: list[bytes]

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.taken.append(body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def started_old(_: pytest.FixtureRequest) -> Iterator[Server]:
    handler = type("Handler", (Old,), {"taken": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Server(server.server_port, "PUT", lambda: sum(map(len, handler.taken)))
        server.shutdown()
        thread.join()


@contextmanager
def started_silent(_: pytest.FixtureRequest) -> Iterator[Server]:
    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            peer.answer(b"next" if seen.target == "/next" else seen.body)

    with Scripted(script) as silent:
        yield Server(silent.port, "PUT", silent.received)


# HTTP/1.0 has no chunks.
SILENT = [
    (name, kind) for name in ("haproxy", "old", "scripted") for kind in KINDS if (name, kind) != ("old", "iterable")
]


@pytest.fixture
def silent(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that says nothing at /silent before it has the body."""
    start = {"haproxy": started_haproxy, "old": started_old, "scripted": started_silent}[request.param]
    with start(request) as started:
        yield started


@pytest.mark.parametrize("seconds", [0.1, 0])
@pytest.mark.parametrize(("silent", "upload"), SILENT, indirect=True)
def test_never_answered(silent: Server, seconds: float, upload: Upload) -> None:
    """The body goes out after `expect_timeout`."""
    with HTTPConnection("127.0.0.1", silent.port, timeout=20, expect_timeout=seconds) as conn:
        conn.connect()
        begun = monotonic()
        upload.start(conn, silent.method, "/silent")
        upload.finish(conn, "assumed")
        assert monotonic() - begun >= seconds
        response = conn.read_response()
        assert (response.status, response.request_complete) == (200, True)
        conn.readall()
        assert_once(sent(conn))
        if response.persistent:
            assert_next(conn)
    assert_once(silent.stop())


def test_nothing_is_expected_for_an_empty_body() -> None:
    bodies: list[Any] = [None, b"", bytearray(), io.BytesIO(), BodyFollowing(0)]
    with Scripted(answers) as server:
        with HTTPConnection("127.0.0.1", server.port, timeout=20, expect_timeout=None) as conn:
            for body in bodies:
                conn.send_request("PUT", "/", body=body, expect100=True)
                assert conn.read_response().status == 200
                conn.readall()
        assert [seen.field("Expect") for seen in server.seen] == [None] * len(bodies)


def test_a_field_of_the_callers_counts() -> None:
    """For a `BodyFollowing` it is only sent."""

    def script(peer: Peer) -> None:
        while (seen := peer.head()) is not None:
            assert seen.head.lower().count(b"\r\nexpect:") == 1
            if seen.target == "/refused":
                return peer.answer(b"no", "413 No", "Connection: close\r\n")
            peer.send(b"HTTP/1.1 100 Go On\r\n\r\n")
            assert peer.take(len(CONTENT)) == CONTENT
            peer.answer(b"taken")

    with Scripted(script) as server, HTTPConnection("127.0.0.1", server.port, timeout=20, expect_timeout=None) as conn:
        conn.send_request("PUT", "/", {"expect": "100-Continue"}, CONTENT)
        assert conn.read_response().status == 200
        assert conn.readall() == b"taken"
        conn.send_request("PUT", "/", EXPECT, BodyFollowing(len(CONTENT)))
        conn.write(CONTENT)
        response = conn.read_response()
        assert [interim.status for interim in response.informational] == [100]
        assert conn.readall() == b"taken"
        before = sent(conn)
        conn.send_request("PUT", "/refused", EXPECT, CONTENT)
        assert conn.read_response().status == 413
        assert conn.readall() == b"no"
        assert sent(conn) - before < HEADS
