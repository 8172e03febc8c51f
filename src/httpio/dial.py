"""Getting connected: name look-up, the connect, Unix sockets, the TLS handshake. Every wait is a step."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import ssl
import threading
from collections.abc import Iterable
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

__all__ = ["SocketOption", "co_dial"]

SocketOption: TypeAlias = tuple[int, int, int | bytes]

_UNKNOWN_NAME = frozenset(
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
)
_PEER_GONE = (
    ConnectionResetError,
    ConnectionAbortedError,
    BrokenPipeError,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
    ssl.SSLSyscallError,
)


def co_dial(
    host: str,
    port: int,
    *,
    ssl_context: ssl.SSLContext | None = None,
    unix_socket: str | os.PathLike[str] | None = None,
    source_address: tuple[str, int] | None = None,
    socket_options: Iterable[SocketOption] = (),
    deadline: float | None = None,
) -> Step[socket.socket]:
    """Connect, and do the TLS handshake where there is an *ssl_context*; returns the socket, which does not block.

    *deadline*: the latest time, by `time.monotonic`, for all of it. Raises HostnameNotResolvable,
    DNSUnavailable, ConnectionTimedOut, ConnectionClosed where the peer goes away in the handshake, and the
    operating system's and ssl's own errors as they are.
    """
    if unix_socket is not None:
        sock = yield from _co_connect(socket.AF_UNIX, 0, os.fspath(unix_socket), None, socket_options, deadline)
    else:
        addresses = yield from _co_resolve(host, port, deadline)
        sock = yield from _co_connect_first(addresses, source_address, socket_options, deadline)
    if ssl_context is None:
        return sock
    try:
        return (yield from _co_handshake(sock, ssl_context, host, deadline))
    except BaseException:
        sock.close()
        raise


def _check(deadline: float | None, doing: str) -> None:
    if deadline is not None and monotonic() >= deadline:
        raise ConnectionTimedOut(f"timed out while {doing}", where="connecting")


def _co_resolve(host: str, port: int, deadline: float | None) -> Step[list[Any]]:
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
            outcome.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except BaseException as exc:
            outcome.append(exc)
        finally:
            done.close()

    waiting, done = socket.socketpair()
    with waiting:
        threading.Thread(target=look_up, args=(done,), daemon=True, name="httpio name look-up").start()
        while not outcome:
            _check(deadline, f"looking up {host}")
            yield PollNeeded(waiting.fileno(), POLLIN, deadline)
    result = outcome[0]
    if isinstance(result, socket.gaierror):
        kind = HostnameNotResolvable if result.errno in _UNKNOWN_NAME else DNSUnavailable
        raise kind(host) from result
    if isinstance(result, BaseException):
        raise result
    return list(result)


def _co_connect_first(
    addresses: list[Any],
    source_address: tuple[str, int] | None,
    options: Iterable[SocketOption],
    deadline: float | None,
) -> Step[socket.socket]:
    """The first of the addresses that answers; else the last one's error."""
    failure: OSError | None = None
    for family, _, proto, _, address in addresses:
        try:
            sock = yield from _co_connect(family, proto, address, source_address, options, deadline)
        except ConnectionTimedOut:
            raise
        except OSError as exc:
            failure = exc
            continue
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
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
    deadline: float | None,
) -> Step[socket.socket]:
    sock = socket.socket(family, socket.SOCK_STREAM, proto)
    try:
        sock.setblocking(False)
        for level, name, value in options:
            sock.setsockopt(level, name, value)
        if source_address is not None:
            sock.bind(source_address)
        code = sock.connect_ex(address)
        # On a Unix socket EWOULDBLOCK means that the peer's queue is full, and that nothing was begun.
        if code == errno.EINPROGRESS or (code == errno.EWOULDBLOCK and family != getattr(socket, "AF_UNIX", None)):
            # SO_ERROR is 0 both before the end and after a success: only a peer's name tells them apart.
            while not (code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) and not _has_peer(sock):
                _check(deadline, f"connecting to {_readable(address)}")
                yield PollNeeded(sock.fileno(), POLLOUT, deadline)
        if code:
            refused = OSError(code, f"{os.strerror(code)}: {_readable(address)}")
            if code in (errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE):
                raise ConnectionClosed(f"the connection was closed at once: {refused}", where="connecting") from refused
            raise refused
    except BaseException:
        sock.close()
        raise
    return sock


def _has_peer(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _readable(address: Any) -> str:
    return f"{address[0]} port {address[1]}" if isinstance(address, tuple) else str(address)


def _co_handshake(
    sock: socket.socket, context: ssl.SSLContext, host: str, deadline: float | None
) -> Step[ssl.SSLSocket]:
    tls = context.wrap_socket(
        sock,
        server_hostname=host.partition("%")[0],
        do_handshake_on_connect=False,
        suppress_ragged_eofs=False,
    )
    try:
        while True:
            try:
                tls.do_handshake()
                return tls
            except ssl.SSLWantReadError:
                mask = POLLIN
            except ssl.SSLWantWriteError:
                mask = POLLOUT
            _check(deadline, f"shaking hands with {host}")
            yield PollNeeded(tls.fileno(), mask, deadline)
    except OSError as exc:
        tls.close()
        if isinstance(exc, HTTPError):
            raise
        if exc.errno == errno.ETIMEDOUT:
            raise ConnectionTimedOut("the TLS handshake timed out", where="connecting") from exc
        if not isinstance(exc, _PEER_GONE):
            raise
        raise ConnectionClosed("the peer closed the connection in the TLS handshake", where="connecting") from exc
    except BaseException:
        tls.close()
        raise
