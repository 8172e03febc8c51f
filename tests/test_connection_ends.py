"""HTTPConnection: steps that wait and never block, and its ends: close, abort, fork, detach."""

from __future__ import annotations

import io
import os
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import httpio.waiting
from conftest import Authority
from httpio import BodyFollowing, ConnectionClosed, HTTPConnection, PollNeeded, Request, StateError
from httpio.waiting import run
from servers.scripted import Peer, answers
from serving import BIG, DATA, Serve, answered, serving

BOTH = ("plain", "tls")
PART = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\npart"


@pytest.fixture
def served(authority: Authority, tmp_path: Path) -> Iterator[Serve]:
    with serving(authority, tmp_path) as serve:
        yield serve


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Set when the test is over: what a server may wait for that is to do nothing meanwhile."""
    event = threading.Event()
    yield event
    event.set()


# -- steps --


class Guard:
    """In place of the select module: notes whoever waits while a step is being resumed."""

    def __init__(self) -> None:
        self.resuming = False
        self.waits = 0

    def poll(self) -> Any:
        real = select.poll()

        def poll(timeout: float | None = None) -> Any:
            self.waits += self.resuming and timeout != 0
            return real.poll(timeout)

        return SimpleNamespace(register=real.register, poll=poll)

    def waits_for(self, step: Any) -> PollNeeded:
        """Resume the step until it waits for what does not happen; returns that."""
        for _ in range(1000):
            self.resuming = True
            try:
                need = next(step)
            finally:
                self.resuming = False
            assert isinstance(need, PollNeeded)
            if not need.poll(0):
                assert self.waits == 0
                return need
        raise AssertionError("it does not wait")


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> Guard:
    def sleep(seconds: float) -> None:
        raise AssertionError("a step sleeps")

    guard = Guard()
    monkeypatch.setattr(httpio.waiting, "select", guard)
    monkeypatch.setattr(time, "sleep", sleep)
    return guard


def begun(conn: HTTPConnection) -> HTTPConnection:
    """In a body that does not go on."""
    conn.send_request("GET", "/part")
    conn.read_response()
    assert conn.read(4) == b"part"
    return conn


def full(conn: HTTPConnection, length: int | None = None) -> HTTPConnection:
    """In a body of which more waits to be sent than there is room for."""
    conn.send_request("PUT", "/", body=BodyFollowing(length))
    step = conn.co_write(bytes(BIG))
    next(step)
    step.close()
    return conn


def asked(conn: HTTPConnection) -> HTTPConnection:
    conn.send_request("GET", "/")
    return conn


def sized(file: Any, size: int = BIG) -> Any:
    file.truncate(size)
    return file


STEPS: dict[str, Callable[[HTTPConnection, Any], Any]] = {
    "send_request": lambda conn, file: conn.co_send_request("PUT", "/", body=bytes(BIG)),
    "send_request a file": lambda conn, file: conn.co_send_request("PUT", "/", body=sized(file)),
    "send_request pieces": lambda conn, file: conn.co_send_request("PUT", "/", body=[bytes(BIG)]),
    "write": lambda conn, file: full(conn).co_write(DATA),
    "sendfile": lambda conn, file: full(conn, 2 * BIG).co_sendfile(sized(file)),
    "end_body": lambda conn, file: full(conn).co_end_body(),
    "flush": lambda conn, file: full(conn).co_flush(),
    "read_response": lambda conn, file: asked(conn).co_read_response(),
    "read": lambda conn, file: begun(conn).co_read(10),
    "read all": lambda conn, file: begun(conn).co_read(),
    "readinto": lambda conn, file: begun(conn).co_readinto(bytearray(1_000_000)),
    "readall": lambda conn, file: begun(conn).co_readall(),
    "discard": lambda conn, file: begun(conn).co_discard(),
    "write_to": lambda conn, file: begun(conn).co_write_to(io.BytesIO()),
    "write_to a file": lambda conn, file: begun(conn).co_write_to(file),
    "read_raw": lambda conn, file: begun(conn).co_read_raw(10),
}


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Any]:
    with (tmp_path / "file").open("w+b") as file:
        yield file


class Stalling:
    """A script that reads one head, answers /part in part, and then does nothing. On the connections behind it, all
    requests are answered."""

    def __init__(self, over: threading.Event) -> None:
        self._over = over
        self.asked = threading.Event()
        """Set when the head is here."""

    def __call__(self, peer: Peer) -> None:
        if peer.number:
            return answers(peer)
        seen = peer.head()
        self.asked.set()
        if seen is not None and seen.target == "/part":
            peer.send(PART)
        assert self._over.wait(20)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("way", BOTH)
def test_a_step_waits_by_yielding(
    way: str, name: str, served: Serve, guard: Guard, file: Any, over: threading.Event
) -> None:
    _, conn = served(Stalling(over), way)
    conn.connect()
    assert not os.get_blocking(conn.fileno())
    step = STEPS[name](conn, file)
    assert guard.waits_for(step).fd == conn.fileno()
    step.close()


@pytest.fixture(params=["looking up", "connecting", "shaking hands"])
def unconnected(
    request: pytest.FixtureRequest, authority: Authority, over: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HTTPConnection]:
    """A connection that would wait for ever in the named phase of connecting."""
    context = ssl.create_default_context(cafile=authority.ca)
    if request.param == "connecting" and not sys.platform.startswith("linux"):
        pytest.skip("a full queue drops connects on Linux only")
    main = threading.current_thread()

    def look_up(*_: Any, **__: Any) -> list[Any]:
        assert threading.current_thread() is not main
        over.wait(20)
        return []

    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        if request.param == "connecting":
            for _ in range(4):
                sock = stack.enter_context(socket.socket())
                sock.setblocking(False)
                sock.connect_ex(listener.getsockname())
        host = "127.0.0.1"
        if request.param == "looking up":
            host = "slow.example"
            monkeypatch.setattr(socket, "getaddrinfo", look_up)
        yield stack.enter_context(HTTPConnection(host, listener.getsockname()[1], context))
        over.set()


CONNECTING: dict[str, Callable[[HTTPConnection], Any]] = {
    "connect": lambda conn: conn.co_connect(),
    "send_request": lambda conn: conn.co_send_request("GET", "/"),
    "get_ssl_peercert": lambda conn: conn.co_get_ssl_peercert(),
    "get_ssl_cipher": lambda conn: conn.co_get_ssl_cipher(),
}


@pytest.mark.parametrize("name", CONNECTING)
def test_a_step_connects_by_yielding(name: str, unconnected: HTTPConnection, guard: Guard) -> None:
    step = CONNECTING[name](unconnected)
    guard.waits_for(step)
    unconnected.abort()
    with pytest.raises(ConnectionClosed):
        run(step)


# -- close --


AFTER_CLOSE: dict[str, Callable[[HTTPConnection], Any]] = {
    "read": lambda conn: conn.read(5),
    "read all": lambda conn: conn.read(),
    "readinto": lambda conn: conn.readinto(bytearray(5)),
    "readall": lambda conn: conn.readall(),
    "discard": lambda conn: conn.discard(),
    "write_to": lambda conn: conn.write_to(io.BytesIO()),
    "text": lambda conn: conn.text().read(),
    "co_read": lambda conn: run(conn.co_read(5)),
    "co_readinto": lambda conn: run(conn.co_readinto(bytearray(5))),
    "co_readall": lambda conn: run(conn.co_readall()),
    "co_discard": lambda conn: run(conn.co_discard()),
    "co_write_to": lambda conn: run(conn.co_write_to(io.BytesIO())),
}
WRITES: dict[str, Callable[[HTTPConnection], Any]] = {
    "write": lambda conn: conn.write(b"x"),
    "write nothing": lambda conn: conn.write(b""),
    "partial": lambda conn: conn.write(b"x", partial=True),
    "sendfile": lambda conn: conn.sendfile(io.BytesIO(b"x")),
    "end_body": lambda conn: conn.end_body(),
    "co_write": lambda conn: run(conn.co_write(b"x")),
    "co_sendfile": lambda conn: run(conn.co_sendfile(io.BytesIO(b"x"))),
    "co_end_body": lambda conn: run(conn.co_end_body()),
}
CLOSES: dict[str, Callable[[HTTPConnection], Any]] = {
    "close": lambda conn: conn.close(),
    "disconnect": lambda conn: conn.disconnect(),
    "reset": lambda conn: conn.reset(),
    "with": lambda conn: conn.__exit__(None, None, None),
}


@pytest.mark.parametrize("close", CLOSES)
@pytest.mark.parametrize("name", AFTER_CLOSE)
@pytest.mark.parametrize("here", [False, True])
def test_closing_inside_a_response(here: bool, name: str, close: str, served: Serve, over: threading.Event) -> None:
    """That is not the end of its body, also where more of it was here."""
    _, conn = served(Stalling(over))
    conn.send_request("GET", "/part")
    conn.read_response()
    conn.read(1 if here else 4)
    CLOSES[close](conn)
    for _ in range(2):
        with pytest.raises(ConnectionClosed):
            AFTER_CLOSE[name](conn)
    assert conn.outstanding == ()
    answered(conn)
    assert not AFTER_CLOSE[name](conn)


@pytest.mark.parametrize("close", CLOSES)
@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("length", [None, 10])
def test_closing_inside_a_request(
    length: int | None, name: str, close: str, served: Serve, over: threading.Event
) -> None:
    _, conn = served(Stalling(over))
    conn.send_request("PUT", "/", body=BodyFollowing(length))
    conn.write(b"begun")
    CLOSES[close](conn)
    for _ in range(2):
        with pytest.raises(ConnectionClosed):
            WRITES[name](conn)
    conn.flush()
    answered(conn)
    with pytest.raises(StateError):
        WRITES[name](conn)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("way", BOTH)
def test_a_step_that_is_left_over_a_close(
    way: str, name: str, again: bool, served: Serve, file: Any, over: threading.Event
) -> None:
    """It does not touch the exchange that was begun since."""
    server, conn = served(Stalling(over), way)
    conn.connect()
    step = STEPS[name](conn, file)
    while next(step).poll(0):
        pass
    conn.close()
    if again:
        conn.connect()
        conn.send_request("PUT", "/new", body=BodyFollowing(4))
        conn.write(b"ab")
    with pytest.raises(ConnectionClosed):
        next(step)
    if again:
        conn.write(b"cd")
        answered(conn, "/new")
    else:
        answered(conn)
    assert [target for target in server.targets() if target not in ("/", "/part")] == ["/new"] * again + ["/behind"]


# -- abort --


class Aborting:
    """Aborts again and again, from another thread, until the block is left. *after*: not before this is set."""

    def __init__(self, conn: HTTPConnection, after: threading.Event | None = None) -> None:
        self._conn = conn
        self._after = after
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        assert self._after is None or self._after.wait(20)
        while not self._done.wait(0.01):
            self._conn.abort()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(20)


@pytest.mark.parametrize("name", CONNECTING)
def test_abort_while_it_connects(name: str, unconnected: HTTPConnection) -> None:
    for _ in range(2):
        with Aborting(unconnected), pytest.raises(ConnectionClosed) as caught:
            run(CONNECTING[name](unconnected))
        assert caught.value.where == "connecting"
        assert unconnected.peername is None


@pytest.mark.parametrize("name", [*(name for name in STEPS if name != "read_raw"), "pipeline"])
@pytest.mark.parametrize("way", BOTH)
def test_abort_while_a_call_waits(way: str, name: str, served: Serve, file: Any, over: threading.Event) -> None:
    stalling = Stalling(over)
    _, conn = served(stalling, way, timeout=None)
    conn.connect()
    if name == "pipeline":  # which would connect anew for a request that has not gone out
        responses = conn.pipeline([Request("POST", "/")])
        with Aborting(conn, stalling.asked), pytest.raises(ConnectionClosed):
            next(responses)
    else:
        step = STEPS[name](conn, file)
        with Aborting(conn), pytest.raises(ConnectionClosed):
            run(step)
    over.set()
    conn.close()
    answered(conn)


# -- fork --


@pytest.mark.parametrize("kind", ["untouched", "idle", "outstanding", "reading", "writing", "piping", "left"])
@pytest.mark.parametrize("way", BOTH)
def test_fork(way: str, kind: str, served: Serve, authority: Authority) -> None:
    """In the child the connection has ended, without a word to the peer; in the parent it goes on."""
    released = threading.Event()

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            if seen.target == "/release":
                released.set()
            if seen.target == "/held":
                assert released.wait(20)
            peer.answer(DATA if seen.target == "/data" else seen.target.encode() + seen.body)

    server, _ = served(script, way)
    ca = str(authority.ca) if way == "tls" else ""
    program = Path(__file__).with_name("fork_client.py")
    command = [sys.executable, str(program), kind, str(server.port), ca]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first = [seen.target for seen in server.seen if seen.target not in ("/release", "/child")]
    assert len(first) == len(set(first))  # nothing was sent twice
    assert first[-1] == "/last"
    assert server.connections == (1 if kind in ("untouched", "piping") else 2)


# -- detach --

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
UPGRADE = {"Connection": "upgrade", "Upgrade": "x"}


@pytest.mark.parametrize("switch", [SWITCH, b"HTTP/1.1 103 Early\r\n\r\n" + SWITCH], ids=["at once", "behind another"])
@pytest.mark.parametrize("size", [0, 1, 3_000_000])
@pytest.mark.parametrize("way", BOTH)
def test_detach(way: str, size: int, switch: bytes, served: Serve) -> None:
    """What was received behind the response, and what the socket gives, is all that was sent."""
    data = (DATA * 10)[:size]

    def script(peer: Peer) -> None:
        if peer.number:
            return answers(peer)
        while (seen := peer.request()) is not None and seen.target != "/upgrade":
            peer.answer(seen.target.encode())
        peer.send(switch + data)
        peer.send(peer.take(5).upper())

    server, conn = served(script, way)
    conn.send_request("GET", "/before")
    conn.send_request("GET", "/upgrade", UPGRADE)
    conn.read_response()
    with pytest.raises(StateError):
        conn.detach()
    assert conn.readall() == b"/before"
    with pytest.raises(StateError):
        conn.detach()
    response = conn.read_response()
    assert (response.status, response.framing) == (101, "tunnel")
    assert conn.readall() == b""
    sock, received = conn.detach()
    with sock:
        assert not sock.getblocking()
        sock.settimeout(20)
        sock.sendall(b"hello")
        everything = bytearray(received)
        while len(everything) < size + 5:
            everything += sock.recv(1 << 20) or b"?"
        assert everything == data + b"HELLO"
        with pytest.raises(StateError):
            conn.detach()
        answered(conn)
        assert server.connections == 2


@pytest.mark.parametrize(
    ("method", "target", "fields", "status"),
    [
        ("CONNECT", "example.org:443", None, "407 No"),
        ("GET", "/", UPGRADE, "200 OK"),
        ("GET", "/", UPGRADE, "426 No"),
        ("GET", "/", None, "200 OK"),
    ],
)
def test_nothing_to_detach(method: str, target: str, fields: Any, status: str, served: Serve) -> None:
    """StateError at each step, which changes nothing."""

    def script(peer: Peer) -> None:
        assert peer.request() is not None
        peer.answer(b"content", status)
        answers(peer)

    _, conn = served(script)
    for change in (conn.connect, lambda: conn.send_request(method, target, fields), conn.read_response, conn.readall):
        with pytest.raises(StateError):
            conn.detach()
        change()
    with pytest.raises(StateError):
        conn.detach()
    answered(conn)
