"""HTTPConnection.pipeline and fetch: 100-continue, bodies in memory, and connections that end before they were used."""

from __future__ import annotations

import io
import select
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import httpio.window
from clock import Clock
from httpio import ConnectionClosed, HTTPConnection, Request, fetch
from httpio.link import Link
from httpio.waiting import Step
from httpio.window import MAX_ATTEMPTS, MOST_BODIES
from servers.scripted import Peer, Scripted

EXPECT = {"Expect": "100-continue"}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CONTENT = bytes(range(251)) * 400
KINDS = ["bytes", "file", "iterable"]


def connect(server: Scripted, **options: Any) -> HTTPConnection:
    return HTTPConnection("127.0.0.1", server.port, **{"timeout": 20, "expect_timeout": None, **options})


def upload(path: str, kind: str = "bytes", method: str = "PUT") -> Request:
    """A PUT of CONTENT that asks first."""
    body: Any = {"bytes": CONTENT, "file": io.BytesIO(CONTENT), "iterable": iter([CONTENT[:1000], CONTENT[1000:]])}[
        kind
    ]
    return Request(method, path, EXPECT, body)


def asked(server: Scripted) -> list[str]:
    """The targets of the requests that asked for 100 (Continue)."""
    return [seen.target for seen in server.seen if seen.field("Expect") is not None]


def body_of(peer: Peer, length: str | None) -> bytes:
    return peer.chunks() if length is None else peer.take(int(length))


# -- 417 --


class Refusing:
    """Does not know Expect: its connections, and the bodies that it took in the end."""

    def __init__(self, closes: bool) -> None:
        self.fields = "Connection: close\r\n" if closes else ""
        self.bodies: dict[str, bytes] = {}
        self.where: list[tuple[str, int, int]] = []

    def __call__(self, peer: Peer) -> None:
        while (seen := peer.head()) is not None:
            if seen.field("Expect") is not None:
                self.where.append((seen.target, 417, peer.number))
                peer.answer(b"what?", "417 Expectation Failed", self.fields)
                peer.drain()  # nothing of a body may come, nor anything else
                assert not peer.buffer
                return
            self.where.append((seen.target, 200, peer.number))
            if seen.method != "GET":
                self.bodies[seen.target] = body_of(peer, seen.field("Content-Length"))
            peer.answer(seen.target.encode())


@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_417_is_repeated_once_and_asked_for_no_more(method: str, kind: str, closes: bool) -> None:
    script = Refusing(closes)
    with Scripted(script) as server, connect(server) as conn:
        requests = ["/1", upload("/2", kind, method), "/3", upload("/4", kind, method), upload("/5", kind, method)]
        responses = list(conn.pipeline(requests))
        assert [(response.path, response.status) for response in responses] == [(f"/{n}", 200) for n in range(1, 6)]
        assert [response.item for response in responses] == requests
        assert all(response.request_complete for response in responses)
        assert script.bodies == {"/2": CONTENT, "/4": CONTENT, "/5": CONTENT}
        assert asked(server) == ["/2"]
        assert script.where == [("/1", 200, 0), ("/2", 417, 0), *[(f"/{n}", 200, 1) for n in range(2, 6)]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_417_to_the_repetition_is_the_answer(kind: str) -> None:
    def script(peer: Peer) -> None:
        while (seen := peer.head()) is not None:
            if seen.field("Expect") is None and seen.method == "PUT":
                assert body_of(peer, seen.field("Content-Length")) == CONTENT
            peer.answer(b"", "417 No" if seen.method == "PUT" else "200 OK")

    with Scripted(script) as server, connect(server) as conn:
        responses = list(conn.pipeline([upload("/1", kind), "/2"]))
        assert [(one.path, one.status, one.request_complete) for one in responses] == [
            ("/1", 417, True),
            ("/2", 200, True),
        ]
        assert server.targets() == ["/1", "/1", "/2"]
        assert asked(server) == ["/1"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", ["continue", "assumed", "early"])
def test_a_417_to_a_request_whose_body_went_out_is_the_answer(first: str, kind: str) -> None:
    """And no reason not to ask the next time."""

    def script(peer: Peer) -> None:
        while (seen := peer.head()) is not None:
            if seen.method != "GET":
                if first != "assumed":
                    peer.send(CONTINUE)
                if first == "early":
                    peer.buffer += peer.sock.recv(1)
                    peer.answer(b"", "417 No", "Connection: close\r\n")
                    return peer.drain()
                assert body_of(peer, seen.field("Content-Length")) == CONTENT
            peer.answer(b"", "417 No")

    with (
        Scripted(script) as server,
        connect(server, expect_timeout=0 if first == "assumed" else None) as conn,
    ):
        responses = list(conn.pipeline(["/1", upload("/2", kind), upload("/3", kind), "/4"]))
        assert [(one.path, one.status) for one in responses] == [(f"/{n}", 417) for n in range(1, 5)]
        assert server.targets() == ["/1", "/2", "/3", "/4"]
        assert asked(server) == ["/2", "/3"]


def test_a_417_is_remembered_for_its_origin_only(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, still=True)  # or fetch would assume a 100 that takes a second

    def taking(peer: Peer) -> None:
        while (seen := peer.head()) is not None:
            peer.send(CONTINUE)
            assert body_of(peer, seen.field("Content-Length")) == CONTENT
            peer.answer(b"")

    with Scripted(Refusing(False)) as refusing, Scripted(taking) as other:
        requests = [upload(f"{server.url}/{number}") for number in range(4) for server in (refusing, other)]
        results = list(fetch(requests))
        assert [result.status for result in results] == [200] * 8
        assert len(asked(refusing)) == 1
        assert len(refusing.seen) == 5
        assert sorted(asked(other)) == ["/0", "/1", "/2", "/3"]


def test_who_asks_goes_alone() -> None:
    def script(peer: Peer) -> None:
        while (seen := peer.head()) is not None:
            if seen.target == "/6":
                assert not peer.buffer
                assert not select.select([peer.sock], [], [], 0.05)[0]  # /7 is not asked for before this is answered
            if seen.method == "PUT":
                assert not peer.buffer
                peer.send(CONTINUE)
                assert peer.take(len(CONTENT)) == CONTENT
                assert not peer.buffer
            peer.answer(seen.target.encode())

    with Scripted(script) as server, connect(server) as conn:
        requests: list[str | Request] = [f"/{number}" for number in range(20)]
        requests[7] = upload("/7")
        requests[8] = upload("/8")
        requests[19] = upload("/19")
        assert [response.body for response in conn.pipeline(requests, 16)] == [f"/{n}".encode() for n in range(20)]
        assert server.connections == 1


# -- 408 --


def late(peer: Peer) -> None:
    """Answers once, and takes what comes after that for too late."""
    seen = peer.request()
    if seen is not None:
        peer.answer(seen.target.encode())
    if peer.request() is not None:
        peer.answer(b"late", "408 Request Timeout", "Connection: close\r\n")
        peer.finish()
        peer.drain()


@pytest.mark.parametrize("depth", [None, 1, 4])
@pytest.mark.parametrize("kind", ["target", "request", "upload"])
def test_a_late_408_is_no_answer(kind: str, depth: int | None) -> None:
    """On a connection that has been used; all that were behind it are sent again, too."""
    paths = [f"/{number}" for number in range(12)]
    bodies = {"target": None, "request": None, "upload": b"abc"}
    requests = [path if kind == "target" else Request("PUT", path, None, bodies[kind]) for path in paths]
    with Scripted(late) as server, connect(server) as conn:
        responses = list(conn.pipeline(requests, depth))
        assert [(response.status, response.body) for response in responses] == [(200, path.encode()) for path in paths]
        assert [response.item for response in responses] == requests
        assert server.connections == 12


def test_a_late_408_on_a_connection_of_before() -> None:
    with Scripted(late) as server, connect(server) as conn:
        conn.send_request("GET", "/before")
        conn.read_response()
        conn.discard()
        assert [response.body for response in conn.pipeline(["/1"])] == [b"/1"]
        assert server.targets() == ["/before", "/1", "/1"]


def test_a_late_408_to_fetch() -> None:
    with Scripted(late) as server:
        results = {result.request: result.content for result in fetch(f"{server.url}/{n}" for n in range(9))}
        assert results == {f"{server.url}/{n}": f"/{n}".encode() for n in range(9)}


@pytest.mark.parametrize(
    ("request_", "fresh", "fields"),
    [
        (Request("GET", "/1"), True, "Connection: close\r\n"),
        (Request("GET", "/1"), False, ""),
        (Request("POST", "/1", None, b"x"), False, "Connection: close\r\n"),
        (Request("GET", "/1", idempotent=False), False, "Connection: close\r\n"),
    ],
    ids=["fresh", "stays", "post", "not idempotent"],
)
def test_another_408_is_the_answer(request_: Request, fresh: bool, fields: str) -> None:
    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            if seen.target != "/1":
                peer.answer(b"")
                continue
            peer.answer(b"late", "408 Request Timeout", fields)
            if fields:
                peer.finish()

    with Scripted(script) as server, connect(server) as conn:
        requests = [request_, "/2"] if fresh else ["/0", request_, "/2"]
        statuses = [response.status for response in conn.pipeline(requests, 1)]
        assert statuses[-2:] == [408, 200]
        assert server.targets().count("/1") == 1


# -- connections that end before they were used --


def end_connection(peer: Peer, end: str) -> None:
    if end == "unasked":
        peer.answer(b"late", "408 Request Timeout", "Connection: close\r\n")
    if end == "reset":
        return peer.reset()
    peer.finish()
    peer.drain()


ENDS = ["finish", "reset", "unasked"]


class Early:
    """A server that ends each connection, or every second one, before anything was asked. What it does is there before
    the client sends anything on that connection."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.end = ""
        self.every = 1
        self._connected = threading.Semaphore(0)
        self._count = 0
        real = Link.co_connect

        def co_connect(link: Link) -> Step[None]:
            yield from real(link)
            self._connected.release()
            self._count += 1
            if (self._count - 1) % self.every == 0:
                assert link.transport is not None
                assert select.select([link.transport.fd], [], [], 20)[0]

        monkeypatch.setattr(Link, "co_connect", co_connect)

    def __call__(self, peer: Peer) -> None:
        assert self._connected.acquire(timeout=20)
        if peer.number % self.every == 0:
            end_connection(peer, self.end)
        elif (seen := peer.request()) is not None:
            peer.answer(seen.target.encode(), fields="Connection: close\r\n")


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> Early:
    return Early(monkeypatch)


@pytest.mark.parametrize("depth", [None, 1, 8])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("end", ENDS)
def test_a_peer_that_closes_everything_is_not_tried_for_ever(
    end: str, method: str, depth: int | None, early: Early
) -> None:
    early.end = end
    with Scripted(early) as server, connect(server) as conn:
        for run in range(1, 4):
            with pytest.raises(ConnectionClosed) as caught:
                next(conn.pipeline([Request(method, "/1"), "/2", "/3"], depth))
            [fact] = caught.value.outstanding
            assert (fact.request.path, fact.state, fact.safe) == ("/1", "unsent", True)
            assert caught.value.where == "sending"
            assert (caught.value.__cause__ is not None) == (end == "reset")
            assert server.connections <= run * (MAX_ATTEMPTS + 1)
        conn.close()
        server.settle()
        assert server.received() == 0


@pytest.mark.parametrize("end", ENDS)
def test_fetch_gives_up_each_in_its_turn(end: str, early: Early) -> None:
    early.end = end
    with Scripted(early) as server:
        results = list(fetch(f"{server.url}/{number}" for number in range(5)))
        assert [type(result.error) for result in results] == [ConnectionClosed] * 5
        assert sorted(result.request for result in results) == [f"{server.url}/{number}" for number in range(5)]
        assert server.connections <= 5 * MAX_ATTEMPTS
        server.settle()
        assert server.received() == 0


@pytest.mark.parametrize("end", ["finish", "reset"])
def test_without_a_look_before(end: str) -> None:
    """As it comes: the connect may fail, or a request may be on its way when the close is seen."""
    with Scripted(lambda peer: end_connection(peer, end)) as server, connect(server) as conn:
        with pytest.raises(ConnectionClosed):
            next(conn.pipeline(["/1", "/2"]))
        assert server.connections <= MAX_ATTEMPTS + 1


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("end", ENDS)
def test_one_that_closes_every_second_connection_is_tried_again(end: str, method: str, early: Early) -> None:
    early.end = end
    early.every = 2
    with Scripted(early) as server, connect(server) as conn:
        requests = [Request(method, f"/{number}", None, b"x") for number in range(5)]
        assert [response.path for response in conn.pipeline(requests)] == [f"/{number}" for number in range(5)]
        assert server.targets() == [f"/{number}" for number in range(5)]
        assert server.connections == 10


# -- connections that end while nobody looks --


def readable(conn: HTTPConnection) -> None:
    """Wait until something has come from the peer."""
    assert select.select([conn.fileno()], [], [], 20)[0]


@pytest.mark.parametrize("seen_by", ["look", "send"])
@pytest.mark.parametrize("end", ["finish", "reset"])
@pytest.mark.parametrize("behind", [[], ["/3"]])
def test_a_loss_behind_the_callers_back(
    end: str, behind: list[str], seen_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body is on its way while the caller has the answers before it: its loss is told in its turn."""
    lost = threading.Event()
    begun = False
    real = Link.look

    def await_loss() -> None:
        assert lost.wait(20)
        readable(conn)

    def look(link: Link) -> bool:
        if begun and seen_by == "look" and link.transport is not None and not lost.is_set():
            await_loss()
        return real(link)

    def body() -> Iterator[bytes]:
        nonlocal begun
        begun = True
        yield b"ab"
        if seen_by == "send":
            await_loss()
        yield b"cd"

    def script(peer: Peer) -> None:
        while (seen := peer.head()) is not None:
            if seen.target == "/once":
                assert peer.take(2) == b"ab"
                getattr(peer, end)()
                lost.set()
                return
            peer.answer(seen.target.encode())

    monkeypatch.setattr(Link, "look", look)
    with Scripted(script) as server, connect(server) as conn:
        once = Request("PUT", "/once", {"Content-Length": "4"}, body())
        run = conn.pipeline(["/1", "/2", once, *behind])
        assert [next(run).path, next(run).path] == ["/1", "/2"]
        with pytest.raises(ConnectionClosed) as caught:
            next(run)
        assert [fact.request for fact in caught.value.outstanding] == [once]
        assert caught.value.outstanding[0].state == "sent"
        assert server.targets() == ["/1", "/2", "/once"]
        assert [response.body for response in conn.pipeline(["/4"])] == [b"/4"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("end", ENDS)
def test_a_close_while_the_iterable_waits(end: str, method: str) -> None:
    """It is here when the next request is: that goes to a new connection, and nothing is taken for its answer."""
    gate = threading.Semaphore(0)

    def script(peer: Peer) -> None:
        seen = peer.request()
        if seen is None:
            return
        peer.answer(seen.target.encode())
        assert gate.acquire(timeout=20)
        end_connection(peer, end)

    def source() -> Iterator[Request]:
        for number in range(5):
            if number:
                gate.release()
                readable(conn)
            yield Request(method, f"/{number}", None, b"x")
        gate.release()

    with Scripted(script) as server, connect(server) as conn:
        bodies = [response.body for response in conn.pipeline(source(), 1)]
        assert bodies == [f"/{number}".encode() for number in range(5)]
        assert server.targets() == [f"/{number}" for number in range(5)]


# -- slow answers --


@pytest.mark.parametrize("how", ["pipeline", "fetch"])
@pytest.mark.parametrize("last", ["post", "get", "request", "put", "expecting"])
def test_a_slow_answer_to_a_request_that_went_out_alone(last: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is awaited, longer than that to a pipelined one would be, and not asked for again."""
    monkeypatch.setattr(httpio.window, "FIRST_PATIENCE", 0.01)
    clock = Clock(monkeypatch, still=True)  # so that none of the others is slow
    impatient = []

    def script(peer: Peer) -> None:
        while (seen := peer.head()) is not None:
            if seen.field("Expect") is not None:
                peer.send(CONTINUE)
            peer.take(int(seen.field("Content-Length") or 0))
            if seen.target == "/last":
                for _ in range(15):  # nothing may come meanwhile, neither an end nor anything else
                    clock(1)
                    impatient.extend(select.select([peer.sock], [], [], 0.01)[0])
            peer.answer(seen.target.encode())

    paths = [f"/{number}" for number in range(7)]
    with Scripted(script) as server:
        base = server.url if how == "fetch" else ""
        request = {
            "post": Request("POST", f"{base}/last", None, b"x"),
            "get": f"{base}/last",
            "request": Request("GET", f"{base}/last"),
            "put": Request("PUT", f"{base}/last", None, b"x"),
            "expecting": Request("PUT", f"{base}/last", EXPECT, b"x"),
        }[last]
        requests = [*[base + path for path in paths], request]
        if how == "fetch":
            found = [result.content for result in fetch(requests)]
        else:
            with connect(server) as conn:
                found = [response.body for response in conn.pipeline(requests)]
        assert found == [path.encode() for path in (*paths, "/last")]
        assert not impatient
        assert server.targets() == [*paths, "/last"]
        assert server.connections == 1


def test_a_slow_answer_with_others_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The POST went alone; those behind it are not sent before its answer."""
    monkeypatch.setattr(httpio.window, "FIRST_PATIENCE", 0.01)
    clock = Clock(monkeypatch, still=True)

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            if seen.method == "POST":
                for _ in range(15):
                    clock(1)
                    assert not select.select([peer.sock], [], [], 0.01)[0]
            peer.answer(seen.target.encode())

    with Scripted(script) as server, connect(server) as conn:
        requests = ["/0", Request("POST", "/1"), Request("POST", "/2"), "/3", "/4"]
        assert [response.path for response in conn.pipeline(requests, 8)] == [f"/{number}" for number in range(5)]
        assert server.connections == 1


# -- memory --

SIZE = 300_000
CROWD = -(-MOST_BODIES // SIZE)


@pytest.mark.parametrize(
    ("method", "size", "crowd"),
    [("PUT", SIZE, CROWD), ("POST", SIZE, 1), ("PUT", 2 * MOST_BODIES, 0)],
    ids=["PUT", "POST", "early"],
)
def test_bodies_that_are_out_are_bounded(method: str, size: int, crowd: int) -> None:
    """Those that were drawn, and are not answered: MOST_BODIES, and one more."""
    count = 5 * CROWD
    drawn = answered = most = 0

    def source() -> Iterator[Request]:
        nonlocal drawn, most
        for number in range(count):
            drawn += 1
            most = max(most, drawn - answered)
            yield Request(method, f"/{number}", None, bytes(size))

    def script(peer: Peer) -> None:
        nonlocal answered
        while True:
            for _ in range(crowd or 1):  # no answer before all that may be out have come
                if peer.head() is None:
                    return
                if crowd == 0:
                    answered += 1
                    peer.answer(b"")
                left = size
                while left and (peer.buffer or peer.receive()):
                    taken = min(left, len(peer.buffer))
                    del peer.buffer[:taken]
                    left -= taken
            answered += crowd
            for _ in range(crowd):
                peer.answer(b"")

    with Scripted(script) as server, connect(server) as conn:
        assert [response.status for response in conn.pipeline(source(), 64)] == [200] * count
        assert (most - 1) * size < MOST_BODIES
        assert server.connections == 1
