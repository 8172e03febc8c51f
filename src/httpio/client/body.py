"""The body of a response of `httpio.client`: how far it has been read, and what its end leaves of the connection."""

from __future__ import annotations

import io
import re
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from http.client import ResponseNotReady
from typing import TYPE_CHECKING, Any

from httpio._parser import ResponseParser
from httpio.client.errors import BadChunks, ShortMessage, TooLong
from httpio.client.file import SocketFile, open_file
from httpio.exceptions import HTTPError, InvalidResponse
from httpio.messages import HTTPResponse as Head

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["UNKNOWN", "Body"]

UNKNOWN: Any = "UNKNOWN"
_readline = io.BufferedReader.readline  # SocketFile's own is for others
_PIECE = 65536
_LARGE = 32 << 20
"""Most bytes of address space set aside for a read on a Content-Length's word alone."""
_RECEIVE = 1 << 18
"""The same for a single receive."""
_DIRECT = 2048
"""Chunk data of more than this is read past the parser."""
_AHEAD = 8192
"""Most content of a chunked body that is looked at before it is read: what is left of it is copied at each read."""


class Body(io.BufferedIOBase):
    """Content that is read from *sock*, a socket or any object with ``makefile("rb")``, once a head has said how."""

    legacy_short_reads = False
    """True: as http.client has it, the peer's close ends a body read piece by piece, a header section and a trailer
    section, wherever it comes. For those whose peers need it; to be set in the class, or in a subclass that is
    `HTTPConnection.response_class`."""

    version: Any = UNKNOWN
    status: Any = UNKNOWN
    reason: Any = UNKNOWN
    chunked: Any = UNKNOWN
    chunk_left: Any = UNKNOWN
    length: Any = UNKNOWN
    will_close: Any = UNKNOWN

    _parser: ResponseParser[Head] | None = None  # in the head, and in a chunked body
    _ahead = b""  # content of a chunked body that was looked at, and not read
    _owner: weakref.ref[Any] | None = None
    _looks_ahead = False  # the file has `peek`
    _begun = False
    _in_sync = False  # nothing of the message is left on the wire, or only its end ends it
    _expected: int | None = None

    fp: Any = None

    def __init__(self, sock: Any, debuglevel: int = 0, method: str | None = None, url: str | None = None) -> None:
        self.fp = open_file(sock)
        self.debuglevel = debuglevel
        self._method = method

    # -- the end --

    def _close_conn(self) -> None:
        """Leave the connection: nothing more is read."""
        fp, self.fp = self.fp, None
        self._parser = None
        owner, self._owner = self._owner, None  # what is left can be copied and pickled
        own = type(fp) is SocketFile
        finished = self._in_sync or (own and self.chunked is True and fp.ended)
        if not finished and owner is not None and (connection := owner()) is not None:
            connection._end_with(self, fp)
        if own:
            fp.release(finished and self._begun)
        else:
            fp.close()

    def _complete(self) -> None:
        self._in_sync = True
        self._close_conn()

    def __del__(self) -> None:
        if self.fp is not None:  # IOBase's own would close what has been closed, too
            with suppress(ValueError, OSError):
                self.close()

    def close(self) -> None:
        """Close the response. Where its body has not been read to its end, its connection is closed with it."""
        try:
            super().close()
        finally:
            if self.fp:
                self._close_conn()

    def readable(self) -> bool:
        """True."""
        return True

    def isclosed(self) -> bool:
        """Whether the body has been read to its end, or was closed; `closed` is True after `close` only."""
        return self.fp is None

    def fileno(self) -> int:
        """The socket's file descriptor."""
        return self.fp.fileno()  # type: ignore[no-any-return]

    # -- the body --

    def _clean(self) -> bool:
        raw = getattr(self.fp, "raw", None)
        return getattr(raw, "clean", True) is not False

    def _short(self, partial: bytes, missing: int | None, forgive: bool = False) -> None:
        """The peer has closed: the end of a close-delimited body, or an error that may be forgiven."""
        clean = self._clean()
        if self.length is None and (clean or self.legacy_short_reads):
            self._complete()
            return
        self._in_sync = False
        received = None if self._expected is None or missing is None else self._expected - missing
        self._close_conn()
        if not forgive:
            what = "the connection was closed" if clean else "TLS ended without close_notify"
            raise ShortMessage(partial, missing, f"{what} before the end of the body", received=received)

    def read(self, amt: int | None = None) -> bytes:
        """The rest of the body, or its next *amt* bytes, fewer at its end only.

        Raises IncompleteRead where the peer closes before that; ``partial`` is what was read by this call.
        """
        fp = self.fp
        if fp is None:
            return b""
        if amt is not None and amt < 0:
            amt = None
        if self.chunked:
            return self._read_chunked(amt)
        length = self.length
        if not length:
            return self._read_until_close(amt) if length is None else self._end_of_nothing()
        size = length if amt is None or amt > length else amt
        if size > _LARGE:
            data = self._read_large(size)
        else:
            raw = fp.raw if type(fp) is SocketFile else None
            if raw is not None and len(raw.pending) == size:
                data = raw.pending
                raw.pending = b""
            else:
                data = fp.read(size)
        left = self.length = length - len(data)
        if not left:
            self._in_sync = True
            self._close_conn()
        elif len(data) < size and (amt is None or not data or not self.legacy_short_reads):
            self._short(data, left, amt is not None and self.legacy_short_reads)
        return data

    def _end_of_nothing(self) -> bytes:
        self._complete()
        return b""

    def _read_until_close(self, amt: int | None) -> bytes:
        if amt is None:
            data: bytes = self.fp.read()
            self._short(data, None)
        else:
            data = self.fp.read(amt)
            if len(data) < amt and not (data and self._clean()):
                self._short(data, None)
        return data

    def _read_large(self, size: int) -> bytes:
        """What a peer announces is not set aside on its word alone."""
        parts = []
        piece = _LARGE
        while size:
            data = self.fp.read(min(piece, size))
            parts.append(data)
            size -= len(data)
            if len(data) < piece:
                break
            piece *= 2
        return b"".join(parts)

    def readinto(self, b: WriteableBuffer) -> int:
        """Read into *b* until it is full or the body ends; returns how many bytes. Raises as `read` does."""
        fp = self.fp
        if fp is None:
            return 0
        if self.chunked:
            return self._readinto_chunked(b)
        length = self.length
        if length == 0:
            return len(self._end_of_nothing())
        view = memoryview(b).cast("B") if not isinstance(b, memoryview) or b.format != "B" else b
        size = len(view)
        if length is not None and size > length:
            size = length
            view = view[:size]
        got: int = fp.readinto(view)
        if length is not None:
            left = self.length = length - got
            if not left:
                self._complete()
            elif got < size and not (got and self.legacy_short_reads):
                self._short(bytes(view[:got]), left, self.legacy_short_reads)
        elif got < size and not (got and self._clean()):
            self._short(bytes(view[:got]), None)
        return got

    def read1(self, n: int = -1) -> bytes:
        """At most *n* bytes by at most one receive. Raises as `read` does."""
        if self.fp is None:
            return b""
        if n is None:
            n = -1
        if self.chunked:
            return self._read1_chunked(n)
        length = self.length
        if length == 0:
            return self._end_of_nothing()
        if length is not None and (n < 0 or n > length):
            n = length
        data: bytes = self.fp.read1(min(n, _RECEIVE))
        if n and not data:
            self._short(b"", length, self.legacy_short_reads)
        elif length is not None:
            left = self.length = length - len(data)
            if not left:
                self._complete()
        return data

    def peek(self, n: int = -1) -> bytes:
        """What can be read at once, at least one byte unless the body has ended; it is not taken."""
        if self.fp is None:
            return b""
        if self.chunked:
            return self._peek_chunked(n)
        length = self.length
        if length == 0:
            return b""
        data: bytes = self.fp.peek(n)
        return data if length is None else data[:length]

    def readline(self, limit: int | None = -1) -> bytes:
        """The next line, at most *limit* bytes of it. Raises as `read` does."""
        fp = self.fp
        if fp is None:
            return b""
        if limit is None:
            limit = -1
        if self.chunked:
            return self._readline_chunked(limit)
        length = self.length
        if length == 0:
            return self._end_of_nothing()
        if length is not None and (limit < 0 or limit > length):
            limit = length
        line: bytes = _readline(fp, limit) if type(fp) is SocketFile else fp.readline(limit)
        if length is not None:
            left = self.length = length - len(line)
            if not left:
                self._complete()
            elif line[-1:] != b"\n" and len(line) != limit and not (line and self.legacy_short_reads):
                self._short(line, left, self.legacy_short_reads)
        elif line[-1:] != b"\n" and len(line) != limit and not (line and self._clean()):
            self._short(line, None)
        return line

    def __iter__(self) -> Body:
        return self

    # -- a chunked body --

    def _pull(self, parser: ResponseParser[Head]) -> bool:
        """Have the parser take more of a chunked body; False where the peer has closed."""
        fp = self.fp
        try:
            if type(fp) is SocketFile:
                data, _ = fp.feed(parser)
            elif self._looks_ahead:
                data = fp.peek(_PIECE)
                fp.read(parser.feed(data))
            else:  # the message ends with a line: none goes further
                data = fp.readline(_PIECE + 1)
                parser.feed(data)
        except InvalidResponse:  # which the parser says again, behind the content that came before
            return True
        return bool(data)

    def _next(self, size: int, partial: Callable[[], bytes]) -> bytes:
        """Content, 1 to *size* bytes; empty where the body has ended."""
        parser = self._parser
        if parser is None:
            if self.chunked is UNKNOWN:
                raise ResponseNotReady
            return b""
        ahead, fp = self._ahead, self.fp
        if ahead:
            self._ahead = ahead[size:]
            return ahead[:size]
        while True:
            try:
                data = parser.read(size)
            except InvalidResponse as exc:
                self._close_conn()
                raise self._refused(exc, partial(), parser.received) from exc
            if data:
                return data
            if parser.open is None:
                self._complete()
                return b""
            direct = parser.direct
            if direct > _DIRECT and self._looks_ahead:
                content: bytes = fp.read1(min(direct, size, _RECEIVE))
                if content:
                    parser.direct_received(len(content))
                    return content
            if not self._pull(parser):
                if self.legacy_short_reads and self._end_trailers(parser):
                    continue
                self._close_conn()
                what = "the connection was closed inside a chunked body"
                raise ShortMessage(partial(), None, what, received=parser.received)

    def _refused(self, exc: InvalidResponse, partial: bytes, received: int) -> HTTPError:
        message = str(exc)
        if message.startswith(("a chunk's size and extensions are longer", "a field line is longer")):
            return TooLong(message, where="in body", received=received)
        return BadChunks(partial, None, message, received=received)

    def _end_trailers(self, parser: ResponseParser[Head]) -> bool:
        """Whether the peer closed behind the last chunk, and that is to be the end."""
        try:
            parser.feed(b"\r\n")
        except InvalidResponse:
            return False
        return parser.open is None

    def _ended_now(self) -> None:
        parser = self._parser
        if parser is not None and parser.open is None and not parser.buffered and not self._ahead:
            self._complete()

    def _read_chunked(self, amt: int | None = None) -> bytes:
        parts: list[bytes] = []
        left = sys.maxsize if amt is None else amt
        parser = self._parser
        if parser is not None and left <= _RECEIVE and not self._ahead:  # the short ways: all of it is in one chunk
            if left <= parser.direct and self._looks_ahead:
                data: bytes = self.fp.read(left)
                parser.direct_received(len(data))
                if len(data) == left:
                    return data
                parts.append(data)
                left -= len(data)
            elif left < parser.buffered:
                return parser.read(left)
        try:
            while left:
                data = self._next(left, lambda: b"".join(parts))
                if not data:
                    break
                parts.append(data)
                left -= len(data)
            else:
                self._ended_now()
        except BaseException:
            self._ahead = b"".join(parts) + self._ahead  # for one who waits and reads again
            raise
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _readinto_chunked(self, b: WriteableBuffer) -> int:
        view = memoryview(b).cast("B")
        done = 0

        def partial() -> bytes:
            return bytes(view[:done])

        fp = self.fp
        try:
            while done < len(view):
                parser = self._parser
                if parser is not None and self._looks_ahead and not self._ahead:
                    direct = parser.direct
                    if direct > _DIRECT and (count := fp.readinto(view[done : done + direct])):
                        parser.direct_received(count)
                        done += count
                        continue
                data = self._next(len(view) - done, partial)
                if not data:
                    return done
                view[done : done + len(data)] = data
                done += len(data)
            self._ended_now()
        except BaseException:
            self._ahead = partial() + self._ahead
            raise
        return done

    def _read1_chunked(self, n: int) -> bytes:
        data = self._next(n if n >= 0 else sys.maxsize, bytes) if n else b""
        if data:
            self._ended_now()
        return data

    def _peek_chunked(self, n: int) -> bytes:
        self._ahead = self._next(_AHEAD, bytes)
        return self._ahead

    def _readline_chunked(self, limit: int) -> bytes:
        parts: list[bytes] = []
        left = sys.maxsize if limit < 0 else limit
        try:
            while left:
                data = self._next(min(left, _AHEAD), lambda: b"".join(parts))
                end = data.find(b"\n") + 1
                if end:
                    self._ahead = data[end:] + self._ahead
                    data = data[:end]
                parts.append(data)
                left = 0 if end or not data else left - len(data)
            if parts and parts[-1]:
                self._ended_now()
        except BaseException:
            self._ahead = b"".join(parts) + self._ahead
            raise
        return b"".join(parts)

    def _safe_read(self, amt: int) -> bytes:
        """Exactly *amt* bytes of the connection, for those who read chunks themselves."""
        data: bytes = self.fp.read(amt)
        if len(data) < amt:
            raise ShortMessage(data, amt - len(data), "the connection was closed before the end of the body")
        return data

    def _safe_readinto(self, b: WriteableBuffer) -> int:
        view = memoryview(b).cast("B")
        got: int = self.fp.readinto(view)
        if got < len(view):
            raise ShortMessage(
                bytes(view[:got]), len(view) - got, "the connection was closed before the end of the body"
            )
        return got

    def _read_next_chunk_size(self) -> int:
        line = self.fp.readline(_PIECE + 1)
        size = line.partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", size):
            self._close_conn()
            raise ValueError(f"not the size of a chunk: {size[:40]!r}")
        return int(size, 16)

    def _read_and_discard_trailer(self) -> None:
        while self.fp.readline(_PIECE + 1) not in (b"\r\n", b"\n", b""):
            pass
