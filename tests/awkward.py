"""Sockets that do all that a socket may do: take and give little, would block for no reason, are interrupted.

`use` puts them under every connection that is made after it; what they do is the same in each run.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

import httpio.dial
import httpio.waiting

_SPLICE, _SENDFILE = getattr(os, "splice", None), getattr(os, "sendfile", None)


class Habits:
    """How the sockets of one test behave, and what they have done.

    *received*, *sent*: most bytes per call on plain TCP (OpenSSL gives and takes whole records); 0: no limit.
    *refusals*: how often each call would block before it is made. `before` is called with the name of each
    system call and its socket (None where it has none), `after` also with what it returned or raised; what they raise
    comes out of the call.
    """

    def __init__(self, received: int = 0, sent: int = 0, refusals: int = 0) -> None:
        self.received = received
        self.sent = sent
        self.refusals = refusals
        self.before: Callable[[str, Any], object] = lambda name, sock: None
        self.after: Callable[[str, Any, Any], object] = lambda name, sock, result: None
        self.sockets: list[socket.socket] = []
        """All that were made."""
        self._refused: dict[str, int] = {}

    def call(self, name: str, sock: Any, call: Callable[..., Any], *args: Any) -> Any:
        """One system call."""
        self.before(name, sock)
        try:
            if self.refusals and self._may_refuse(name, sock):
                count = self._refused[name] = (self._refused.get(name, 0) + 1) % (self.refusals + 1)
                if count:
                    raise self._refusal(name, sock)
            result = call(*args)
        except OSError as error:
            self.after(name, sock, error)
            raise
        self.after(name, sock, result)
        return result

    @staticmethod
    def _may_refuse(name: str, sock: Any) -> bool:
        if name == "recv_into" and isinstance(sock, ssl.SSLSocket):
            return not sock.pending()  # what waits inside OpenSSL is there, and no poll would tell of it
        return name in ("recv_into", "send", "splice", "sendfile")

    @staticmethod
    def _refusal(name: str, sock: Any) -> OSError:
        if not isinstance(sock, ssl.SSLSocket):
            return BlockingIOError()
        return ssl.SSLWantReadError() if name == "recv_into" else ssl.SSLWantWriteError()

    def splice(self, source: int, target: int, count: int, **flags: Any) -> Any:
        """As `os.splice`."""
        name = "splice" if flags else "splice to a file"  # which does not block
        return self.call(name, None, partial(_SPLICE, source, target, count, **flags))

    def sendfile(self, target: int, source: int, offset: int, count: int) -> Any:
        """As `os.sendfile`."""
        count = min(self.sent or count, count)
        return self.call("sendfile", None, _SENDFILE, target, source, offset, count)

    def open_sockets(self) -> int:
        """How many of the sockets have not been closed."""
        return sum(sock.fileno() >= 0 for sock in self.sockets)


class _Socket(socket.socket):
    habits: Habits

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls)
        cls.habits.sockets.append(self)
        return self

    def connect_ex(self, address: Any) -> Any:
        return self.habits.call("connect", self, super().connect_ex, address)

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> Any:
        size = nbytes or memoryview(buffer).nbytes
        return self.habits.call(
            "recv_into", self, super().recv_into, buffer, self._most(self.habits.received, size), flags
        )

    def send(self, data: Any, flags: int = 0) -> Any:
        view = memoryview(data).cast("B")
        size = self._most(self.habits.sent, len(view))
        return self.habits.call("send", self, super().send, view[:size], flags)

    def _most(self, limit: int, size: int) -> int:
        return min(limit or size, size)


class _TLSSocket(_Socket, ssl.SSLSocket):
    def _most(self, limit: int, size: int) -> int:
        return size

    def do_handshake(self, block: bool = False) -> Any:
        return self.habits.call("do_handshake", self, super().do_handshake, block)

    def unwrap(self) -> Any:
        return self.habits.call("unwrap", self, super().unwrap)


class _Poll:
    """As `select.poll`."""

    def __init__(self, habits: Habits) -> None:
        self._poll = select.poll()
        self._habits = habits

    def register(self, fd: int, mask: int) -> None:
        self._poll.register(fd, mask)

    def poll(self, timeout: float | None = None) -> Any:
        return self._habits.call("poll", None, self._poll.poll, timeout)


def use(habits: Habits, monkeypatch: pytest.MonkeyPatch, context: ssl.SSLContext | None = None) -> None:
    """Let every connection that is made from now on behave so; over TLS, those that use *context*."""
    plain = type("Socket", (_Socket,), {"habits": habits})
    names = {**vars(socket), "socket": plain}
    monkeypatch.setattr(httpio.dial, "socket", SimpleNamespace(**names))
    names = {**vars(select), "poll": lambda: _Poll(habits)}
    monkeypatch.setattr(httpio.waiting, "select", SimpleNamespace(**names))
    for name, call in (("splice", habits.splice), ("sendfile", habits.sendfile)):
        if hasattr(os, name):
            monkeypatch.setattr(os, name, call)
    if context is not None:
        kind = type("TLSSocket", (_TLSSocket,), {"habits": habits})
        monkeypatch.setattr(context, "sslsocket_class", kind)
