"""Being connected: bytes in, bytes out, without blocking and without HTTP.

A transport's calls return None where they would block; `receive_wants` and `send_wants` then say what to
wait for, which on TLS may be the other direction.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import stat
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

from httpio.exceptions import StateError
from httpio.waiting import POLLIN, POLLOUT, waiter

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["HANG_UP", "SENT_AT_ONCE", "Bell", "NestedTLSTransport", "TLSTransport", "Transport", "tls_reason"]

HANG_UP: int = getattr(select, "POLLRDHUP", 0)
"""For poll: the peer has sent its last byte. 0 where the system does not tell."""

SPLICED = 64 * 1024
"""Bytes spliced at a time: what a pipe holds."""

_NOT_SENDABLE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)

READ_FROM_FILE = 256 * 1024
"""Bytes read at a time from a file that sendfile(2) does not take."""

SENT_AT_ONCE = 1024 * 1024
"""Bytes that one call sends, at most, where the system would take more: the sender is to listen in between."""

TLS_RECORD = 16 * 1024
"""The largest plaintext of one record (RFC 8446 section 5.1)."""


_TLS_ENDS = (
    ssl.SSLEOFError,
    ssl.SSLSyscallError,
    ssl.SSLWantReadError,
    ssl.SSLWantWriteError,
    ssl.SSLZeroReturnError,
)


def _address(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except OSError:
        return None


def tls_reason(error: BaseException) -> str | None:
    """What ssl says that has gone wrong, such as an alert; None where it is but an end, or no error of TLS."""
    if not isinstance(error, ssl.SSLError) or isinstance(error, _TLS_ENDS) or not getattr(error, "reason", None):
        return None
    return error.reason.lower().replace("_", " ")


class Transport:
    """A connected stream socket, which it makes non-blocking and owns from then on."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.fd = sock.fileno()
        self.clean = True
        """Whether the end of the stream, once received, was one that cannot have been forged or cut."""
        self.receive_wants = POLLIN
        self.send_wants = POLLOUT
        self.peername = _address(sock.getpeername)
        """The peer's address, as the socket gives it; None where it has none any more."""
        self.local_address = _address(sock.getsockname)
        """The address of this end, likewise."""
        self.arrived = waiter(self.fd, POLLIN)
        """Waits so many milliseconds for the peer to send or to close; what is `pending` it cannot see."""

    def try_receive_into(self, buffer: WriteableBuffer, size: int = 0) -> int | None:
        """Receive into *buffer*, at most *size* bytes (0: its length). 0: the peer has closed; None:
        nothing is there yet."""
        try:
            return self.socket.recv_into(buffer, size)
        except BlockingIOError:
            return None

    def try_send(self, data: ReadableBuffer) -> int | None:
        """Send as much of *data* as the socket takes now; returns how many bytes it took. None: nothing
        fits yet."""
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return None

    can_sendfile = hasattr(os, "sendfile")
    """Whether `try_sendfile` is there: what is sent needs no encryption."""

    def try_sendfile(self, descriptor: int, offset: int, count: int) -> int | None:
        """Send at most *count* bytes of a file from *offset* on, inside the kernel; returns how many bytes the socket
        took, 0 where the file ends before. None: nothing fits yet."""
        try:
            return os.sendfile(self.fd, descriptor, offset, min(count, SENT_AT_ONCE))
        except BlockingIOError:
            return None
        except OSError as exc:
            if exc.errno not in _NOT_SENDABLE:
                self.clean = False  # a reset may have been met, and not told, by the call before
                raise
            data = os.pread(descriptor, min(count, READ_FROM_FILE), offset)
            return self.try_send(data) if data else 0

    pending = False
    """Whether received bytes wait inside the transport, where `select` cannot see them."""

    stuck = False
    """Whether bytes that count as sent still wait inside the transport."""

    def hung_up(self) -> bool:
        """Whether the peer has sent its last byte, which need not have been received; False where the system does not
        tell."""
        return HANG_UP != 0 and bool(waiter(self.fd, HANG_UP)(0))

    def detach(self) -> socket.socket:
        """Hand over the socket, as it is."""
        sock = self.socket
        self.fd = -1
        return sock

    def peer_certificate(self, binary_form: bool) -> dict[str, Any] | bytes | None:
        """None: there is no TLS."""
        return None

    def cipher(self) -> tuple[str, str, int] | None:
        """None: there is no TLS."""
        return None

    @property
    def session(self) -> ssl.SSLSession | None:
        """None: there is no TLS."""
        return None

    carrier: Transport | None = None
    """The transport inside whose stream this one is, or None."""

    def splice_to(self, file: BinaryIO) -> Splice | None:
        """A way for bytes from the socket to *file* that stays inside the kernel; None where there is none."""
        return Splice.between(self.socket, file)

    def close(self) -> None:
        """Close the socket; never blocks."""
        self.drop()

    def drop(self) -> None:
        """Close this process's hold on the socket, without a word to the peer where that is TLS's matter."""
        self.fd = -1
        self.socket.close()

    def abort(self) -> None:
        """End the connection at once, from any thread: whoever waits for it wakes up. The socket still has
        to be closed."""
        self.clean = False  # what is received now ends here, and not at the peer's word
        with contextlib.suppress(OSError):
            # Not SSLSocket's, which would go on in the clear.
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)


class Bell:
    """Lets one thread wake another that waits: it waits for `fd` to be readable, beside what it waits for."""

    def __init__(self) -> None:
        self._ear, self._tongue = socket.socketpair()
        self._ear.setblocking(False)
        self._tongue.setblocking(False)
        self.fd = self._ear.fileno()

    def ring(self) -> None:
        """Wake who waits now, or who waits next."""
        with contextlib.suppress(OSError):  # full: it has been rung often enough
            self._tongue.send(b"!")

    def silence(self) -> None:
        """Whoever was woken has looked."""
        with contextlib.suppress(BlockingIOError):
            self._ear.recv(4096)

    def close(self) -> None:
        """Let go of the descriptors."""
        self._ear.close()
        self._tongue.close()


class Splice:
    """Moves bytes from a socket to a file through a pipe, by Linux's splice(2). Made by `between`, ended by `close`."""

    def __init__(self, sock: socket.socket, file: BinaryIO) -> None:
        self._sock = sock
        self._file = file
        self._out, self._in = os.pipe()

    @classmethod
    def between(cls, sock: socket.socket, file: BinaryIO) -> Splice | None:
        """None where the system has no splice, or *file* is no regular file."""
        if not hasattr(os, "splice"):
            return None
        try:
            descriptor = file.fileno()
            file.flush()
            return cls(sock, file) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
        except (AttributeError, OSError, ValueError):  # no descriptor may be left for a pipe, too
            return None

    def try_receive(self, count: int) -> int | None:
        """Take at most *count* bytes from the socket; returns how many, 0 when the peer has closed, None where
        it would block. They have to be written before the next call."""
        try:
            return os.splice(self._sock.fileno(), self._in, min(count, SPLICED), flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            return None

    def write(self, count: int) -> None:
        """Put the *count* bytes that were taken into the file."""
        while count:
            try:
                count -= os.splice(self._out, self._file.fileno(), count)
            except OSError as exc:
                if exc.errno != errno.EINVAL:
                    raise
                # Not into every file, such as one that is only appended to.
                data = os.read(self._out, count)
                count -= len(data)
                while data:
                    data = data[os.write(self._file.fileno(), data) :]

    def close(self) -> None:
        """Let go of the pipe, and tell the file object where its file has come to."""
        os.close(self._out)
        os.close(self._in)
        with contextlib.suppress(ValueError):  # it was closed meanwhile
            self._file.seek(0, os.SEEK_CUR)


class _Secured(Transport):
    """What is the same whatever carries the TLS records. One thread may send while another receives.

    OpenSSL forbids two threads in one SSL object, so each call holds a lock, and none holds it while waiting.
    """

    def __init__(self, sock: socket.socket, tls: ssl.SSLSocket | ssl.SSLObject) -> None:
        super().__init__(sock)
        self._tls = tls
        # With this option OpenSSL takes every end for a close_notify: how the stream ended cannot be told.
        self._ends_alike = bool(tls.context.options & getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0))
        self._lock = threading.Lock()
        self._alert = False  # the peer has sent a fatal one, or was sent one

    can_sendfile = False

    def splice_to(self, file: BinaryIO) -> None:
        return None  # what comes from the socket is not the content

    def peer_certificate(self, binary_form: bool) -> dict[str, Any] | bytes | None:
        """What `ssl.SSLSocket.getpeercert` gives."""
        with self._lock:
            return self._tls.getpeercert(binary_form)

    def cipher(self) -> tuple[str, str, int] | None:
        """What `ssl.SSLSocket.cipher` gives: the cipher's name, the protocol, the secret's bits."""
        with self._lock:
            return self._tls.cipher()

    @property
    def session(self) -> ssl.SSLSession | None:
        """What another connection may resume: in TLS 1.3 once the peer has sent a ticket, and nothing after a fatal
        alert (RFC 5246 section 7.2.2)."""
        with self._lock:
            return None if self._alert else self._tls.session

    def _note(self, error: OSError) -> None:
        """What OpenSSL or the system says of the connection."""
        self._alert = self._alert or tls_reason(error) is not None


class TLSTransport(_Secured):
    """A TLS socket. It must have been made with ``suppress_ragged_eofs=False``, so that an end without close_notify can
    be told."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        super().__init__(sock, sock)
        self._ssl = sock
        # OpenSSL wants a send that would block repeated with the same bytes: they are kept here, and count as
        # sent.
        self._stuck = b""
        self._failure: OSError | None = None  # of a send that had sent something before it failed

    def try_receive_into(self, buffer: WriteableBuffer, size: int = 0) -> int | None:
        with self._lock:
            try:
                count = self._ssl.recv_into(buffer, size or memoryview(buffer).nbytes)
                if count == 0:
                    self.clean = self.clean and not self._ends_alike
                return count
            except ssl.SSLWantReadError:
                self.receive_wants = POLLIN
            except ssl.SSLWantWriteError:
                self.receive_wants = POLLOUT
            except ssl.SSLZeroReturnError:
                return 0
            except ssl.SSLEOFError:
                self.clean = False
                return 0
            except OSError as exc:
                self._note(exc)
                raise
        return None

    def try_send(self, data: ReadableBuffer) -> int | None:
        view = memoryview(data)
        taken = sent = 0
        with self._lock:
            try:
                if self._failure is not None:
                    raise self._failure
                if self._stuck:
                    self._ssl.send(self._stuck)
                    self._stuck = b""
                while taken < min(view.nbytes, SENT_AT_ONCE):
                    record = view[taken : taken + TLS_RECORD]
                    taken += record.nbytes
                    self._stuck = bytes(record)
                    self._ssl.send(self._stuck)
                    self._stuck = b""
                    sent = taken
            except ssl.SSLWantWriteError:
                self.send_wants = POLLOUT
            except ssl.SSLWantReadError:
                self.send_wants = POLLIN
            except OSError as exc:
                self._note(exc)
                self._stuck = b""
                self._failure = exc
                if not sent:
                    raise
                return sent  # what is out is out: the next call tells of the failure
        return taken or None

    @property
    def pending(self) -> bool:  # type: ignore[override]
        with self._lock:
            return self._ssl.pending() > 0

    @property
    def stuck(self) -> bool:  # type: ignore[override]
        return bool(self._stuck)

    def close(self) -> None:
        """Send close_notify, without waiting for the peer's, and close the socket."""
        try:
            with self._lock, contextlib.suppress(OSError, ValueError):
                self._ssl.unwrap()
        finally:
            self.drop()


class NestedTLSTransport(_Secured):
    """TLS inside the stream of another transport, that to a proxy. *tls* reads from *incoming* and writes to
    *outgoing*, which are filled and emptied here."""

    def __init__(self, inner: Transport, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        super().__init__(inner.socket, tls)
        self._inner = self.carrier = inner
        self._object = tls
        self._incoming, self._outgoing = incoming, outgoing
        self._buffer = bytearray(2 * TLS_RECORD)
        self._stuck = b""  # as OpenSSL wants it repeated
        self._records = b""  # that the inner transport has not taken
        self._incomplete = False  # what is in `incoming` is not a whole record, as far as is known

    def shake(self) -> int:
        """Carry the messages of a handshake; returns what to wait for before it can go on, 0: nothing."""
        wants = self.push()
        return 0 if self._pull() else wants | self.receive_wants

    def push(self) -> int:
        """Send what is to be sent; returns what to wait for in order to go on, 0: all of it is sent."""
        inner = self._inner
        wants = 0
        if self._stuck:
            try:
                self._object.write(self._stuck)
                self._stuck = b""
            except ssl.SSLWantReadError:
                wants = inner.receive_wants  # for what answers the messages in `outgoing`
        while records := self._records or self._outgoing.read():
            self._records = records
            taken = inner.try_send(records)
            if taken is None:
                self.send_wants = inner.send_wants
                return self.send_wants
            self._records = records[taken:]
        if inner.stuck:
            inner.try_send(b"")
            self.send_wants = inner.send_wants
            if inner.stuck:
                return self.send_wants
        self.send_wants = wants or inner.send_wants
        return wants

    def _pull(self) -> bool:
        """Receive records, or their end; False: nothing is there yet."""
        count = self._inner.try_receive_into(self._buffer)
        if count is None:
            self.receive_wants = self._inner.receive_wants
            return False
        if count:
            self._incoming.write(memoryview(self._buffer)[:count])
        else:
            self._incoming.write_eof()
        return True

    def try_receive_into(self, buffer: WriteableBuffer, size: int = 0) -> int | None:
        with self._lock, memoryview(buffer) as view:
            while True:
                try:
                    self._incomplete = False
                    count = int(self._object.read(size or view.nbytes, view))
                    if count == 0:
                        self.clean = self.clean and not self._ends_alike
                    return count
                except ssl.SSLWantReadError:
                    self._incomplete = True
                except ssl.SSLZeroReturnError:
                    return 0
                except ssl.SSLEOFError:
                    self.clean = False
                    return 0
                except OSError as exc:
                    self._note(exc)
                    raise
                finally:
                    if self._outgoing.pending:
                        with contextlib.suppress(OSError):  # the next to send meets it
                            self.push()
                if not self._pull():
                    return None

    def try_send(self, data: ReadableBuffer) -> int | None:
        with self._lock, memoryview(data) as view:
            taken = sent = 0
            try:
                while not self.push() and taken < min(view.nbytes, SENT_AT_ONCE):
                    sent = taken
                    record = view[taken : taken + TLS_RECORD]
                    taken += record.nbytes
                    self._stuck = bytes(record)
            except OSError as exc:
                self._note(exc)
                if not sent:
                    raise
                return sent  # what is out is out: the next call tells of the failure
        return taken or None

    @property
    def pending(self) -> bool:  # type: ignore[override]
        with self._lock:
            waits = self._incoming.pending > 0 and not self._incomplete
            return waits or self._object.pending() > 0 or self._inner.pending

    @property
    def stuck(self) -> bool:  # type: ignore[override]
        return bool(self._stuck or self._records or self._outgoing.pending or self._inner.stuck)

    def detach(self) -> socket.socket:
        raise StateError("TLS inside the TLS of a proxy has no socket to hand over")

    def close(self) -> None:
        """Send close_notify to the peer and to the proxy, without waiting for theirs, and close the socket."""
        try:
            with self._lock, contextlib.suppress(OSError, ValueError):
                self._object.unwrap()
            with self._lock, contextlib.suppress(OSError, ValueError):
                self.push()
        finally:
            self.fd = -1
            self._inner.close()

    def drop(self) -> None:
        super().drop()
        self._inner.drop()
