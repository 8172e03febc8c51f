"""Waiting: what a step yields while it cannot go on, and the runner that makes a blocking call of a step."""

from __future__ import annotations

import select
from collections.abc import Callable, Generator, Sequence
from time import monotonic
from typing import Any, TypeAlias, TypeVar

from httpio.exceptions import ConnectionTimedOut

__all__ = ["POLLIN", "POLLOUT", "PollNeeded", "Step", "eval_coroutine", "milliseconds", "run", "wait_any", "waiter"]

POLLIN: int = getattr(select, "POLLIN", 1)
POLLOUT: int = getattr(select, "POLLOUT", 4)

T = TypeVar("T")


class PollNeeded(tuple[int, int]):
    """A step needs to wait until *fd* can be read (POLLIN in *mask*) or written (POLLOUT).

    It may be resumed early: it looks for itself. `deadline` is the latest time, by `time.monotonic`, at
    which to resume it; None: none.
    """

    deadline: float | None
    moved: int
    bell: int | None
    """A second descriptor: that it can be read is a reason to resume, too."""
    _wait: Callable[[float | None], object] | None

    def __new__(cls, fd: int, mask: int, deadline: float | None = None) -> PollNeeded:
        self = super().__new__(cls, (fd, mask))
        self.deadline = deadline
        self.moved = 0  # how much had moved when this was needed: the link's own note
        self.bell = None
        self._wait = None
        return self

    @property
    def fd(self) -> int:
        """The file descriptor."""
        return self[0]

    @property
    def mask(self) -> int:
        """POLLIN, POLLOUT or both."""
        return self[1]

    def poll(self, timeout: float | None = None) -> bool:
        """Wait until the descriptor is ready, *timeout* seconds have passed, or the deadline has come; returns
        whether it is ready."""
        wait = self._wait
        if wait is None:
            wait = self._wait = waiter(self[0], self[1], self.bell)
        if self.deadline is not None:
            left = max(0.0, self.deadline - monotonic())
            timeout = left if timeout is None else min(left, timeout)
        return bool(wait(None if timeout is None else milliseconds(timeout)))

    def __repr__(self) -> str:
        return f"PollNeeded(fd={self[0]}, mask={self[1]}, deadline={self.deadline})"


def milliseconds(seconds: float) -> int:
    """Rounded up, since a wait that ended early would be made again at once; at most what the system can wait."""
    return min(int(min(seconds, 1e6) * 1000) + 1, 2**31 - 1) if seconds > 0 else 0


def waiter(fd: int, mask: int, bell: int | None = None) -> Callable[[float | None], object]:
    """A call that waits for one descriptor, or for the *bell* to be readable, for so many milliseconds; to set it up
    costs more than to use it."""
    bells = [] if bell is None else [bell]
    if hasattr(select, "poll"):
        poller = select.poll()
        poller.register(fd, mask)
        for bell in bells:
            poller.register(bell, POLLIN)
        return poller.poll
    readers = [fd, *bells] if mask & POLLIN else bells
    writers = [fd] if mask & POLLOUT else []
    return lambda left: any(select.select(readers, writers, writers, None if left is None else left / 1000))


Step: TypeAlias = Generator[PollNeeded, None, T]
"""A part of the flow: it yields what it waits for and returns its result."""


def run(step: Step[T]) -> T:
    """Run a step to its end, waiting where it waits; returns its result."""
    try:
        while True:
            step.send(None).poll()
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def wait_any(needs: Sequence[PollNeeded]) -> None:
    """Wait until one of *needs* is ready or its deadline has come."""
    if len(needs) == 1:
        needs[0].poll()
        return
    deadlines = [need.deadline for need in needs if need.deadline is not None]
    left = max(0.0, min(deadlines) - monotonic()) if deadlines else None
    masks: dict[int, int] = {}
    for fd, mask in needs:
        masks[fd] = masks.get(fd, 0) | mask
    if hasattr(select, "poll"):
        poller = select.poll()
        for fd, mask in masks.items():
            poller.register(fd, mask)
        poller.poll(None if left is None else milliseconds(left))
    else:
        readers = [fd for fd, mask in masks.items() if mask & POLLIN]
        writers = [fd for fd, mask in masks.items() if mask & POLLOUT]
        select.select(readers, writers, writers, left)


def eval_coroutine(crt: Generator[PollNeeded, None, Any], timeout: float | None = None) -> Any:
    """Run a step to its end; returns its result.

    *timeout*: seconds that each wait may take, after which ConnectionTimedOut is raised; None and 0: no
    limit but the step's own.
    """
    try:
        while True:
            need = crt.send(None)
            if not need.poll(timeout or None) and not _due(need):
                crt.close()
                raise ConnectionTimedOut(f"no progress in {timeout} seconds")
    except StopIteration as stop:
        return stop.value


def _due(need: PollNeeded) -> bool:
    return need.deadline is not None and monotonic() >= need.deadline
