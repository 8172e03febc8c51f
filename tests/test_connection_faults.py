"""HTTPConnection when things go wrong: silence, early answers, cuts, two threads; what its errors tell."""

from __future__ import annotations

import select
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

import httpio.endpoint
import httpio.link
import httpio.pipelining
import httpio.sending
import httpio.waiting
from conftest import Authority, Contexts
from httpio import (
    POLLIN,
    POLLOUT,
    BodyFollowing,
    ConnectionClosed,
    ConnectionTimedOut,
    HTTPConnection,
    HTTPError,
    InvalidResponse,
    Lenient,
    StateError,
    UnsupportedResponse,
)
from httpio.states import Sending
from servers.scripted import Peer, Scripted, answers, server_context

BIG = 24 << 20
"""More than the sockets of two ends can hold."""


class Watched:
    """Aborts a connection that hangs, so that its test fails soon."""

    def __init__(self, conn: HTTPConnection) -> None:
        self.timer = threading.Timer(60, conn.abort)

    def __enter__(self) -> None:
        self.timer.start()

    def __exit__(self, *_: object) -> None:
        self.timer.cancel()
        self.timer.join()


# -- silence --


def silent(peer: Peer) -> None:
    """Reads what comes, and says nothing."""
    peer.drain()


@pytest.mark.parametrize("setting", ["timeout", "deadline"])
def test_a_silent_server(setting: str, contexts: Contexts) -> None:
    with Scripted(silent, contexts[0]) as server:
        conn = HTTPConnection("127.0.0.1", server.port, contexts[1], **{setting: 0.1})
        conn.connect()  # which these limits are not for
        begun = monotonic()
        conn.send_request("GET", "/")
        with Watched(conn), pytest.raises(ConnectionTimedOut) as caught:
            conn.read_response()
        assert monotonic() - begun >= 0.1
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.where == "awaiting response"
        assert [(fact.state, fact.safe) for fact in caught.value.outstanding] == [("sent", True)]
        for call in (conn.read_response, lambda: conn.send_request("GET", "/")):
            with pytest.raises(ConnectionClosed):
                call()
        conn.close()


@pytest.mark.parametrize("setting", ["timeout", "deadline"])
@pytest.mark.parametrize("kind", ["bytes", "file", "write"])
def test_a_server_that_does_not_read(kind: str, setting: str, contexts: Contexts, tmp_path: Path) -> None:
    over = threading.Event()

    def script(peer: Peer) -> None:
        assert over.wait(20)

    path = tmp_path / "body"
    path.write_bytes(bytes(BIG))
    with Scripted(script, contexts[0]) as server, path.open("rb") as file:
        conn = HTTPConnection("127.0.0.1", server.port, contexts[1], **{setting: 0.2})
        conn.connect()
        body = {"bytes": bytes(BIG), "file": file, "write": BodyFollowing(BIG)}[kind]
        with Watched(conn), pytest.raises(ConnectionTimedOut) as caught:
            _ = conn.send_request("PUT", "/", body=body), kind == "write" and conn.write(bytes(BIG))
        assert caught.value.where == "sending"
        assert [fact.state for fact in caught.value.outstanding] == ["sent"]
        over.set()
        conn.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A function that lets so many seconds pass at once."""
    passed = 0.0

    def now() -> float:
        return monotonic() + passed

    def advance(seconds: float) -> None:
        nonlocal passed
        passed += seconds

    for module in (httpio.endpoint, httpio.sending, httpio.link, httpio.waiting, httpio.pipelining):
        if hasattr(module, "monotonic"):
            monkeypatch.setattr(module, "monotonic", now)
    return advance


def test_timeout_counts_from_the_last_progress(clock: Callable[[float], None]) -> None:
    turn = threading.Semaphore(0)

    def script(peer: Peer) -> None:
        peer.request()
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello":
            assert turn.acquire(timeout=20)
            peer.send(bytes([byte]))
        peer.drain()

    with Scripted(script) as server, HTTPConnection("127.0.0.1", server.port, timeout=100) as conn:
        conn.send_request("GET", "/")
        step = conn.co_read_response()
        waits = 0
        try:
            for need in step:
                waits += 1
                clock(60)  # less than the limit, for each byte
                turn.release()
                assert select.select([need.fd], [], [], 20)[0]
        finally:
            for _ in range(100):
                turn.release()
        assert waits > 10
        assert conn.readall() == b"hello"


def test_deadline_is_for_one_exchange(clock: Callable[[float], None]) -> None:
    with Scripted(answers) as server, HTTPConnection("127.0.0.1", server.port, deadline=1000) as conn:
        for number in range(4):
            conn.send_request("GET", f"/{number}")
            clock(600)
            assert conn.read_response().status == 200
            clock(300)
            assert conn.readall() == f"/{number}".encode()
        conn.send_request("GET", "/a")
        conn.send_request("GET", "/b")
        for path in ("/a", "/b"):  # each its own
            clock(600)
            assert conn.read_response().path == path
            conn.readall()


def test_deadline_ends_a_steady_drip(clock: Callable[[float], None]) -> None:
    reading, over = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx")
        assert reading.wait(20)
        while not over.wait(0.02):
            clock(50)
            peer.send(b"x")

    with Scripted(script) as server:
        conn = HTTPConnection("127.0.0.1", server.port, deadline=1000)
        conn.send_request("GET", "/")
        conn.read_response()
        assert conn.read(1) == b"x"
        reading.set()
        with Watched(conn), pytest.raises(ConnectionTimedOut) as caught:
            conn.readall()
        over.set()
        conn.close()
    assert caught.value.where == "in body"
    assert caught.value.expected == 1_000_000
    assert caught.value.received is not None
    assert 0 < caught.value.received < 1000


# -- early answers --


def bodies_of(kind: str) -> Any:
    if kind == "bytes":
        return bytes(BIG)
    if kind == "iterable":
        return (bytes(65536) for _ in range(BIG // 65536))
    return BodyFollowing(BIG)


def send_all(conn: HTTPConnection, kind: str) -> None:
    """Send a PUT with a large body."""
    conn.send_request("PUT", "/", body=bodies_of(kind))
    if kind == "following":
        for _ in range(BIG // 65536):
            conn.write(bytes(65536))


@pytest.mark.parametrize("kind", ["bytes", "iterable", "following"])
@pytest.mark.parametrize(
    ("status", "close", "end"),
    [
        (413, True, "close"),
        (401, True, "close"),
        (413, False, "stay"),
        (413, False, "reset"),
        (200, True, "close"),
    ],
)
def test_an_early_answer_stops_the_body(kind: str, status: int, close: bool, end: str, contexts: Contexts) -> None:
    """It is returned, whatever the peer does behind it; and the connection is not used any more."""
    over = threading.Event()

    def script(peer: Peer) -> None:
        if peer.number:
            return answers(peer)
        assert peer.head() is not None
        peer.answer(b"no", f"{status} No", "Connection: close\r\n" if close else "")
        if end == "reset":
            return peer.reset()
        if end == "close":
            peer.finish()
        assert over.wait(20)  # and it reads nothing more

    with Scripted(script, contexts[0]) as server:
        conn = HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=15)
        with suppress(ConnectionClosed):  # where nothing more is taken
            send_all(conn, kind)
        response = conn.read_response()
        assert response.status == status
        assert not response.request_complete
        assert conn.readall() == b"no"
        with pytest.raises(ConnectionClosed):
            conn.send_request("GET", "/never")
        assert server.peers[0].received < BIG
        over.set()
        conn.close()
        conn.send_request("GET", "/anew")
        assert conn.read_response().path == "/anew"
        conn.close()


@pytest.mark.parametrize("kind", ["bytes", "iterable", "following"])
def test_an_early_good_answer_lets_the_body_go_on(kind: str, contexts: Contexts) -> None:
    whole = []

    def script(peer: Peer) -> None:
        while (seen := peer.head()) is not None:
            peer.answer(b"early")
            if seen.method == "PUT" and seen.field("Content-Length"):
                whole.append(len(peer.take(BIG)))
            elif seen.method == "PUT":
                whole.append(len(peer.chunks()))

    with Scripted(script, contexts[0]) as server:
        conn = HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=20)
        send_all(conn, kind)
        response = conn.read_response()
        assert (response.status, response.request_complete) == (200, True)
        assert conn.readall() == b"early"
        conn.send_request("GET", "/behind")
        assert conn.read_response().path == "/behind"
        assert whole == [BIG]
        assert server.connections == 1
        conn.close()


# -- cuts --

FIRST = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst"
SECOND = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nsecond\r\n0\r\n\r\n"


def read_both(conn: HTTPConnection) -> Iterator[bytes]:
    for _ in range(2):
        conn.read_response()
        yield conn.readall()


@pytest.mark.parametrize("end", ["finish", "reset"])
def test_cut_at_every_byte(end: str, contexts: Contexts) -> None:
    wire = FIRST + SECOND

    def script(peer: Peer) -> None:
        for _ in range(2):
            assert peer.request() is not None
        if peer.number:
            peer.send(wire[: peer.number])
        getattr(peer, end)()
        if end == "finish":
            peer.drain()

    with Scripted(script, contexts[0]) as server:
        for cut in range(len(wire) + 1):
            conn = HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=20)
            conn.connect()
            conn.send_request("GET", "/1")
            conn.send_request("POST", "/2", body=b"x")
            bodies = []
            error = None
            try:
                bodies.extend(body for body in read_both(conn))
            except ConnectionClosed as caught:
                error = caught
            complete = (cut >= len(FIRST)) + (cut == len(wire))
            paths = ["/1", "/2"][complete:]
            if error is None:
                assert complete == 2
                assert bodies == [b"first", b"second"]
            else:
                assert complete < 2
                begun = cut > (len(FIRST) if complete else 0)
                assert [fact.request.path for fact in error.outstanding] == paths
                states = ["answering" if begun else "sent", "sent"]
                assert [fact.state for fact in error.outstanding] == states[: len(paths)]
                safe = [not begun and complete == 0, False]
                assert [fact.safe for fact in error.outstanding] == safe[: len(paths)]
                start, length = (0, 5) if complete == 0 else (len(FIRST), None)
                head = wire.index(b"\r\n\r\n", start) + 4
                if cut >= head:
                    assert (error.where, error.expected) == ("in body", length)
                    assert error.received is not None
                    assert error.received <= cut - head
                else:
                    assert error.where == ("in head" if begun else "awaiting response")
                    assert error.received is None
                assert (end == "reset") <= (isinstance(error.__cause__, OSError) or contexts[0] is not None)
                with pytest.raises(ConnectionClosed):
                    conn.read_response()
            assert [request.path for request in conn.outstanding] == paths
            conn.close()


def test_the_first_of_two_is_delivered_before_the_cut(contexts: Contexts) -> None:
    """Bodies are lists here, so that what was read before an error counts."""
    wire = FIRST + SECOND

    def script(peer: Peer) -> None:
        for _ in range(2):
            assert peer.request() is not None
        peer.send(wire[: len(FIRST) + peer.number])
        peer.reset()

    with Scripted(script, contexts[0]) as server:
        for cut in range(len(SECOND)):
            conn = HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=20)
            conn.connect()
            conn.send_request("GET", "/1")
            conn.send_request("GET", "/2")
            server.settle(cut + 1)
            bodies = read_both(conn)
            assert next(bodies) == b"first"
            with pytest.raises(ConnectionClosed):
                next(bodies)
            conn.close()


@pytest.mark.parametrize(
    ("end", "whole"), [("finish", False), ("notify", True), ("reset", False)], ids=lambda value: str(value)
)
@pytest.mark.parametrize("lenient", [False, True])
def test_close_delimited_over_tls(end: str, whole: bool, lenient: bool, authority: Authority) -> None:
    field = b"" if lenient else b"Connection: close\r\n"

    def script(peer: Peer) -> None:
        assert peer.request() is not None
        peer.send(b"HTTP/1.1 200 OK\r\n" + field + b"\r\ncontent")
        getattr(peer, end)()

    client = ssl.create_default_context(cafile=authority.ca)
    with Scripted(script, server_context(authority.chain, authority.key)) as server:
        conn = HTTPConnection(
            "127.0.0.1",
            server.port,
            client,
            timeout=20,
            lenient=Lenient.UNTIL_CLOSE if lenient else Lenient(0),
        )
        conn.send_request("GET", "/")
        response = conn.read_response()
        if whole:
            assert conn.readall() == b"content"
            assert response.complete_by == "close"
        else:
            with pytest.raises(ConnectionClosed) as caught:
                conn.readall()
            assert caught.value.where == "in body"
            assert caught.value.received == len(b"content")
            assert response.complete_by is None
        conn.close()


def test_close_delimited_over_tcp() -> None:
    def script(peer: Peer) -> None:
        assert peer.request() is not None
        peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ncontent")
        peer.reset() if peer.number else peer.finish()

    with Scripted(script) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        conn.send_request("GET", "/")
        assert conn.read_response().complete_by is None
        assert conn.readall() == b"content"
        conn.close()
        conn.send_request("GET", "/")
        with pytest.raises(ConnectionClosed):
            _ = conn.read_response(), conn.readall()


def test_the_parsers_errors_carry_facts(contexts: Contexts) -> None:
    wires = {
        b"HTTP/1.1 2x0 OK\r\n\r\n": (InvalidResponse, "in head"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n": (InvalidResponse, "in body"),
        b"HTTP/1.1 200 OK\r\n\r\nabc": (UnsupportedResponse, "in body"),
    }
    for wire, (kind, where) in wires.items():

        def script(peer: Peer, wire: bytes = FIRST + wire) -> None:
            for _ in range(3):
                assert peer.request() is not None
            peer.send(wire)
            peer.drain()

        with (
            Scripted(script, contexts[0]) as server,
            HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=20) as conn,
        ):
            for method in ("GET", "GET", "POST"):
                conn.send_request(method, "/")
            bodies = read_both(conn)
            assert next(bodies) == b"first"
            with pytest.raises(kind) as caught:
                next(bodies)
            error: HTTPError = caught.value
            assert error.where == where
            assert [(fact.state, fact.safe) for fact in error.outstanding] == [
                ("answering", False),
                ("sent", False),
            ]
            with pytest.raises(ConnectionClosed):
                conn.send_request("GET", "/never")


def test_unsent_requests_are_told(contexts: Contexts) -> None:
    """What waited behind a stuck body was not sent."""
    over = threading.Event()

    def script(peer: Peer) -> None:
        assert over.wait(20)

    with Scripted(script, contexts[0]) as server:
        conn = HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=20)
        conn.connect()
        step = conn.co_send_request("PUT", "/1", body=bytes(BIG))
        next(step)
        step.close()
        step = conn.co_send_request("GET", "/2")
        next(step)
        conn.abort()
        with pytest.raises(ConnectionClosed) as caught:
            _ = drive(step), conn.read_response()  # the error may be left for the second
        facts = [(fact.request.path, fact.state, fact.safe) for fact in caught.value.outstanding]
        assert facts == [("/1", "sent", True), ("/2", "unsent", True)]
        over.set()
        conn.close()


# -- two threads --


@pytest.mark.parametrize("interval", [1e-6, 0.005])
@pytest.mark.parametrize("kind", ["targets", "bytes", "following"])
def test_one_sends_and_one_reads(kind: str, interval: float, contexts: Contexts) -> None:
    count = 3000 if contexts[0] is None else 1500
    failures: list[BaseException] = []
    sent = threading.Semaphore(0)

    def send() -> None:
        try:
            for number in range(count):
                if kind == "targets" or number % 3:
                    conn.send_request("GET", f"/{number}")
                elif kind == "bytes":
                    conn.send_request("PUT", f"/{number}", body=b"abcd")
                else:
                    conn.send_request("PUT", f"/{number}", body=BodyFollowing(4))
                    conn.write(b"ab")
                    conn.write(b"cd")
                sent.release()
        except BaseException as error:
            failures.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(interval)
    try:
        with (
            Scripted(answers, contexts[0]) as server,
            HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=20) as conn,
        ):
            conn.connect()
            thread = threading.Thread(target=send)
            thread.start()
            try:
                for number in range(count):
                    while not sent.acquire(timeout=0.5):
                        assert not failures, failures
                    assert conn.read_response().path == f"/{number}"
                    assert conn.readall() == f"/{number}".encode()
            finally:
                conn.abort()
                thread.join(20)
            assert not failures
            assert server.connections == 1
    finally:
        sys.setswitchinterval(before)


# -- steps --


def drive(step: Any) -> Any:
    """A select loop of the user's own, which knows nothing of httpio but the pair that a step yields."""
    try:
        while True:
            fd, mask = next(step)
            select.select([fd] if mask & POLLIN else [], [fd] if mask & POLLOUT else [], [], 10)
    except StopIteration as stop:
        return stop.value


def early(step: Any) -> Any:
    """A runner that resumes a step again and again before anything has happened."""
    try:
        while True:
            fd, mask = next(step)
            select.select([fd] if mask & POLLIN else [], [fd] if mask & POLLOUT else [], [], 0.0005)
    except StopIteration as stop:
        return stop.value


def conversation(conn: HTTPConnection, call: Callable[..., Any]) -> list[Any]:
    """Many calls; each by its name, through *call*."""
    out: list[Any] = []
    call("connect")
    for number in range(3):
        call("send_request", "GET", f"/{number}")
    call("send_request", "PUT", "/whole", body=bytes(2_000_000))
    call("send_request", "PUT", "/pieces", body=[b"ab", b"cd"])
    call("send_request", "PUT", "/written", body=BodyFollowing())
    call("write", b"abc")
    call("end_body")
    for number in range(6):
        response = call("read_response")
        out.append((response.status, response.path, response.headers.items()))
        if number == 0:
            out.append(call("readall"))
        elif number == 1:
            out.append(call("read", 1))
            call("discard")
        elif number == 2:
            buffer = bytearray(10)
            out.append((call("readinto", buffer), bytes(buffer)))
        else:
            out.append(call("read"))
    try:
        call("read_response")
    except StateError as error:
        out.append(str(error))
    call("send_request", "GET", "/cut")
    try:
        call("read_response")
        call("readall")
    except ConnectionClosed as error:
        out.append((str(error), error.where, error.received, error.expected, repr(error.outstanding)))
    return out


def test_steps_give_what_the_calls_give(contexts: Contexts) -> None:
    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            if seen.target == "/cut":
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
                return peer.finish()
            peer.answer(seen.target.encode() + b" %d" % len(seen.body))

    results = []
    with Scripted(script, contexts[0]) as server:
        for runner in (None, drive, early):
            with HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=20) as conn:

                def call(name: str, *args: Any, runner: Any = runner, conn: Any = conn, **kwargs: Any) -> Any:
                    if runner is None or name in ("close",):
                        return getattr(conn, name)(*args, **kwargs)
                    return runner(getattr(conn, "co_" + name)(*args, **kwargs))

                results.append(conversation(conn, call))
    assert results[0] == results[1] == results[2]
    assert len(results[0]) == 14


def test_steps_that_are_left_half_way(contexts: Contexts) -> None:
    """Another call of the same kind can follow: nothing was lost."""
    start, gate = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        start.wait(20)
        while (seen := peer.request()) is not None:
            gate.wait(20)
            gate.clear()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
            gate.wait(20)
            gate.clear()
            peer.send(b"%10d" % len(seen.body))

    with (
        Scripted(script, contexts[0]) as server,
        HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=20) as conn,
    ):
        connecting = conn.co_connect()
        next(connecting, None)
        connecting.close()
        assert not conn.response_pending()
        conn.connect()
        sending = conn.co_send_request("PUT", "/", body=bytes(BIG))
        next(sending)
        sending.close()
        start.set()
        for _ in range(3):
            reading = conn.co_read_response()
            next(reading)
            reading.close()
        conn.send_request("PUT", "/", body=b"x")
        for length in (BIG, 1):
            gate.set()
            conn.read_response()
            body = conn.co_readall()
            next(body)
            body.close()
            gate.set()
            assert conn.readall() == b"%10d" % length


def test_a_source_left_half_way_breaks_the_connection(contexts: Contexts) -> None:
    with Scripted(silent, contexts[0]) as server:
        conn = HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=20)
        conn.connect()

        def failing() -> Iterator[bytes]:
            yield b"abc"
            raise KeyError("mine")

        with pytest.raises(KeyError):
            conn.send_request("PUT", "/", body=failing())
        with pytest.raises(ConnectionClosed):
            conn.send_request("GET", "/never")
        conn.close()


def test_what_is_stuck_where_nothing_more_is_wanted_is_not_waited_for() -> None:
    """A record that TLS could not send counts as sent; a sender that went on for it would turn in a circle."""
    with Scripted(answers) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        conn.connect()
        link = conn._link
        assert link.transport is not None
        link.transport.stuck = True
        assert not link.flush()
        link.protocol.sending = Sending.STOPPED
        assert link.flush()
