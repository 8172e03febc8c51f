"""What a peer, a network and a kernel may do in time: TM-01 to TM-08. The same outcome, or an error in time."""

from __future__ import annotations

import io
import itertools
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

import awkward
import corpus
from awkward import Habits
from conftest import Contexts
from faces import FACES, READERS, read_by
from httpio import (
    BodyFollowing,
    ConnectionClosed,
    ConnectionTimedOut,
    HTTPConnection,
    Request,
)
from servers.canned import Canned
from servers.objects import content
from servers.scripted import Peer, Scripted
from test_cases import assert_row, converse

BIG = 24 << 20
"""More than the sockets of two ends can hold."""


class Clock:
    """The time that httpio sees: it passes only where a test lets it."""

    passed = 0.0

    def now(self) -> float:
        return 1000 + self.passed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for name, module in list(sys.modules.items()):
        if name.startswith("httpio") and hasattr(module, "monotonic"):
            monkeypatch.setattr(module, "monotonic", clock.now)
    return clock


# -- TM-01 --


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in corpus.responses()
        if "deliver" not in row and "transport" not in row and len(corpus.wire(row)) <= 20_000
    ],
    ids=lambda row: str(row["id"]),
)
def test_tm_01_one_byte_per_receive(row: corpus.Row, monkeypatch: pytest.MonkeyPatch) -> None:
    """`test_cases.py` has all wires in pieces for the parser, and in one for a connection; TM-12 has TLS."""
    awkward.use(Habits(received=1), monkeypatch)
    methods = corpus.methods(row)
    with (
        Canned(corpus.wire(row), len(methods), row["eof"]) as canned,
        HTTPConnection("127.0.0.1", canned.port, timeout=20) as conn,
    ):
        # The bytes behind a CONNECT are still in the socket.
        wanted = {key: value for key, value in row.items() if key not in ("reuse", "tunnel")}
        assert_row(wanted, converse(conn, methods))


# -- TM-02 --

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

STAGES = {
    "empty lines": (b"", b"\r\n", "awaiting response"),
    "status line": (b"HTTP/1.1 200 ", b"a", "in head"),
    "headers": (OK + b"X: ", b"a", "in head"),
    "interim responses": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", "in head"),
    "body": (OK + b"Content-Length: 1000\r\n\r\n", b"a", "in body"),
    "close-delimited body": (OK + b"Connection: close\r\n\r\n", b"a", "in body"),
    "chunk size": (CHUNKED, b"0", "in body"),
    "chunk extension": (CHUNKED + b"5;a=", b"a", "in body"),
    "chunk": (CHUNKED + b"fff\r\n", b"a", "in body"),
    "trailers": (CHUNKED + b"0\r\nX: ", b"a", "in body"),
}


class Drip:
    """Sends the start of a stage, and then one byte each time that it is told to."""

    def __init__(self, stage: str) -> None:
        self._start, self._unit, self.where = STAGES[stage]
        self._turn = threading.Semaphore(0)
        self._sent = threading.Semaphore(0)
        self._over = False

    def script(self, peer: Peer) -> None:
        peer.request()
        peer.send(self._start)
        self._sent.release()
        for byte in itertools.cycle(self._unit):
            if not self._turn.acquire(timeout=20) or self._over:
                return
            peer.send(bytes([byte]))
            self._sent.release()

    def wait(self) -> None:
        assert self._sent.acquire(timeout=20)

    def next(self) -> None:
        self._turn.release()
        self.wait()

    def stop(self) -> None:
        self._over = True
        self._turn.release()


@pytest.mark.parametrize("stage", STAGES)
def test_tm_02_a_byte_just_before_each_timeout(stage: str, clock: Clock, contexts: Contexts) -> None:
    """Each byte is progress, so that `timeout` does not end it. `deadline` does, when it has come."""
    drip = Drip(stage)
    if contexts[0] is not None:
        contexts[0].num_tickets = 0  # they would be received, and bring nothing
    with Scripted(drip.script, contexts[0]) as server:
        conn = HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=100, deadline=1000)
        conn.connect()
        begun = clock.now()
        conn.send_request("GET", "/")
        drip.wait()
        received = 0

        def run() -> None:
            nonlocal received
            for need in itertools.chain(conn.co_read_response(), conn.co_readall()):
                assert need.deadline is not None
                left = need.deadline - clock.now()
                if select.select([need.fd], [], [], 0)[0]:
                    pass  # the bytes of the start
                elif left < 90:
                    clock.passed += max(0, left)
                else:
                    clock.passed += 90
                    drip.next()
                    received += 1
                    assert select.select([need.fd], [], [], 20)[0]

        with pytest.raises(ConnectionTimedOut) as caught:
            run()
        drip.stop()
        conn.close()
        assert 1000 <= clock.now() - begun < 1090
        assert received == 11
        assert caught.value.where == drip.where


@pytest.mark.parametrize("stage", ["headers", "body", "close-delimited body", "chunk size", "chunk"])
@pytest.mark.parametrize("reader", READERS)
def test_tm_02_bytes_without_a_pause(stage: str, reader: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline comes although there is always a byte to be received."""
    habits = Habits(received=1)
    awkward.use(habits, monkeypatch)
    start, unit, where = STAGES[stage]

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(start + unit * 500)
        peer.drain()

    with (
        Scripted(script) as server,
        HTTPConnection("127.0.0.1", server.port, timeout=100, deadline=1000) as conn,
    ):
        conn.send_request("GET", "/")
        sent_at = clock.now()

        def after(name: str, sock: Any, result: Any) -> None:
            if name == "recv_into":
                clock.passed += 10

        habits.after = after
        with pytest.raises(ConnectionTimedOut) as caught:
            _ = conn.read_response(), read_by(reader, conn, io.BytesIO())
        assert clock.now() - sent_at < 1100
        assert caught.value.where == where


def test_tm_02_in_a_pipeline(clock: Clock) -> None:
    """There is always a byte to come, and the deadline of each exchange ends it."""
    over = threading.Event()

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            if seen.target == "/bad":
                peer.send(OK + b"X: ")
                while not over.wait(0.02):
                    clock.passed += 10
                    peer.send(b"a")
            else:
                peer.answer(seen.target.encode())

    with (
        Scripted(script) as server,
        HTTPConnection("127.0.0.1", server.port, timeout=15, deadline=100) as conn,
    ):
        found: list[str] = []
        with pytest.raises(ConnectionTimedOut) as caught:
            found.extend(response.path for response in conn.pipeline(["/1", "/2", "/bad", "/3"]))
        over.set()
        assert found == ["/1", "/2"]
        assert caught.value.outstanding[0].request.path == "/bad"
        assert server.targets().count("/bad") <= 2


# -- TM-03 --


@pytest.mark.parametrize("reader", [*READERS, "fetch", "pipeline"])
@pytest.mark.parametrize("here", [0, 3, 9])
def test_tm_03_silence_inside_a_body(reader: str, here: int, contexts: Contexts) -> None:
    """Nothing is delivered as if it were complete, and nothing is asked for without end."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(OK + b"Content-Length: 10\r\n\r\n" + b"a" * here)
        peer.drain()

    with Scripted(script, contexts[0]) as server:
        if reader in FACES:
            face = FACES[reader]
            (got,) = face(server, ["/"], contexts[1], timeout=0.1)
            assert isinstance(got.error, ConnectionTimedOut)
            server.settle(2)
            assert server.targets() == ["/", "/"]
            assert server.connections == 2
            return
        conn = HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=20)
        conn.connect()
        conn.send_request("GET", "/")
        response = conn.read_response()
        conn.timeout = 0.1
        taken = io.BytesIO()
        with pytest.raises(ConnectionTimedOut) as caught:
            read_by(reader, conn, taken)
        assert taken.getvalue() == (b"a" * here if reader in ("write_to", "readinto", "read") else b"")
        assert response.complete_by is None
        assert (caught.value.where, caught.value.received, caught.value.expected) == ("in body", here, 10)
        for call in (conn.readall, conn.read_response, lambda: conn.send_request("GET", "/never")):
            with pytest.raises(ConnectionClosed):
                call()
        conn.close()


# -- TM-04 --


@pytest.mark.parametrize("face", ["low", "pipeline"])
def test_tm_04_a_server_that_never_reads(face: str, contexts: Contexts) -> None:
    """It ends in time, and what waits to be sent is no more than was asked for at once."""
    over = threading.Event()
    drawn = 0

    def requests() -> Iterator[Request]:
        nonlocal drawn
        for number in range(1000):
            drawn += 1
            yield Request("PUT", f"/{number}", body=bytes(1 << 20))

    def script(peer: Peer) -> None:
        assert over.wait(20)

    with Scripted(script, contexts[0], small=True) as server:
        conn = HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=0.2)
        conn.connect()

        def send_all() -> None:
            if face == "pipeline":
                next(conn.pipeline(requests(), 64))
            else:
                for request in requests():
                    conn.send_request(request.method, request.path, body=request.body)

        with pytest.raises(ConnectionTimedOut) as caught:
            send_all()
        over.set()
        states = [fact.state for fact in caught.value.outstanding]
        assert states[0] == "sent"
        if face == "pipeline":
            assert drawn <= 2 * 64  # and not all of the thousand
        else:
            assert drawn == len(states)
            assert caught.value.where == "sending"
        conn.close()


# -- TM-05 --

LARGE = 10 << 20


def large(target: str, size: int) -> bytes:
    """What no other target has; *size* is a multiple of 1 MiB."""
    return content(int(target[1:]), 1 << 20) * (size >> 20)


def answers_before_it_reads(peer: Peer) -> None:
    """The whole of a large answer goes out before the body of its request is read."""
    while (seen := peer.head()) is not None:
        peer.answer(large(seen.target, LARGE))
        assert peer.take(BIG) == large(seen.target, BIG)


@pytest.mark.parametrize("face", ["pipeline", "two threads"])
def test_tm_05_large_answers_while_requests_go_out(face: str, contexts: Contexts) -> None:
    targets = ["/0", "/1", "/2"]
    with (
        Scripted(answers_before_it_reads, contexts[0]) as server,
        HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=15) as conn,
    ):
        if face == "pipeline":
            requests = [Request("PUT", target, body=large(target, BIG)) for target in targets]
            for response in conn.pipeline(requests, 3, body_limit=LARGE):
                assert response.body == large(response.path, LARGE)
        else:
            conn.connect()
            sent = threading.Semaphore(0)

            def send() -> None:
                for target in targets:
                    conn.send_request("PUT", target, body=BodyFollowing(BIG))
                    sent.release()
                    conn.write(large(target, BIG))

            thread = threading.Thread(target=send)
            thread.start()
            try:
                for target in targets:
                    assert sent.acquire(timeout=20)
                    assert conn.read_response().request_complete
                    assert conn.readall() == large(target, LARGE)
            except BaseException:
                conn.abort()
                raise
            finally:
                thread.join(20)
        conn.close()
        server.settle(1)  # it has read the last body to its end
        assert server.targets() == targets
        assert server.connections == 1


# -- TM-06 --


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_tm_06_a_reset_behind_the_last_byte(framing: str, face: str, contexts: Contexts) -> None:
    """Only a close-delimited body is not complete without a proper end."""
    wire = {
        "length": OK + b"Content-Length: 5\r\n\r\nhello",
        "chunked": CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
        "close": OK + b"Connection: close\r\n\r\nhello",
    }[framing]

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(wire)
        peer.reset()

    with Scripted(script, contexts[0]) as server:
        (got,) = FACES[face](server, ["/"], contexts[1], timeout=15)
        if framing == "close":
            assert isinstance(got.error, ConnectionClosed)
            assert got.error.where == "in body"
            assert server.connections == (1 if face == "low" else 2)
        else:
            assert got.body == b"hello"
            assert server.connections == 1


# -- TM-07 --


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("arrived", [0, 3, 8.5])
def test_tm_07_a_reset_that_takes_answers_with_it(face: str, arrived: float, contexts: Contexts) -> None:
    """What was not answered is repeated, one at a time at first (RFC 9112 sections 9.3.2 and 9.6)."""
    targets = [f"/{number}" for number in range(40)]
    alone: list[bool] = []
    received = 14
    if face == "fetch":  # which begins with 1, then 2, 4 and 8
        received = {0: 1, 3: 7, 8.5: 14}[arrived]

    def script(peer: Peer) -> None:
        first = peer.number == 0
        lost = 0.0
        while (seen := peer.request()) is not None:
            if not first and not lost:
                # What had been sent with it would be here soon.
                alone.append(not peer.buffer and not select.select([peer.sock], [], [], 0.05)[0])
            lost += 1
            body = seen.target.encode()
            if not first or lost <= arrived:
                peer.answer(body)
            elif lost - arrived < 1:
                peer.send(OK + b"Content-Length: 100\r\n\r\n" + body)
            if first and lost == received:  # it has answered them all; the rest of that never arrives
                return peer.reset()

    with Scripted(script, contexts[0]) as server:
        options: dict[str, Any] = {"depth": 16} if face == "pipeline" else {}
        found = FACES[face](server, targets, contexts[1], timeout=15, **options)
        if face == "low":
            answered = [got.body.decode() for got in found if got.error is None]
            assert answered == targets[: int(arrived)]
            error = found[-1].error
            assert isinstance(error, ConnectionClosed)
            facts = [(fact.request.path, fact.state) for fact in error.outstanding]
            assert [path for path, _ in facts] == targets[len(answered) : len(answered) + len(facts)]
            state = "answering" if arrived % 1 else "sent"
            assert facts[0] == (targets[len(answered)], state)
            return
        assert [got.body.decode() for got in found] == targets
        assert alone == [True]
        assert server.connections == 2
        times = [server.targets().count(target) for target in targets]
        assert max(times) == 2
        assert times[: int(arrived)] == [1] * int(arrived)


def test_tm_07_nothing_is_repeated_that_must_not_be(contexts: Contexts) -> None:
    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            if seen.method == "POST" and peer.number == 0:
                return peer.reset()  # it has answered, and the answer is lost
            peer.answer(seen.target.encode())

    with (
        Scripted(script, contexts[0]) as server,
        HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=15) as conn,
    ):
        requests: list[Any] = ["/0", "/1", Request("POST", "/2", body=b"x"), "/3"]
        run = conn.pipeline(requests, 8)
        assert [next(run).path for _ in range(2)] == ["/0", "/1"]
        with pytest.raises(ConnectionClosed) as caught:
            next(run)
        assert [(fact.request.path, fact.safe) for fact in caught.value.outstanding] == [("/2", False)]
        assert server.targets() == ["/0", "/1", "/2"]


# -- TM-08 --


@pytest.mark.parametrize("kind", ["bytes", "iterable", "following"])
@pytest.mark.parametrize("answered", [True, False])
def test_tm_08_half_close_while_a_body_goes_out(kind: str, answered: bool, contexts: Contexts) -> None:
    """What was answered is read; nothing more is sent, as nothing can be answered; and nothing follows."""
    over = threading.Event()

    def script(peer: Peer) -> None:
        assert peer.head() is not None
        if answered:
            peer.answer(b"early")
        peer.finish()
        assert over.wait(20)  # and it reads nothing more

    pieces = [bytes(65536)] * (BIG // 65536)
    with Scripted(script, contexts[0]) as server:
        conn = HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=15)
        conn.connect()
        with suppress(ConnectionClosed):
            if kind == "following":
                conn.send_request("PUT", "/", body=BodyFollowing(BIG))
                for piece in pieces:
                    conn.write(piece)
            else:
                conn.send_request("PUT", "/", body=bytes(BIG) if kind == "bytes" else iter(pieces))
        if answered:
            response = conn.read_response()
            assert (response.status, response.request_complete) == (200, False)
            assert conn.readall() == b"early"
        else:
            with pytest.raises(ConnectionClosed):
                conn.read_response()
        with pytest.raises(ConnectionClosed):
            conn.send_request("GET", "/never")
        over.set()
        conn.close()
        assert server.connections == 1
