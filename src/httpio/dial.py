"""Getting connected: name look-up, and the race of the addresses (RFC 8305). Every wait is a step."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any, NamedTuple, TypeAlias

from httpio.exceptions import (
    ConnectionClosed,
    ConnectionTimedOut,
    DNSUnavailable,
    HostnameNotResolvable,
)
from httpio.waiting import POLLIN, POLLOUT, PollNeeded, Step

__all__ = ["CONNECTION_ATTEMPT_DELAY", "DNS_TEST_HOSTNAMES", "Attempt", "SocketOption", "co_dial", "co_resolve"]

SocketOption: TypeAlias = tuple[int, int, int | bytes]

DNS_TEST_HOSTNAMES: Sequence[tuple[str, int]] = ()
"""Host names and ports to look up when a name is said not to exist, since some resolvers say so of every name
while they have no network: where none of these resolves either, DNSUnavailable is raised in place of
HostnameNotResolvable. Empty: nobody is asked. Read at each failure, so that it may be assigned."""

CONNECTION_ATTEMPT_DELAY = 0.25
"""Seconds that one address has before the next is tried beside it (RFC 8305 section 5)."""

CONTENDERS = 32
"""Addresses that are tried at the same time, at most: the one that was begun first gives way to a further one."""

TURN = 0.05
"""Seconds between looks at the contenders where the system cannot watch several through one descriptor."""

IDLE_BEFORE_PROBE = 60
"""Seconds without a byte after which the system asks whether the peer is still there."""

log = logging.getLogger("httpio.dial")

_UNKNOWN_NAME = frozenset(
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
)

# Not EAGAIN: nothing was begun, for want of a port, or as a Unix socket's queue is full. Windows tells the two apart.
_IN_PROGRESS = {errno.EINPROGRESS, errno.EINTR, errno.EWOULDBLOCK} - {errno.EAGAIN}

_NO_WAY = frozenset((errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL))

_TCP_OPTIONS: tuple[SocketOption, ...] = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), IDLE_BEFORE_PROBE)
        for name in ("TCP_KEEPIDLE", "TCP_KEEPALIVE")
        if hasattr(socket, name)
    ),
)


class Attempt:
    """One try to get connected, which any thread may abort."""

    def __init__(self, deadline: float | None = None) -> None:
        self.aborted = False
        """Whether `abort` was called. Where that is after the last wait, the socket is not touched."""
        self.deadline = deadline
        """The latest time, by `time.monotonic`, for all of it."""
        self._waiting: Sequence[socket.socket] = ()
        # So that the descriptors are still those sockets' when they are shut down. A signal handler may abort, too.
        self._lock = threading.RLock()

    def abort(self) -> None:
        """Make the steps of this attempt raise ConnectionClosed, at once where one waits, else before its next wait."""
        with self._lock:
            self.aborted = True
            for sock in self._waiting:
                with contextlib.suppress(OSError):
                    # Wakes whoever polls it, on Linux also while it connects.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def check(self) -> None:
        """Raises ConnectionClosed after `abort`."""
        if self.aborted:
            raise ConnectionClosed("the connection was aborted", where="connecting")

    def look(self, doing: Callable[[], str]) -> None:
        """Raises ConnectionClosed after `abort`, ConnectionTimedOut after the deadline."""
        self.check()
        if self.deadline is not None and monotonic() >= self.deadline:
            raise ConnectionTimedOut(f"timed out while {doing()}", where="connecting")

    def co_wait(self, sock: socket.socket, mask: int, doing: str) -> Step[None]:
        """Wait once for *sock*. Raises ConnectionClosed after `abort`, ConnectionTimedOut after the deadline, which
        says what it was *doing*."""
        return self.co_wait_for((sock,), sock.fileno(), mask, lambda: doing)

    def co_wait_for(
        self, socks: Sequence[socket.socket], fd: int, mask: int, doing: Callable[[], str], until: float | None = None
    ) -> Step[None]:
        """Wait once for *fd*, *until* then at the latest, on behalf of *socks*. Raises as `co_wait`."""
        with self._lock:
            self._waiting = socks
        try:
            self.look(doing)
            due = self.deadline
            if until is not None:
                due = until if due is None else min(due, until)
            yield PollNeeded(fd, mask, due)
            self.check()  # what an abort does to the socket is no news of the peer
        finally:
            with self._lock:
                self._waiting = ()


def co_dial(
    host: str,
    port: int,
    *,
    unix_socket: str | os.PathLike[str] | None = None,
    source_address: tuple[str, int] | None = None,
    socket_options: Iterable[SocketOption] = (),
    attempt: Attempt | None = None,
) -> Step[socket.socket]:
    """Connect to the first address of *host* that answers, or to *unix_socket*; returns the socket, which does not
    block.

    *attempt*: its deadline, and for another thread to abort it by. Raises HostnameNotResolvable, DNSUnavailable,
    ConnectionTimedOut, ConnectionClosed where a peer goes away at once or the attempt is aborted, and the operating
    system's own errors, whose text names every address that was tried.
    """
    attempt = Attempt() if attempt is None else attempt
    attempt.check()
    if unix_socket is not None:
        addresses = [_Address(socket.AF_UNIX, 0, os.fspath(unix_socket))]
        race = _Race(addresses, None, tuple(socket_options), attempt)
    else:
        addresses = yield from co_resolve(host, port, attempt)
        race = _Race(_interleaved(addresses), source_address, (*_TCP_OPTIONS, *socket_options), attempt)
    with contextlib.closing(race):
        return (yield from race.co_run())


class _Address(NamedTuple):
    """One address that a name has."""

    family: int
    proto: int
    address: Any
    """As `socket.connect` takes it."""

    def __str__(self) -> str:
        address = self.address
        return f"{address[0]} port {address[1]}" if isinstance(address, tuple) else str(address)


def _log(text: str, *facts: object, since: float) -> None:
    if log.isEnabledFor(logging.DEBUG):
        log.debug(text + " (%.3f s)", *facts, monotonic() - since)


def co_resolve(host: str, port: int, attempt: Attempt) -> Step[list[_Address]]:
    """The addresses of *host*, looked up in a thread of its own: the look-up blocks, and cannot be cut
    short."""
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host.partition("%")[0])
        if address.version == 4 or "%" not in host:
            if address.version == 4:
                return [_Address(socket.AF_INET, 0, (host, port))]
            return [_Address(socket.AF_INET6, 0, (host, port, 0, 0))]
    outcome: list[Any] = []

    def look_up(done: socket.socket) -> None:
        try:
            outcome.append(_look_up(host, port))
        except BaseException as exc:
            outcome.append(exc)
        finally:
            done.close()

    began = monotonic()
    if log.isEnabledFor(logging.DEBUG):
        log.debug("looking up %a", host)
    waiting, done = socket.socketpair()
    with waiting:
        try:
            threading.Thread(target=look_up, args=(done,), daemon=True, name="httpio name look-up").start()
        except BaseException:
            done.close()
            raise
        while not outcome:
            yield from attempt.co_wait(waiting, POLLIN, f"looking up {host}")
    result = outcome[0]
    if isinstance(result, BaseException):
        _log("%a was not found: %r", host, result.__cause__ or result, since=began)
        raise result
    _log("%a has %d addresses", host, len(result), since=began)
    return [_Address(family, proto, address) for family, _, proto, _, address in result]


def _look_up(host: str, port: int) -> list[Any]:
    """What `socket.getaddrinfo` gives, and its errors by their kind. Blocks."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as exc:
        tests = DNS_TEST_HOSTNAMES
        if exc.errno not in _UNKNOWN_NAME or (tests and not any(_resolves(*test) for test in tests)):
            raise DNSUnavailable(host) from exc
        raise HostnameNotResolvable(host) from exc
    if not found:
        raise HostnameNotResolvable(host)
    return list(found)


def _resolves(host: str, port: int) -> bool:
    try:
        return bool(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except OSError:
        return False


def _interleaved(addresses: Iterable[_Address]) -> list[_Address]:
    """The addresses without repetitions, and their families in turn, beginning with that of the first (RFC 8305
    section 4)."""
    families: dict[int, deque[_Address]] = {}
    for address in dict.fromkeys(addresses):
        families.setdefault(address.family, deque()).append(address)
    order: list[_Address] = []
    while families:
        order += [queue.popleft() for queue in families.values()]
        families = {family: queue for family, queue in families.items() if queue}
    return order


class _Contender(NamedTuple):
    """A socket on its way to be connected."""

    sock: socket.socket
    address: _Address
    began: float


class _Race:
    """Tries addresses, each a while after the one before or when that has failed, until one is connected."""

    def __init__(
        self,
        addresses: Iterable[_Address],
        source_address: tuple[str, int] | None,
        options: Sequence[SocketOption],
        attempt: Attempt,
    ) -> None:
        self._waiting = deque(addresses)
        self._source_address = source_address
        self._options = options
        self._attempt = attempt
        self._contenders: list[_Contender] = []
        self._failures: list[tuple[_Address, OSError]] = []
        self._selector: selectors.BaseSelector | None = None  # where there is more than one

    def co_run(self) -> Step[socket.socket]:
        """The first socket that is connected. Raises as `co_dial`."""
        next_start = 0.0
        while True:
            while self._waiting and (not self._contenders or monotonic() >= next_start):
                self._attempt.look(self._describe)
                if len(self._contenders) == CONTENDERS:
                    self._drop(self._contenders[0], OSError(errno.ETIMEDOUT, "no answer"))
                address = self._waiting.popleft()
                sock = self._start(address)
                if sock is not None:
                    return sock
                if self._contenders and self._contenders[-1].address is address:
                    next_start = monotonic() + CONNECTION_ATTEMPT_DELAY
            if not self._contenders:
                raise self._failure()
            yield from self._co_wait(next_start if self._waiting else None)
            for contender in list(self._contenders):
                sock = self._look_at(contender)
                if sock is not None:
                    return sock
                if contender not in self._contenders:
                    next_start = 0.0  # it has failed, and the next need not wait

    def close(self) -> None:
        """Close whatever has not won."""
        if self._selector is not None:
            self._selector.close()
        for contender in self._contenders:
            contender.sock.close()
        self._contenders.clear()

    def _start(self, address: _Address) -> socket.socket | None:
        """Begin with an address; returns the socket where it is connected at once."""
        began = monotonic()
        try:
            sock = socket.socket(address.family, socket.SOCK_STREAM, address.proto)
        except OSError as exc:  # a family that the system does not have
            self._note(address, exc, began)
            return None
        contender = _Contender(sock, address, began)
        self._contenders.append(contender)
        try:
            sock.setblocking(False)
            for level, name, value in self._options:
                sock.setsockopt(level, name, value)
            if self._source_address is not None:
                sock.bind(self._source_address)
            code = sock.connect_ex(address.address)
        except OSError as exc:
            self._drop(contender, exc)
            return None
        return self._judge(contender, code) if code not in _IN_PROGRESS else self._look_at(contender)

    def _look_at(self, contender: _Contender) -> socket.socket | None:
        """The socket, if it is connected by now."""
        sock = contender.sock
        # SO_ERROR is 0 both before the end and after a success: only a peer's name tells them apart.
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return self._judge(contender, code) if code or _has_peer(sock) else None

    def _judge(self, contender: _Contender, code: int) -> socket.socket | None:
        if code:
            self._drop(contender, OSError(code, os.strerror(code)))
            return None
        self._leave(contender)
        _log("connected to %s", contender.address, since=contender.began)
        return contender.sock

    def _leave(self, contender: _Contender) -> None:
        self._contenders.remove(contender)
        if self._selector is not None and contender.sock in self._selector.get_map():
            self._selector.unregister(contender.sock)

    def _drop(self, contender: _Contender, error: OSError) -> None:
        self._leave(contender)
        contender.sock.close()
        self._note(contender.address, error, contender.began)

    def _note(self, address: _Address, error: OSError, began: float) -> None:
        self._failures.append((address, error))
        _log("no connection to %s: %r", address, error, since=began)

    def _co_wait(self, until: float | None) -> Step[None]:
        """Wait once for any of them, *until* then at the latest."""
        socks = [contender.sock for contender in self._contenders]
        fd, mask = socks[-1].fileno(), POLLOUT
        if len(socks) > 1:
            if self._selector is None:
                self._selector = selectors.DefaultSelector()
            if hasattr(
                self._selector, "fileno"
            ):  # epoll or kqueue: readable when one of them is connected or has failed
                for sock in socks:
                    if sock not in self._selector.get_map():
                        self._selector.register(sock, selectors.EVENT_WRITE)
                fd, mask = self._selector.fileno(), POLLIN
            else:
                turn = monotonic() + TURN
                until = turn if until is None else min(turn, until)
        yield from self._attempt.co_wait_for(socks, fd, mask, self._describe, until)

    def _describe(self) -> str:
        states = [f"{contender.address} (no answer)" for contender in self._contenders]
        tried = [*self._outcomes(), *states] or [str(self._waiting[0])]
        return "connecting to " + ", ".join(tried)

    def _outcomes(self) -> list[str]:
        return [f"{address} ({_reason(error)})" for address, error in self._failures]

    def _failure(self) -> OSError:
        """What to raise where every address has failed: of the kind that the last one met, unless there was no way to
        it and another did answer."""
        errors = [error for _, error in self._failures]
        error = next((error for error in reversed(errors) if not _says_little(error)), errors[-1])
        if len(errors) == 1:
            tried = f"{_reason(error)}: {self._failures[0][0]}"
        else:
            tried = f"{_reason(error)}: none of {len(errors)} addresses could be reached: {', '.join(self._outcomes())}"
        kind = socket.gaierror if isinstance(error, socket.gaierror) else OSError
        failure = kind(tried) if error.errno is None else kind(error.errno, tried)
        meaning: OSError = failure
        if error.errno == errno.ETIMEDOUT:
            meaning = ConnectionTimedOut(f"the connect timed out: {tried}", where="connecting")
        elif error.errno in (errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE):
            meaning = ConnectionClosed(f"the connection was closed at once: {tried}", where="connecting")
        if meaning is not failure:
            meaning.__cause__ = failure
        return meaning


def _says_little(error: OSError) -> bool:
    """Whether there was no way to the address from here, which says less than what another address answered."""
    return error.errno in _NO_WAY or isinstance(error, socket.gaierror)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _has_peer(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True
