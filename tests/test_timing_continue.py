"""TM-15: 100 (Continue) at every time at which it may come, or not: the body is sent once or not at all, and the next
request gets its own answer. `test_continue.py` has the real servers."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import awkward
from awkward import Habits
from clock import Clock
from conftest import Contexts
from httpio import (
    BodyFollowing,
    ConnectionClosed,
    ConnectionTimedOut,
    HTTPConnection,
    HTTPError,
    Request,
    StateError,
    fetch,
)
from servers.scripted import Peer, Scripted

CONTENT = bytes(range(256)) * 200
KINDS = ["following", "bytes", "file", "iterable"]
EXPECT = {"Expect": "100-continue"}

GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
STORED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstored"


def refusal(status: int, close: bool = False) -> bytes:
    field = "Connection: close\r\n" if close else ""
    return f"HTTP/1.1 {status} No\r\nContent-Length: 2\r\n{field}\r\nno".encode()


class Server:
    """Answers a PUT to /body in the way of the test, and everything else with its target."""

    def __init__(self, way: Callable[[Peer, Callable[[], None]], None]) -> None:
        self._way = way
        self.bodies: list[bytes] = []
        """All bodies that were taken whole."""
        self.asked = 0
        self.stray = 0
        """Bytes that came behind a head whose body was not taken."""

    def script(self, peer: Peer) -> None:
        while (seen := peer.head()) is not None:
            if seen.method != "PUT":
                peer.answer(seen.target.encode())
                continue
            self.asked += seen.field("Expect") is not None
            taken = len(self.bodies)

            def take(chunked: bool = seen.field("Transfer-Encoding") is not None) -> None:
                self.bodies.append(peer.chunks() if chunked else peer.take(len(CONTENT)))

            if seen.field("Expect") is None:
                take()
                peer.send(STORED)
                continue
            self._way(peer, take)
            if len(self.bodies) == taken:
                self.stray += len(peer.buffer)
                before = peer.received
                peer.drain()
                self.stray += peer.received - before
                return


def in_time(peer: Peer, take: Callable[[], None]) -> None:
    peer.send(GO_ON)
    take()
    peer.send(STORED)


def with_hints(peer: Peer, take: Callable[[], None]) -> None:
    peer.send(HINTS + GO_ON + HINTS)
    take()
    peer.send(HINTS + STORED)


def twice(peer: Peer, take: Callable[[], None]) -> None:
    peer.send(GO_ON * 2)
    take()
    peer.send(STORED)


def late(peer: Peer, take: Callable[[], None]) -> None:
    """When the body has begun to come."""
    while not peer.buffer and peer.receive():
        pass
    peer.send(GO_ON)
    take()
    peer.send(STORED)


def behind_the_body(peer: Peer, take: Callable[[], None]) -> None:
    take()
    peer.send(GO_ON)
    peer.send(STORED)


def twice_with_the_body_between(peer: Peer, take: Callable[[], None]) -> None:
    peer.send(GO_ON)
    take()
    peer.send(GO_ON + STORED)


def never(peer: Peer, take: Callable[[], None]) -> None:
    take()
    peer.send(STORED)


TAKEN: dict[str, tuple[Callable[[Peer, Callable[[], None]], None], str, list[int]]] = {
    "in time": (in_time, "Continue", [100]),
    "with hints": (with_hints, "Continue", [103, 100, 103, 103]),
    "twice": (twice, "Continue", [100, 100]),
    "late": (late, "assumed", [100]),
    "behind the body": (behind_the_body, "assumed", [100]),
    "twice with the body between": (twice_with_the_body_between, "Continue", [100, 100]),
    "never": (never, "assumed", []),
}
"""The way of the server, the reason of the 100 that the two-step form gets, the interim responses in the end."""


def pieces() -> Iterator[bytes]:
    for start in range(0, len(CONTENT), 5000):
        yield CONTENT[start : start + 5000]


def begin(conn: HTTPConnection, kind: str) -> None:
    bodies: dict[str, Any] = {
        "following": BodyFollowing(len(CONTENT)),
        "bytes": CONTENT,
        "file": io.BytesIO(CONTENT),
        "iterable": pieces(),
    }
    conn.send_request("PUT", "/body", body=bodies[kind], expect100=True)


def begin_behind_another(conn: HTTPConnection, kind: str) -> None:
    """The same behind a request whose answer is read first."""
    conn.send_request("GET", "/before")
    if kind == "following":
        begin(conn, kind)
    assert (conn.read_response().path, conn.readall()) == ("/before", b"/before")
    if kind != "following":  # the waiting happens in it, and an answer that is not read would be in the way
        begin(conn, kind)


def assert_next(conn: HTTPConnection) -> None:
    conn.send_request("GET", "/next")
    assert (conn.read_response().path, conn.readall()) == ("/next", b"/next")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("when", TAKEN)
@pytest.mark.parametrize("arrival", ["whole", "bytewise"])
def test_tm_15_taken(arrival: str, when: str, kind: str, contexts: Contexts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The body is sent once. Late and double 100s are only told of."""
    way, reason, interims = TAKEN[when]
    if arrival == "bytewise":
        awkward.use(Habits(received=1, refusals=1), monkeypatch, contexts[1])
    server = Server(way)
    told: list[int] = []
    with (
        Scripted(server.script, contexts[0]) as scripted,
        HTTPConnection(
            "127.0.0.1",
            scripted.port,
            contexts[1],
            timeout=15,
            expect_timeout=0.05 if reason == "assumed" else None,
            on_informational=lambda response: told.append(response.status),
        ) as conn,
    ):
        begin_behind_another(conn, kind)
        if kind == "following":
            with pytest.raises(StateError):
                conn.write(CONTENT)
            interim = conn.read_response()
            assert (interim.status, interim.reason) == (100, reason)
            conn.write(CONTENT[:10])
            conn.write(CONTENT[10:])
        response = conn.read_response()
        assert (response.status, response.request_complete, conn.readall()) == (200, True, b"stored")
        assert [interim.status for interim in response.informational] == interims
        assert told == interims
        assert_next(conn)
        assert server.bodies == [CONTENT]
        assert (server.asked, server.stray) == (1, 0)
        assert scripted.connections == 1


def with_final(*wires: bytes) -> Callable[[Peer, Callable[[], None]], None]:
    def way(peer: Peer, take: Callable[[], None]) -> None:
        for wire in wires:
            peer.send(wire)

    return way


REFUSED = {
    "200": with_final(STORED),
    "401": with_final(refusal(401)),
    "413 and close": with_final(refusal(413, close=True)),
    "417": with_final(refusal(417)),
    "417 and close": with_final(refusal(417, close=True)),
    "417 behind hints": with_final(HINTS + refusal(417)),
    "413 in two": with_final(refusal(413)[:20], refusal(413)[20:]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", REFUSED)
def test_tm_15_refused(answer: str, kind: str, contexts: Contexts) -> None:
    """Not a byte of the body is sent, and nothing else on that connection."""
    server = Server(REFUSED[answer])
    with (
        Scripted(server.script, contexts[0]) as scripted,
        HTTPConnection("127.0.0.1", scripted.port, contexts[1], timeout=15, expect_timeout=None) as conn,
    ):
        begin_behind_another(conn, kind)
        response = conn.read_response()
        assert (response.status, response.request_complete) == (int(answer[:3]), False)
        assert conn.readall() == (b"stored" if answer == "200" else b"no")
        with pytest.raises((StateError, ConnectionClosed)):
            conn.write(CONTENT)
        if "close" in answer:
            with pytest.raises(ConnectionClosed):
                conn.send_request("GET", "/never")
            conn.connect()
        assert_next(conn)
        assert scripted.connections == 2
        assert server.bodies == []
        conn.close()
        scripted.settle(2)
        assert server.stray == 0


@pytest.mark.parametrize("kind", KINDS)
def test_tm_15_a_refusal_right_behind_the_100(kind: str, contexts: Contexts) -> None:
    """Both are here when the body is to begin: it goes out in part at most, and never to its end."""
    server = Server(with_final(GO_ON + refusal(413)))
    with (
        Scripted(server.script, contexts[0]) as scripted,
        HTTPConnection("127.0.0.1", scripted.port, contexts[1], timeout=15, expect_timeout=None) as conn,
    ):
        begin(conn, kind)
        response = conn.read_response()
        if response.status == 100:
            with suppress(ConnectionClosed):
                for piece in pieces():
                    conn.write(piece)
            response = conn.read_response()
        assert (response.status, conn.readall()) == (413, b"no")
        # The whole of a body that was in one piece may have been on its way before the 413 was seen.
        if not response.request_complete:
            with suppress(ConnectionClosed):
                conn.send_request("GET", "/next")
                assert (conn.read_response().path, conn.readall()) == ("/next", b"/next")
            conn.close()
        assert server.stray <= len(CONTENT) + 200
        assert "/next" not in scripted.targets() or scripted.connections == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["finish", "reset"])
@pytest.mark.parametrize("before", [b"", GO_ON[:12], HINTS])
def test_tm_15_the_end_instead(before: bytes, end: str, kind: str, contexts: Contexts) -> None:
    def way(peer: Peer, take: Callable[[], None]) -> None:
        peer.send(before)
        getattr(peer, end)()

    server = Server(way)
    with (
        Scripted(server.script, contexts[0]) as scripted,
        HTTPConnection("127.0.0.1", scripted.port, contexts[1], timeout=15, expect_timeout=None) as conn,
    ):
        conn.connect()
        with pytest.raises(ConnectionClosed) as caught:
            _ = begin(conn, kind), conn.read_response()  # type: ignore[func-returns-value]
        assert [fact.request.path for fact in caught.value.outstanding] == ["/body"]
        with pytest.raises(ConnectionClosed):
            conn.send_request("GET", "/never")
        conn.close()
        assert_next(conn)
        assert (server.bodies, server.stray) == ([], 0)


@pytest.mark.parametrize("kind", KINDS)
def test_tm_15_silence(kind: str, contexts: Contexts) -> None:
    """Without a limit for the 100, `timeout` ends the wait, and the body was not sent."""
    over = threading.Event()

    def way(peer: Peer, take: Callable[[], None]) -> None:
        assert over.wait(20)

    server = Server(way)
    with Scripted(server.script, contexts[0]) as scripted:
        conn = HTTPConnection("127.0.0.1", scripted.port, contexts[1], timeout=0.1, expect_timeout=None)
        conn.connect()
        with pytest.raises(ConnectionTimedOut):
            _ = begin(conn, kind), conn.read_response()  # type: ignore[func-returns-value]
        with pytest.raises(ConnectionClosed):
            conn.send_request("GET", "/never")
        over.set()
        conn.close()
        scripted.settle(1)
        assert (server.bodies, server.stray) == ([], 0)


WAYS = {**{name: way for name, (way, _, _) in TAKEN.items()}, **REFUSED}


@pytest.mark.parametrize("face", ["pipeline", "fetch"])
@pytest.mark.parametrize("when", WAYS)
def test_tm_15_in_a_run(when: str, face: str, contexts: Contexts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between other requests; a 417 is repeated once without Expect."""
    server = Server(WAYS[when])
    slow = when in TAKEN and TAKEN[when][1] == "assumed"
    if slow and face == "fetch" and (contexts[0] or when != "never"):
        pytest.skip("fetch waits for a second: one such case is enough")
    if not slow:
        Clock(monkeypatch, still=True)  # or fetch would assume a 100 that takes a second
    with Scripted(server.script, contexts[0]) as scripted:
        base = "" if face == "pipeline" else f"{'https' if contexts[1] else 'http'}://127.0.0.1:{scripted.port}"
        requests = [
            Request("GET", base + "/1"),
            Request("PUT", base + "/body", EXPECT, CONTENT),
            Request("GET", base + "/2"),
            Request("GET", base + "/3"),
        ]
        if face == "fetch":
            found = [(result.status, result.content) for result in fetch(requests, ssl_context=contexts[1])]
        else:
            limit = 0.05 if slow else None
            with HTTPConnection("127.0.0.1", scripted.port, contexts[1], timeout=15, expect_timeout=limit) as conn:
                found = [(response.status, response.body) for response in conn.pipeline(requests)]
        refused = when in REFUSED and not when.startswith("417")
        stored = (int(when[:3]), b"stored" if when == "200" else b"no") if refused else (200, b"stored")
        assert found == [(200, b"/1"), stored, (200, b"/2"), (200, b"/3")]
        assert server.bodies == ([] if refused else [CONTENT])
        assert server.asked == 1
        assert scripted.connections == (1 if when in TAKEN else 2)
        scripted.settle(scripted.connections - 1)
        assert server.stray == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_tm_15_interrupted(when: str, kind: str, contexts: Contexts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's Ctrl-C in each system call: the body is taken whole, or not at all, and never twice."""
    habits = Habits(refusals=1)
    awkward.use(habits, monkeypatch, contexts[1])
    server = Server(in_time)
    left = 0

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    if when == "before":
        habits.before = lambda name, sock: count()
    else:
        habits.after = lambda name, sock, result: count()
    with Scripted(server.script, contexts[0]) as scripted:
        for at in range(1, 200):
            left = at
            server.bodies.clear()
            conn = HTTPConnection("127.0.0.1", scripted.port, contexts[1], timeout=20, expect_timeout=None)
            with suppress(KeyboardInterrupt):
                begin(conn, kind)
                if kind == "following":
                    assert conn.read_response().status == 100
                    conn.write(CONTENT)
                assert (conn.read_response().path, conn.readall()) == ("/body", b"stored")
            done = left > 0
            left = 0
            with suppress(StateError, ConnectionClosed):
                conn.send_request("GET", "/next")
                while conn.response_pending():
                    response = conn.read_response()
                    wanted = b"stored" if response.path == "/body" else b"/next"
                    assert wanted.endswith(conn.readall())
            conn.close()
            assert_next(conn)
            conn.close()
            scripted.settle()
            assert len(server.bodies) <= 1
            if done:
                break
        assert at > 5


def test_tm_15_the_errors_are_httpios() -> None:
    """A body that fails while it waits for the 100 is the caller's own error; the answer is not awaited."""

    def failing() -> Iterator[bytes]:
        raise KeyError("mine")
        yield b""

    server = Server(in_time)
    with Scripted(server.script) as scripted:
        conn = HTTPConnection("127.0.0.1", scripted.port, timeout=15, expect_timeout=None)
        conn.connect()
        with pytest.raises(KeyError):
            conn.send_request("PUT", "/body", body=failing(), expect100=True)
        with pytest.raises(HTTPError):
            conn.send_request("GET", "/never")
        conn.close()
