"""What may happen to each system call of a connection: TM-13 (the kernel) and TM-14 (the user's Ctrl-C)."""

from __future__ import annotations

import io
import linecache
import signal
import ssl
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import awkward
from awkward import Habits
from conftest import Authority, Contexts
from faces import READERS, read_by
from httpio import BodyFollowing, ConnectionClosed, HTTPConnection, Request, StateError, fetch
from servers.objects import content
from servers.scripted import Peer, Scripted, server_context

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
FIRST = OK + b"Content-Length: 5\r\n\r\nfirst"


# -- TM-13 --


def talk(conn: HTTPConnection, path: Path) -> list[Any]:
    """A conversation of all kinds, and what came of it."""
    found: list[Any] = []
    conn.connect()
    with path.open("rb") as file:
        for method, body in (("GET", None), ("PUT", b"abc" * 999), ("PUT", file), ("PUT", [b"ab", b"c" * 999])):
            conn.send_request(method, f"/{method}", body=body)
        conn.send_request("PUT", "/following", body=BodyFollowing(3000))
        for _ in range(3):
            conn.write(b"d" * 1000)
        for reader in READERS:
            response = conn.read_response()
            taken = io.BytesIO()
            read_by(reader, conn, taken)
            found.append((response.status, response.path, response.complete_by, taken.getvalue()))
    with path.with_suffix(".large").open("w+b") as file:
        conn.send_request("GET", "/large")
        conn.read_response()
        assert conn.write_to(file) == len(LARGE)
        file.seek(0)
        assert file.read() == LARGE
    requests = [Request("PUT", f"/{number}", body=b"e" * 200) for number in range(10)]
    for response in conn.pipeline(requests, 4, body_limit=100):
        body = response.body if response.body is not None else conn.readall()
        found.append((response.path, response.complete_by, body))
    return found


LARGE = content(1, 80_000)


def repeats(peer: Peer) -> None:
    """Each request is answered with its body, in one kind of framing or the other."""
    while (seen := peer.request()) is not None:
        body = LARGE if seen.target == "/large" else seen.body or b"nothing"
        if seen.target == "/large" or len(peer.server.seen) % 2:
            peer.answer(body)
        else:
            half = len(body) // 2
            parts = [b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:])]
            peer.send(CHUNKED + b"".join(parts) + b"0\r\n\r\n")


@pytest.mark.parametrize(
    "habits",
    [
        Habits(received=1),
        Habits(sent=1),
        Habits(received=7, sent=13),
        Habits(refusals=1),
        Habits(received=1, sent=1, refusals=3),
    ],
    ids=["recv 1", "send 1", "little", "EAGAIN", "all"],
)
def test_tm_13_awkward_sockets(
    habits: Habits, contexts: Contexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same conversation, over sockets as they are and over these."""
    path = tmp_path / "body"
    path.write_bytes(b"file" * 500)
    results = []
    for awkwardly in (False, True):
        if awkwardly:
            awkward.use(habits, monkeypatch, contexts[1])
        with (
            Scripted(repeats, contexts[0]) as server,
            HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=15) as conn,
        ):
            results.append(talk(conn, path))
            assert server.connections == 1
    assert results[0] == results[1]
    assert len(results[0]) == 15


def test_tm_13_signals(contexts: Contexts, tmp_path: Path) -> None:
    """System calls that signals interrupt, all the time (EINTR)."""
    path = tmp_path / "body"
    path.write_bytes(b"file" * 500)
    over = threading.Event()
    caught = 0

    def handler(*_: Any) -> None:
        nonlocal caught
        caught += 1

    def disturb(thread: int) -> None:
        while not over.wait(0.0005):
            signal.pthread_kill(thread, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(target=disturb, args=(threading.get_ident(),))
    thread.start()
    try:
        with (
            Scripted(repeats, contexts[0]) as server,
            HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=15) as conn,
        ):
            assert len(talk(conn, path)) == 15
            while not caught:
                conn.send_request("GET", "/")
                conn.read_response()
                conn.discard()
    finally:
        over.set()
        thread.join(20)
        signal.signal(signal.SIGUSR1, before)


# -- TM-14 --


class Interrupt:
    """The user's Ctrl-C in one system call of a conversation: the call number *at*, before it is made or after."""

    def __init__(self, at: int, when: str, habits: Habits, only: str = "") -> None:
        self.left = at
        self.only = only
        self.where = ""
        self.armed = True
        if when == "before":
            habits.before = lambda name, sock: self.count(name)
        else:
            habits.after = lambda name, sock, result: self.count(name)

    def count(self, name: str) -> None:
        if self.armed and self.only in ("", name):
            self.left -= 1
            if self.left == 0:
                self.armed = False
                self.where = name
                raise KeyboardInterrupt


def body_of(target: str) -> bytes:
    """What the object at *target* holds; no two have the same."""
    number = int(target[1:])
    return content(number, 400_000 if number == 5 else number * 37)


def objects(peer: Peer) -> None:
    while (seen := peer.request()) is not None:
        peer.answer(body_of(seen.target))


def low_level(conn: HTTPConnection, path: Path) -> None:
    bodies: list[Any] = [None, b"a" * 500, [b"b" * 100, b"c" * 100]]
    with path.open("rb") as file:
        for number in range(20):
            body = file if number == 3 else bodies[number % 3]
            conn.send_request("GET" if body is None else "PUT", f"/{number}", body=body)
        for number in range(20):
            assert conn.read_response().path == f"/{number}"
            if number == 5:
                with path.with_suffix(".taken").open("wb") as taken:
                    conn.write_to(taken)
            else:
                assert conn.readall() == body_of(f"/{number}")
    conn.close()


def pipelined(conn: HTTPConnection, path: Path) -> None:
    requests: list[Any] = [f"/{number}" for number in range(20)]
    requests[7] = Request("PUT", "/7", body=b"a" * 500)
    requests[12] = Request("POST", "/12", body=[b"b" * 100])
    for number, response in enumerate(conn.pipeline(requests, 8, body_limit=50_000)):
        body = conn.readall() if response.body is None else response.body
        assert (response.path, body) == (f"/{number}", body_of(f"/{number}"))
    conn.close()


def assert_in_step(conn: HTTPConnection) -> None:
    """What can still be read answers its own request, and so does what can still be sent; else the connection is
    closed or broken. A new one works."""
    with suppress(ConnectionClosed, StateError):
        body = conn.readall()  # of a response that was being read, of which some may have been taken
        assert not body or any(body_of(f"/{number}").endswith(body) for number in range(20))
        conn.send_request("GET", "/99")
        expected = [request.path for request in conn.outstanding]
        answered = []
        while conn.response_pending():
            answered.append(conn.read_response().path)
            assert conn.readall() == body_of(answered[-1])
        assert answered[-len(expected) :] == expected
    conn.close()
    assert conn.outstanding == ()
    conn.send_request("GET", "/98")
    assert (conn.read_response().path, conn.readall()) == ("/98", body_of("/98"))
    conn.close()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("talk", [low_level, pipelined])
def test_tm_14_an_interrupt_in_each_system_call(
    talk: Callable[[HTTPConnection, Path], None],
    when: str,
    contexts: Contexts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "body"
    path.write_bytes(bytes(1000))
    habits = Habits(refusals=1)
    awkward.use(habits, monkeypatch, contexts[1])
    interrupted = set()
    with Scripted(objects, contexts[0]) as server:
        for at in range(1, 500):
            conn = HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=20)
            interrupt = Interrupt(at, when, habits)
            with suppress(KeyboardInterrupt):
                talk(conn, path)
            interrupt.armed = False
            assert_in_step(conn)
            assert habits.open_sockets() == 0, interrupt.where
            habits.sockets.clear()
            if not interrupt.where:
                break
            interrupted.add(interrupt.where)
        assert at > 50
    wanted = {"poll", "recv_into", "send"} | ({"do_handshake"} if contexts[0] else {"connect"})
    if talk is low_level:
        wanted |= set() if contexts[0] else {"sendfile", "splice"}
    assert wanted <= interrupted


@pytest.mark.parametrize("when", ["before", "after"])
def test_tm_14_an_interrupt_in_close(when: str, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    habits = Habits()
    client = ssl.create_default_context(cafile=authority.ca)
    awkward.use(habits, monkeypatch, client)
    with Scripted(objects, server_context(authority.chain, authority.key)) as server:
        conn = HTTPConnection("127.0.0.1", server.port, client, timeout=20)
        conn.send_request("GET", "/1")
        assert conn.read_response().path == "/1"
        Interrupt(1, when, habits, only="unwrap")
        with pytest.raises(KeyboardInterrupt):
            conn.close()
        assert habits.open_sockets() == 0
        assert_in_step(conn)


class LineByLine:
    """The same at line number *at* of those that httpio runs, but for those at which a signal cannot come through."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.where = ""

    def watch(self, frame: FrameType, event: str, argument: object) -> Any:
        return self.count if "/httpio/" in frame.f_code.co_filename else None

    def count(self, frame: FrameType, event: str, argument: object) -> Any:
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip()
        # The end of a `with` has its line, too: a lock that is held there is given back whatever happens.
        if event == "line" and not self.where and not line.startswith("with "):
            self.left -= 1
            if self.left == 0:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self.count


def few_low_level(conn: HTTPConnection) -> None:
    for number in range(4):
        body = b"a" * 500 if number % 2 else None
        conn.send_request("PUT" if body else "GET", f"/{number}", body=body)
    for number in range(4):
        assert conn.read_response().path == f"/{number}"
        assert conn.readall() == body_of(f"/{number}")


def one_by_one(conn: HTTPConnection) -> None:
    for number in range(3):
        conn.send_request("GET", f"/{number}")
        assert conn.read_response().path == f"/{number}"
        assert conn.readall() == body_of(f"/{number}")


def few_pipelined(conn: HTTPConnection) -> None:
    for number, response in enumerate(conn.pipeline([f"/{number}" for number in range(5)], 3)):
        assert (response.path, response.body) == (f"/{number}", body_of(f"/{number}"))


@pytest.mark.parametrize("talk", [few_low_level, one_by_one, few_pipelined])
def test_tm_14_an_interrupt_at_each_line(talk: Callable[[HTTPConnection], None]) -> None:
    with Scripted(objects) as server:
        for at in range(1, 5000):
            conn = HTTPConnection("127.0.0.1", server.port, timeout=20)
            interrupt = LineByLine(at)
            tracer = sys.gettrace()
            sys.settrace(interrupt.watch)
            try:
                talk(conn)
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(tracer)
            try:
                assert_in_step(conn)
            except Exception as error:
                raise AssertionError(f"out of step after an interrupt at {interrupt.where}") from error
            if not interrupt.where:
                break
        assert at > 100


def drive(step: Any, interrupt: Interrupt) -> Any:
    """Run a step, and leave it at the wait where the interrupt is due."""
    try:
        while True:
            need = step.send(None)
            try:
                interrupt.count("wait")
            except KeyboardInterrupt:
                step.close()
                raise
            need.poll()
    except StopIteration as stop:
        return stop.value


def test_tm_14_steps_left_at_each_wait(contexts: Contexts, monkeypatch: pytest.MonkeyPatch) -> None:
    habits = Habits(refusals=1)
    awkward.use(habits, monkeypatch, contexts[1])
    with Scripted(objects, contexts[0]) as server:
        for at in range(1, 500):
            conn = HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=20)
            interrupt = Interrupt(at, "at waits", Habits())
            with suppress(KeyboardInterrupt):
                for number in range(12):
                    body = [None, b"a" * 500, [b"b" * 100, b"c" * 100]][number % 3]
                    drive(conn.co_send_request("PUT", f"/{number}", body=body), interrupt)
                for number in range(12):
                    assert drive(conn.co_read_response(), interrupt).path == f"/{number}"
                    taken = bytearray(200_000)
                    if number % 2:
                        drive(conn.co_readinto(taken), interrupt)
                        drive(conn.co_discard(), interrupt)
                    else:
                        assert drive(conn.co_readall(), interrupt) == body_of(f"/{number}")
            assert_in_step(conn)
            if not interrupt.where:
                break
        assert at > 10
        assert habits.open_sockets() == 0


def test_tm_14_fetch(contexts: Contexts, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is over with the first interrupt, and leaves no descriptor behind."""
    habits = Habits(refusals=1)
    awkward.use(habits, monkeypatch, contexts[1])
    scheme = "https" if contexts[1] else "http"
    with Scripted(objects, contexts[0]) as server:
        for at in range(1, 500):
            interrupt = Interrupt(at, "after", habits)
            urls = [f"{scheme}://127.0.0.1:{server.port}/{number}" for number in range(20)]
            with suppress(KeyboardInterrupt):
                for number, result in enumerate(fetch(urls, ssl_context=contexts[1])):
                    assert result.content == body_of(f"/{number}")
            assert habits.open_sockets() == 0, interrupt.where
            habits.sockets.clear()
            if not interrupt.where:
                break
        assert at > 10
