"""A server whose every connection runs a script of the test's, in a thread.

A script is a function that is given a `Peer`: it reads requests from it, sends bytes, and ends the connection
as it likes. It may raise OSError when the client goes away; anything else that it raises fails the test.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

END = b"\r\n\r\n"
WAIT = 20.0


class Seen(NamedTuple):
    """One request as it came."""

    method: str
    target: str
    head: bytes
    body: bytes

    def field(self, name: str) -> str | None:
        """The value of a field, the first of them; None when there is none."""
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.decode("latin-1").lower() == name.lower():
                return value.decode("latin-1").strip()
        return None


class Peer:
    """One connection, seen from the server. `number`: how many came before it."""

    def __init__(self, sock: socket.socket, number: int, server: Scripted) -> None:
        self.sock = sock
        self.number = number
        self.server = server
        self.buffer = bytearray()
        self.received = 0
        """Bytes that came, after decryption."""
        self.trailers: list[bytes] = []
        """The lines of the trailer section that came last."""

    def receive(self) -> bool:
        """Receive once; False: the client has closed."""
        data = self.sock.recv(65536)
        self.buffer += data
        self.received += len(data)
        return bool(data)

    def take(self, count: int) -> bytes:
        """So many bytes, or fewer where the client closes before."""
        while len(self.buffer) < count and self.receive():
            pass
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def head(self) -> Seen | None:
        """The head of the next request, without its body; None: the client has closed."""
        while END not in self.buffer:
            if not self.receive():
                return None
        end = self.buffer.index(END) + len(END)
        head = bytes(self.buffer[:end])
        del self.buffer[:end]
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        seen = Seen(method, target, head, b"")
        self.server.seen.append(seen)
        return seen

    def request(self) -> Seen | None:
        """The next request with its body; None: the client has closed before its end."""
        seen = self.head()
        if seen is None:
            return None
        if seen.field("Transfer-Encoding") is not None:
            return seen._replace(body=self.chunks())
        length = int(seen.field("Content-Length") or 0)
        body = self.take(length)
        return seen._replace(body=body) if len(body) == length else None

    def line(self) -> bytes:
        """A line of a chunked body, without its end."""
        while (end := self.buffer.find(b"\r\n")) < 0:
            if not self.receive():
                raise ConnectionError("the client closed inside a body")
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 2]
        return line

    def chunks(self) -> bytes:
        """A chunked body; `trailers` holds the lines of its trailer section."""
        body = bytearray()
        while size := int(self.line(), 16):
            piece = self.take(size + 2)
            if len(piece) < size + 2:
                raise ConnectionError("the client closed inside a chunk")
            assert piece[size:] == b"\r\n"
            body += piece[:-2]
        self.trailers = []
        while line := self.line():
            self.trailers.append(line)
        return bytes(body)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answer(self, body: bytes = b"", status: str = "200 OK", fields: str = "") -> None:
        """Send a response with a Content-Length. *fields*: whole lines, each with its CRLF."""
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{fields}\r\n"
        self.send(head.encode("latin-1") + body)

    def finish(self) -> None:
        """Say that nothing more comes: a FIN, and under TLS no close_notify before it."""
        socket.socket.shutdown(self.sock, socket.SHUT_WR)

    def notify(self) -> None:
        """End the stream with TLS's close_notify, and then the connection."""
        assert isinstance(self.sock, ssl.SSLSocket)
        self.sock.settimeout(0)
        with contextlib.suppress(ssl.SSLError):  # it would wait for the client's
            self.sock.unwrap()
        socket.socket.shutdown(self.sock, socket.SHUT_WR)
        self.sock.settimeout(WAIT)

    def reset(self) -> None:
        """End the connection with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def drain(self) -> None:
        """Read until the client closes."""
        while self.receive():
            pass


Script = Callable[[Peer], None]


class Scripted:
    """`with Scripted(script) as server:` connect to server.port, or to *path*, a Unix socket.

    *context*: for TLS. *small*: the socket buffers are made small, so that little is on its way.
    """

    def __init__(
        self,
        script: Script,
        context: ssl.SSLContext | None = None,
        path: str | os.PathLike[str] | None = None,
        small: bool = False,
    ) -> None:
        self._script = script
        self._context = context
        self._stopping = False
        self.peers: list[Peer] = []
        self.seen: list[Seen] = []
        """The heads of all requests, in the order in which they were read."""
        self.errors: list[BaseException] = []
        self.connections = 0
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()
        if path is None:
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
            self.port: int = self._listener.getsockname()[1]
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(os.fspath(path))
            self._listener.listen(128)
            self.port = 0
        if small:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def targets(self) -> list[str]:
        return [seen.target for seen in self.seen]

    def received(self) -> int:
        """Bytes that all connections have brought."""
        return sum(peer.received for peer in self.peers)

    def open_connections(self) -> int:
        """Connections whose script has not ended."""
        return sum(thread.is_alive() for thread in self._threads[1:])

    def _accept(self) -> None:
        while not self._stopping:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if self._stopping:
                sock.close()
                return
            self.connections += 1
            sock.settimeout(WAIT)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = Peer(sock, len(self.peers), self)
            self.peers.append(peer)
            thread = threading.Thread(target=self._serve, args=(peer,), daemon=True)
            thread.start()
            with self._changed:
                self._threads.append(thread)
                self._changed.notify_all()

    def _serve(self, peer: Peer) -> None:
        try:
            if self._context is not None:
                peer.sock = self._context.wrap_socket(peer.sock, server_side=True, suppress_ragged_eofs=False)
            self._script(peer)
        except OSError:
            pass
        except BaseException as exc:
            self.errors.append(exc)
        finally:
            peer.sock.close()

    def __enter__(self) -> Scripted:
        self._threads.append(threading.Thread(target=self._accept, daemon=True))
        self._threads[0].start()
        return self

    def accepted(self, connections: int) -> None:
        """Wait until so many connections have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._threads) > connections, WAIT)

    def settle(self, connections: int = 0, last: bool = True) -> None:
        """Wait until so many connections have come, and the scripts of all have ended; of all but the last, which may
        be in use, where *last* is False."""
        self.accepted(connections)
        for thread in self._threads[1:] if last else self._threads[1:-1]:
            thread.join(WAIT)
            assert not thread.is_alive()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(WAIT)  # else a connection that it is just accepting would be left out
        for peer in list(self.peers):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(peer.sock, socket.SHUT_RDWR)
        if kind is not None:
            return  # the test has failed: a script may wait for what will not happen
        for thread in self._threads:
            thread.join(WAIT)
            assert not thread.is_alive()
        if self.errors:
            raise self.errors[0]


def answers(peer: Peer) -> None:
    """The plain script: each request is answered with its target as the body."""
    while (seen := peer.request()) is not None:
        peer.answer(b"" if seen.method == "HEAD" else seen.target.encode())


def server_context(chain: os.PathLike[str], key: os.PathLike[str]) -> ssl.SSLContext:
    """The server's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return context
