"""asyncio: steps driven by an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import suppress
from time import monotonic
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from httpio.waiting import POLLIN, POLLOUT, PollNeeded

__all__ = ["AioFuture"]

T = TypeVar("T")

_waiting: WeakValueDictionary[tuple[int, int, int], AioFuture[Any]] = WeakValueDictionary()
"""Who waits: by loop, file descriptor, and POLLIN or POLLOUT. A future keeps its loop, and so the loop's id, alive."""


class AioFuture(asyncio.Future[T]):
    """Runs a step, such as `HTTPConnection.co_read_response` returns, in an asyncio event loop.

    *crt*: the step. *loop*: the loop that drives it; None: the one that is running, or else asyncio's current
    one. What the step returns or raises becomes the result or the exception of the future. To cancel the
    future closes the step, which is then not resumed; whether its connection can go on depends on how far it
    had come.

    At most one future in a loop can wait for a descriptor to be readable, and one for it to be writable: a
    further one ends with a RuntimeError. One that sends and one that reads on the same connection are fine. To close
    the connection does not end what waits for it: cancel that first. `AsyncHTTPConnection` has none of these limits.
    """

    def __init__(self, crt: Generator[PollNeeded, None, T], loop: asyncio.AbstractEventLoop | None = None) -> None:
        super().__init__(loop=loop)
        self._step = crt
        self._watched: list[tuple[int, int]] = []
        self._running = False
        self._scheduled: asyncio.Handle | None = self.get_loop().call_soon(self._resume)

    def cancel(self, msg: Any | None = None) -> bool:
        """Close the step; False where it has ended already."""
        if not super().cancel(msg):
            return False
        self._stop_waiting()
        self._close()
        return True

    def _resume(self) -> None:
        """Run the step to its next wait."""
        self._stop_waiting()
        if self.done():
            self._close()
            return
        self._running = True
        try:
            need = self._step.send(None)
        except BaseException as exc:
            self._running = False
            self._end(exc)
            if isinstance(exc, KeyboardInterrupt | SystemExit):
                raise
        else:
            self._running = False
            self._wait(need)
        finally:
            del self  # an exception holds this frame: with it, the future would hold itself

    def _end(self, exc: BaseException) -> None:
        if self.done():
            return  # it was cancelled by what it called
        if isinstance(exc, StopIteration):
            self.set_result(exc.value)
        elif isinstance(exc, asyncio.CancelledError):
            super().cancel()
        else:
            self.set_exception(exc)

    def _close(self) -> None:
        if self._running:
            return  # it calls this itself, and is closed at its next wait
        try:
            self._step.close()
        except Exception as exc:
            self.get_loop().call_exception_handler(
                {"message": "a step has failed while it was closed", "exception": exc, "future": self}
            )

    def _wait(self, need: PollNeeded) -> None:
        """Be resumed when *need* is met."""
        loop = self.get_loop()
        fd, mask = need
        wanted = [(fd, direction) for direction in (POLLIN, POLLOUT) if mask & direction]
        bell: int | None = getattr(need, "bell", None)
        if bell is not None:
            wanted.append((bell, POLLIN))
        try:
            for fd, direction in wanted:
                other = _waiting.get((id(loop), fd, direction))
                if other is not None:
                    other._resume()  # it may have another wish by now, or have waited for a closed descriptor
            if self.done():
                self._close()
                return
            for fd, direction in wanted:
                if (id(loop), fd, direction) in _waiting:
                    raise RuntimeError(f"something else waits for file descriptor {fd} in this loop")
            for fd, direction in wanted:
                (loop.add_reader if direction == POLLIN else loop.add_writer)(fd, self._resume)
                self._watched.append((fd, direction))
                _waiting[id(loop), fd, direction] = self
        except (OSError, ValueError):
            # A closed descriptor, or a file, which is always ready: poll would not wait for it either.
            self._stop_waiting()
            self._scheduled = loop.call_soon(self._resume)
        except Exception as exc:
            self._stop_waiting()
            self._close()
            self._end(exc)
        else:
            deadline: float | None = getattr(need, "deadline", None)
            if deadline is not None:  # by a clock that need not be the loop's
                self._scheduled = loop.call_later(max(0.0, deadline - monotonic()), self._resume)

    def _stop_waiting(self) -> None:
        loop = self.get_loop()
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        for fd, direction in self._watched:
            del _waiting[id(loop), fd, direction]
            with suppress(OSError, ValueError, RuntimeError):  # closed, and perhaps a transport's by now
                (loop.remove_reader if direction == POLLIN else loop.remove_writer)(fd)
        self._watched.clear()
