"""Sends one wire to one connection, from a thread, when so many requests have come."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from types import TracebackType

END = b"\r\n\r\n"


class Canned:
    """`with Canned(wire, requests=2) as server:` connect to server.port.

    close: whether it closes after the wire. context: for TLS; the closing then comes without close_notify.
    """

    def __init__(
        self, wire: bytes, requests: int = 1, close: bool = True, context: ssl.SSLContext | None = None
    ) -> None:
        self._wire = wire
        self._requests = requests
        self._close = close
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        with contextlib.suppress(OSError), self._listener.accept()[0] as sock:
            sock.settimeout(20)
            if self._context is None:
                self._converse(sock)
            else:
                with self._context.wrap_socket(sock, server_side=True) as tls:
                    self._converse(tls)

    def _converse(self, sock: socket.socket) -> None:
        received = b""
        while received.count(END) < self._requests and (piece := sock.recv(65536)):
            received += piece
        sock.sendall(self._wire)
        if self._close:
            socket.socket.shutdown(sock, socket.SHUT_WR)  # of the TCP connection, also under TLS
        while sock.recv(65536):
            pass

    def __enter__(self) -> Canned:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self._thread.join(20)
        assert not self._thread.is_alive()
