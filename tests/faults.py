"""Makes the operating system's calls, and those of ssl, fail for the client of a test, at a call of its choice."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import stat
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from httpio import ConnectionClosed, ConnectionTimedOut, HTTPConnection, HTTPError

RECEIVE, SEND, SPLICE = "receive", "send", "splice"
SOCKET, BIND, CONNECT, CONNECTED, HANDSHAKE = "socket", "bind", "connect", "connected", "handshake"

_CALLS: tuple[tuple[Any, str, str], ...] = (
    (socket.socket, "__init__", SOCKET),
    (socket.socket, "bind", BIND),
    (socket.socket, "send", SEND),
    (socket.socket, "sendmsg", SEND),
    (ssl.SSLSocket, "send", SEND),
    (socket.socket, "recv", RECEIVE),
    (socket.socket, "recv_into", RECEIVE),
    (ssl.SSLSocket, "recv", RECEIVE),
    (ssl.SSLSocket, "recv_into", RECEIVE),
    (ssl.SSLSocket, "do_handshake", HANDSHAKE),
)

GONE = ("ECONNRESET", "EPIPE", "ECONNABORTED")
NAMES = (
    # What send(2), recv(2), tcp(7) and ip(7) tell of: the peer or the way to it is gone,
    *GONE, "ENOTCONN", "ESHUTDOWN", "ECONNREFUSED", "ENETDOWN", "ENETUNREACH", "ENETRESET", "EHOSTDOWN",
    "EHOSTUNREACH", "EPROTO", "ETIMEDOUT",
    # or the local system cannot or will not.
    "ENOBUFS", "ENOMEM", "EACCES", "EPERM", "EIO", "EINVAL", "EBADF", "EMSGSIZE", "EOPNOTSUPP",
)  # fmt: skip
TLS_ERRORS: dict[str, Callable[[], OSError]] = {
    "SSLEOFError": lambda: ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF occurred in violation of protocol"),
    "SSLSyscallError": lambda: ssl.SSLSyscallError(ssl.SSL_ERROR_SYSCALL, "Some I/O error occurred"),
    "SSLZeroReturnError": lambda: ssl.SSLZeroReturnError(ssl.SSL_ERROR_ZERO_RETURN, "TLS connection has been closed"),
    "bad record": lambda: ssl.SSLError(ssl.SSL_ERROR_SSL, "[SSL] decryption failed or bad record mac"),
    "certificate": lambda: ssl.SSLCertVerificationError(ssl.SSL_ERROR_SSL, "certificate verify failed"),
    "alert": lambda: ssl.SSLError(ssl.SSL_ERROR_SSL, "[SSL] tlsv13 alert certificate required"),
}
ENDS_OF_STREAM = ("SSLEOFError", "SSLZeroReturnError")
"""What these say when something is received is no more than that: there need be no error behind it."""


def make(name: str) -> OSError:
    """The error of that name."""
    if name in TLS_ERRORS:
        return TLS_ERRORS[name]()
    code = getattr(errno, name)
    return OSError(code, os.strerror(code))


def kind_of(error: OSError) -> type[HTTPError]:
    """What it is for a caller whose connection was established."""
    return ConnectionTimedOut if error.errno == errno.ETIMEDOUT else ConnectionClosed


class Faults:
    """Wraps the calls that a transport, and whoever connects, may make; only those of the thread that made it.

    What succeeds is counted by kind, from `arm` on: the bytes that were received, for the other kinds the calls.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._thread = threading.get_ident()
        self._kind = ""
        self._number = 0
        self._error: OSError | None = None
        self._again = False
        self._counts: Counter[str] = Counter()
        self.struck = False
        self.sent = 0
        """Bytes that sends took."""
        self.sockets: list[socket.socket] = []
        """Those that were made since `arm`."""
        for owner, name, kind in _CALLS:
            monkeypatch.setattr(owner, name, self._wrapped(getattr(owner, name), kind))
        monkeypatch.setattr(socket.socket, "connect_ex", self._connect(socket.socket.connect_ex))
        monkeypatch.setattr(socket.socket, "getsockopt", self._option(socket.socket.getsockopt))
        for name in ("sendfile", "splice"):
            if hasattr(os, name):
                monkeypatch.setattr(os, name, self._in_kernel(getattr(os, name), name))

    def arm(self, kind: str, number: int, error: OSError, again: bool = False) -> None:
        """Let the first call of its kind behind *number* good ones fail, or behind so many bytes received. *again*: and
        all that follow."""
        self._kind, self._number, self._error, self._again = kind, number, error, again
        self._counts.clear()
        self.sockets.clear()
        self.sent = 0
        self.struck = False

    def disarm(self) -> None:
        """Nothing fails any more."""
        self._kind = ""

    def _mine(self) -> bool:
        return threading.get_ident() == self._thread

    def _due(self, kind: str) -> OSError | None:
        """The error that this call is to end in."""
        if kind != self._kind or self._counts[kind] < self._number:
            return None
        self.struck = True
        if not self._again:
            self._kind = ""
        return self._error

    def _wrapped(self, real: Any, kind: str) -> Any:
        def call(sock: socket.socket, *args: Any, **kwargs: Any) -> Any:
            if not self._mine():
                return real(sock, *args, **kwargs)
            if (error := self._due(kind)) is not None:
                raise error
            if kind == HANDSHAKE:
                self._counts[kind] += 1  # one that has to wait counts, too
                return real(sock, *args, **kwargs)
            if kind == RECEIVE and kind == self._kind and type(sock) is socket.socket:
                # No further than to the byte behind which it is to fail; a TLS socket would keep the rest inside.
                size = self._number - self._counts[kind]
                if isinstance(args[0], int):
                    result = real(sock, min(size, args[0]), *args[1:], **kwargs)
                else:
                    with memoryview(args[0]) as buffer:
                        result = real(sock, buffer, min(size, *filter(None, args[1:2]), len(buffer)))
            else:
                result = real(sock, *args, **kwargs)
            if kind == SOCKET:
                self.sockets.append(sock)
            if kind == SEND:
                self.sent += result
            self._counts[kind] += (result if isinstance(result, int) else len(result)) if kind == RECEIVE else 1
            return result

        return call

    def _connect(self, real: Any) -> Any:
        def connect_ex(sock: socket.socket, address: Any) -> int:
            error = self._due(CONNECT) if self._mine() else None
            return real(sock, address) if error is None else error.errno

        return connect_ex

    def _option(self, real: Any) -> Any:
        """What a connect that was under way came to."""

        def getsockopt(sock: socket.socket, level: int, name: int, *size: int) -> Any:
            error = self._due(CONNECTED) if self._mine() and name == socket.SO_ERROR else None
            return real(sock, level, name, *size) if error is None else error.errno

        return getsockopt

    def _in_kernel(self, real: Any, name: str) -> Any:
        def move(one: int, other: int, *args: Any, **kwargs: Any) -> Any:
            if not self._mine() or (name == "splice" and not stat.S_ISSOCK(os.fstat(one).st_mode)):
                return real(one, other, *args, **kwargs)
            kind = SPLICE if name == "splice" else SEND
            if (error := self._due(kind)) is not None:
                raise error
            count = real(one, other, *args, **kwargs)
            self._counts[kind] += 1
            self.sent += count if kind == SEND else 0
            return count

        return move


def works_anew(conn: HTTPConnection, faults: Faults) -> None:
    """After close, a request is answered as if nothing had been."""
    faults.disarm()
    conn.close()
    conn.send_request("GET", "/anew")
    assert conn.read_response().status == 200
    assert conn.readall() == b"/anew"
    assert conn.outstanding == ()
