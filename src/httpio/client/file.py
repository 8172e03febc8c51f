"""The file that responses are read from, over a socket: one for all responses on it, one after the other.

http.client gives each response a buffered file of its own, which takes what has been received of the next response
with it when it is closed. Here what is received behind a message stays where the next response begins.
"""

from __future__ import annotations

import io
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import ref

from httpio._parser import ResponseParser
from httpio.client.errors import Interrupted, interrupted, raise_meant
from httpio.waiting import POLLIN, waiter

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["SocketFile", "file_of", "open_file"]

BUFFER_SIZE = 8192
"""Bytes received at a time, but for what is received in the caller's memory: reads of more than this."""

_files: dict[int, SocketFile] = {}
"""By the identity of the socket, for as long as that lives: as in a WeakKeyDictionary, for less."""


def file_of(sock: Any) -> SocketFile | None:
    """The file from which responses on *sock* are read, or None."""
    return _files.get(id(sock))


class _Raw(socket.SocketIO):
    """Receives from a socket, and says what its errors mean."""

    # What SocketIO's own __init__ would set in each.
    _reading = True
    _writing = False
    _mode = "rb"
    _timeout_occurred = False
    _sock: Any = None

    clean = True
    """False when TLS ended without close_notify, which nobody but an attacker needs to do (RFC 9112 section 9.8)."""
    stuck = ""
    """Why nothing more is read: a read ended in its middle, and nobody knows what of it was lost."""
    empty = True
    """Nothing that was received waits to be read, here or in the file's buffer; False: that is not known."""
    pending = b""
    """What `receive` has received. It is read before all else; while it is here the file's buffer is empty."""

    def __init__(self) -> None:
        """Over a socket that is given with each response."""

    def readinto(self, target: WriteableBuffer) -> int:
        self.empty = False
        if self.pending:
            with memoryview(target) as view:
                count = min(len(view), len(self.pending))
                view[:count] = self.pending[:count]
            self.pending = self.pending[count:]
            return count
        sock = self._sock
        if sock is None:
            return 0
        if self.stuck:
            raise Interrupted(self.stuck)
        try:
            return sock.recv_into(target)  # type: ignore[no-any-return]
        except OSError as exc:
            if self._ends(exc):
                return 0
            self.stuck = interrupted(exc)
            raise_meant(exc)
        except BaseException as exc:
            self.stuck = interrupted(exc)
            raise

    def receive(self) -> bytes:
        """Receive once, where nothing waits; b"" at the end."""
        if self.stuck:
            raise Interrupted(self.stuck)
        try:
            self.pending = self._sock.recv(BUFFER_SIZE)
        except OSError as exc:
            if not self._ends(exc):
                raise_meant(exc)
        self.empty = not self.pending
        return self.pending

    def _ends(self, exc: OSError) -> bool:
        if isinstance(exc, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            self.clean = isinstance(exc, ssl.SSLZeroReturnError)
            return True
        return False

    def close(self) -> None:
        io.RawIOBase.close(self)  # the socket is the file's


class SocketFile(io.BufferedReader):
    """What `socket.makefile` would give, but for what stands at the top of this module.

    It refers to the socket only while a response does, and each of these counts as one of the socket's files: a socket
    that was closed stays open for them.
    """

    raw: _Raw
    users = 0
    """Responses that are to be read from it."""
    occupied = False
    """A message has begun and was not read to its end: no other can be read."""
    whole = False
    """What was received of the message is known to have been all of it, and no more."""
    ended = False
    """Whether others than httpio have read the chunks of the message to their end, line by line."""
    last_chunk = False
    """Whether these have come to the last chunk."""
    life: ref[Any]
    """Of the socket: it ends the entry by which this file is found."""
    _wait: Callable[[float | None], object] | None = None

    def release(self, finished: bool) -> None:
        """A response will not be read from it any more; *finished*: since its message was read to its end."""
        raw: _Raw | None = self.raw
        if finished:
            self.occupied = False
            if self.whole and raw is not None:
                raw.empty = True
        sock = None if raw is None else raw._sock  # None: it was closed, or detached, by somebody else
        if raw is not None and sock is not None:
            self.users -= 1
            if not self.users:
                raw._sock = None
            sock._io_refs -= 1
            if sock._closed:
                sock.close()

    def close(self) -> None:
        """Close it for all. Inside a message it stays the file of its socket, so that nobody reads on."""
        sock, self.raw._sock = self.raw._sock, None
        users, self.users = self.users, 0
        super().close()
        if sock is not None:
            if not self.occupied:
                _files.pop(id(sock), None)
            for _ in range(users):
                sock._decref_socketios()

    def feed(self, parser: ResponseParser[Any]) -> tuple[bytes, int]:
        """Have the parser take of what comes next; returns what that is, b"" for the end, and how much was taken."""
        raw = self.raw
        if raw.pending or raw.empty:
            data = raw.pending or raw.receive()
            taken = parser.feed(data)
            raw.pending = data[taken:]
            raw.empty = not raw.pending
            return data, taken
        stuck = raw.stuck
        try:
            data = self.peek()
        except BaseException:
            raw.stuck = stuck  # nothing is lost by a look
            raise
        taken = parser.feed(data)
        self.read(taken)
        return data, taken

    def readline(self, limit: int | None = -1, /) -> bytes:
        line = super().readline(limit)
        if line == b"\r\n":
            self.ended = self.last_chunk
        elif line[:1] == b"0" and not line.partition(b";")[0].strip().strip(b"0"):
            self.last_chunk = True
        return line

    def buffered(self) -> int:
        """Bytes that were received and not read."""
        raw = self.raw
        sock, raw._sock = raw._sock, None  # from which nothing is received, then
        try:
            return len(self.peek())
        finally:
            raw._sock = sock

    def in_order(self, sock: Any) -> bool:
        """Whether nothing has come on *sock* since the last message was read to its end: neither bytes nor a close."""
        raw = self.raw
        if self.occupied or sock.fileno() < 0 or not (raw.empty or not self.buffered()):
            return False
        raw.empty = True
        if self._wait is None:
            self._wait = waiter(sock.fileno(), POLLIN)
        if isinstance(sock, ssl.SSLSocket):
            return not sock.pending() and (not self._wait(0) or _only_records(sock))
        return not self._wait(0)


def _only_records(sock: ssl.SSLSocket) -> bool:
    """Whether what waits is for TLS itself, such as the tickets of TLS 1.3."""
    timeout = sock.gettimeout()
    sock.settimeout(0)
    try:
        sock.recv(1)
    except ssl.SSLWantReadError:
        return True
    except OSError:
        pass
    finally:
        sock.settimeout(timeout)
    return False


def open_file(sock: Any) -> Any:
    """A file to read *sock* from, a `SocketFile` where that is a socket of the operating system's."""
    key = id(sock)
    file = _files.get(key)
    if file is None:
        if not isinstance(sock, socket.socket) or type(sock).makefile is not _makefile:
            return sock.makefile("rb")
        if isinstance(sock, ssl.SSLSocket):
            sock.suppress_ragged_eofs = False  # type: ignore[attr-defined]
        file = _files[key] = SocketFile(_Raw(), BUFFER_SIZE)
        file.life = ref(sock, lambda _: _files.pop(key, None))
    file.users += 1
    file.raw._sock = sock
    sock._io_refs += 1
    return file


_makefile = socket.socket.makefile
