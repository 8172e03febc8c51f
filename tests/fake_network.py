"""A network of a test's own: what names resolve to, and what becomes of a connect to each of their addresses."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import Any

import pytest

from cancelling import descriptors
from clock import Clock
from httpio.waiting import POLLOUT, PollNeeded, Step
from servers.scripted import WAIT

SIX, OTHER_SIX, THIRD_SIX = "2001:db8::1", "2001:db8::2", "2001:db8::3"
FOUR, OTHER_FOUR, THIRD_FOUR = "192.0.2.1", "192.0.2.2", "192.0.2.3"

needs_black_hole = pytest.mark.skipif(os.uname().sysname != "Linux", reason="a full queue drops connects on Linux only")


@contextmanager
def black_hole() -> Iterator[int]:
    """A port on 127.0.0.1 where connects neither succeed nor fail."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@contextmanager
def no_descriptor_is_left() -> Iterator[None]:
    """The block closes what it opens, also where connecting fails."""
    counted = os.path.isdir("/proc/self/fd")
    before = descriptors() if counted else 0
    yield
    assert not counted or descriptors() <= before


class Network:
    """Puts itself in the way of `socket.getaddrinfo` and `socket.socket.connect_ex`.

    An address that is in none of `ways` is a black hole. The real connects all go to 127.0.0.1, so that the addresses
    may be any, but the sockets are of the address's family.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, hole: int, now: Callable[[], float] = monotonic) -> None:
        self.names: dict[str, Sequence[str] | Exception | Callable[[], Sequence[str]]] = {}
        """The addresses of a name, or what a look-up raises, or what it calls."""
        self.ways: dict[str, int | str] = {}
        """What an address leads to: a port, or the name of the error that connect(2) gives."""
        self.tried: list[tuple[str, float]] = []
        """Which addresses a connect was begun to, and when."""
        self.sockets: dict[str, socket.socket] = {}
        self.on_begin: Callable[[str], object] = lambda address: None
        """Called with each address to which a connect has been begun."""
        self.most = 0
        """How many of these were open at one time, at most."""
        self._now = now
        self._hole = hole
        self._errors: dict[socket.socket, int] = {}
        self._look_up = socket.getaddrinfo
        self._connect, self._option = socket.socket.connect_ex, socket.socket.getsockopt
        monkeypatch.setattr(socket, "getaddrinfo", self.getaddrinfo)
        monkeypatch.setattr(socket.socket, "connect_ex", lambda sock, address: self._begin(sock, address))
        monkeypatch.setattr(socket.socket, "getsockopt", lambda *args: self._getsockopt(*args))

    def addresses(self) -> list[str]:
        """Those that were tried."""
        return [address for address, _ in self.tried]

    def open(self) -> list[str]:
        """The addresses whose socket is open."""
        return [address for address, sock in self.sockets.items() if sock.fileno() >= 0]

    def end(self, address: str, how: int | str) -> None:
        """A connect that is under way reaches that port, or fails with the error of that name."""
        sock = self.sockets[address]
        if isinstance(how, str):
            self._errors[sock] = getattr(errno, how)
            sock.shutdown(socket.SHUT_RDWR)  # wakes whoever waits for it
        else:
            sock.shutdown(socket.SHUT_RDWR)  # as if it had not been begun
            assert self._connect(sock, (self._here(sock), how)) in (0, errno.EINPROGRESS)
            assert PollNeeded(sock.fileno(), POLLOUT).poll(WAIT)

    def getaddrinfo(self, host: str, port: int, *args: Any, **options: Any) -> list[Any]:
        found = self.names.get(host)
        if found is None:
            return self._look_up(host, port, *args, **options)
        if callable(found):
            found = found()
        if isinstance(found, Exception):
            raise found
        return [_entry(address, port) for address in found]

    def _begin(self, sock: socket.socket, address: Any) -> int:
        if not isinstance(address, tuple) or address[0].startswith("127."):
            return self._connect(sock, address)
        host = address[0]
        self.tried.append((host, self._now()))
        self.sockets[host] = sock
        self.most = max(self.most, len(self.open()))
        self.on_begin(host)
        way = self.ways.get(host, self._hole)
        if isinstance(way, str):
            return int(getattr(errno, way))
        code = self._connect(sock, (self._here(sock), way))
        if way != self._hole:
            assert PollNeeded(sock.fileno(), POLLOUT).poll(WAIT)  # on a busy machine this, too, may take a while
        return code

    @staticmethod
    def _here(sock: socket.socket) -> str:
        return "127.0.0.1" if sock.family == socket.AF_INET else "::ffff:127.0.0.1"

    def _getsockopt(self, sock: socket.socket, level: int, name: int, *size: int) -> Any:
        if name == socket.SO_ERROR and sock in self._errors:
            return self._errors[sock]
        return self._option(sock, level, name, *size)


def _entry(address: str, port: int) -> Any:
    if ":" in address:
        return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port)


class Timed:
    """Drives a step of `co_dial` to a name of *network*, in the time of a clock that stands still: where nothing is
    ready, what it waits for is over at once."""

    def __init__(self, step: Step[Any], network: Network, clock: Clock) -> None:
        self.step = step
        self.needs: list[PollNeeded] = []
        """What it has waited for, the look-up left out."""
        self.deadlines: list[float | None] = []
        """How long these may last: seconds after it began."""
        self._network = network
        self._clock = clock
        self._began = clock.now()
        network.tried.clear()

    def run(self, until: float = 1000) -> Any:
        """To the end, whose result it returns; or *until* so many seconds after it began, and None."""
        end = self._began + until
        try:
            while True:
                need = next(self.step)
                if not self._network.tried:
                    assert PollNeeded(*need).poll(WAIT)  # the look-up is a thread's, and takes what it takes
                    continue
                self.needs.append(need)
                self.deadlines.append(None if need.deadline is None else need.deadline - self._began)
                if PollNeeded(*need).poll(0):
                    continue
                self._clock(min(end, end if need.deadline is None else need.deadline) - self._clock.now())
                if self._clock.now() >= end:
                    return None
        except StopIteration as stop:
            return stop.value
