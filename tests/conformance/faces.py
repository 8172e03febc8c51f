"""The faces: who waits, and how. Each runs the same programs, in which all that may wait is awaited."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from time import monotonic
from typing import Any

import httpio
from conformance.scenario import PLAIN, TLS
from conftest import need
from httpio import POLLIN, POLLOUT, AioFuture, HTTPConnection, PollNeeded

__all__ = ["FACES", "AioFutures", "Blocking", "Face", "Signal", "Steps", "Stuck", "Threads"]

SENDING = frozenset(("connect", "send_request", "write", "sendfile", "end_body", "flush"))
WAITING = SENDING | {
    "read_response",
    "read",
    "readinto",
    "readall",
    "discard",
    "write_to",
    "read_raw",
    "text",
    "get_ssl_peercert",
    "get_ssl_cipher",
}
"""The calls that may wait."""

TOGETHER, PIPELINE, FETCH, TEXT = "together", "pipeline", "fetch", "text"
CLOSE, ASYNCHRONOUS = "close", "asynchronous"

Main = Coroutine[Any, Any, Any]


class Signal:
    """An event, which all faces can wait for: it is seen in its thread, and at its descriptor."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._ear, self._tongue = socket.socketpair()
        self.fd = self._ear.fileno()

    def set(self) -> None:
        """From now on, nobody waits for it any more."""
        if not self._event.is_set():
            self._event.set()
            with suppress(OSError):  # it was closed
                self._tongue.send(b"!")

    def wait(self, seconds: float = 20.0) -> bool:
        """Block until it is set, for so long at most; returns whether it is."""
        return self._event.wait(seconds)

    def close(self) -> None:
        self._ear.close()
        self._tongue.close()


class Stuck(AssertionError):
    """Nothing has moved for longer than anything may take."""


class Face:
    """One way of waiting. What is awaited in *main* and below ends up in `call`, `both`, `pipeline` or `fetch`."""

    name = ""
    lacks: dict[str, str] = {}  # noqa: RUF012 - never changed
    """What it cannot do, and why."""
    over: Sequence[str] = (PLAIN, TLS)
    """How it plays a scenario, where that is played so: a face that is another in who drives the steps only does it
    without TLS."""

    def connection(self, *args: Any, **options: Any) -> Any:
        """A new connection."""
        return HTTPConnection(*args, **options)

    def run(self, main: Main, limit: float) -> Any:
        """Run a program to its end; returns what it returns. Raises Stuck after *limit* seconds, if it can."""
        raise NotImplementedError

    async def call(self, conn: Any, name: str, *args: Any, **options: Any) -> Any:
        """One call that may wait."""
        raise NotImplementedError

    async def both(self, one: Main, other: Main) -> tuple[Any, Any]:
        """Two parts of a program side by side; returns what both return."""
        raise NotImplementedError

    async def until(self, signal: Signal) -> None:
        """Wait for the server."""
        raise NotImplementedError

    def pipeline(self, conn: Any, *args: Any, **options: Any) -> Any:
        """The responses of `conn.pipeline`, to be iterated with `async for`, and to be closed with `aclose`."""
        raise NotImplementedError

    def fetch(self, *args: Any, **options: Any) -> Any:
        """The same for the results of `fetch`."""
        raise NotImplementedError


def finish(main: Main) -> Any:
    """What a coroutine returns that has nothing to wait for."""
    try:
        main.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("a blocking call has suspended")


class Iterated:
    """An iterator for `async for`; *call* takes the next item of it."""

    def __init__(self, items: Iterator[Any], call: Callable[[Callable[[], Any]], Any]) -> None:
        self._items = items
        self._call = call

    def __aiter__(self) -> Iterated:
        return self

    async def __anext__(self) -> Any:
        found = self._call(lambda: [item] if (item := next(self._items, self)) is not self else [])
        if not found:
            raise StopAsyncIteration
        return found[0]

    async def aclose(self) -> None:
        """Close the iterator."""
        self._call(self._items.close)  # type: ignore[attr-defined]


class Blocking(Face):
    """The calls as they are, in one thread."""

    name = "blocking"
    lacks = {  # noqa: RUF012
        TOGETHER: "one thread does one thing at a time",
        ASYNCHRONOUS: "a blocking call has no loop to wait in for the next item",
    }

    def run(self, main: Main, limit: float) -> Any:
        return finish(main)

    def do(self, call: Callable[[], Any], sends: bool = False) -> Any:
        """Make one call. *sends*: it is one of those that send."""
        return call()

    async def call(self, conn: Any, name: str, *args: Any, **options: Any) -> Any:
        if name == "text":
            return self.do(lambda: conn.text(*args, **options).read())
        return self.do(lambda: getattr(conn, name)(*args, **options), name in SENDING)

    async def until(self, signal: Signal) -> None:
        signal.wait()

    def pipeline(self, conn: Any, *args: Any, **options: Any) -> Any:
        return Iterated(self.do(lambda: conn.pipeline(*args, **options)), self.do)

    def fetch(self, *args: Any, **options: Any) -> Any:
        return Iterated(self.do(lambda: httpio.fetch(*args, **options)), self.do)


class Threads(Blocking):
    """One thread makes all calls that send, and another all that read."""

    name = "two threads"
    lacks = {  # noqa: RUF012
        CLOSE: "a wait in another thread is ended by abort()",
        ASYNCHRONOUS: Blocking.lacks[ASYNCHRONOUS],
    }

    def __init__(self) -> None:
        self._pools: dict[bool, ThreadPoolExecutor] = {}
        self._local = threading.local()

    def run(self, main: Main, limit: float) -> Any:
        with ThreadPoolExecutor(1) as sender, ThreadPoolExecutor(1) as reader:
            self._pools = {True: sender, False: reader}
            return finish(main)

    def _submit(self, call: Callable[[], Any], sends: bool) -> Future[Any]:
        def inside() -> Any:
            self._local.inside = True
            return call()

        return self._pools[sends].submit(inside)

    def do(self, call: Callable[[], Any], sends: bool = False) -> Any:
        if getattr(self._local, "inside", False):
            return call()
        return self._submit(call, sends).result()

    async def both(self, one: Main, other: Main) -> tuple[Any, Any]:
        first, second = self._submit(lambda: finish(one), True), self._submit(lambda: finish(other), False)
        for future in (first, second):
            future.exception()  # both have ended
        return first.result(), second.result()


class Waited:
    """An awaitable that hands what a step yields to whoever drives the coroutine."""

    def __init__(self, step: Generator[PollNeeded, None, Any]) -> None:
        self._step = step

    def __await__(self) -> Generator[PollNeeded, None, Any]:
        return (yield from self._step)


class Steps(Face):
    """The ``co_`` steps, under a bare loop over `select.select`."""

    name = "steps"
    lacks = {  # noqa: RUF012
        PIPELINE: "pipeline() is an iterator, and no step",
        FETCH: "fetch() is an iterator, and no step",
        TEXT: "text() is a file, and no step",
    }
    end = 0.0

    def run(self, main: Main, limit: float) -> Any:
        self.end = monotonic() + limit
        return self.drive(main)[0]

    async def call(self, conn: Any, name: str, *args: Any, **options: Any) -> Any:
        return await Waited(getattr(conn, f"co_{name}")(*args, **options))

    async def both(self, one: Main, other: Main) -> tuple[Any, Any]:
        results = self.drive(one, other)
        return results[0], results[1]

    async def until(self, signal: Signal) -> None:
        def step() -> Generator[PollNeeded, None, None]:
            while not signal.wait(0):
                yield PollNeeded(signal.fd, POLLIN)

        await Waited(step())

    def drive(self, *parts: Main) -> list[Any]:
        """Run coroutines that yield what they wait for, side by side."""
        results: list[Any] = [None] * len(parts)
        needs: dict[int, PollNeeded] = {}
        due = list(range(len(parts)))
        while True:
            for index in due:
                needs.pop(index, None)
                try:
                    needs[index] = self.resume(parts[index])
                except StopIteration as stop:
                    results[index] = stop.value
            if not needs:
                return results
            due = self.wait(needs)

    def resume(self, part: Main) -> PollNeeded:
        """Run one to its next wait."""
        need: PollNeeded = part.send(None)
        return need

    def wait(self, needs: dict[int, PollNeeded]) -> list[int]:
        """Wait until one or more of *needs* are met; returns the numbers of these."""
        readers = {self.reads(need) for need in needs.values()} | {self.bell(need) for need in needs.values()}
        writers = {self.writes(need) for need in needs.values()}
        deadlines = [end for need in needs.values() if (end := self.deadline(need)) is not None]
        now = monotonic()
        if now >= self.end:
            raise Stuck("the loop does not end")
        left = max(0.0, min([self.end, *deadlines]) - now)
        try:
            readable, writable, _ = select.select(readers - {-1}, writers - {-1}, [], left)
        except (OSError, ValueError):
            return list(needs)  # a descriptor was closed: whoever waits for it sees for itself
        due = [
            index
            for index, need in needs.items()
            if self.reads(need) in readable or self.bell(need) in readable or self.writes(need) in writable
        ]
        return due or list(needs)  # a step that is resumed too early waits on

    # What each of *needs* waits for; -1: nothing.

    def reads(self, need: PollNeeded) -> int:
        return need.fd if need.mask & POLLIN else -1

    def writes(self, need: PollNeeded) -> int:
        return need.fd if need.mask & POLLOUT else -1

    def bell(self, need: PollNeeded) -> int:
        return -1 if need.bell is None else need.bell

    def deadline(self, need: PollNeeded) -> float | None:
        return need.deadline


class Restless(Steps):
    """The same, where each step is resumed once for no reason before it is waited for. It looks for itself."""

    name = "steps, resumed early"
    over = (PLAIN,)

    def resume(self, part: Main) -> PollNeeded:
        super().resume(part)
        return super().resume(part)


class InLoop(Face):
    """In an asyncio event loop."""

    name = "asyncio"
    new_loop = staticmethod(asyncio.new_event_loop)

    def connection(self, *args: Any, **options: Any) -> Any:
        return httpio.AsyncHTTPConnection(*args, **options)

    def run(self, main: Main, limit: float) -> Any:
        loop = self.new_loop()
        complaints: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        try:
            result = loop.run_until_complete(self._limited(main, limit))
            assert complaints == []
            return result
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    async def _limited(self, main: Main, limit: float) -> Any:
        task = asyncio.ensure_future(main)
        done, _ = await asyncio.wait([task], timeout=limit)
        if not done:
            task.cancel()
            await asyncio.wait([task], timeout=limit)
            raise Stuck("the task does not end")
        return task.result()

    async def call(self, conn: Any, name: str, *args: Any, **options: Any) -> Any:
        return await getattr(conn, name)(*args, **options)

    async def both(self, one: Main, other: Main) -> tuple[Any, Any]:
        tasks = asyncio.ensure_future(one), asyncio.ensure_future(other)
        await asyncio.wait(tasks)
        return tasks[0].result(), tasks[1].result()

    async def until(self, signal: Signal) -> None:
        loop, found = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(signal.fd, found.set)
        await found.wait()
        loop.remove_reader(signal.fd)

    def pipeline(self, conn: Any, *args: Any, **options: Any) -> Any:
        return conn.pipeline(*args, **options)

    def fetch(self, *args: Any, **options: Any) -> Any:
        return httpio.afetch(*args, **options)


class UVLoop(InLoop):
    """The same in uvloop's."""

    name = "uvloop"

    @staticmethod
    def new_loop() -> asyncio.AbstractEventLoop:
        need(find_spec("uvloop") is not None, "The Python package uvloop")
        import uvloop

        return uvloop.new_event_loop()


class AioFutures(InLoop):
    """The ``co_`` steps of an HTTPConnection, each in an AioFuture."""

    name = "AioFuture"
    lacks = Steps.lacks | {CLOSE: "no future is told that its descriptor was closed: abort() ends its wait"}
    over = (PLAIN,)

    def connection(self, *args: Any, **options: Any) -> Any:
        return HTTPConnection(*args, **options)

    async def call(self, conn: Any, name: str, *args: Any, **options: Any) -> Any:
        return await AioFuture(getattr(conn, f"co_{name}")(*args, **options))


FACES: dict[str, type[Face]] = {
    face.name: face for face in (Blocking, Threads, Steps, Restless, AioFutures, InLoop, UVLoop)
}
