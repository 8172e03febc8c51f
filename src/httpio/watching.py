"""What a connection waits for, watched in an asyncio event loop."""

from __future__ import annotations

import select
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from httpio.transport import HANG_UP, Transport
from httpio.waiting import POLLIN, POLLOUT, PollNeeded

__all__ = ["Waiter", "Watch"]

NO_READERS = (
    "httpio needs an event loop that can watch sockets (add_reader): on Windows run asyncio.SelectorEventLoop, which "
    "asyncio.WindowsSelectorEventLoopPolicy sets, in place of the Proactor's"
)


class Waiter:
    """Who waits, and for what. Made by `Watch.add`."""

    __slots__ = ("bell", "due", "fd", "hang_up", "mask", "wake")

    def __init__(self, need: PollNeeded, wake: Callable[[], object]) -> None:
        self.fd, self.mask = need
        self.bell = need.bell
        self.due = need.deadline
        self.wake = wake
        self.hang_up: select.epoll | None = None


class Watch:
    """The descriptors that a connection's calls wait for in one loop.

    The connected socket stays watched for reading from one wait to the next: to begin and to end that costs more than
    most waits. It ends when the socket becomes readable and nobody waits, and with `clear`, which has to come before
    the descriptor is closed. RuntimeError for a loop that cannot watch descriptors.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        if getattr(type(loop), "add_reader", None) in (None, AbstractEventLoop.add_reader):
            raise RuntimeError(NO_READERS)
        self.loop = loop
        self._waiters: list[Waiter] = []
        self._kept: Transport | None = None
        self._readers: set[int] = set()
        self._writers: set[int] = set()
        self._timer: TimerHandle | None = None
        self._timer_due = 0.0

    @property
    def busy(self) -> bool:
        """Whether anybody waits, in a loop that may still run."""
        return bool(self._waiters) and not self.loop.is_closed()

    def add(self, need: PollNeeded, transport: Transport | None, wake: Callable[[], object]) -> Waiter:
        """Have *wake* called, once and from the loop, when *need* is met or its time has come; `remove` takes that
        back. *transport*: what the connection has, while it has one."""
        waiter = Waiter(need, wake)
        self._kept = transport
        mask = waiter.mask
        try:
            self._waiters.append(waiter)
            if mask & POLLIN:
                self._read(waiter.fd)
            elif mask & HANG_UP and hasattr(select, "epoll"):
                # A loop can wait for that only through a descriptor which is readable when it has come.
                waiter.hang_up = select.epoll()
                waiter.hang_up.register(waiter.fd, HANG_UP)
                self._read(waiter.hang_up.fileno())
            if mask & POLLOUT and waiter.fd not in self._writers:
                self._writers.add(waiter.fd)  # first: what is noted in vain does no harm
                self.loop.add_writer(waiter.fd, self._writable, waiter.fd)
            if waiter.bell is not None:
                self._read(waiter.bell)
        except BaseException:
            self.remove(waiter)
            raise
        if waiter.due is not None and (self._timer is None or waiter.due < self._timer_due):
            self._set_timer(waiter.due)
        return waiter

    def remove(self, waiter: Waiter) -> None:
        """Nobody waits for that any more."""
        if waiter not in self._waiters:
            return
        self._waiters.remove(waiter)
        if waiter.hang_up is not None:
            try:
                self._leave_reader(waiter.hang_up.fileno())
            finally:
                waiter.hang_up.close()
        if waiter.bell is not None:
            self._leave_reader(waiter.bell)
        if waiter.mask & POLLIN and (self._kept is None or waiter.fd != self._kept.fd):
            self._leave_reader(waiter.fd)
        if waiter.mask & POLLOUT and not any(other.fd == waiter.fd and other.mask & POLLOUT for other in self._waiters):
            self._stop(self._writers, waiter.fd)

    def wake_all(self) -> None:
        """Something has happened that is no matter of descriptors: whoever waits is to look."""
        for waiter in tuple(self._waiters):
            self._wake(waiter)

    def clear(self) -> None:
        """Let go of all descriptors, and wake whoever waits."""
        if self.loop.is_closed():
            for waiter in tuple(self._waiters):
                self.remove(waiter)
        self.wake_all()
        for watched in (self._readers, self._writers):
            for fd in tuple(watched):
                self._stop(watched, fd)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._kept = None

    def _wake(self, waiter: Waiter) -> None:
        self.remove(waiter)
        waiter.wake()

    def _readable(self, fd: int) -> None:
        kept = self._kept
        if kept is not None and fd == kept.fd:
            news = kept.arrived(0)
            if not news:
                return  # the loop had noted it before the last call received
            if news != [(fd, POLLIN)]:
                self._stop(self._readers, fd)  # libuv itself stops watching where there is an error
        found = False
        for waiter in tuple(self._waiters):
            hang_up = waiter.hang_up
            if (
                (waiter.fd == fd and waiter.mask & POLLIN)
                or waiter.bell == fd
                or (hang_up is not None and hang_up.fileno() == fd)
            ):
                found = True
                self._wake(waiter)
        if not found:
            self._stop(self._readers, fd)

    def _writable(self, fd: int) -> None:
        for waiter in tuple(self._waiters):
            if waiter.fd == fd and waiter.mask & POLLOUT:
                self._wake(waiter)

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = self.loop.call_later(max(0.0, due - monotonic()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = monotonic()
        for waiter in tuple(self._waiters):
            if waiter.due is not None and now >= waiter.due:
                self._wake(waiter)
        later = [waiter.due for waiter in self._waiters if waiter.due is not None]
        if later:  # one timer serves many waits: it is set for the first of them, and then again
            self._set_timer(min(later))

    def _read(self, fd: int) -> None:
        if fd not in self._readers:
            self._readers.add(fd)
            self.loop.add_reader(fd, self._readable, fd)

    def _leave_reader(self, fd: int) -> None:
        """Stop watching *fd* for reading, unless another waits for it."""
        if not any((other.fd == fd and other.mask & POLLIN) or other.bell == fd for other in self._waiters):
            self._stop(self._readers, fd)

    def _stop(self, watched: set[int], fd: int) -> None:
        if fd not in watched:
            return
        remove = self.loop.remove_reader if watched is self._readers else self.loop.remove_writer
        try:
            with suppress(OSError, ValueError, RuntimeError):  # the loop may be closed
                remove(fd)
        except BaseException:  # an interrupt, which may have come before it was done
            remove(fd)
            raise
        finally:
            watched.discard(fd)
