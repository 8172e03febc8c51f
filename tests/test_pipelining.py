"""HTTPConnection.pipeline: order, laziness, bodies, and what it makes of peers that close, cut or stall."""

from __future__ import annotations

import hashlib
import itertools
import queue
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import httpio.endpoint
import httpio.link
import httpio.pipelining
import httpio.sending
import httpio.waiting
import httpio.window
from conftest import Authority
from httpio import (
    BodyFollowing,
    ConnectionClosed,
    ConnectionTimedOut,
    HTTPConnection,
    HTTPError,
    HTTPResponse,
    InvalidResponse,
    Request,
    StateError,
)
from kernel import arrived
from servers.scripted import Peer, Script, Scripted, Seen, answers, server_context

Serve = Callable[..., tuple[Scripted, HTTPConnection]]

DEPTHS = [None, 1, 2, 7, 64, 300]


@pytest.fixture(params=["plain", "tls"])
def served(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Serve]:
    yield from _serve(authority if request.param == "tls" else None)


@pytest.fixture
def plain() -> Iterator[Serve]:
    yield from _serve(None)


def _serve(authority: Authority | None) -> Iterator[Serve]:
    opened: list[Any] = []

    def serve(script: Script, small: bool = False, **options: Any) -> tuple[Scripted, HTTPConnection]:
        context = client = None
        if authority is not None:
            context = server_context(authority.chain, authority.key)
            client = ssl.create_default_context(cafile=authority.ca)
        server = Scripted(script, context, small=small)
        opened.append(server.__enter__())
        conn = HTTPConnection("127.0.0.1", server.port, client, **{"timeout": 20, **options})
        opened.append(conn)
        return server, conn

    yield serve
    for one in reversed(opened):
        one.__exit__(None, None, None)


def content(target: str) -> bytes:
    """What the object at *target* holds: 0 to 3000 bytes, and nothing like another's."""
    seed = hashlib.sha256(target.encode()).digest()
    return (seed * 94)[: int.from_bytes(seed[:2], "big") % 3000]


def objects(peer: Peer) -> None:
    while (seen := peer.request()) is not None:
        peer.answer(b"" if seen.method == "HEAD" else content(seen.target))


def paths(count: int) -> list[str]:
    return [f"/{number}" for number in range(count)]


def assert_all_right(responses: Any, wanted: list[str]) -> None:
    found = []
    for response in responses:
        assert response.body == content(response.path)
        assert response.complete_by is not None
        found.append(response.path)
    assert found == wanted


@pytest.mark.parametrize("depth", DEPTHS)
def test_order(depth: int | None, served: Serve) -> None:
    server, conn = served(objects)
    assert_all_right(conn.pipeline(paths(1000), depth), paths(1000))
    assert server.targets() == paths(1000)
    assert not conn.response_pending()
    conn.send_request("GET", "/behind")
    assert conn.read_response().path == "/behind"
    conn.discard()
    assert_all_right(conn.pipeline(paths(10), depth), paths(10))
    assert server.connections == 1


def test_nothing_to_do(plain: Serve) -> None:
    server, conn = plain(objects)
    assert list(conn.pipeline([])) == []
    assert server.connections == 0
    with pytest.raises(ValueError, match="depth"):
        conn.pipeline(["/"], 0)


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_iterable_is_drawn_lazily(depth: int | None, plain: Serve) -> None:
    drawn = 0

    def source() -> Iterator[str]:
        nonlocal drawn
        for path in paths(2000):
            drawn += 1
            yield path

    server, conn = plain(objects)
    run = conn.pipeline(source(), depth)
    assert drawn == 0
    ceiling = depth or httpio.window.MAX_DEPTH
    for number, response in enumerate(run):
        assert response.path == f"/{number}"
        if depth is None:  # it begins with one, and doubles with each window that was answered
            assert drawn <= 4 * (number + 1) + 4
        assert drawn <= number + 1 + 2 * ceiling
    assert drawn == 2000
    assert server.connections == 1


def test_endless_iterables(plain: Serve) -> None:
    server, conn = plain(objects)
    endless = (f"/{number}" for number in itertools.count())
    assert_all_right(itertools.islice(conn.pipeline(endless), 500), paths(500))
    server.settle()


def large(target: str) -> bytes:
    return hashlib.sha256(target.encode()).digest() * 4096  # 128 KiB


def mixed(peer: Peer) -> None:
    """Every fifth body is large, and every second of these chunked."""
    while (seen := peer.request()) is not None:
        number = int(seen.target[1:])
        if number % 5:
            peer.answer(content(seen.target))
        elif number % 10:
            peer.answer(large(seen.target))
        else:
            body = large(seen.target)
            pieces = [body[at : at + 9000] for at in range(0, len(body), 9000)]
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")


@pytest.mark.parametrize("reading", ["all", "half", "none", "turns"])
@pytest.mark.parametrize("depth", [None, 16])
def test_bodies_over_the_limit(depth: int | None, reading: str, served: Serve) -> None:
    server, conn = served(mixed)
    found = []
    for number, response in enumerate(conn.pipeline(paths(200), depth, body_limit=10_000)):
        found.append(response.path)
        if number % 5:
            assert response.body == content(response.path)
            continue
        assert response.body is None
        wanted = large(response.path)
        how = ("all", "half", "none")[number // 5 % 3] if reading == "turns" else reading
        if how == "all":
            assert conn.readall() == wanted
            assert conn.read() == b""
        elif how == "half":
            got = b""
            while len(got) < len(wanted) // 2:
                got += conn.read(len(wanted) // 2 - len(got))
            assert wanted.startswith(got)
    assert found == paths(200)
    if reading == "all":
        assert server.connections == 1
    assert server.connections <= 41


def test_a_short_rest_is_drained(plain: Serve) -> None:
    """Rather than to connect anew for it."""
    server, conn = plain(lambda peer: [peer.answer(bytes(30_000)) for _ in iter(peer.request, None)])
    assert [response.body for response in conn.pipeline(paths(20), 4, body_limit=100)] == [None] * 20
    assert server.connections == 1


def test_leaving_early_closes_the_connection(served: Serve) -> None:
    server, conn = served(objects)
    run = conn.pipeline(paths(1000), 50)
    for _ in range(20):
        next(run)
    run.close()  # type: ignore[attr-defined]
    assert conn.outstanding == ()
    server.settle()
    conn.send_request("GET", "/anew")
    assert conn.read_response().path == "/anew"
    assert conn.readall() == content("/anew")
    assert server.connections == 2


def test_leaving_at_the_end_keeps_the_connection(plain: Serve) -> None:
    server, conn = plain(objects)
    for _ in range(2):
        run = conn.pipeline(["/1", "/2"])
        assert [next(run).path, next(run).path] == ["/1", "/2"]
        run.close()  # type: ignore[attr-defined]
    assert server.connections == 1


def test_a_pipeline_that_never_began(plain: Serve) -> None:
    _, conn = plain(objects)
    conn.pipeline(["/a"])
    conn.send_request("GET", "/b")
    assert conn.read_response().path == "/b"
    conn.discard()
    late = conn.pipeline(["/c"])
    conn.send_request("GET", "/d")
    with pytest.raises(StateError):
        next(late)
    assert conn.read_response().path == "/d"


def test_other_calls_inside(plain: Serve) -> None:
    """Whatever they do, no answer is left out and none is wrong."""
    server, conn = plain(mixed)
    found = []
    for response in conn.pipeline(paths(100), 8, body_limit=10_000):
        found.append(response.path)
        for call in (
            lambda: conn.send_request("GET", "/never"),
            lambda: conn.pipeline(["/never"]),
            conn.read_response,
            conn.connect,
            conn.detach,
            conn.end_body,
            lambda: conn.write(b"never"),
        ):
            with pytest.raises(StateError):
                call()
    assert found == paths(100)
    assert "/never" not in server.targets()


def test_close_inside(plain: Serve) -> None:
    """The requests that are out are not left out without a word."""
    _, conn = plain(objects)
    found = []
    try:
        for response in conn.pipeline(paths(100), 8):
            found.append(response.path)
            if len(found) == 20:
                conn.close()
    except (StateError, ConnectionClosed):
        assert found == paths(len(found))
    else:
        assert found == paths(100)
    conn.close()
    conn.send_request("GET", "/")
    assert conn.read_response().status == 200


def test_write_does_not_reach_the_body_of_a_pipeline(plain: Serve) -> None:
    bodies = []

    def script(peer: Peer) -> None:
        while (seen := peer.head()) is not None:
            peer.answer(b"early")
            if seen.method == "PUT":
                bodies.append(peer.chunks())

    _, conn = plain(script)
    pieces = (bytes(65536) for _ in range(400))
    for _ in conn.pipeline([Request("PUT", "/", body=pieces), "/behind"], 1):
        with pytest.raises(StateError):
            conn.write(b"never")
    assert bodies == [bytes(65536 * 400)]


# -- many kinds of messages --


def all_kinds(peer: Peer) -> None:
    while (seen := peer.request()) is not None:
        number = int(seen.target[1:])
        if number % 3 == 0:
            peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * (number % 4))
        if seen.method == "HEAD":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")
        elif number % 7 == 1:
            peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif number % 7 == 2:
            peer.send(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n")
        else:
            peer.answer(seen.method.encode() + seen.target.encode() + hashlib.sha256(seen.body).digest())


def all_requests(count: int) -> Iterator[str | Request]:
    for number in range(count):
        path = f"/{number}"
        if number % 5 == 1:
            yield Request("HEAD", path, tag=number)
        elif number % 11 == 2:
            yield Request("PUT", path, body=bytes([number % 256]) * number, tag=number)
        elif number % 13 == 3:
            yield Request("POST", path, {"X-A": "1"}, b"abc", tag=number)
        elif number % 17 == 4:
            yield Request("DELETE", path, tag=number)
        else:
            yield path


@pytest.mark.parametrize("depth", [None, 16])
def test_all_kinds_of_messages(depth: int | None, served: Serve) -> None:
    server, conn = served(all_kinds)
    given = list(all_requests(600))
    responses = list(conn.pipeline(iter(given), depth))
    assert len(responses) == 600
    for number, (response, request) in enumerate(zip(responses, given, strict=True)):
        assert response.path == f"/{number}"
        if isinstance(request, Request):
            assert response.request is request
        else:
            assert response.method == "GET"
        assert len(response.informational) == (number % 4 if number % 3 == 0 else 0)
        if response.method == "HEAD":
            assert (response.status, response.body) == (200, b"")
        elif number % 7 in (1, 2):
            assert (response.status, response.body) == ((204, 304)[number % 7 - 1], b"")
        else:
            body = request.body if isinstance(request, Request) else b""
            wanted = f"{response.method}/{number}".encode() + hashlib.sha256(body or b"").digest()  # type: ignore[arg-type]
            assert response.body == wanted
    assert server.connections == 1


@pytest.mark.parametrize("depth", [None, 8])
@pytest.mark.parametrize("echo", [False, True])
def test_large_puts_do_not_deadlock(echo: bool, depth: int | None, served: Serve) -> None:
    """The server answers before it reads, or while it does: who does one thing only waits for ever."""
    size = 3 << 20
    digests: queue.Queue[bytes] = queue.Queue()

    def script(peer: Peer) -> None:
        while (seen := peer.head()) is not None:
            left = int(seen.field("Content-Length") or 0)
            digest = hashlib.sha256()
            if not echo:
                peer.answer(bytes(200_000))
            else:
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
            while left:
                if not peer.buffer and not peer.receive():
                    return
                piece = bytes(peer.buffer[:left])
                del peer.buffer[:left]
                left -= len(piece)
                digest.update(piece)
                if echo:
                    peer.send(piece)
            digests.put(digest.digest())

    server, conn = served(script, small=True)
    bodies = [bytes([number]) * size for number in range(8)]
    requests = [Request("PUT", f"/{number}", body=body) for number, body in enumerate(bodies)]
    for limit in (100, 8 << 20):
        count = 0
        for response, body in zip(conn.pipeline(requests, depth, body_limit=limit), bodies, strict=True):
            got = conn.readall() if response.body is None else response.body
            assert got == (body if echo else bytes(200_000))
            count += 1
        assert count == 8
        for body in bodies:
            assert digests.get(timeout=15) == hashlib.sha256(body).digest()
    assert server.connections == 1


@pytest.mark.parametrize("source", ["iterable", "bytes"])
@pytest.mark.parametrize("status", [200, 413])
def test_an_early_answer(status: int, source: str, plain: Serve) -> None:
    """A good one lets the body go on to its end; a refusal ends it; what follows is done either way."""
    over = threading.Event()
    whole = []

    def script(peer: Peer) -> None:
        while (seen := peer.head()) is not None:
            peer.answer(b"early", f"{status} X" if seen.method == "PUT" else "200 OK")
            if seen.method == "PUT":
                if status == 413:
                    assert over.wait(20)  # and nothing more is read
                    return
                length = seen.field("Content-Length")
                whole.append(len(peer.chunks() if length is None else peer.take(int(length))))

    server, conn = plain(script)
    pieces = [bytes(65536)] * 400
    body = b"".join(pieces) if source == "bytes" else iter(pieces)
    found = [
        (response.path, response.status, response.request_complete)
        for response in conn.pipeline(["/1", Request("PUT", "/2", body=body), "/3", "/4"], 1)
    ]
    over.set()
    assert found == [("/1", 200, True), ("/2", status, status == 200), ("/3", 200, True), ("/4", 200, True)]
    assert whole == ([65536 * 400] if status == 200 else [])
    assert server.connections == (1 if status == 200 else 2)


def test_a_slow_upload_that_moves_does_not_time_out(plain: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    passed, size = 0.0, 24 << 20
    real = httpio.link.monotonic

    def now() -> float:
        return real() + passed

    for module in (httpio.endpoint, httpio.sending, httpio.link, httpio.pipelining, httpio.waiting):
        monkeypatch.setattr(module, "monotonic", now, raising=False)

    def script(peer: Peer) -> None:
        nonlocal passed
        seen = peer.head()
        assert seen is not None
        left = size
        while left > 0 and (peer.buffer or peer.receive()):
            left -= len(peer.buffer)
            passed += len(peer.buffer) / 100_000  # however many receives it takes
            peer.buffer.clear()
        peer.answer(b"ok")
        peer.drain()

    _, conn = plain(script, small=True, timeout=100)
    (response,) = conn.pipeline([Request("PUT", "/", body=bytes(size))])
    assert response.body == b"ok"
    assert passed > 200


# -- what may not be repeated --


def test_posts_go_alone(plain: Serve) -> None:
    crowds = []

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            if seen.method == "POST":
                crowds.append(len(peer.buffer))
            peer.answer(b"ok")

    server, conn = plain(script)
    requests: list[str | Request] = []
    for number in range(60):
        requests += [f"/{number}", Request("POST", f"/{number}", body=b"x")]
    requests.append(Request("GET", "/last", idempotent=False))
    requests.append(Request("PUT", "/source", body=iter([b"abc"])))
    assert len(list(conn.pipeline(requests, 32))) == len(requests)
    assert crowds == [0] * 60
    assert server.connections == 1


@pytest.mark.parametrize("end", ["finish", "reset"])
@pytest.mark.parametrize("kind", ["post", "source", "get"])
def test_what_must_not_be_repeated_is_reported(kind: str, end: str, served: Serve) -> None:
    def script(peer: Peer) -> None:
        while (seen := peer.head()) is not None:
            if seen.target == "/once":
                peer.take(int(seen.field("Content-Length") or 0) // 2)
                getattr(peer, end)()
                return
            peer.answer(content(seen.target))

    requests = {
        "post": Request("POST", "/once", body=bytes(1000)),
        "source": Request("PUT", "/once", {"Content-Length": "4"}, iter([b"ab", b"cd"])),
        "get": Request("GET", "/once", idempotent=False),
    }
    server, conn = served(script)
    run = conn.pipeline(["/1", "/2", requests[kind], "/3"], 8)
    assert [next(run).path, next(run).path] == ["/1", "/2"]
    with pytest.raises(ConnectionClosed) as caught:
        next(run)
    fact = caught.value.outstanding[0]
    assert (fact.request.path, fact.state, fact.safe) == ("/once", "sent", False)
    assert server.targets().count("/once") == 1
    assert_all_right(conn.pipeline(["/3"]), ["/3"])
    assert server.targets()[-1] == "/3"


def test_an_idle_connection_that_was_closed(served: Serve) -> None:
    """It is seen to be closed before a POST goes out on it, so that nothing is in doubt."""
    closed = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.answer(b"ok")
        if peer.number == 0:
            peer.finish()
            closed.set()
        objects(peer)

    server, conn = served(script)
    assert [response.body for response in conn.pipeline(["/1"])] == [b"ok"]
    assert closed.wait(20)
    arrived(conn)
    assert [response.body for response in conn.pipeline([Request("POST", "/2", body=b"x")])] == [b"ok"]
    assert server.targets() == ["/1", "/2"]
    assert server.connections == 2


# -- bad items --

BAD: dict[str, tuple[Any, type[Exception]]] = {
    "int": (5, TypeError),
    "None": (None, TypeError),
    "bytes": (b"/", TypeError),
    "target": ("/a b", ValueError),
    "no target": ("", ValueError),
    "method": (Request("G T", "/"), ValueError),
    "header": (Request("GET", "/", {"X": "a\nb"}), ValueError),
    "headers": (Request("GET", "/", 5), TypeError),  # type: ignore[arg-type]
    "header pairs": (Request("GET", "/", [5]), TypeError),  # type: ignore[list-item]
    "body": (Request("PUT", "/", body="text"), TypeError),  # type: ignore[arg-type]
    "following": (Request("PUT", "/", body=BodyFollowing(3)), ValueError),
}


@pytest.mark.parametrize("depth", [None, 8])
@pytest.mark.parametrize("before", [0, 1, 30])
@pytest.mark.parametrize("kind", BAD)
def test_bad_items_in_their_turn(kind: str, before: int, depth: int | None, plain: Serve) -> None:
    bad, error = BAD[kind]
    server, conn = plain(objects)
    found: list[str] = []
    with pytest.raises(error):
        found.extend(response.path for response in conn.pipeline([*paths(before), bad, "/never"], depth))
    assert found == paths(before)
    assert server.targets() == paths(before)
    assert_all_right(conn.pipeline(["/behind"]), ["/behind"])
    assert server.connections == 1


@pytest.mark.parametrize("before", [0, 1, 30])
def test_an_iterable_that_raises(before: int, plain: Serve) -> None:
    def source() -> Iterator[str]:
        yield from paths(before)
        raise KeyError("mine")

    server, conn = plain(objects)
    found: list[str] = []
    with pytest.raises(KeyError, match="mine"):
        found.extend(response.path for response in conn.pipeline(source(), 8))
    assert found == paths(before)
    assert_all_right(conn.pipeline(["/behind"]), ["/behind"])
    assert server.connections <= 1


def test_a_body_that_raises(plain: Serve) -> None:
    def body() -> Iterator[bytes]:
        yield b"abc"
        raise KeyError("mine")

    server, conn = plain(objects)
    run = conn.pipeline(["/1", Request("PUT", "/2", body=body()), "/3"])
    assert next(run).path == "/1"
    with pytest.raises(KeyError, match="mine"):
        next(run)
    assert_all_right(conn.pipeline(["/3"]), ["/3"])
    conn.close()
    server.settle(2)
    assert sorted(server.targets()) == ["/1", "/2", "/3"]


def test_refused() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # and does not listen
        conn = HTTPConnection("127.0.0.1", sock.getsockname()[1], timeout=15)
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                next(conn.pipeline(["/1"]))


# -- peers that go away --


def closing(every: int, how: str) -> Script:
    """Ends each connection after so many answers."""

    def script(peer: Peer) -> None:
        for number in range(every):
            seen = peer.request()
            if seen is None:
                return
            last = number == every - 1
            body = content(seen.target)
            if last and how == "body":
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(body) + 1) + body)
                return peer.finish()
            if last and how == "head":
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Le")
                return peer.finish()
            peer.answer(body, fields="Connection: close\r\n" if last and how == "said" else "")
        if how == "reset":
            peer.reset()
        else:
            peer.finish()
            peer.drain()  # so that it is no reset

    return script


@pytest.mark.parametrize("depth", [None, 16])
@pytest.mark.parametrize("every", [1, 2, 7, 50])
@pytest.mark.parametrize("how", ["said", "unsaid", "reset", "body", "head"])
def test_a_server_that_closes(how: str, every: int, depth: int | None, served: Serve) -> None:
    count = 150
    server, conn = served(closing(every, how))
    if every == 1 and how in ("body", "head"):  # it answers nothing at all
        with pytest.raises(ConnectionClosed):
            next(conn.pipeline(["/1"], depth))
        assert server.targets() == ["/1"] * 2
        return
    assert_all_right(conn.pipeline(paths(count), depth), paths(count))
    answered = every - (how in ("body", "head"))  # on each connection
    # A reset may take answers with it that were on their way.
    slack = 2.0 if how == "reset" else 1.0
    assert server.connections <= (count / answered + 12) * slack
    times = Counter(server.targets())
    assert max(times.values()) <= 4
    if how == "said":
        assert server.connections <= count / every + 1
        assert max(times.values()) == 1


@pytest.mark.parametrize("how", ["said", "unsaid"])
def test_a_close_does_not_cost_a_post(how: str, plain: Serve) -> None:
    """A POST is sent once, whatever happens around it."""
    server, conn = plain(closing(3, how))
    requests: list[str | Request] = []
    for number in range(60):
        requests.append(Request("POST", f"/{number}", body=b"x") if number % 4 == 0 else f"/{number}")
    found: list[str] = []
    run = conn.pipeline(iter(requests), 8)
    while len(found) < 60:
        try:
            found.extend(response.path for response in run)
        except ConnectionClosed as error:  # it went out just as the server closed
            posted = error.outstanding[0].request
            found.append(posted.path if posted.method == "POST" else "a GET was given up")
            run = conn.pipeline(requests[len(found) :], 8)
    assert found == paths(60)
    posts = Counter(seen.target for seen in server.seen if seen.method == "POST")
    assert max(posts.values()) == 1


@pytest.mark.parametrize("depth", [None, 8])
def test_an_invalid_response_fails_its_request_only(depth: int | None, served: Serve) -> None:
    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            if seen.target == "/bad":
                peer.send(b"HTTP/1.1 2x0 OK\r\n\r\n")
            else:
                peer.answer(content(seen.target))

    server, conn = served(script)
    found: list[str] = []
    with pytest.raises(InvalidResponse) as caught:
        found.extend(response.path for response in conn.pipeline([*paths(20), "/bad", *paths(20)], depth))
    assert found == paths(20)
    assert caught.value.outstanding[0].request.path == "/bad"
    assert server.targets().count("/bad") == 1
    assert_all_right(conn.pipeline(paths(20), depth), paths(20))
    assert server.connections == 2


@pytest.mark.parametrize("depth", [None, 8])
def test_a_server_that_never_answers(depth: int | None, served: Serve) -> None:
    server, conn = served(lambda peer: peer.drain(), timeout=0.1)
    with pytest.raises(ConnectionTimedOut) as caught:
        next(conn.pipeline(paths(100), depth))
    assert caught.value.outstanding[0].request.path == "/0"
    conn.close()
    server.settle(1)
    assert server.connections <= 3
    assert server.received() < 20_000


def test_a_server_that_drops_what_rides(plain: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers the first of those that come together, and forgets the rest."""
    monkeypatch.setattr(httpio.window, "FIRST_PATIENCE", 1.0)
    lonely = []

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            lonely.append(not peer.buffer)
            peer.buffer.clear()
            peer.answer(content(seen.target))

    server, conn = plain(script)
    assert_all_right(conn.pipeline(paths(100)), paths(100))
    assert server.connections <= 4
    assert sum(not alone for alone in lonely) <= 3


def test_a_body_that_is_cut_while_the_caller_reads_it(served: Serve) -> None:
    """The caller sees the error; the requests behind it are sent again."""

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            if seen.target == "/cut":
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(50_000))
                peer.finish()
                return peer.drain()  # so that no reset takes the body with it
            peer.answer(content(seen.target))

    server, conn = served(script)
    found = []
    for response in conn.pipeline(["/1", "/cut", "/2", "/3"], 4, body_limit=4000):
        found.append(response.path)
        if response.body is None:
            with pytest.raises(ConnectionClosed) as caught:
                conn.readall()
            assert (caught.value.received, caught.value.expected) == (50_000, 100_000)
            assert [fact.state for fact in caught.value.outstanding] == ["answering", "sent", "sent"]
        else:
            assert response.body == content(response.path)
    assert found == ["/1", "/cut", "/2", "/3"]
    assert server.targets().count("/cut") == 1


def test_steps_of_a_pipeline_end_with_it(plain: Serve) -> None:
    """The last reference goes: the connection is closed, and nothing waits."""
    server, conn = plain(objects)
    run: Iterator[HTTPResponse] | None = conn.pipeline(paths(100), 10)
    assert run is not None
    next(run)
    del run
    server.settle(1)
    assert conn.outstanding == ()
    with pytest.raises(HTTPError):
        conn.read_response()


def seen_heads(seen: list[Seen]) -> set[bytes]:
    return {one.head.split(b"\r\n", 1)[1] for one in seen}


def test_every_way_to_send_gives_the_same_head(plain: Serve) -> None:
    server, conn = plain(answers)
    list(conn.pipeline(["/1", "/2", Request("GET", "/3")]))
    conn.send_request("GET", "/4")
    conn.read_response()
    assert len(seen_heads(server.seen)) == 1
    assert len(server.seen) == 4
