"""A server in the client's own thread: where the client would wait, it sends the next piece of its answer.

So each piece is received alone, and whoever waits needs no second thread.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import pytest

from httpio import POLLIN, PollNeeded
from servers.scripted import END, WAIT

Piece = bytes | memoryview


class Pump:
    """Sends the pieces of one answer to each connection that has asked, one at each `next`, and then a FIN."""

    def __init__(self, listener: socket.socket, pieces: Iterable[Piece]) -> None:
        self._listener = listener
        self._all = list(pieces)
        self._left: Iterator[Piece] = iter(())
        self._sock: socket.socket | None = None
        self.heads: list[bytes] = []
        """The heads of the requests, as far as they have come; one for each connection."""

    def next(self) -> bool:
        """Send the next piece. False: there is none, or nobody has asked."""
        self._accept()
        if self._sock is None or not self._asked():
            return False
        piece = next(self._left, None)
        if piece is None:
            with suppress(OSError):  # the client may have gone
                self._sock.shutdown(socket.SHUT_WR)
            return False
        with suppress(OSError):
            self._sock.sendall(piece)
        return True

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            sock, _ = self._listener.accept()
            self.close()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sock, self._left = sock, iter(self._all)
            self.heads.append(b"")

    def _asked(self) -> bool:
        assert self._sock is not None
        if END not in self.heads[-1]:
            with suppress(BlockingIOError, ConnectionError):
                self.heads[-1] += self._sock.recv(65536)
        return END in self.heads[-1]

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()


class Well:
    """Makes pumps for one port, and lets whatever waits in this thread work the last that it made."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/object"
        self._pump: Pump | None = None

    @contextmanager
    def pump(self, pieces: Iterable[Piece]) -> Iterator[Pump]:
        """A new one, for the time of the block."""
        self._pump = Pump(self._listener, pieces)
        try:
            yield self._pump
        finally:
            self._pump.close()

    @contextmanager
    def works(self) -> Iterator[None]:
        """Within it, a blocking call that waits for its peer works the pump."""
        poll = PollNeeded.poll

        def work(need: PollNeeded, timeout: float | None = None) -> bool:
            if need.mask & POLLIN and self._pump is not None and self._pump.next():
                return True
            return poll(need, WAIT if timeout is None else timeout)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PollNeeded, "poll", work)
            yield

    def close(self) -> None:
        self._listener.close()


@asynccontextmanager
async def working(pump: Pump, turns: int = 4) -> AsyncIterator[None]:
    """Within it, a task works the pump: a piece, and then so many turns for the others."""

    async def work() -> None:
        while True:
            pump.next()
            for _ in range(turns):
                await asyncio.sleep(0)

    task = asyncio.ensure_future(work())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
