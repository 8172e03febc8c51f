"""Moving many objects in an event loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from functools import partial

from httpio.aio import Feed, watch_of
from httpio.bulk.engine import Encoded, Engine, Lane, ProxyFor, Settings, task_of
from httpio.bulk.report import Result
from httpio.headers import FieldsLike
from httpio.messages import Limits, Request
from httpio.proxies import ProxyLike
from httpio.watching import Waiter, Watch
from httpio.window import refuse_one

__all__ = ["afetch"]

IN_THE_LOOP = 16 * 1024
"""Bytes of encoded content that are decoded in the loop's thread."""

ROUNDS = 16
"""Rounds without a wait after which other tasks have a turn."""


def afetch(
    items: Iterable[str | Request] | AsyncIterable[str | Request],
    *,
    headers: FieldsLike = None,
    ssl_context: ssl.SSLContext | None = None,
    timeout: float | None = 60,
    connect_timeout: float | None = 30,
    body_limit: int = 64 * 1024 * 1024,
    proxy: ProxyLike | ProxyFor = None,
    decode: bool = False,
    limits: Limits | None = None,
) -> AsyncGenerator[Result, None]:
    """As `fetch`, for ``async for``. *items* may be an asynchronous iterable, too: a task of its own draws from it,
    at most some 4,000 items ahead of what is sent. An origin that could not be connected to, twice, is not tried again.

    To leave the loop early gives up what is under way; `contextlib.aclosing` makes that happen at once. RuntimeError
    where the event loop cannot watch sockets, as Windows' Proactor.
    """
    feed = Feed(items) if isinstance(items, AsyncIterable) else None
    tasks = map(task_of, refuse_one(items) if feed is None else feed)  # type: ignore[arg-type]
    settings = Settings(headers, ssl_context, timeout, connect_timeout, body_limit, proxy, decode, limits)
    return _run(Engine(tasks, None, settings), feed)


async def _run(engine: Engine, feed: Feed[str | Request] | None) -> AsyncGenerator[Result, None]:
    Watch(asyncio.get_running_loop())  # a loop that cannot watch says so before anything is sent
    engine.more_to_come = feed is not None
    waiting = _Waiting(engine)
    rounds = 0
    try:
        if feed is not None:
            feed.start(waiting.note_items)
        while True:
            waiting.take_news()
            busy = engine.advance()
            for result in engine.take_results():
                yield await _decoded(engine, result) if isinstance(result, Encoded) else result
            if not busy:
                if feed is None or not await feed.more():
                    break
            elif engine.needs():
                await waiting.wait()
            else:
                rounds += 1
                if rounds % ROUNDS == 0:
                    await asyncio.sleep(0)
        engine.check()
    finally:
        engine.close()
        if feed is not None:
            await feed.close()


async def _decoded(engine: Engine, encoded: Encoded) -> Result:
    """The result; what may take long to decode is decoded in a thread."""
    if len(encoded.result.content or b"") <= IN_THE_LOOP:
        return engine.decode(encoded)
    return await asyncio.to_thread(engine.decode, encoded)


class _Waiting:
    """The lanes that wait, each watched in the running loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._news = asyncio.Event()
        self._items = False
        self._waiters: dict[Lane, tuple[Watch, Waiter]] = {}

    def note_items(self) -> None:
        """There are more items, or no more to come."""
        self._items = True
        self._news.set()

    def take_news(self) -> None:
        """Let the engine know of what has come since."""
        self._news.clear()
        if self._items:
            self._items = False
            self._engine.draw_again()
        for lane, (watch, waiter) in tuple(self._waiters.items()):
            if lane.ready:
                watch.remove(waiter)
                del self._waiters[lane]

    async def wait(self) -> None:
        """Wait until a lane can go on, or there are more items."""
        for lane in self._engine.active:
            if lane.need is not None and lane not in self._waiters:
                watch = watch_of(lane.link)
                waiter = watch.add(lane.need, lane.link.transport, partial(self._wake, lane))
                self._waiters[lane] = watch, waiter
        await self._news.wait()

    def _wake(self, lane: Lane) -> None:
        self._waiters.pop(lane, None)
        lane.ready = True
        self._news.set()
