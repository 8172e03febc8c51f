"""No answer goes to the wrong request: T-50 (after a failure), T-51 (unasked bytes), T-52 (answers that are missing,
twice there, or of another length)."""

from __future__ import annotations

import hashlib
import io
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

import awkward
import httpio.window
from awkward import Habits
from conftest import Authority, Contexts
from faces import FACES, Got
from httpio import (
    BodyFollowing,
    ConnectionClosed,
    ConnectionTimedOut,
    ExcessBodyData,
    HTTPConnection,
    HTTPError,
    InvalidResponse,
    Request,
    StateError,
    UnsupportedResponse,
)
from httpio.waiting import run
from servers.scripted import Peer, Scripted, server_context

BIG = 24 << 20
"""More than the sockets of two ends can hold."""

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(params=["plain", "tls"])
def contexts(request: pytest.FixtureRequest, authority: Authority) -> Contexts:
    """The server's and the client's. Only what a test sends can be received: no session tickets."""
    if request.param == "plain":
        return None, None
    server = server_context(authority.chain, authority.key)
    server.num_tickets = 0
    return server, ssl.create_default_context(cafile=authority.ca)


def body_of(target: str) -> bytes:
    """What the object at *target* holds: no two have a byte in common at the same place for long."""
    seed = hashlib.sha256(target.encode()).digest()
    return seed.hex().encode() * (1 + seed[0] % 40)


def response_of(target: str, length: int | None = None) -> bytes:
    """The response to a GET of *target*; its header section names it, too."""
    body = body_of(target)
    length = len(body) if length is None else length
    return OK + b"X-Object: %b\r\nContent-Length: %d\r\n\r\n" % (target.encode(), length) + body


def objects(peer: Peer) -> None:
    while (seen := peer.request()) is not None:
        peer.send(response_of(seen.target))


# -- T-50 --

Ending = Callable[[HTTPConnection, Callable[[], None]], None]
"""Uses a connection on which /1 has been answered in part, and /2 and /3 are outstanding: what comes out of it is no
matter here. Its second argument lets the rest of the answers come."""


def time_out(conn: HTTPConnection, go: Callable[[], None]) -> None:
    conn.timeout = 0.05
    with pytest.raises(ConnectionTimedOut):
        conn.readall()
    conn.timeout = 20
    go()


def abort(conn: HTTPConnection, go: Callable[[], None]) -> None:
    conn.abort()
    go()
    with pytest.raises(ConnectionClosed):
        conn.readall()


def leave_steps(conn: HTTPConnection, go: Callable[[], None]) -> None:
    for call in (conn.co_discard, lambda: conn.co_readinto(bytearray(9999))):
        for _ in range(3):
            step = call()
            with suppress(StopIteration):
                next(step)
                next(step)
            step.close()
    go()


def leave_readall(conn: HTTPConnection, go: Callable[[], None]) -> None:
    """What it had read is lost: the rest must not pass for the whole."""
    step = conn.co_readall()
    next(step)
    step.close()
    go()
    with pytest.raises(ConnectionClosed):
        conn.readall()


def interrupted_steps(conn: HTTPConnection, go: Callable[[], None]) -> None:
    step = conn.co_readall()
    next(step)
    with pytest.raises(KeyboardInterrupt):
        step.throw(KeyboardInterrupt())
    go()


class Full(io.BytesIO):
    def write(self, data: Any) -> int:
        raise OSError("no space left")


def a_file_that_is_full(conn: HTTPConnection, go: Callable[[], None]) -> None:
    go()
    with pytest.raises(OSError, match="no space"):
        conn.write_to(Full())


def wrong_calls(conn: HTTPConnection, go: Callable[[], None]) -> None:
    with pytest.raises(StateError):
        conn.read_response()
    with pytest.raises((TypeError, BufferError)):
        conn.readinto(b"not writable")  # type: ignore[arg-type]
    with pytest.raises(StateError):
        conn.write(b"x")
    with pytest.raises(StateError):
        conn.pipeline(["/9"])
    with pytest.raises(ValueError, match="token"):
        conn.send_request("G T", "/9")
    with pytest.raises((ValueError, TypeError)):
        conn.send_request("GET", "/9\r\n")
    go()


def bodies_that_fail(conn: HTTPConnection, go: Callable[[], None]) -> None:
    def failing() -> Iterator[bytes]:
        yield b"abc"
        raise KeyError("mine")

    with pytest.raises(KeyError):
        conn.send_request("PUT", "/9", body=failing())
    go()


def too_much_of_a_body(conn: HTTPConnection, go: Callable[[], None]) -> None:
    conn.send_request("PUT", "/9", body=BodyFollowing(3))
    with pytest.raises(ExcessBodyData):
        conn.write(b"abcd")
    conn.write(b"abc")
    go()


def too_little_of_a_body(conn: HTTPConnection, go: Callable[[], None]) -> None:
    conn.send_request("PUT", "/9", body=BodyFollowing(3))
    conn.write(b"ab")
    with pytest.raises(StateError):
        conn.end_body()
    with pytest.raises(StateError):
        conn.send_request("GET", "/10")
    conn.write(b"c")
    go()


def drop(conn: HTTPConnection, go: Callable[[], None]) -> None:
    go()
    conn.discard()


ENDINGS = [
    time_out,
    abort,
    leave_steps,
    leave_readall,
    interrupted_steps,
    a_file_that_is_full,
    wrong_calls,
    bodies_that_fail,
    too_much_of_a_body,
    too_little_of_a_body,
    drop,
]


STAYS = [leave_steps, a_file_that_is_full, wrong_calls, too_much_of_a_body, too_little_of_a_body, drop]
"""Where nothing was lost, and the connection goes on."""


def assert_in_step(conn: HTTPConnection) -> bool:
    """What can still be read answers its own request, and so does what can still be sent; returns whether anything
    could. A new connection works."""
    alive = False
    with suppress(ConnectionClosed):
        conn.discard()
        conn.send_request("GET", "/99")
        while conn.response_pending():
            target = conn.read_response().path
            assert conn.readall() == body_of(target)
        alive = True
        assert target == "/99"
    conn.close()
    assert conn.outstanding == ()
    assert not conn.response_pending()
    conn.send_request("GET", "/98")
    assert (conn.read_response().path, conn.readall()) == ("/98", body_of("/98"))
    return alive


@pytest.mark.parametrize("ending", ENDINGS)
def test_t_50_after_a_failure(ending: Ending, contexts: Contexts) -> None:
    """The rest of the answers comes after the failure: it is read for what it is, or not at all."""
    turn = threading.Event()

    def script(peer: Peer) -> None:
        if peer.number == 0:
            for _ in range(3):
                assert peer.request() is not None
            wire = b"".join(map(response_of, ("/1", "/2", "/3")))
            cut = wire.index(b"\r\n\r\n") + 40
            peer.send(wire[:cut])
            assert turn.wait(20)
            peer.send(wire[cut:])
        objects(peer)

    with Scripted(script, contexts[0]) as server:
        conn = HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=20)
        conn.connect()
        for target in ("/1", "/2", "/3"):
            conn.send_request("GET", target)
        assert conn.read_response().path == "/1"
        ending(conn, turn.set)
        alive = assert_in_step(conn)
        assert alive == (ending in STAYS)
        conn.close()


WRONG = {
    "head": (InvalidResponse, b"HTTP/1.1 2x0 OK\r\nContent-Length: 3\r\n\r\nabc"),
    "length": (InvalidResponse, OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"),
    "chunk": (InvalidResponse, OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n"),
    "trailers": (InvalidResponse, OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nno field\r\n\r\n"),
    "unframed": (UnsupportedResponse, OK + b"\r\nabc"),
    "coding": (UnsupportedResponse, OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    "101 unasked": (UnsupportedResponse, b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("face", FACES)
def test_t_50_after_a_wrong_answer(wrong: str, face: str, contexts: Contexts) -> None:
    """What follows it on its connection is never read as an answer, though it looks like one."""
    error, wire = WRONG[wrong]

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            peer.send(wire if seen.target == "/bad" else response_of(seen.target))

    targets = ["/1", "/2", "/3", "/bad", "/4", "/5"]
    with Scripted(script, contexts[0]) as server:
        found = FACES[face](server, targets, contexts[1], timeout=20)
        assert [got.body for got in found[:3]] == [body_of(target) for target in targets[:3]]
        assert isinstance(found[3].error, error)
        if face == "low":
            assert all(got.error is not None for got in found[3:])
        else:
            assert [got.body for got in found[4:]] == [body_of("/4"), body_of("/5")]
            assert server.connections <= 4


@pytest.mark.parametrize("leave", ["break", "close", "throw", "raise", "in a body", "body left"])
def test_t_50_a_pipeline_that_is_left(leave: str, contexts: Contexts) -> None:
    with Scripted(objects, contexts[0]) as server:
        for count in range(1, 12):
            conn = HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=20)
            limit = 10 if "body" in leave else 1 << 20
            left: Any = conn.pipeline([f"/{number}" for number in range(30)], 4, body_limit=limit)
            for _ in range(count):
                response = next(left)
            if limit == 10:
                assert response.body is None
                assert body_of(response.path).startswith(conn.read(7))
            if leave == "throw":
                with pytest.raises(KeyboardInterrupt):
                    left.throw(KeyboardInterrupt())
            elif leave == "raise":
                with suppress(RuntimeError):
                    raise RuntimeError("in the caller's loop")
                del left
            elif leave == "body left":
                assert next(left).path == f"/{count}"
                left.close()
            else:
                left.close()
            del response
            assert_in_step(conn)
            conn.close()


def test_t_50_a_file_is_not_read_after_its_call(tmp_path: Path) -> None:
    """A body from a file whose sending was left: another file that has its descriptor now is not sent in its place."""
    over = threading.Event()
    (tmp_path / "mine").write_bytes(b"a" * BIG)
    (tmp_path / "other").write_bytes(b"s" * BIG)
    received = bytearray()

    def script(peer: Peer) -> None:
        assert over.wait(20)
        assert peer.head() is not None
        with suppress(OSError):
            received.extend(peer.take(BIG))

    with Scripted(script) as server:
        conn = HTTPConnection("127.0.0.1", server.port, timeout=20)
        conn.connect()
        with (tmp_path / "mine").open("rb") as file:
            number = file.fileno()
            step = conn.co_send_request("PUT", "/", body=file)
            next(step)
            step.close()
        with ExitStack() as files:
            while files.enter_context((tmp_path / "other").open("rb")).fileno() != number:
                pass  # the collector may have closed what had a lower one
            over.set()
            with pytest.raises((HTTPError, ValueError)):
                conn.read_response()
            conn.close()
            server.settle(1)
        assert set(received) == {ord("a")}
        assert len(received) < BIG


def test_t_50_an_old_step_does_not_touch_a_new_connection(contexts: Contexts) -> None:
    """A step that was suspended when its connection was closed, and is finalised in the midst of another's wait."""
    turn = threading.Event()

    def script(peer: Peer) -> None:
        if peer.number == 0:
            return peer.drain()
        assert turn.wait(20)
        objects(peer)

    with Scripted(script, contexts[0]) as server:
        conn = HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=20)
        conn.connect()
        conn.send_request("GET", "/1")
        old = conn.co_read_response()
        next(old)
        conn.close()
        conn.send_request("GET", "/2")
        new = conn.co_read_response()
        next(new)
        old.close()
        with pytest.raises(StateError):
            next(conn.co_read_response())  # there is one reader still
        turn.set()
        assert run(new).path == "/2"
        assert conn.readall() == body_of("/2")
        conn.close()


# -- T-51 --

EVIL = OK + b"X-Object: /evil\r\nContent-Length: 4\r\n\r\nevil"

UNASKED: dict[str, bytes] = {
    "one byte": b"x",
    "response": EVIL,
    "empty line": b"\r\n",
    "408": b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    "alert": bytes((21, 3, 3, 0, 2, 2, 40)),  # a fatal alert of TLS, as it stands in TCP's stream
}


class Unasked:
    """A server whose first connection brings bytes that nobody has asked for: *fresh*, at once; *idle*, behind its
    first answer when it is told to; *same segment*, in one piece with that answer. Other connections behave."""

    def __init__(self, what: str, when: str) -> None:
        self.data = UNASKED[what]
        self.raw = what == "alert"
        self.ends = what == "408"
        self.when = when
        self.go = threading.Event()

    def script(self, peer: Peer) -> None:
        if peer.number == 0:
            first = b""
            if self.when != "fresh":
                seen = peer.request()
                assert seen is not None
                first = response_of(seen.target)
            if self.when == "same segment":
                peer.send(first + self.data)
            else:
                peer.send(first)
                assert self.when == "fresh" or self.go.wait(20)
                # As it stands in TCP's stream: under TLS an alert is no record of this connection.
                socket.socket.sendall(peer.sock, self.data) if self.raw else peer.send(self.data)
            if self.ends:
                peer.finish()
        objects(peer)


def readable(sock: Any) -> None:
    """Wait until something has come from the peer."""
    assert select.select([sock], [], [], 20)[0]


@pytest.mark.parametrize("when", ["fresh", "idle", "same segment"])
@pytest.mark.parametrize("what", UNASKED)
@pytest.mark.parametrize("face", ["low", "pipeline"])
def test_t_51_unasked_bytes(face: str, what: str, when: str, contexts: Contexts) -> None:
    """They answer nothing, not even a POST that goes out next: that is sent on another connection, and once."""
    if contexts[0] and (what, when) == ("alert", "same segment"):
        pytest.skip("what is no record of the connection cannot be written in one piece with one that is")
    unasked = Unasked(what, when)
    with Scripted(unasked.script, contexts[0]) as server:
        conn = HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=20)
        if when == "fresh":
            conn.connect()
        else:
            conn.send_request("GET", "/1")
            assert conn.read_response().path == "/1"
            assert conn.readall() == body_of("/1")
            unasked.go.set()
        if when != "same segment":
            readable(conn)
        post = Request("POST", "/2", body=b"x")
        if face == "pipeline":
            assert [response.body for response in conn.pipeline([post, "/3"])] == [body_of("/2"), body_of("/3")]
        else:
            if what != "empty line":
                for _ in range(2):
                    with pytest.raises(ConnectionClosed):
                        conn.send_request("POST", "/2", body=b"x")
                    assert conn.outstanding == ()
                    assert not conn.response_pending()
                conn.close()
            conn.send_request("POST", "/2", body=b"x")
            assert (conn.read_response().path, conn.readall()) == ("/2", body_of("/2"))
        conn.close()
        assert server.targets().count("/2") == 1
        assert server.connections == (1 if what == "empty line" else 2)


@pytest.mark.parametrize("when", ["fresh", "idle", "same segment"])
@pytest.mark.parametrize("what", UNASKED)
@pytest.mark.parametrize("face", ["pipeline", "fetch"])
def test_t_51_unasked_bytes_between_two_requests(
    face: str, what: str, when: str, contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same inside a run that has one request out at a time: they are there when the next one is about to go."""
    if contexts[0] and (what, when) == ("alert", "same segment"):
        pytest.skip("what is no record of the connection cannot be written in one piece with one that is")
    unasked = Unasked(what, when)
    habits = Habits()
    awkward.use(habits, monkeypatch, contexts[1])
    waiting = True

    def after(name: str, sock: Any, result: Any) -> None:
        nonlocal waiting
        if not waiting or isinstance(result, OSError):
            return
        if when == "fresh" and name == ("do_handshake" if contexts[1] else "connect"):
            readable(sock)
            waiting = False
        elif when == "idle" and name == "recv_into":  # the first answer is here
            unasked.go.set()
            readable(sock)
            waiting = False

    habits.after = after
    targets = ["/1", "/2", "/3"]
    with Scripted(unasked.script, contexts[0]) as server:
        options: dict[str, Any] = {"depth": 1} if face == "pipeline" else {}
        found = FACES[face](server, targets, contexts[1], timeout=20, **options)
        assert [got.body for got in found] == [body_of(target) for target in targets]
        assert server.targets() == targets
        assert server.connections == (1 if what == "empty line" else 2)


def test_t_51_an_answer_to_what_was_not_sent(contexts: Contexts) -> None:
    """It comes while its request waits for room behind a large body: it cannot be an answer."""
    over = threading.Event()

    def script(peer: Peer) -> None:
        if peer.number == 0:
            assert peer.head() is not None
            peer.send(response_of("/0"))
            peer.send(EVIL * 3)
            assert over.wait(20)
        objects(peer)

    with Scripted(script, contexts[0]) as server:
        conn = HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=20)
        conn.connect()
        requests: list[Any] = [Request("PUT", "/0", body=bytes(BIG)), "/1", "/2", "/3"]
        found = []
        with suppress(HTTPError):
            for response in conn.pipeline(requests, 4):
                found.append((response.path, response.body))
        over.set()
        conn.close()
        assert b"evil" not in [body for _, body in found]
        assert found == [(path, body_of(path)) for path, _ in found]


# -- T-52 --

COUNT, AT = 100, 37

FAULTS: dict[str, Callable[[list[bytes]], None]] = {
    "missing": lambda wires: wires.pop(AT) and None,
    "duplicated": lambda wires: wires.insert(AT, wires[AT]),
    "swapped": lambda wires: wires.__setitem__(slice(AT, AT + 2), wires[AT : AT + 2][::-1]),
    "longer": lambda wires: wires.__setitem__(AT, response_of(f"/{AT}", len(body_of(f"/{AT}")) + 1)),
    "shorter": lambda wires: wires.__setitem__(AT, response_of(f"/{AT}", len(body_of(f"/{AT}")) - 1)),
    "lengths swapped": lambda wires: wires.__setitem__(
        slice(AT, AT + 2),
        [
            response_of(f"/{AT}", len(body_of(f"/{AT + 1}"))),
            response_of(f"/{AT + 1}", len(body_of(f"/{AT}"))),
        ],
    ),
}


def faulty(fault: str, ends: bool) -> Callable[[Peer], None]:
    """The first connection answers as the fault has it, each request with the next of its wires; others behave. *ends*:
    it closes behind the last of them."""
    wires = [response_of(f"/{number}") for number in range(COUNT)]
    FAULTS[fault](wires)

    def script(peer: Peer) -> None:
        if peer.number:
            return objects(peer)
        at = 0
        while (seen := peer.request()) is not None:
            number = int(seen.target[1:])
            until = number + 1 + (len(wires) - COUNT if number >= AT else 0)
            peer.send(b"".join(wires[at:until]))
            at = until
            if ends and number == COUNT - 1:
                peer.finish()
        return None

    return script


def own(target: str, got: Got) -> bool:
    """Whether it is the object's own, by its digest."""
    return got.error is None and hashlib.sha256(got.body).digest() == hashlib.sha256(body_of(target)).digest()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("face", ["low", "pipeline", "pipeline of 100", "fetch"])
def test_t_52_answers_that_do_not_fit(
    face: str, fault: str, contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each object has its own digest, or an error, or another's digest, which the caller can tell: what is whole, and
    not the answer, looks to HTTP like one. What came before the fault is right, and so is what was repeated on a new
    connection; no header section is given with the body of another; and a length that is wrong ends the connection
    with the next object."""
    if fault == "missing":  # else no answer is ever waited for in vain
        monkeypatch.setattr(httpio.window, "FIRST_PATIENCE", 0.5)
    targets = [f"/{number}" for number in range(COUNT)]
    options: dict[str, Any] = {"depth": COUNT} if face == "pipeline of 100" else {}
    with Scripted(faulty(fault, ends=face == "low"), contexts[0]) as server:
        found = FACES[face.split()[0]](server, targets, contexts[1], timeout=20, **options)
        assert server.connections <= 3
    assert len(found) == COUNT
    right = [own(target, got) for target, got in zip(targets, found, strict=True)]
    wrong = [number for number in range(COUNT) if not right[number] and found[number].error is None]
    errors = [number for number in range(COUNT) if found[number].error is not None]
    assert all(right[:AT])
    for number in wrong:
        sent_as = found[number].headers["X-Object"]
        assert sent_as is not None
        assert found[number].body[:60] == body_of(sent_as)[:60]  # its own head, whatever the length
        if fault in ("missing", "duplicated", "swapped"):
            assert found[number].body == body_of(sent_as)
            assert sent_as != targets[number]
        else:
            assert number == AT
    if fault == "swapped":
        assert wrong == [AT, AT + 1]
        assert not errors
    elif fault == "duplicated":
        assert wrong[0] == AT + 1
        assert wrong == list(range(AT + 1, wrong[-1] + 1))
    elif fault == "missing":
        assert wrong[:1] in ([AT], [])
        assert wrong == list(range(AT, AT + len(wrong)))
        assert face != "low" or errors == [COUNT - 1]
    else:
        assert wrong == [AT]
        assert errors == ([AT + 1] if face != "low" else list(range(AT + 1, COUNT)))
        assert isinstance(found[AT + 1].error, InvalidResponse)
