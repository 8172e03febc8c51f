"""Event loops, asyncio's and uvloop's, that note what httpio asks of them, and in which nothing goes wrong unseen."""

from __future__ import annotations

import asyncio
import select
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import Any

import pytest
import uvloop

from httpio import AsyncHTTPConnection
from httpio.transport import Transport
from httpio.watching import Watch
from servers.scripted import Peer, Script, Scripted, answers

KINDS = ("asyncio", "uvloop")

Main = Callable[[], Awaitable[Any]]

Serve = Callable[..., tuple[Scripted, AsyncHTTPConnection]]
"""`serve(script, **options)` runs a script, and gives the server and a connection to it, made with the options."""


class Noting(asyncio.AbstractEventLoop):
    """The part that notes, for a loop to be made with."""

    def __init__(self) -> None:
        super().__init__()
        self.watched: set[tuple[str, int]] = set()
        """What is watched now: "reader" or "writer", and the descriptor."""
        self.changes: Counter[str] = Counter()
        """Calls of add_reader and the like, and calls_later of a Watch."""
        self.called: Counter[int] = Counter()
        """By descriptor: how often somebody was told that it is ready."""
        self.readers: dict[int, Callable[[], object]] = {}
        """Who is told, by descriptor."""
        self.timers: list[asyncio.TimerHandle] = []
        """All that a Watch has set."""
        self.complaints: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    def add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> None:  # type: ignore[override]
        self.changes["add_reader"] += 1
        super().add_reader(fd, self._tell, fd, callback, *args)
        self.readers[fd] = lambda: callback(*args)
        self.watched.add(("reader", fd))

    def add_writer(self, fd: Any, callback: Callable[..., object], *args: Any) -> None:  # type: ignore[override]
        self.changes["add_writer"] += 1
        super().add_writer(fd, self._tell, fd, callback, *args)
        self.watched.add(("writer", fd))

    def remove_reader(self, fd: Any) -> bool:
        self.changes["remove_reader"] += 1
        self.watched.discard(("reader", fd))
        return super().remove_reader(fd)

    def remove_writer(self, fd: Any) -> bool:
        self.changes["remove_writer"] += 1
        self.watched.discard(("writer", fd))
        return super().remove_writer(fd)

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, **more: Any) -> asyncio.TimerHandle:
        handle = super().call_later(delay, callback, *args, **more)
        if isinstance(getattr(callback, "__self__", None), Watch):
            self.changes["call_later"] += 1
            self.timers.append(handle)
        return handle

    def _tell(self, fd: int, callback: Callable[..., object], *args: Any) -> None:
        self.called[fd] += 1
        callback(*args)

    def complete(self, main: Main) -> Any:
        """What *main* returns, within 20 seconds. After it no task is left."""

        async def bounded() -> Any:
            result = await asyncio.wait_for(main(), 20)
            await turns(10)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            return result

        return self.run_until_complete(bounded())


class NotingSelectorLoop(Noting, asyncio.SelectorEventLoop):
    """asyncio's."""


class NotingUVLoop(Noting, uvloop.Loop):
    """uvloop's."""


@contextmanager
def noting(kind: str) -> Iterator[Any]:
    """A loop, closed at the end of the block; nobody has complained to it, and nothing is left watched."""
    loop = NotingUVLoop() if kind == "uvloop" else NotingSelectorLoop()
    try:
        yield loop
        assert loop.complaints == []
        assert loop.watched == set()
    finally:
        loop.close()


async def turns(count: int = 5) -> None:
    """Let the loop go round so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(there: Callable[[], object]) -> None:
    """Let the loop go round until that is so; fails after 10 seconds."""
    latest = monotonic() + 10
    while not there():
        assert monotonic() < latest
        await asyncio.sleep(0.0005)


@contextmanager
def turns_of_others() -> Iterator[Counter[str]]:
    """Counts as "turns" how often another task goes on while the block runs."""
    count: Counter[str] = Counter()

    async def go_on() -> None:
        while True:
            await asyncio.sleep(0)
            count["turns"] += 1

    task = asyncio.ensure_future(go_on())
    try:
        yield count
    finally:
        task.cancel()


def always_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each peer one that is never waited for: what it is to send is there."""
    receive = Transport.try_receive_into

    def receive_in_time(transport: Transport, *arguments: Any) -> int | None:
        select.select([transport.fd], [], [], 20)
        return receive(transport, *arguments)

    monkeypatch.setattr(Transport, "try_receive_into", receive_in_time)


def takes_all(conn: AsyncHTTPConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the peer of a connection one that always has room for what it is sent, however much that is."""
    sendfile, transport = Transport.try_sendfile, conn._link.transport
    assert transport is not None

    def sendfile_in_time(transport: Transport, *arguments: int) -> int | None:
        select.select([], [transport.fd], [], 20)
        return sendfile(transport, *arguments)

    monkeypatch.setattr(Transport, "try_sendfile", sendfile_in_time)
    monkeypatch.setattr(transport, "socket", _Taking(transport.socket))


class _Taking:
    """A socket that takes all that it is given in one call."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def send(self, data: Any) -> int:
        rest = memoryview(data)
        while rest:
            select.select([], [self._sock], [], 20)
            rest = rest[self._sock.send(rest) :]
        return memoryview(data).nbytes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


# -- connections in them --


@contextmanager
def serving_tasks() -> Iterator[Serve]:
    """A `Serve`; what it starts ends with the block."""
    with ExitStack() as stack:

        def serve(script: Script = answers, **options: Any) -> tuple[Scripted, AsyncHTTPConnection]:
            server = stack.enter_context(Scripted(script))
            conn = AsyncHTTPConnection("127.0.0.1", server.port, **{"timeout": 20, **options})
            stack.callback(conn.close)
            return server, conn

        yield serve


async def ask(conn: AsyncHTTPConnection, path: str) -> None:
    """A request and its answer."""
    await conn.send_request("GET", path)
    assert (await conn.read_response()).path == path
    assert await conn.readall() == path.encode()


async def ends_with(call: Awaitable[Any], kind: type[BaseException], match: str | None = None) -> None:
    with pytest.raises(kind, match=match):
        await call


class Held:
    """A script: a request for a path that begins with /held is answered when `gate` is set."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def __call__(self, peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            if seen.target.startswith("/held"):
                assert self.gate.wait(20)
            peer.answer(seen.target.encode())
