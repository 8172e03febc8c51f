"""Awaits that are cut short at a place of a test's choice, and loops in which nothing may stay behind."""

from __future__ import annotations

import asyncio
import gc
import os
import selectors
import threading
from asyncio import constants
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import uvloop

from awkward import Habits

LOOPS = ("asyncio", "uvloop")
LATER = 10_000.0
"""Seconds that a clock jumps, so that whatever has a limit is over it."""


# -- loops --


class Selector(selectors.DefaultSelector):
    """What asyncio would use itself; its calls go through *habits*."""

    def __init__(self, habits: Habits) -> None:
        super().__init__()
        self._habits = habits

    def register(self, fileobj: Any, events: int, data: Any = None) -> Any:
        return self._habits.call("register", None, super().register, fileobj, events, data)

    def unregister(self, fileobj: Any) -> Any:
        return self._habits.call("unregister", None, super().unregister, fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> Any:
        return self._habits.call("modify", None, super().modify, fileobj, events, data)

    def select(self, timeout: float | None = None) -> Any:
        return self._habits.call("select", None, super().select, timeout)


class _Loop(asyncio.SelectorEventLoop):
    """asyncio's, with a selector and a clock of the test's."""

    jumped = 0.0

    def __init__(self, habits: Habits) -> None:
        self.selector = Selector(habits)
        super().__init__(self.selector)

    def time(self) -> float:
        return super().time() + self.jumped


class _UVLoop(uvloop.Loop):  # type: ignore[misc]
    """uvloop's; it does not tell itself what is left in it."""

    def __init__(self) -> None:
        self.left: set[Any] = set()
        self.timers: list[asyncio.TimerHandle] = []

    def add_reader(self, fd: int, *call: Any) -> None:
        super().add_reader(fd, *call)
        self.left.add(("reader", fd))

    def add_writer(self, fd: int, *call: Any) -> None:
        super().add_writer(fd, *call)
        self.left.add(("writer", fd))

    def remove_reader(self, fd: int) -> Any:
        self.left.discard(("reader", fd))
        return super().remove_reader(fd)

    def remove_writer(self, fd: int) -> Any:
        self.left.discard(("writer", fd))
        return super().remove_writer(fd)

    def call_later(self, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        self.timers = [timer for timer in self.timers if not timer.cancelled()]
        self.timers.append(super().call_later(*args, **kwargs))
        return self.timers[-1]


@contextmanager
def loop_of(kind: str, habits: Habits, collect: bool = True) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop; whatever goes wrong in it unseen fails the test. *collect*: what only the collector meets, too."""
    loop: asyncio.AbstractEventLoop = _Loop(habits) if kind == "asyncio" else _UVLoop()
    seen: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: seen.append(context))
    constants.DEBUG_STACK_DEPTH, depth = 1, constants.DEBUG_STACK_DEPTH  # where things were made is not told here
    loop.slow_callback_duration = 60  # type: ignore[attr-defined]
    try:
        yield loop
        loop.run_until_complete(loop.shutdown_asyncgens())
        if collect:
            gc.collect()
        assert seen == []
        assert_bare(loop)
    finally:
        loop.close()
        constants.DEBUG_STACK_DEPTH = depth


def assert_bare(loop: asyncio.AbstractEventLoop) -> None:
    """No task, no timer and no descriptor is left in a loop that does not run."""
    assert asyncio.all_tasks(loop) == set()
    if isinstance(loop, _Loop):
        assert len(loop.selector.get_map()) == 1  # by which other threads wake it
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []  # type: ignore[attr-defined]
    if isinstance(loop, _UVLoop):
        assert loop.left == set()
        assert [timer for timer in loop.timers if not timer.cancelled() and timer.when() > loop.time()] == []


def end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is left after an interrupt, as `asyncio.run` does."""
    with suppress(RuntimeError):  # a loop that was to stop when it was interrupted stops now
        loop.run_until_complete(asyncio.sleep(0))
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left))


def descriptors() -> int:
    """How many there are, when the look-ups that a cancelled call has left are over."""
    for thread in threading.enumerate():
        if thread.name == "httpio name look-up":
            thread.join(20)
    return len(os.listdir("/proc/self/fd"))


# -- cancelling --


class Cancel:
    """Cancels the task that awaits something through it, when that is suspended for the time number *at*.

    *when*: "waiting", what it waits for has not come; "woken", it has, and the task is about to go on; "timed", by
    `asyncio.wait_for` around the call, whose time is over.
    """

    def __init__(self, at: int, when: str) -> None:
        self.left = at
        self.when = when
        self.where = ""
        """The name of the call that was cancelled."""

    async def __call__(self, call: Coroutine[Any, Any, Any]) -> Any:
        if self.when == "timed":
            try:
                return await asyncio.wait_for(self._drive(call), LATER)
            except asyncio.TimeoutError as error:
                raise asyncio.CancelledError from error
        try:
            return await _Driven(call, self)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if hasattr(task, "uncancel"):  # Python 3.11
                task.uncancel()
            raise

    async def _drive(self, call: Coroutine[Any, Any, Any]) -> Any:
        return await _Driven(call, self)

    def suspended(self, name: str, future: asyncio.Future[Any] | None) -> None:
        """A call by that name waits for *future*; None: for its next turn."""
        self.left -= 1
        if self.left:
            return
        self.where = name
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        if self.when == "timed":
            assert isinstance(loop, _Loop)
            loop.jumped += 2 * LATER
        elif self.when == "woken" and future is not None:
            future.add_done_callback(lambda _: task.cancel())
        else:
            loop.call_soon(task.cancel)


class _Driven:
    def __init__(self, call: Coroutine[Any, Any, Any], cancel: Cancel) -> None:
        self._call = call
        self._cancel = cancel

    def __await__(self) -> Generator[Any, None, Any]:
        steps = self._call.__await__()
        go_on: Callable[[], Any] = partial(steps.send, None)
        try:
            while True:
                future = go_on()
                self._cancel.suspended(getattr(self._call, "__name__", "__anext__"), future)
                try:
                    yield future
                    go_on = partial(steps.send, None)
                except BaseException as error:
                    go_on = partial(steps.throw, error)
        except StopIteration as stop:
            return stop.value
