"""Request bodies that fail in the middle: the caller's own error, and what then stands of the connection."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Authority
from httpio import BodyFollowing, ConnectionClosed, ExcessBodyData, HTTPConnection, StateError
from httpio.waiting import run
from servers.scripted import Peer, Scripted, answers
from serving import BIG, DATA, WAYS, Serve, answered, serving


@pytest.fixture
def served(authority: Authority, tmp_path: Path) -> Iterator[Serve]:
    with serving(authority, tmp_path) as serve:
        yield serve


class Mine(Exception):
    """What a test's own body raises."""


def raising(error: BaseException) -> Iterator[bytes]:
    yield b"begun"
    raise error


class Failing(io.RawIOBase):
    """A file that gives some bytes, and then raises *then*, or gives it."""

    def __init__(self, then: Any) -> None:
        self._then = [b"first", then]

    def read(self, size: Any = -1) -> Any:
        piece = self._then.pop(0)
        if isinstance(piece, BaseException):
            raise piece
        return piece


OWN: dict[str, BaseException] = {
    "an error": Mine(),
    "a reset of another connection": ConnectionResetError(errno.ECONNRESET, "another"),
    "a timeout": TimeoutError(errno.ETIMEDOUT, "another"),
    "nothing to read": BlockingIOError(errno.EAGAIN, "another"),
    "another connection's": ConnectionClosed("another"),
    "an interrupt": KeyboardInterrupt(),
    "a cancel": GeneratorExit(),
}
TEN = {"Content-Length": "10"}
Act = Callable[[HTTPConnection], object]


def put(body: Any, fields: Any = None, trailers: Any = None) -> Act:
    return lambda conn: conn.send_request("PUT", "/broken", fields, body, trailers=trailers)


def part(file: Any, length: int | None = None) -> Act:
    def act(conn: HTTPConnection) -> None:
        conn.send_request("PUT", "/broken", body=BodyFollowing(length))
        conn.write(b"begun")
        conn.sendfile(file)

    return act


FAILING: dict[str, tuple[Callable[[], Act], type[BaseException]]] = {
    "str": (lambda: put([b"begun", "str"]), TypeError),
    "int": (lambda: put(iter([b"begun", 5])), TypeError),
    "too little": (lambda: put([b"begun"], TEN), StateError),
    "too much": (lambda: put([b"begun", b"and more"], TEN), ExcessBodyData),
    "too much behind its end": (lambda: put([b"begun", b"ended", b"!"], TEN), ExcessBodyData),
    "something for nothing": (lambda: put([b"", b"!"], {"Content-Length": "0"}), ExcessBodyData),
    "a short file": (lambda: put(io.BytesIO(b"begun"), TEN), StateError),
    "a file that fails": (lambda: put(Failing(OSError(errno.EIO, "disk"))), OSError),
    "a file that gives text": (lambda: put(Failing("str")), TypeError),
    "a file that gives nothing": (lambda: put(Failing(None)), TypeError),
    "a part that fails": (lambda: part(Failing(OSError(errno.EIO, "disk"))), OSError),
    "a part that gives text": (lambda: part(Failing("str"), 100), TypeError),
    "a part of unknown size that is too large": (lambda: part(Failing(b"and more"), 15), ExcessBodyData),
    "trailers that fail": (lambda: put([b"begun"], None, lambda: [][0]), IndexError),
    "trailers that cannot be": (lambda: put([b"begun"], None, lambda: {"Host": "x"}), ValueError),
    **{f"{name}, iterable": (lambda error=error: put(raising(error)), type(error)) for name, error in OWN.items()},
    **{f"{name}, file": (lambda error=error: put(Failing(error)), type(error)) for name, error in OWN.items()},
}  # fmt: skip


class FirstOnly:
    """A script to which two requests come, and it answers the first. On the connections behind it, all are answered.
    *held*: then it reads nothing more before `gate` is set."""

    def __init__(self, held: bool = False) -> None:
        self.done = threading.Event()
        self.gate = threading.Event()
        if not held:
            self.gate.set()

    def __call__(self, peer: Peer) -> None:
        if peer.number:
            return answers(peer)
        assert peer.request() is not None
        assert peer.request() is not None
        peer.answer(b"whole")
        self.done.set()
        assert self.gate.wait(20)
        peer.drain()


class Broken:
    """A connection on which two requests are outstanding, the first of them answered, when a body fails."""

    def __init__(self, served: Serve, way: str = "plain", held: bool = False) -> None:
        self.script = FirstOnly(held)
        self.server, self.conn = served(self.script, way)
        self.conn.connect()
        self.conn.send_request("GET", "/answered")
        self.conn.send_request("GET", "/waiting")
        assert self.script.done.wait(20)

    def check(self, act: Act, error: type[BaseException]) -> BaseException:
        """*act* sends the body as /broken. That fails with the caller's own error, and what was answered stands; the
        others are told of. Returns the error."""
        conn = self.conn
        with pytest.raises(error) as caught:
            act(conn)
        assert type(caught.value) is error
        assert [request.path for request in conn.outstanding] == ["/answered", "/waiting", "/broken"]
        assert conn.read_response().path == "/answered"
        assert conn.readall() == b"whole"
        assert [request.path for request in conn.outstanding] == ["/waiting", "/broken"]
        for call in (
            lambda: conn.send_request("GET", "/never"), lambda: conn.write(b"x"), conn.end_body, conn.read_response,
        ):  # fmt: skip
            with pytest.raises((ConnectionClosed, StateError)) as lost:
                call()
        facts = [(fact.request.path, fact.state, fact.safe) for fact in lost.value.outstanding]
        assert facts == [("/waiting", "sent", True), ("/broken", "sent", False)]
        conn.close()
        assert conn.outstanding == ()
        answered(conn)
        assert "/never" not in self.server.targets()
        return caught.value


@pytest.mark.parametrize("way", ["plain", "tls"])
@pytest.mark.parametrize("kind", FAILING)
def test_failing(kind: str, way: str, served: Serve) -> None:
    make, error = FAILING[kind]
    raised = Broken(served, way).check(make(), error)
    own = OWN.get(kind.split(",")[0])
    assert own is None or raised is own


def waiting(change: Callable[[], object], script: FirstOnly, **request: Any) -> Act:
    """Sends a body for which there is no room at first; *change* happens meanwhile."""

    def act(conn: HTTPConnection) -> None:
        file = request["body"]
        if request.pop("part", False):
            conn.send_request("PUT", "/broken", body=BodyFollowing(BIG))
            step: Any = conn.co_sendfile(file)
        else:
            step = conn.co_send_request("PUT", "/broken", body=file)
        next(step)
        change()
        script.gate.set()
        run(step)

    return act


@pytest.mark.parametrize("part", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_shrinks(way: str, part: bool, served: Serve, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(BIG))
    broken = Broken(served, way, held=True)
    with path.open("rb") as file:
        act = waiting(lambda: os.truncate(path, BIG // 2), broken.script, body=file, part=part)
        broken.check(act, StateError)


@pytest.mark.parametrize("part", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_is_closed_meanwhile(way: str, part: bool, served: Serve, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(BIG))
    broken = Broken(served, way, held=True)
    with path.open("rb") as file:
        broken.check(waiting(file.close, broken.script, body=file, part=part), ValueError)


@pytest.mark.parametrize("after", [0, 1])
def test_a_disk_that_fails(after: int, served: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """sendfile(2) says EIO of the file, and not of the socket."""
    real = os.sendfile
    error = OSError(errno.EIO, "disk")
    calls = 0

    def sendfile(target: int, file: int, offset: int, count: int) -> int:
        nonlocal calls
        calls += 1
        if calls > after:
            raise error
        return real(target, file, offset, min(count, 1000))

    monkeypatch.setattr(os, "sendfile", sendfile)
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with path.open("rb") as file:
        assert Broken(served).check(put(file), OSError) is error


def test_closing_inside_an_iterable(served: Serve) -> None:
    """The body that goes on has nowhere to go."""
    server, conn = served(answers)

    def body() -> Iterator[bytes]:
        yield b"begun"
        conn.close()
        yield b"never"

    with pytest.raises(ConnectionClosed):
        conn.send_request("PUT", "/", body=body())
    answered(conn)
    assert server.connections == 2


def test_a_partial_write_that_is_interrupted() -> None:
    """Between the send and its note, so that nobody can say how much of the body has gone."""

    def interrupt(size: int) -> None:
        raise KeyboardInterrupt

    with Scripted(lambda peer: peer.drain()) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        conn.send_request("PUT", "/", body=BodyFollowing(10))
        conn._link.protocol.wrote = interrupt  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            conn.write(b"12345", partial=True)
        del conn._link.protocol.wrote
        with pytest.raises(ConnectionClosed):
            conn.write(b"12345", partial=True)
