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


class ClientHello(NamedTuple):
    """What a client says first (RFC 8446 section 4.1.2)."""

    session_id: bytes
    extensions: dict[int, bytes]
    """By their numbers, in their order."""

    @property
    def server_name(self) -> str | None:
        """The host name of SNI (RFC 6066 section 3)."""
        data = self.extensions.get(0)
        if data is None:
            return None
        names = data[2:]
        assert names[0] == 0, "no host name"
        assert int.from_bytes(names[1:3], "big") == len(names) - 3, "more than one name"
        return names[3:].decode("ascii")

    @property
    def protocols(self) -> list[str] | None:
        """What ALPN offers (RFC 7301 section 3.1)."""
        data = self.extensions.get(16)
        if data is None:
            return None
        names, at = [], 2
        while at < len(data):
            names.append(data[at + 1 : at + 1 + data[at]].decode("ascii"))
            at += 1 + data[at]
        return names

    @property
    def tickets(self) -> list[bytes]:
        """What it offers to go on with: the session ticket (RFC 5077) and the identities of pre-shared keys (RFC 8446
        section 4.2.11)."""
        tickets = [ticket] if (ticket := self.extensions.get(35)) else []
        if (data := self.extensions.get(41)) is not None:
            at, end = 2, 2 + int.from_bytes(data[:2], "big")
            while at < end:
                size = int.from_bytes(data[at : at + 2], "big")
                tickets.append(data[at + 2 : at + 2 + size])
                at += 2 + size + 4  # its age
        return tickets

    @classmethod
    def of(cls, peer: TLSPeer) -> ClientHello:
        """The one that a peer has sent, which is one record."""
        hello = next(peer.records())
        assert hello.kind == HANDSHAKE
        assert hello.data[0] == 1, "no ClientHello"
        at = 4 + 2 + 32  # behind the head of the message, the version and the random
        fields = []
        for width in (1, 2, 1, 2):  # the session's id, suites, compression, extensions
            size = int.from_bytes(hello.data[at : at + width], "big")
            fields.append(hello.data[at + width : at + width + size])
            at += width + size
        extensions, at = {}, 0
        while at < len(fields[3]):
            kind, size = (int.from_bytes(fields[3][at + skip : at + skip + 2], "big") for skip in (0, 2))
            extensions[kind] = fields[3][at + 4 : at + 4 + size]
            at += 4 + size
        return cls(fields[0], extensions)


class TLSPeer(Peer):
    """A `Peer` whose bytes are decrypted here: `raw` is what came, `received` counts what it held of the application's.

    *sock* of it is the TCP socket: what is sent to that stands between the records. A `TLSPeer` of a `TLSPeer` speaks
    TLS inside the other's.
    """

    def __init__(self, peer: Peer, context: ssl.SSLContext) -> None:
        super().__init__(peer.sock, peer.number, peer.server)
        self._outer = peer if isinstance(peer, TLSPeer) else None
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
            send = self.sock.sendall if self._outer is None else self._outer.send
            send(data + (self.appended.pop(0) if self.appended else b""))

    def _receive_raw(self) -> bool:
        if self._outer is None:
            data = self.sock.recv(65536)
        else:
            self._outer.receive()
            data = bytes(self._outer.buffer)
            self._outer.buffer.clear()
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


def through_connect(script: Script) -> Script:
    """The script of a proxy that is itself the origin: *script* runs inside the tunnel."""

    def run(peer: Peer) -> None:
        seen = peer.head()
        if seen is not None:
            assert seen.method == "CONNECT"
            peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
            script(peer)

    return run


def record_kinds(peer: TLSPeer) -> set[int]:
    """The types of all records that came."""
    return {record.kind for record in peer.records()}


def assert_no_request(peer: TLSPeer) -> None:
    """The handshake was done, and then the client has closed without a byte of a request."""
    assert peer.received == 0
    assert not peer.buffer


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
