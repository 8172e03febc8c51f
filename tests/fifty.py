"""Runs of fifty requests over an AsyncHTTPConnection, of which any call may be cut short, and what must hold then."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest

import awkward
import httpio.dial
from awkward import Habits
from conftest import Contexts
from httpio import AsyncHTTPConnection, BodyFollowing, ConnectionClosed, Request, StateError
from servers.objects import content
from servers.scripted import Peer

COUNT = 50
TARGETS = [f"/{number}" for number in range(COUNT)]
READERS = ("readall", "read", "readinto", "write_to")
LIMIT = 2000
"""Bytes; some of the bodies are longer."""


def body_of(target: str) -> bytes:
    """What the object at *target* holds; no two have the same."""
    number = int(target[1:])
    return content(number, 9_000 if number % 10 == 7 else 20 + number * 11)


def awkwardly(monkeypatch: pytest.MonkeyPatch, contexts: Contexts, **options: int) -> Habits:
    """Let sockets have `Habits` with these options. Every name is 127.0.0.1's."""

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]

    habits = Habits(**options)
    awkward.use(habits, monkeypatch, contexts[1])
    monkeypatch.setattr(httpio.dial.socket, "getaddrinfo", look_up)
    return habits


class Objects:
    """A script that answers each request with its object, and sees that what is uploaded is the object, too."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        """Of all requests that came whole."""

    def __call__(self, peer: Peer) -> None:
        while (seen := peer.head()) is not None:
            if seen.field("Expect"):
                peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            if seen.field("Transfer-Encoding"):
                body = peer.chunks()
            else:
                body = peer.take(length := int(seen.field("Content-Length") or 0))
                if len(body) < length:
                    return
            assert body == (body_of(seen.target) if seen.method == "PUT" else b"")
            self.targets.append(seen.target)
            peer.answer(body_of(seen.target))


class Run:
    """What was sent and received on a connection by calls of which any may be cut short."""

    def __init__(self, conn: AsyncHTTPConnection, through: Callable[..., Awaitable[Any]], folder: Path) -> None:
        self.conn = conn
        self.through = through
        self._folder = folder
        self._files = ExitStack()
        self.begun: list[str] = []
        """Targets of the requests that were sent, or were to be sent next."""
        self.ahead = 1
        """How many of these perhaps were not."""
        self.answered: list[str] = []
        self.open: str | None = None
        """The target of the response whose body is being read."""
        self.taken = io.BytesIO()
        self.owed: list[Callable[[], Coroutine[Any, Any, Any]]] = []
        """Calls that are to follow `send_request` before its request is complete."""

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()
        self.conn.close()

    def file(self, target: str) -> BinaryIO:
        """A file that holds an object."""
        path = self._folder / target[1:]
        if not path.exists():
            path.write_bytes(body_of(target))
        return self._files.enter_context(path.open("rb"))

    async def get(self, target: str) -> None:
        """Send a request."""
        self.begun.append(target)
        await self.through(self.conn.send_request("GET", target))

    async def pay(self, through: Callable[..., Awaitable[Any]] | None = None) -> None:
        """Make the calls that are owed. What was given to a call that is cut short is sent all the same."""
        while self.owed:
            call = self.owed[0]
            reads = call == self.conn.read_response
            if not reads:
                del self.owed[0]
            result = await (through(call()) if through is not None else call())
            if reads:
                del self.owed[0]
                assert result.status == 100

    async def read(self, reader: str) -> None:
        """Read the next response."""
        response = await self.through(self.conn.read_response())
        await self.read_body(response.path, reader)

    async def read_body(self, target: str, reader: str, again: bool = False) -> None:
        """Read the body of a response. *again*: what is cut short is called again."""
        assert target == self.begun[len(self.answered)]
        conn = self.conn
        self.open, self.taken = target, io.BytesIO()
        buffer = bytearray(700)
        while True:
            try:
                if reader == "readall":
                    self.taken.write(await self.through(conn.readall()))
                elif reader == "write_to":
                    await self.through(conn.write_to(self.taken))
                elif reader == "read":
                    while piece := await self.through(conn.read(700)):
                        self.taken.write(piece)
                else:
                    while count := await self.through(conn.readinto(buffer)):
                        self.taken.write(buffer[:count])
                break
            except asyncio.CancelledError:
                if not again:
                    raise
        self.is_answered(target, self.taken.getvalue())

    def is_answered(self, target: str, body: bytes) -> None:
        """A response has come."""
        assert target == self.begun[len(self.answered)]
        assert body == body_of(target)
        self.answered.append(target)
        self.open = None

    @property
    def outstanding(self) -> list[str]:
        """The targets of what the connection says is outstanding."""
        return [request.path for request in self.conn.outstanding]

    async def finish(self, refusals: tuple[type[Exception], ...] = (ConnectionClosed,)) -> bool:
        """Read what can still be read, send another request, and another on a new connection: each answer is the right
        one. Returns whether the connection could be used to the end; else it raises one of *refusals*, always."""
        conn = self.conn
        waiting = self.outstanding
        connected = is_connected(conn)
        if connected:
            if self.open is not None and self.open not in waiting:  # its end was not read yet, but had come
                waiting.insert(0, self.open)
            sent = [*self.answered, *waiting]
            assert sent == self.begun[: len(sent)]
            assert len(self.begun) - len(sent) <= self.ahead
        else:
            assert self.outstanding == []
            waiting = []  # the collector may have ended a pipeline just now
        alive = False
        try:
            if self.open is not None:
                self.is_answered(self.open, self.taken.getvalue() + await conn.readall())
                del waiting[:1]
            if waiting and waiting[-1] == self.begun[-1]:
                await self.pay()
            for target in waiting:
                assert (await conn.read_response()).path == target
                self.is_answered(target, await conn.readall())
            assert not conn.response_pending()
            await conn.send_request("GET", "/99")
            assert ((await conn.read_response()).path, await conn.readall()) == ("/99", body_of("/99"))
            alive = True
        except refusals:
            if connected and self.ahead == 1:  # one that is in a pipeline may be closed at any time, by the collector
                waiting = self.outstanding
                for _ in range(2):
                    with pytest.raises(refusals):
                        await conn.send_request("GET", "/97")
                    with pytest.raises(refusals):
                        await conn.read_response()
                assert self.outstanding == waiting
        if StateError in refusals:
            conn.close()  # a pipeline that was interrupted ends when its last frame has gone, or now
        await conn.connect()
        assert self.outstanding == []
        await conn.send_request("GET", "/98")
        assert ((await conn.read_response()).path, await conn.readall()) == ("/98", body_of("/98"))
        conn.close()
        return alive


def is_connected(conn: AsyncHTTPConnection) -> bool:
    """Whether it has a socket."""
    try:
        return conn.fileno() >= 0
    except StateError:
        return False


def assert_sent_once(targets: Sequence[str], run: Run) -> None:
    """What the server has seen is what was sent, in order, and none of it twice."""
    seen = [target for target in targets if target not in ("/98", "/99")]
    assert seen == run.begun[: len(seen)]
    assert run.answered == seen[: len(run.answered)]
    assert "/97" not in targets


# -- the runs --

Talk = Callable[[Run], Awaitable[None]]


async def by_hand(run: Run) -> None:
    """All requests, then all answers."""
    for target in TARGETS:
        await run.get(target)
    for number in range(COUNT):
        await run.read(READERS[number % 4])


async def in_turn(run: Run) -> None:
    """Uploads of every kind, each answered before the next."""
    for number, target in enumerate(TARGETS):
        body = body_of(target)
        half = len(body) // 2
        pieces = (body[:half], body[half:])
        kind = number % 7
        size = None if kind == 6 else len(body)
        bodies = (body, pieces, iter(pieces), run.file(target), *[BodyFollowing(size)] * 3)
        writes = [partial(run.conn.write, piece) for piece in pieces]
        owed = {4: [partial(run.conn.sendfile, run.file(target))], 5: writes, 6: [*writes, run.conn.end_body]}.get(kind)
        if owed and number % 5 == 0:
            owed.insert(0, run.conn.read_response)
        run.begun.append(target)
        run.owed = owed or []
        await run.through(run.conn.send_request("PUT", target, body=bodies[kind], expect100=number % 5 == 0))
        await run.pay(run.through)
        await run.read(READERS[number % 4])


async def pipelined(run: Run) -> None:
    """By `pipeline`, which gives some of the bodies to read."""
    run.begun = list(TARGETS)
    await take_all(run, run.conn.pipeline(TARGETS, body_limit=LIMIT))


async def fed(run: Run) -> None:
    """The same, from an asynchronous iterable and with uploads."""

    async def requests() -> AsyncIterator[str | Request]:
        for number, target in enumerate(TARGETS):
            if number % 4 == 0:
                await asyncio.sleep(0)
            body = body_of(target)
            bodies: list[Any] = [body, [body], run.file(target)]
            run.begun.append(target)
            yield target if number % 5 else Request("PUT", target, body=bodies[number % 3])

    await take_all(run, run.conn.pipeline(requests(), 8, body_limit=LIMIT))


async def take_all(run: Run, responses: AsyncIterator[Any]) -> None:
    run.ahead = COUNT
    try:
        while True:
            try:
                response = await run.through(responses.__anext__())
            except StopAsyncIteration:
                assert len(run.answered) == COUNT
                return
            if response.body is None:
                await run.read_body(response.path, READERS[1 + len(run.answered) % 3], again=True)
            else:
                run.is_answered(response.path, response.body)
    except asyncio.CancelledError:
        with pytest.raises(StopAsyncIteration):
            await responses.__anext__()
        raise
