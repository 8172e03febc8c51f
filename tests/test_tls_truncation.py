"""Over TLS, where an answer ends is the peer's word and nobody else's: T-43 (truncation) and T-44 (plaintext).

`test_cuts.py` has a FIN, a close_notify and a RST at every byte for the blocking calls; here are the states that these
bytes are in, more ways to end, and the other faces.
"""

from __future__ import annotations

import asyncio
import select
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from conftest import Authority
from httpio import ConnectionClosed, Request, StateError
from httpio.cli import main
from servers.scripted import Peer, Scripted, answers, server_context
from servers.tls import CLOSE_NOTIFY, Tap, TLSPeer, assert_nothing_said
from tls_ways import FACES, WAIT, WAYS, Face, faces_that_differ, tries

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = OK + b"Content-Length: 10\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
CLOSE = OK + b"Connection: close\r\n\r\n"
OLD = b"HTTP/1.0 200 OK\r\n\r\n"


class State(NamedTuple):
    """What came of an answer before the connection ended. *where*: that it ended in; None: it is complete. *body*: what
    came of its body. *by_close*: such an end may be the body's."""

    wire: bytes
    where: str | None
    body: bytes | None = None
    by_close: bool = False


STATES = {
    "nothing": State(b"", "awaiting response"),
    "an interim response": State(b"HTTP/1.1 103 Early Hints\r\n\r\n", "in head"),
    "status line": State(b"HTTP/1.1 20", "in head"),
    "field name": State(OK + b"Cont", "in head"),
    "field value": State(OK + b"Content-Length: 1", "in head"),
    "before the empty line": State(LENGTH[:-2], "in head"),
    "in the empty line": State(LENGTH[:-1], "in head"),
    "before a length body": State(LENGTH, "in body", b""),
    "length body": State(LENGTH + b"hello", "in body", b"hello"),
    "last byte of a length body": State(LENGTH + b"hello wor", "in body", b"hello wor"),
    "before the first chunk": State(CHUNKED, "in body", b""),
    "chunk size": State(CHUNKED + b"5", "in body", b""),
    "chunk extension": State(CHUNKED + b'5;a="b', "in body", b""),
    "before chunk data": State(CHUNKED + b"5\r\n", "in body", b""),
    "chunk data": State(CHUNKED + b"5\r\nhel", "in body", b"hel"),
    "end of a chunk": State(CHUNKED + b"5\r\nhello", "in body", b"hello"),
    "before the next chunk": State(CHUNKED + b"5\r\nhello\r\n", "in body", b"hello"),
    "last chunk": State(CHUNKED + b"5\r\nhello\r\n0", "in body", b"hello"),
    "before the trailers": State(CHUNKED + b"5\r\nhello\r\n0\r\n", "in body", b"hello"),
    "trailer": State(CHUNKED + b"5\r\nhello\r\n0\r\nX: y", "in body", b"hello"),
    "behind a trailer": State(CHUNKED + b"5\r\nhello\r\n0\r\nX: y\r\n", "in body", b"hello"),
    "before a body until close": State(CLOSE, "in body", b"", True),
    "body until close": State(CLOSE + b"hello", "in body", b"hello", True),
    "body until close of HTTP/1.0": State(OLD + b"hello", "in body", b"hello", True),
    "whole length body": State(LENGTH + b"hello worl", None, b"hello worl"),
    "empty length body": State(OK + b"Content-Length: 0\r\n\r\n", None, b""),
    "whole chunked body": State(CHUNKED + b"5\r\nhello\r\n0\r\nX: y\r\n\r\n", None, b"hello"),
    "no content": State(b"HTTP/1.1 204 No Content\r\n\r\n", None, b""),
}


def half_a_record(peer: TLSPeer) -> None:
    record = peer.record(b"the rest of it")
    peer.sock.sendall(record[: len(record) // 2])
    peer.finish()


def forged(peer: TLSPeer) -> None:
    """What anybody on the way can send."""
    peer.sock.sendall(CLOSE_NOTIFY)
    peer.finish()


def notify_and_reset(peer: TLSPeer) -> None:
    peer.close_notify()
    peer.reset()


ENDS: dict[str, Callable[[TLSPeer], None]] = {
    "FIN": TLSPeer.finish,
    "RST": TLSPeer.reset,
    "alert": TLSPeer.alert,
    "half a record": half_a_record,
    "forged close_notify": forged,
    "close_notify": TLSPeer.notify,
    "close_notify and RST": notify_and_reset,
}
CLEAN = ("close_notify", "close_notify and RST")

every_end = pytest.mark.parametrize("end", ENDS)
some_ends = pytest.mark.parametrize("end", ["FIN", "alert", "forged close_notify", "close_notify"])
every_version = pytest.mark.parametrize("version", ["1.2", "1.3"])
new_version = pytest.mark.parametrize("version", ["1.3"])

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
"""The server's and the client's."""


@pytest.fixture
def contexts(authority: Authority, version: str) -> Contexts:
    """Only what a test sends can be received: no session tickets."""
    server = server_context(authority.chain, authority.key)
    server.num_tickets = 0
    server.maximum_version = server.minimum_version = ssl.TLSVersion[f"TLSv{version.replace('.', '_')}"]
    return server, ssl.create_default_context(cafile=authority.ca)


def complete(state: State, end: str) -> bool:
    return state.where is None or (state.by_close and end in CLEAN)


def number_of(target: str) -> int:
    return int(target.strip("/").split(".")[0])


class Ending:
    """A server's script: the request for ``/NUMBER`` is answered as far as the state of that number goes, and then the
    connection ends. *again*: every time; else a second request for it is answered whole."""

    def __init__(self, end: str, again: bool = True) -> None:
        self.end = ENDS[end]
        self.again = again
        self.asked: list[str] = []
        self.over = threading.Semaphore(0)
        """Released at each end."""

    def __call__(self, peer: Peer) -> None:
        assert isinstance(peer, TLSPeer)
        while (seen := peer.request()) is not None:
            self.asked.append(seen.target)
            if self.again or self.asked.count(seen.target) == 1:
                if data := list(STATES.values())[number_of(seen.target)].wire:
                    peer.send(data)
                self.end(peer)
                self.over.release()
                if self.end not in (TLSPeer.reset, notify_and_reset):
                    peer.drain_raw()
                return
            peer.answer(b"whole")


# -- T-43 --


class Outcome(NamedTuple):
    """What reading an answer came to: *where* and *received* are the error's."""

    where: str | None
    received: int | None
    body: bytes | None


def expected(state: State, end: str) -> Outcome:
    if complete(state, end):
        return Outcome(None, None, state.body)
    return Outcome(state.where, None if state.body is None else len(state.body), None)


async def read_one(conn: Any) -> Outcome:
    response = None
    try:
        response = await conn.read_response()
        body = await conn.readall()
    except ConnectionClosed as exc:
        error = exc
    else:
        assert response.complete_by is not None
        assert conn.outstanding == ()
        with pytest.raises(StateError):
            await conn.read_response()
        return Outcome(None, None, body)
    assert type(error) is ConnectionClosed
    assert response is None or response.complete_by is None
    assert len(error.outstanding) == 1
    with pytest.raises(ConnectionClosed):
        await conn.read_response()
    return Outcome(error.where, error.received, None)


async def ask(conn: Any, request: Request) -> bytes:
    """The answer's body."""
    await conn.send_request(request.method, request.path, body=request.body)
    await conn.read_response()
    body: bytes = await conn.readall()
    return body


async def ask_in_pipeline(conn: Any, request: Request) -> bytes | None:
    (response,) = [response async for response in conn.pipeline([request])]
    body: bytes | None = response.body
    return body


WAYS_TO_ASK = {"low": ask, "pipeline": ask_in_pipeline}


@pytest.mark.parametrize(
    ("face", "version"),
    [(FACES["steps"], "1.2"), (FACES["blocking"], "1.3"), (FACES["asyncio"], "1.3")],
    ids=["steps", "blocking", "asyncio"],
)
@every_end
def test_t_43_the_end_is_here(end: str, face: Face, contexts: Contexts) -> None:
    """Before anything is read."""
    ending = Ending(end)
    found = {}

    async def main(port: int) -> None:
        async with face.connection("127.0.0.1", port, contexts[1], timeout=WAIT) as conn:
            for number, name in enumerate(STATES):
                await conn.send_request("GET", f"/{number}")
                assert ending.over.acquire(timeout=WAIT)
                found[name] = await read_one(conn)
                with pytest.raises(ConnectionClosed):
                    await conn.send_request("GET", "/0")
                conn.close()

    with Scripted(Tap(ending, contexts[0])) as server:
        asyncio.run(main(server.port))
    assert found == {name: expected(state, end) for name, state in STATES.items()}


@every_end
@every_version
def test_t_43_the_end_comes_to_a_task_that_waits(end: str, contexts: Contexts) -> None:
    """What came before it comes to one who waits, too."""
    ending, go = Ending(end), threading.Semaphore(0)
    found = {}

    def script(peer: Peer) -> None:
        assert go.acquire(timeout=WAIT)
        ending(peer)

    async def main(port: int) -> None:
        async with FACES["asyncio"].connection("127.0.0.1", port, contexts[1], timeout=WAIT) as conn:
            for number, name in enumerate(STATES):
                await conn.send_request("GET", f"/{number}")
                reading = asyncio.create_task(read_one(conn))
                await asyncio.sleep(0)
                go.release()
                found[name] = await reading
                conn.close()

    with Scripted(Tap(script, contexts[0])) as server:
        asyncio.run(main(server.port))
    assert found == {name: expected(state, end) for name, state in STATES.items()}


WHOLE = b"whole"


@pytest.mark.parametrize(
    ("way", "face"),
    [("pipeline", FACES["blocking"]), ("pipeline", FACES["asyncio"]), ("fetch", FACES["asyncio"])],
    ids=["pipeline-blocking", "pipeline-asyncio", "fetch-asyncio"],
)
@some_ends
@new_version
def test_t_43_asked_again(way: str, end: str, face: Face, contexts: Contexts) -> None:
    """What was not complete is asked for once more, on another connection, and no part of the first answer is in it."""
    ending = Ending(end, again=False)
    bodies = {}

    async def main(port: int) -> None:
        for number, name in enumerate(STATES):
            if way == "pipeline":
                async with face.connection("127.0.0.1", port, contexts[1], timeout=WAIT) as conn:
                    (bodies[name],) = [response.body async for response in conn.pipeline([f"/{number}"])]
            else:
                results = face.fetch([f"https://127.0.0.1:{port}/{number}"], ssl_context=contexts[1], timeout=WAIT)
                (bodies[name],) = [result.content async for result in results]

    with Scripted(Tap(ending, contexts[0])) as server:
        asyncio.run(main(server.port))
    assert bodies == {name: state.body if complete(state, end) else WHOLE for name, state in STATES.items()}
    asked = [f"/{n}" for n, state in enumerate(STATES.values()) for _ in range(1 if complete(state, end) else 2)]
    assert ending.asked == asked


@faces_that_differ
@some_ends
@new_version
def test_t_43_a_post_is_not_asked_again(end: str, face: Face, contexts: Contexts) -> None:
    ending = Ending(end)
    found = {}

    async def main(port: int) -> None:
        for number, name in enumerate(STATES):
            async with face.connection("127.0.0.1", port, contexts[1], timeout=WAIT) as conn:
                try:
                    async for response in conn.pipeline([Request("POST", f"/{number}", body=b"x")]):
                        found[name] = Outcome(None, None, response.body)
                except ConnectionClosed as error:
                    found[name] = Outcome(error.where, error.received, None)

    with Scripted(Tap(ending, contexts[0])) as server:
        asyncio.run(main(server.port))
    assert found == {name: expected(state, end) for name, state in STATES.items()}
    assert ending.asked == [f"/{number}" for number in range(len(STATES))]


def urls(port: int) -> list[str]:
    return [f"https://127.0.0.1:{port}/{number}" for number in range(len(STATES))]


@faces_that_differ
@every_end
@new_version
def test_t_43_many_at_a_time(end: str, face: Face, contexts: Contexts) -> None:
    """All objects in one run, none of which ever comes whole if its state is not."""
    ending = Ending(end)

    async def main(port: int) -> list[Any]:
        return [result async for result in face.fetch(urls(port), ssl_context=contexts[1], timeout=WAIT)]

    with Scripted(Tap(ending, contexts[0])) as server:
        results = asyncio.run(main(server.port))
    found = {name: (type(result.error), result.content) for name, result in zip(STATES, results, strict=True)}
    assert found == {
        name: (type(None), state.body) if complete(state, end) else (ConnectionClosed, None)
        for name, state in STATES.items()
    }
    assert max(map(ending.asked.count, ending.asked)) <= 4


@every_end
@new_version
def test_t_43_the_command(
    end: str, contexts: Contexts, authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ending = Ending(end)
    with Scripted(Tap(ending, contexts[0])) as server:
        status = main(["get", "--no-progress", "--cacert", str(authority.ca), "-d", str(tmp_path), *urls(server.port)])
    assert status == 1
    files = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    whole = {f"{n}": state.body for n, state in enumerate(STATES.values()) if complete(state, end)}
    assert files == whole
    assert len(capsys.readouterr().err.splitlines()) == len(STATES) - len(whole)


@pytest.mark.skipif(not hasattr(ssl, "OP_IGNORE_UNEXPECTED_EOF"), reason="OpenSSL 1 has no such option")
@faces_that_differ
@every_version
def test_t_43_a_context_that_takes_every_end_for_a_close_notify(face: Face, contexts: Contexts) -> None:
    """Where OpenSSL is told to hide how a connection ends, none is the end of a body."""
    contexts[1].options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    ending = Ending("FIN")
    found = {}

    async def main(port: int) -> None:
        async with face.connection("127.0.0.1", port, contexts[1], timeout=WAIT) as conn:
            for number, (name, state) in enumerate(STATES.items()):
                if state.by_close:
                    await conn.send_request("GET", f"/{number}")
                    found[name] = await read_one(conn)
                    conn.close()

    with Scripted(Tap(ending, contexts[0])) as server:
        asyncio.run(main(server.port))
    assert found == {name: expected(state, "FIN") for name, state in STATES.items() if state.by_close}


@faces_that_differ
@every_end
@new_version
@pytest.mark.parametrize("way", ["low", "pipeline"])
def test_t_43_the_end_comes_while_idle(way: str, end: str, face: Face, contexts: Contexts) -> None:
    """Behind an answer that is complete: it stands, and what is asked next goes out once, on another connection."""
    go, over = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        assert isinstance(peer, TLSPeer)
        if peer.number == 0:
            assert peer.request() is not None
            peer.answer(b"/1")
            assert go.wait(WAIT)
            ENDS[end](peer)
            over.set()
            if "RST" not in end:
                peer.drain_raw()
        else:
            answers(peer)

    async def main(port: int) -> None:
        async with face.connection("127.0.0.1", port, contexts[1], timeout=WAIT) as conn:
            assert await ask(conn, Request("GET", "/1")) == b"/1"
            go.set()
            assert over.wait(WAIT)
            assert select.select([conn.fileno()], [], [], WAIT)[0]
            post = Request("POST", "/2", body=b"x")
            if way == "pipeline":
                assert await ask_in_pipeline(conn, post) == b"/2"
                return
            with pytest.raises(ConnectionClosed):
                await ask(conn, post)

    with Scripted(Tap(script, contexts[0])) as server:
        asyncio.run(main(server.port))
        assert server.targets() == (["/1"] if way == "low" else ["/1", "/2"])


# -- T-44 --

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


def to_the_hello(peer: TLSPeer) -> None:
    peer.raw += peer.sock.recv(65536)
    peer.sock.sendall(PLAIN)
    peer.finish()
    peer.drain_raw()


def to_the_hello_and_on(peer: TLSPeer) -> None:
    peer.sock.sendall(PLAIN)
    with suppress(ssl.SSLError):
        peer.handshake()
        peer.drain()
    peer.drain_raw()


def before_the_hello(peer: TLSPeer) -> None:
    peer.sock.sendall(PLAIN)
    peer.finish()
    peer.drain_raw()


def before_the_hello_and_reset(peer: TLSPeer) -> None:
    peer.sock.sendall(PLAIN)
    peer.reset()


@pytest.mark.parametrize(
    "script",
    [to_the_hello, to_the_hello_and_on, before_the_hello, before_the_hello_and_reset],
    ids=lambda script: script.__name__,
)
@new_version
@pytest.mark.parametrize("way", WAYS)
def test_t_44_plaintext_before_the_handshake(way: str, script: Callable[[TLSPeer], None], contexts: Contexts) -> None:
    peers = []

    def run(peer: Peer) -> None:
        peers.append(TLSPeer(peer, contexts[0]))
        script(peers[-1])

    with Scripted(run) as server:
        error = WAYS[way]("127.0.0.1", server.port, contexts[1])
        server.settle(tries(way))
        assert server.connections == tries(way)
    assert isinstance(error, ssl.SSLError | ConnectionClosed)
    for peer in peers:
        assert_nothing_said(peer, b"secret")


LAST_FLIGHT = {"1.2": (b"", PLAIN), "1.3": (PLAIN,)}
"""What goes with each of the server's flights, so that it comes with the last one before the client may send."""


def with_the_handshake(peer: TLSPeer) -> None:
    """It is here already."""


def at_once(peer: TLSPeer) -> None:
    """As soon as the handshake is over."""
    peer.sock.sendall(PLAIN)


def as_the_answer(peer: TLSPeer) -> None:
    assert peer.request() is not None
    peer.sock.sendall(PLAIN)


def behind_a_head(peer: TLSPeer) -> None:
    assert peer.request() is not None
    peer.send(LENGTH)
    peer.sock.sendall(b"evil words")


def inside_a_body(peer: TLSPeer) -> None:
    assert peer.request() is not None
    peer.sock.sendall(peer.record(LENGTH + b"hello") + PLAIN + peer.record(b" worl"))


def as_application_data(peer: TLSPeer) -> None:
    """In a record that nobody has encrypted."""
    assert peer.request() is not None
    peer.sock.sendall(b"\x17\3\3" + len(PLAIN).to_bytes(2, "big") + PLAIN)


def behind_a_close_notify(peer: TLSPeer) -> None:
    assert peer.request() is not None
    peer.close_notify()
    peer.sock.sendall(PLAIN)


@faces_that_differ
@pytest.mark.parametrize(
    "script",
    [
        with_the_handshake, at_once, as_the_answer, behind_a_head, inside_a_body, as_application_data,
        behind_a_close_notify,
    ],
    ids=lambda script: script.__name__,
)  # fmt: skip
@every_version
@pytest.mark.parametrize("way", ["low", "pipeline", "fetch"])
def test_t_44_plaintext_behind_the_handshake(
    way: str, script: Callable[[TLSPeer], None], version: str, face: Face, contexts: Contexts
) -> None:
    def run(peer: Peer) -> None:
        assert isinstance(peer, TLSPeer)
        script(peer)
        peer.drain_raw()

    async def main(port: int) -> None:
        if way == "fetch":
            results = face.fetch([f"https://127.0.0.1:{port}/1"], ssl_context=contexts[1], timeout=WAIT)
            found = [(result.content, type(result.error)) async for result in results]
            assert found == [(None, ConnectionClosed)]
            return
        async with face.connection("127.0.0.1", port, contexts[1], timeout=WAIT) as conn:
            with pytest.raises(ConnectionClosed):
                await WAYS_TO_ASK[way](conn, Request("GET", "/1"))

    tap = Tap(run, contexts[0])
    if script is with_the_handshake:
        tap.appended = LAST_FLIGHT[version]
    with Scripted(tap) as server:
        asyncio.run(main(server.port))
        assert server.connections <= 4


@faces_that_differ
@every_version
def test_t_44_plaintext_behind_a_body_until_close(face: Face, contexts: Contexts) -> None:
    """The body ends with close_notify, and what stands in TCP behind it is nothing."""

    def script(peer: Peer) -> None:
        assert isinstance(peer, TLSPeer)
        assert peer.request() is not None
        peer.send(CLOSE + b"hello")
        peer.close_notify()
        peer.sock.sendall(PLAIN)
        peer.drain_raw()

    async def main(port: int) -> None:
        async with face.connection("127.0.0.1", port, contexts[1], timeout=WAIT) as conn:
            await conn.send_request("GET", "/1")
            await conn.send_request("GET", "/2")
            response = await conn.read_response()
            assert (await conn.readall(), response.complete_by) == (b"hello", "close")
            for _ in range(2):
                with pytest.raises(ConnectionClosed):
                    await conn.read_response()

    with Scripted(Tap(script, contexts[0])) as server:
        asyncio.run(main(server.port))
