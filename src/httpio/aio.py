"""AsyncHTTPConnection: each step as a call to be awaited, in asyncio's loop or uvloop's."""

from __future__ import annotations

import asyncio
import warnings
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, TypeVar

from httpio.endpoint import Endpoint
from httpio.exceptions import StateError
from httpio.headers import FieldsLike
from httpio.messages import Body, HTTPResponse, Request, Trailers
from httpio.pipelining import Pipeline
from httpio.steps import Steps
from httpio.waiting import Step
from httpio.watching import Watch
from httpio.window import Backlog, Window

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["AsyncHTTPConnection", "Feed", "Responses", "watch_of"]

T = TypeVar("T")

CALLS = 64
"""Calls without a wait, before other tasks have a turn."""

FED_AHEAD = 64
"""Items that are drawn from an asynchronous iterable before they can be sent, at most."""


class AsyncHTTPConnection(Steps):
    """`HTTPConnection` for asyncio: the same arguments, the same calls, to be awaited where they may wait.

    One task may send while another reads; a second of either is a StateError, and so is a call in another loop while
    one waits. `close`, `abort` and `detach` do not wait, and are not awaited. A connection that is dropped while it is
    open is closed, with a ResourceWarning.

    To cancel a call shifts nothing: no response goes to another request. A cancelled read has lost nothing, but for
    those that read to the end (`readall`, `text`, `read` without a number): where they had read something, they break
    the connection, as an interrupt does, until `connect` or `close`. What was being sent goes out all the same with
    the next call that waits or sends, and its request stays in `outstanding`; but a file, an iterable, or what waits
    for 100 (Continue) breaks the connection.

    Files that are sent from or written to are read and written in the loop's thread. RuntimeError from the first call
    where the loop cannot watch sockets, as Windows' Proactor.
    """

    _unwaited = 0
    """Calls since the last that waited."""

    async def _run(self, step: Step[T]) -> T:
        """Run a step to its end, in this task."""
        link = self._link
        waits = False
        self._unwaited += 1
        try:
            if self._unwaited > CALLS:
                self._unwaited, waits = 0, True
                await asyncio.sleep(0)
                waits = False
            if link.transport is None or (link.watch is not None and link.watch.busy):
                watch_of(link)  # a loop that cannot watch, or another than that which waits, is refused at once
            try:
                while True:
                    need = step.send(None)
                    watch = watch_of(link)
                    future = watch.loop.create_future()
                    waiter = watch.add(need, link.transport, partial(_wake, future))
                    try:
                        waits = True
                        await future
                        waits = False
                    finally:
                        if waits:
                            watch.remove(waiter)
                    self._unwaited = 0
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
        except Exception:
            raise
        except BaseException as exc:
            if not (waits and isinstance(exc, asyncio.CancelledError | GeneratorExit)):
                link.interrupt()  # between any two instructions: where the connection stands cannot be told
            raise
        finally:
            step.close()

    def __del__(self) -> None:
        link: Endpoint | None = getattr(self, "_link", None)
        if link is not None and link.transport is not None:
            link.close()
            warnings.warn(f"unclosed connection to {link.target}", ResourceWarning, source=self, stacklevel=2)

    # -- connecting --

    async def connect(self) -> None:
        """As `HTTPConnection.connect`."""
        await self._run(self.co_connect())

    async def __aenter__(self) -> AsyncHTTPConnection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def aclose(self) -> None:
        """As `close`, for what closes things by this name."""
        self.close()

    async def get_ssl_peercert(self, binary_form: bool = False) -> dict[str, Any] | bytes | None:
        """As `HTTPConnection.get_ssl_peercert`."""
        return await self._run(self.co_get_ssl_peercert(binary_form))

    async def get_ssl_cipher(self) -> tuple[str, str, int] | None:
        """As `HTTPConnection.get_ssl_cipher`."""
        return await self._run(self.co_get_ssl_cipher())

    # -- sending --

    async def send_request(
        self,
        method: str,
        path: str,
        headers: FieldsLike = None,
        body: Body = None,
        expect100: bool = False,
        *,
        trailers: Trailers = None,
    ) -> None:
        """As `HTTPConnection.send_request`."""
        await self._run(self.co_send_request(method, path, headers, body, expect100, trailers=trailers))

    async def write(self, buf: bytes | bytearray | memoryview, partial: bool = False) -> int:
        """As `HTTPConnection.write`."""
        return await self._run(self.co_write(buf, partial))

    async def sendfile(self, fh: BinaryIO) -> int:
        """As `HTTPConnection.sendfile`."""
        return await self._run(self.co_sendfile(fh))

    async def end_body(self, trailers: Trailers = None) -> None:
        """As `HTTPConnection.end_body`."""
        await self._run(self.co_end_body(trailers))

    async def flush(self) -> None:
        """As `HTTPConnection.flush`."""
        await self._run(self.co_flush())

    # -- receiving --

    async def read_response(self, decode: bool = False) -> HTTPResponse:
        """As `HTTPConnection.read_response`."""
        return await self._run(self.co_read_response(decode))

    async def read(self, len_: int | None = None) -> bytes:
        """As `HTTPConnection.read`."""
        return await self._run(self.co_read(len_))

    async def readinto(self, buf: WriteableBuffer) -> int:
        """As `HTTPConnection.readinto`."""
        return await self._run(self.co_readinto(buf))

    async def readall(self) -> bytes:
        """As `HTTPConnection.readall`."""
        return await self._run(self.co_readall())

    async def discard(self) -> None:
        """As `HTTPConnection.discard`."""
        await self._run(self.co_discard())

    async def write_to(self, fh: BinaryIO) -> int:
        """As `HTTPConnection.write_to`."""
        return await self._run(self.co_write_to(fh))

    async def read_raw(self, size: int) -> bytes:
        """As `HTTPConnection.read_raw`."""
        return await self._run(self.co_read_raw(size))

    async def text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """What is left of the content, decoded: a str, where `HTTPConnection.text` gives a file. Raises
        UnicodeDecodeError and LookupError as `bytes.decode` does; the content has been read then."""
        return (await self.readall()).decode(encoding, errors)

    # -- many --

    def pipeline(
        self,
        requests: Iterable[str | Request] | AsyncIterable[str | Request],
        depth: int | None = None,
        body_limit: int = 1024 * 1024,
        *,
        decode: bool = False,
    ) -> Responses:
        """As `HTTPConnection.pipeline`, for ``async for``. *requests* may be an asynchronous iterable, too: a task of
        its own draws from it, a little ahead of what is sent.

        Left early, or cancelled, it closes the connection where requests are outstanding.
        """
        self._check_idle()
        return Responses(self, requests, Window(depth), body_limit, decode)


class Responses(AsyncIterator[HTTPResponse]):
    """The responses of a pipeline. Dropped, it ends at once, which an asynchronous generator would not."""

    _ended = True  # until it was made
    _running = False

    def __init__(
        self,
        connection: AsyncHTTPConnection,
        requests: Iterable[str | Request] | AsyncIterable[str | Request],
        window: Window,
        body_limit: int,
        decode: bool = False,
    ) -> None:
        self._connection = connection
        self._feed = Feed(requests) if isinstance(requests, AsyncIterable) else None
        backlog = Backlog(requests if self._feed is None else self._feed)  # type: ignore[arg-type]
        self._pipeline = Pipeline(connection._link, backlog, window, body_limit, decode)
        self._within: AbstractContextManager[None] | None = None
        self._ended = False
        self._batch: Iterator[HTTPResponse] = iter(())

    async def __anext__(self) -> HTTPResponse:
        if self._ended:
            raise StopAsyncIteration
        if self._running:
            raise StateError("another task waits for a response of this pipeline")
        connection, pipeline, feed = self._connection, self._pipeline, self._feed
        try:
            self._running = True
            if self._within is None:
                self._begin()
            for response in self._batch:
                return response
            while True:
                batch = await connection._run(pipeline.co_next())
                if batch:
                    self._batch = connection._hand_out(pipeline, batch)
                    if connection._unwaited:
                        await asyncio.sleep(0)  # the peer is fast: other tasks have a turn all the same
                        connection._check_in(pipeline)
                    return next(self._batch)
                if feed is None or not await feed.more():
                    break
                connection._check_in(pipeline)
        except GeneratorExit:
            self._end()  # there is no loop to wait in
            raise
        except BaseException:
            await self.aclose()
            raise
        finally:
            self._running = False
        await self.aclose()
        raise StopAsyncIteration

    def _begin(self) -> None:
        within = self._connection._in_pipeline(self._pipeline)
        within.__enter__()
        self._within = within
        if self._feed is not None:
            link = self._connection._link  # not self, which the task would keep alive
            self._feed.start(lambda: None if link.watch is None else link.watch.wake_all())

    def _end(self) -> None:
        self._ended = True
        if self._feed is not None:
            self._feed.stop()
        within, self._within = self._within, None
        if within is not None:
            within.__exit__(None, None, None)

    async def aclose(self) -> None:
        """End the pipeline; with requests outstanding the connection is closed."""
        self._end()
        if self._feed is not None:
            await self._feed.close()

    def __del__(self) -> None:
        if not self._ended:
            self._end()


class Feed(Iterator[T], Generic[T]):
    """What an asynchronous iterable gives, for what draws without waiting: it ends when nothing is here yet, and may
    then be asked again."""

    def __init__(self, source: AsyncIterable[T]) -> None:
        self._source = source
        self._items: deque[T] = deque()
        self._failure: BaseException | None = None
        self._stopped = False
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()  # by either side
        self._over = False

    def __next__(self) -> T:
        if self._items:
            self._changed.set()
            return self._items.popleft()
        raise StopIteration

    def start(self, news: Callable[[], object]) -> None:
        """Begin to draw, in a task of its own. *news* is called when there is more, or no more to come."""
        self._task = asyncio.ensure_future(self._draw(news))

    def stop(self) -> None:
        """Draw no more."""
        self._stopped = True
        self._failure = None  # its traceback holds whoever asked, and so the connection
        if self._task is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._task.cancel()

    async def close(self) -> None:
        """Draw no more, and wait until the iterable has taken note."""
        self.stop()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def more(self) -> bool:
        """Wait until there is something to draw; False: there will not be. Raises what the iterable raised, once
        all before that has been drawn."""
        while not (self._items or self._over):
            self._changed.clear()
            await self._changed.wait()
        if self._failure is not None and not self._items:
            raise self._failure
        return bool(self._items)

    async def _draw(self, news: Callable[[], object]) -> None:
        try:
            async for item in self._source:
                self._items.append(item)
                self._changed.set()
                news()
                while len(self._items) >= FED_AHEAD:
                    self._changed.clear()
                    await self._changed.wait()
        except (Exception, asyncio.CancelledError) as exc:
            if self._stopped:
                raise
            self._failure = exc
        finally:
            self._over = True
            self._changed.set()
            news()


def watch_of(link: Endpoint) -> Watch:
    """What watches a connection in the running loop; StateError while another loop waits for it."""
    loop = asyncio.get_running_loop()
    watch = link.watch
    if watch is None or watch.loop is not loop:
        if watch is not None:
            if watch.busy:
                raise StateError("another event loop waits for this connection")
            watch.clear()
        watch = link.watch = Watch(loop)
    return watch


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
