"""The server's sockets: one thread, one selector; every connection is a `Conversation`."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import selectors
import socket
import ssl
import time

from httpio.testing.conversation import Conversation
from httpio.testing.faults import Faults, Stats

__all__ = ["Loop"]

_READ = selectors.EVENT_READ
_WRITE = selectors.EVENT_WRITE
_RECEIVE = 1 << 16
"""More than a TLS record holds, so that nothing received stays where the selector cannot see it."""
_TURNS = 16
"""After so many sends the other connections have their turn."""
_LINGER = 2.0
"""Seconds for which a connection that is to be closed goes on receiving. Closed with unread data in the
kernel it would be reset, and the client would lose the answers on their way (RFC 9112 section 9.6)."""


class _Connection:
    """One accepted socket. `mask`: what the selector watches it for (0: not registered)."""

    __slots__ = ("conversation", "lingering", "mask", "sock", "tls", "unsent")

    def __init__(self, sock: socket.socket, conversation: Conversation) -> None:
        self.sock = sock
        self.tls: ssl.SSLSocket | None = None
        self.conversation = conversation
        self.unsent = memoryview(b"")
        self.lingering = False
        self.mask = 0

    def wrap(self, context: ssl.SSLContext) -> None:
        """Speak TLS."""
        self.sock = self.tls = context.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)

    def shake_hands(self) -> None:
        """Do the TLS handshake, or go on with it, where there is one and it is not done."""
        if self.tls is not None and self.tls.version() is None:
            self.tls.do_handshake()

    def send(self) -> None:
        """Send what is unsent."""
        while self.unsent:
            self.unsent = self.unsent[self.sock.send(self.unsent) :]

    def finish(self) -> None:
        """Send close_notify where there is TLS, and the end of the stream."""
        if self.tls is not None:
            with contextlib.suppress(OSError):
                self.tls.unwrap()
        self.sock.shutdown(socket.SHUT_WR)


class Loop:
    """Serves `listener` until the process ends. With `context` the connections speak TLS."""

    def __init__(self, listener: socket.socket, context: ssl.SSLContext | None, faults: Faults) -> None:
        self.stats = Stats()
        self._listener = listener
        self._context = context
        self._faults = faults
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, _Connection]] = []
        self._serials = itertools.count()

    def run(self) -> None:
        """Serve for ever."""
        self._listener.setblocking(False)
        self._selector.register(self._listener, _READ)
        while True:
            timeout = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            for key, mask in self._selector.select(timeout):
                if key.data is None:
                    self._accept()
                else:
                    self._run(key.data, mask)
            while self._timers and self._timers[0][0] <= time.monotonic():
                self._run(heapq.heappop(self._timers)[2], 0)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        self.stats.connections += 1
        sock.setblocking(False)
        if sock.family != getattr(socket, "AF_UNIX", None):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(sock, Conversation(self._faults, self.stats))
        try:
            if self._context is not None:
                connection.wrap(self._context)
        except OSError:
            sock.close()
        else:
            self._watch(connection, _READ)

    def _run(self, connection: _Connection, mask: int) -> None:
        """Go on with a connection that is ready for `mask`, or whose time has come (0)."""
        try:
            self._go_on(connection, mask)
        except ssl.SSLWantReadError:
            self._watch(connection, _READ)
        except ssl.SSLWantWriteError:
            self._watch(connection, _WRITE)
        except BlockingIOError:
            self._watch(connection, _WRITE if connection.unsent else _READ)
        except OSError:
            self._close(connection)

    def _go_on(self, connection: _Connection, mask: int) -> None:
        if connection.lingering:
            if not mask or not connection.sock.recv(_RECEIVE):
                self._close(connection)
            return
        connection.shake_hands()
        connection.send()
        if mask & _READ and not self._receive(connection):
            return
        for turn, step in enumerate(connection.conversation.steps):
            if isinstance(step, bytes):
                connection.unsent = memoryview(step)
                connection.send()
                if turn >= _TURNS:
                    self._watch(connection, _WRITE)
                    return
            elif step is not None:
                self._watch(connection, 0)
                self._set_timer(connection, step)
                return
            else:
                self._watch(connection, _READ)
                return
        self._linger(connection)

    def _receive(self, connection: _Connection) -> bool:
        """Hand over what has arrived; False when the peer has ended and the connection is closed."""
        data = connection.sock.recv(_RECEIVE)
        if data:
            connection.conversation.receive(data)
        else:
            self._close(connection)
        return bool(data)

    def _linger(self, connection: _Connection) -> None:
        """Send the end, and take what still comes for a while."""
        connection.lingering = True
        connection.finish()
        self._watch(connection, _READ)
        self._set_timer(connection, _LINGER)

    def _set_timer(self, connection: _Connection, seconds: float) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._serials), connection))

    def _watch(self, connection: _Connection, mask: int) -> None:
        if mask == connection.mask:
            return
        if not mask:
            self._selector.unregister(connection.sock)
        elif connection.mask:
            self._selector.modify(connection.sock, mask, connection)
        else:
            self._selector.register(connection.sock, mask, connection)
        connection.mask = mask

    def _close(self, connection: _Connection) -> None:
        if connection.sock.fileno() >= 0:
            self._watch(connection, 0)
            connection.sock.close()
