"""Getting connected: name look-up, the connect, Unix sockets, the TLS handshake. Every wait is a step."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
import socket
import ssl
import threading
import traceback
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any, TypeAlias

from httpio.exceptions import (
    ConnectionClosed,
    ConnectionTimedOut,
    DNSUnavailable,
    HostnameNotResolvable,
    HTTPError,
)
from httpio.waiting import POLLIN, POLLOUT, PollNeeded, Step

__all__ = ["DNS_TEST_HOSTNAMES", "Attempt", "SocketOption", "co_dial", "default_context"]

SocketOption: TypeAlias = tuple[int, int, int | bytes]

DNS_TEST_HOSTNAMES: Sequence[tuple[str, int]] = ()
"""Host names and ports to look up when a name is said not to exist, since some resolvers say so of every name
while they have no network: where none of these resolves either, DNSUnavailable is raised in place of
HostnameNotResolvable. Empty: nobody is asked. Read at each failure, so that it may be assigned."""

log = logging.getLogger("httpio.dial")

_UNKNOWN_NAME = frozenset(
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
)
_TLS_ENDS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


# Not EAGAIN: nothing was begun, for want of a port, or as a Unix socket's queue is full. Windows tells the two apart.
_IN_PROGRESS = {errno.EINPROGRESS, errno.EINTR, errno.EWOULDBLOCK} - {errno.EAGAIN}


class Attempt:
    """One try to get connected, which any thread may abort."""

    def __init__(self) -> None:
        self.aborted = False
        """Whether `abort` was called. Where that is after `co_dial` has returned, the socket is not touched."""
        self.deadline: float | None = None
        self._waiting: socket.socket | None = None
        # So that the descriptor is still that socket's when it is shut down. A signal handler may abort, too.
        self._lock = threading.RLock()

    def abort(self) -> None:
        """Make `co_dial` raise ConnectionClosed, at once where it waits, else before its next wait or its end."""
        with self._lock:
            self.aborted = True
            if self._waiting is not None:
                with contextlib.suppress(OSError):
                    # Wakes whoever polls it, on Linux also while it connects.
                    socket.socket.shutdown(self._waiting, socket.SHUT_RDWR)

    def check(self) -> None:
        """Raises ConnectionClosed after `abort`."""
        if self.aborted:
            raise ConnectionClosed("the connection was aborted", where="connecting")

    def co_wait(self, sock: socket.socket, mask: int, doing: str) -> Step[None]:
        """Wait once for *sock*. Raises ConnectionClosed after `abort`, ConnectionTimedOut after the deadline."""
        with self._lock:
            self._waiting = sock
        try:
            self.check()
            if self.deadline is not None and monotonic() >= self.deadline:
                raise ConnectionTimedOut(f"timed out while {doing}", where="connecting")
            yield PollNeeded(sock.fileno(), mask, self.deadline)
            self.check()  # what an abort does to the socket is no news of the peer
        finally:
            with self._lock:
                self._waiting = None


def co_dial(
    host: str,
    port: int,
    *,
    ssl_context: ssl.SSLContext | None = None,
    unix_socket: str | os.PathLike[str] | None = None,
    source_address: tuple[str, int] | None = None,
    socket_options: Iterable[SocketOption] = (),
    deadline: float | None = None,
    attempt: Attempt | None = None,
) -> Step[socket.socket]:
    """Connect, and do the TLS handshake where there is an *ssl_context*; returns the socket, which does not block.

    *deadline*: the latest time, by `time.monotonic`, for all of it. *attempt*: for another thread to abort it
    by. Raises HostnameNotResolvable, DNSUnavailable, ConnectionTimedOut, ConnectionClosed where the peer goes
    away in the handshake or the attempt is aborted, and the operating system's and ssl's own errors as they are.
    """
    attempt = Attempt() if attempt is None else attempt
    attempt.deadline = deadline
    attempt.check()
    if unix_socket is not None:
        sock = yield from _co_connect(socket.AF_UNIX, 0, os.fspath(unix_socket), None, socket_options, attempt)
    else:
        addresses = yield from _co_resolve(host, port, attempt)
        sock = yield from _co_connect_first(addresses, source_address, socket_options, attempt)
    try:
        if ssl_context is not None:
            sock = yield from _co_handshake(sock, ssl_context, host, attempt)
        attempt.check()
    except BaseException:
        sock.close()
        raise
    return sock


def _log(text: str, *facts: object, since: float) -> None:
    if log.isEnabledFor(logging.DEBUG):
        log.debug(text + " (%.3f s)", *facts, monotonic() - since)


def _co_resolve(host: str, port: int, attempt: Attempt) -> Step[list[Any]]:
    """The addresses of *host*, looked up in a thread of its own: the look-up blocks, and cannot be cut
    short."""
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host.partition("%")[0])
        if address.version == 4 or "%" not in host:
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            return [
                (
                    family,
                    socket.SOCK_STREAM,
                    0,
                    "",
                    (host, port) if address.version == 4 else (host, port, 0, 0),
                )
            ]
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
    return list(result)


def _look_up(host: str, port: int) -> list[Any]:
    """What `socket.getaddrinfo` gives, and its errors by their kind. Blocks."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as exc:
        tests = DNS_TEST_HOSTNAMES
        if exc.errno not in _UNKNOWN_NAME or (tests and not any(_resolves(*test) for test in tests)):
            raise DNSUnavailable(host) from exc
        raise HostnameNotResolvable(host) from exc


def _resolves(host: str, port: int) -> bool:
    try:
        return bool(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except OSError:
        return False


def _co_connect_first(
    addresses: list[Any],
    source_address: tuple[str, int] | None,
    options: Iterable[SocketOption],
    attempt: Attempt,
) -> Step[socket.socket]:
    """The first of the addresses that answers; else the last one's error."""
    options = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), *options)
    failure: OSError | None = None
    for family, _, proto, _, address in addresses:
        try:
            return (yield from _co_connect(family, proto, address, source_address, options, attempt))
        except ConnectionTimedOut:
            raise
        except OSError as exc:
            if attempt.aborted:
                break
            failure = exc
    attempt.check()
    assert failure is not None
    if failure.errno == errno.ETIMEDOUT:
        raise ConnectionTimedOut("the connect timed out", where="connecting") from failure
    raise failure


def _co_connect(
    family: int,
    proto: int,
    address: Any,
    source_address: tuple[str, int] | None,
    options: Iterable[SocketOption],
    attempt: Attempt,
) -> Step[socket.socket]:
    began = monotonic()
    sock = socket.socket(family, socket.SOCK_STREAM, proto)
    try:
        sock.setblocking(False)
        for level, name, value in options:
            sock.setsockopt(level, name, value)
        if source_address is not None:
            sock.bind(source_address)
        code = sock.connect_ex(address)
        if code in _IN_PROGRESS:
            # SO_ERROR is 0 both before the end and after a success: only a peer's name tells them apart.
            while not (code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) and not _has_peer(sock):
                yield from attempt.co_wait(sock, POLLOUT, f"connecting to {_readable(address)}")
        if code:
            refused = OSError(code, f"{os.strerror(code)}: {_readable(address)}")
            if code in (errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE):
                raise ConnectionClosed(f"the connection was closed at once: {refused}", where="connecting") from refused
            raise refused
    except BaseException as exc:
        sock.close()
        _log("no connection to %s: %r", _readable(address), exc, since=began)
        raise
    _log("connected to %s", _readable(address), since=began)
    return sock


def _has_peer(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _readable(address: Any) -> str:
    return f"{address[0]} port {address[1]}" if isinstance(address, tuple) else str(address)


def default_context(cafile: str | os.PathLike[str] | None = None) -> ssl.SSLContext:
    """`ssl.create_default_context` without the fallback to a certificate's common name (RFC 9110 section 4.3.4). Raises
    OSError for a *cafile* that cannot be read or used."""
    context = ssl.create_default_context(cafile=cafile)
    if ssl.HAS_NEVER_CHECK_COMMON_NAME:
        context.hostname_checks_common_name = False
    return context


def _co_handshake(sock: socket.socket, context: ssl.SSLContext, host: str, attempt: Attempt) -> Step[ssl.SSLSocket]:
    began = monotonic()
    tls: socket.socket = sock
    try:
        tls = context.wrap_socket(
            sock,
            server_hostname=host.partition("%")[0],
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                mask = POLLIN
            except ssl.SSLWantWriteError:
                mask = POLLOUT
            else:
                break
            yield from attempt.co_wait(tls, mask, f"shaking hands with {host}")
    except BaseException as exc:
        tls.close()
        _close_lost(exc)
        _log("no TLS with %a: %r", host, exc, since=began)
        if not isinstance(exc, OSError) or isinstance(exc, HTTPError):
            raise
        if exc.errno == errno.ETIMEDOUT:
            raise ConnectionTimedOut("the TLS handshake timed out", where="connecting") from exc
        # Python says ENOTCONN as an SSLError where the peer had sent something and gone before the handshake began.
        if isinstance(exc, ssl.SSLError) and not isinstance(exc, _TLS_ENDS) and exc.errno != errno.ENOTCONN:
            raise
        raise ConnectionClosed("the peer closed the connection in the TLS handshake", where="connecting") from exc
    _log("TLS with %a: %s, %s", host, tls.version(), (tls.cipher() or ("",))[0], since=began)
    return tls


def _close_lost(exc: BaseException) -> None:
    """Close the socket that a failed `wrap_socket` had taken over: before Python 3.13 it does not."""
    for frame, _ in traceback.walk_tb(exc.__traceback__):
        lost = frame.f_locals.get("self")
        if isinstance(lost, ssl.SSLSocket):
            lost.close()
