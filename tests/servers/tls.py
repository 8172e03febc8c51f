"""TLS by hand over the socket of a scripted server's peer, so that a test sees every byte that the client sent."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from servers.scripted import Peer, Script

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = range(20, 24)
"""Types of records (RFC 8446 section 5.1)."""

HIDDEN_ALERT = 2 + 1 + 16
"""The length of an alert of TLS 1.3 in a record that says to hold application data: with its type and its tag."""

CLOSE_NOTIFY = bytes((ALERT, 3, 3, 0, 2, 1, 0))
"""That alert as a record without encryption, which anybody on the way could send."""


class Record(NamedTuple):
    """One record as it came."""

    kind: int
    version: bytes
    data: bytes


class TLSPeer(Peer):
    """A `Peer` whose bytes are decrypted here: `raw` is what came, `received` counts what it held of the application's.

    *sock* of it is the TCP socket: what is sent to that stands between the records.
    """

    def __init__(self, peer: Peer, context: ssl.SSLContext) -> None:
        super().__init__(peer.sock, peer.number, peer.server)
        self.raw = bytearray()
        self.appended: list[bytes] = []
        """What is to be sent in one piece with each flight to come, and is none of it."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def _until_done(self, call: Callable[..., Any], *args: Any) -> Any:
        while True:
            try:
                return call(*args)
            except ssl.SSLWantReadError:
                self.flush()
                if not self._receive_raw():
                    self._incoming.write_eof()
            finally:
                self.flush()

    def flush(self) -> None:
        """Send what TLS has to send."""
        if data := self._outgoing.read():
            self.sock.sendall(data + (self.appended.pop(0) if self.appended else b""))

    def _receive_raw(self) -> bool:
        data = self.sock.recv(65536)
        self.raw += data
        self._incoming.write(data)
        return bool(data)

    def handshake(self) -> None:
        """Raises ssl.SSLError where the client does not go along."""
        self._until_done(self.tls.do_handshake)

    def receive(self) -> bool:
        """Receive once; False: the client has said that it closes. Raises SSLEOFError where it does not say so."""
        try:
            data = self._until_done(self.tls.read, 65536)
        except ssl.SSLZeroReturnError:
            return False
        self.buffer += data
        self.received += len(data)
        return bool(data)

    def record(self, data: bytes) -> bytes:
        """*data* as the next record, which is to be sent."""
        self.tls.write(data)
        return self._outgoing.read()

    def send(self, data: bytes) -> None:
        for start in range(0, len(data), 16384):
            self.tls.write(data[start : start + 16384])
        self.flush()

    def notify(self) -> None:
        """End the stream with close_notify, and then the connection."""
        self.close_notify()
        self.finish()

    def close_notify(self) -> None:
        """End the stream, and go on in TCP."""
        with suppress(ssl.SSLError):  # the client's is not here yet
            self.tls.unwrap()
        self.flush()

    def alert(self) -> None:
        """Break off with a fatal alert: bad_record_mac, as if such a record had come."""
        self._incoming.write(bytes((APPLICATION_DATA, 3, 3, 0, 32)) + bytes(32))
        try:
            while True:  # what came before it is read first
                self.tls.read(65536)
        except ssl.SSLError:
            self.flush()
        self.finish()

    def drain_raw(self) -> None:
        """Receive until the client closes, whatever that is."""
        with suppress(OSError):
            while data := self.sock.recv(65536):
                self.raw += data

    def records(self) -> Iterator[Record]:
        """What came, taken apart."""
        at = 0
        while at < len(self.raw):
            end = at + 5 + int.from_bytes(self.raw[at + 3 : at + 5], "big")
            assert end <= len(self.raw), "the last record is not whole"
            yield Record(self.raw[at], bytes(self.raw[at + 1 : at + 3]), bytes(self.raw[at + 5 : end]))
            at = end


class Tap:
    """A script for `Scripted` that speaks TLS: each connection with the next of *contexts*, the later ones with the
    last. The script that it runs is given a `TLSPeer`."""

    def __init__(self, script: Script, *contexts: ssl.SSLContext) -> None:
        self._script = script
        self._contexts = contexts
        self.peers: list[TLSPeer] = []
        self.appended: tuple[bytes, ...] = ()
        """As each `TLSPeer` is to have it."""

    def __call__(self, peer: Peer) -> None:
        tls = TLSPeer(peer, self._contexts[min(peer.number, len(self._contexts) - 1)])
        tls.appended.extend(self.appended)
        self.peers.append(tls)
        try:
            tls.handshake()
            self._script(tls)
        except ssl.SSLError:
            tls.drain_raw()


def record_kinds(peer: TLSPeer) -> set[int]:
    """The types of all records that came."""
    return {record.kind for record in peer.records()}


def assert_nothing_said(peer: TLSPeer, secret: bytes) -> None:
    """The client has sent its part of a handshake and perhaps an alert: no byte of a request, encrypted or not."""
    assert peer.received == 0
    assert not peer.buffer
    assert secret not in peer.raw
    for record in peer.records():
        if record.kind == APPLICATION_DATA:  # where TLS 1.3 puts an alert
            assert len(record.data) == HIDDEN_ALERT
        else:
            assert record.kind in (CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE)
