"""A record of every byte that a connection sends and receives, for finding out what went wrong."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any, BinaryIO

from httpio.transport import Transport

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["TracedTransport", "open_trace"]

log = logging.getLogger("httpio.trace")


def open_trace(path: str | os.PathLike[str], number: int) -> BinaryIO:
    """Open a file to trace connection *number* to, unbuffered.

    "%d" in *path* stands for the number, and then a file of that name is replaced; without it, the traces of
    all connections are added to the one file. A new file can be read by its owner only, since a trace holds
    all secrets that were sent. Raises OSError.
    """
    name = os.fspath(path)
    if "%d" in name:
        return open(name.replace("%d", str(number)), "wb", buffering=0, opener=_open_private)
    return open(name, "ab", buffering=0, opener=_open_private)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class TracedTransport(Transport):
    """Stands in for a transport, and writes to *file* what passes through it; under TLS, the plaintext.

    Each piece stands behind a line of its own: ``>>>`` (sent) or ``<<<`` (received), the seconds since the
    tracing began, and the number of bytes; 0 received: the peer has closed. Before that line there is always
    a line end, which belongs to the trace. What cannot be written ends the trace, with a warning in the log,
    and not the connection. *file* is not closed.
    """

    can_sendfile = False

    def __init__(self, transport: Transport, file: BinaryIO) -> None:
        self.traced = transport
        """The transport that does the work."""
        self._file: BinaryIO | None = file
        self._began = monotonic()
        # Held from a call to its record, so that what two threads do is recorded in the order of its happening.
        self._recording = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.traced, name)

    def try_receive_into(self, buffer: WriteableBuffer, size: int = 0) -> int | None:
        with self._recording, memoryview(buffer) as view:
            count = self.traced.try_receive_into(view, size)
            if count is not None:
                self._record(b"<<<", view[:count])
        return count

    def try_send(self, data: ReadableBuffer) -> int | None:
        with self._recording:
            taken = self.traced.try_send(data)
            if taken:
                self._record(b">>>", memoryview(data)[:taken])
        return taken

    def _record(self, direction: bytes, data: memoryview) -> None:
        file = self._file
        if file is None:
            return
        line = b"\n%s %.6f %d\n" % (direction, monotonic() - self._began, len(data))
        left = memoryview(line + data)  # in one write, so that several connections can share a file
        try:
            while left:
                written = file.write(left)
                if written == 0:
                    raise OSError("the file takes nothing")
                left = left[len(left) if written is None else written :]
        except Exception as exc:
            self._file = None
            log.warning("a trace has ended: %r", exc)

    def splice_to(self, file: BinaryIO) -> None:
        return None  # the bytes would not be seen

    @property
    def pending(self) -> bool:  # type: ignore[override]
        return self.traced.pending

    @property
    def stuck(self) -> bool:  # type: ignore[override]
        return self.traced.stuck

    def hung_up(self) -> bool:
        return self.traced.hung_up()

    def detach(self) -> socket.socket:
        return self.traced.detach()

    def peer_certificate(self, binary_form: bool) -> dict[str, Any] | bytes | None:
        return self.traced.peer_certificate(binary_form)

    def cipher(self) -> tuple[str, str, int] | None:
        return self.traced.cipher()

    @property
    def carrier(self) -> Transport | None:  # type: ignore[override]
        return self.traced.carrier

    @property
    def session(self) -> ssl.SSLSession | None:
        return self.traced.session

    def close(self) -> None:
        self.traced.close()

    def drop(self) -> None:
        self.traced.drop()

    def abort(self) -> None:
        self.traced.abort()
