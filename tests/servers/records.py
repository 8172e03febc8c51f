"""Records of TLS 1.3 made by hand (RFC 8446), so that a server can send what no call of Python's `ssl` sends."""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from servers.scripted import Peer
from servers.tls import APPLICATION_DATA, HANDSHAKE, TLSPeer

NEW_SESSION_TICKET, KEY_UPDATE = 4, 24
"""Types of handshake messages (section 4)."""

_SUITES: dict[str, tuple[hashes.HashAlgorithm, int]] = {
    "TLS_AES_128_GCM_SHA256": (hashes.SHA256(), 16),
    "TLS_AES_256_GCM_SHA384": (hashes.SHA384(), 32),
}
"""The hash, and the bytes of a key."""


class Sealer:
    """Encrypts records in one direction, from its first one with *secret*, the traffic secret."""

    def __init__(self, secret: bytes, suite: str) -> None:
        self._hash, self._size = _SUITES[suite]
        self._take(secret)

    def _take(self, secret: bytes) -> None:
        self._secret = secret
        self._key = AESGCM(self._derived(b"key", self._size))
        self._iv = int.from_bytes(self._derived(b"iv", 12), "big")
        self._sequence = 0

    def _derived(self, label: bytes, size: int) -> bytes:
        """HKDF-Expand-Label without a context (section 7.1)."""
        label = b"tls13 " + label
        info = size.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0"
        return HKDFExpand(self._hash, size, info).derive(self._secret)

    def update(self) -> None:
        """Go on with the next secret (section 7.2)."""
        self._take(self._derived(b"traffic upd", self._hash.digest_size))

    def seal(self, kind: int, data: bytes, padding: int = 0) -> bytes:
        """The next record (section 5.2), with so many bytes of padding."""
        head = bytes((APPLICATION_DATA, 3, 3)) + (len(data) + 1 + padding + 16).to_bytes(2, "big")
        nonce = (self._iv ^ self._sequence).to_bytes(12, "big")
        self._sequence += 1
        return head + self._key.encrypt(nonce, data + bytes([kind]) + bytes(padding), head)


def message(kind: int, body: bytes) -> bytes:
    """A handshake message."""
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


TICKET = message(
    NEW_SESSION_TICKET,
    # lifetime, age_add; nonce, ticket and extensions, each behind its length (section 4.6.1)
    (7200).to_bytes(4, "big") + b"\1\2\3\4" + b"\1\0" + (200).to_bytes(2, "big") + bytes(200) + b"\0\0",
)


class SealingPeer(TLSPeer):
    """A `TLSPeer` that seals its own records once the handshake is over. The context must send no tickets, and log its
    secrets to *log*."""

    def __init__(self, peer: Peer, context: ssl.SSLContext, log: Path) -> None:
        super().__init__(peer, context)
        self._log = log

    def handshake(self) -> None:
        super().handshake()
        random = self.raw[11:43].hex()  # of the ClientHello, behind the heads of record and message, and the version
        (secret,) = (
            bytes.fromhex(line.split()[2])
            for line in self._log.read_text().splitlines()
            if line.startswith(f"SERVER_TRAFFIC_SECRET_0 {random} ")
        )
        cipher = self.tls.cipher()
        assert cipher is not None
        self.sealer = Sealer(secret, cipher[0])

    def record(self, data: bytes, padding: int = 0) -> bytes:
        return self.sealer.seal(APPLICATION_DATA, data, padding)

    def send(self, data: bytes) -> None:
        self.sock.sendall(self.record(data))

    def key_update(self, requested: bool = False) -> bytes:
        """The record that tells of new keys; those behind it are sealed with them. *requested*: the client is to change
        its own."""
        record = self.sealer.seal(HANDSHAKE, message(KEY_UPDATE, bytes([requested])))
        self.sealer.update()
        return record

    def tickets(self, count: int, size: int = 1 << 14) -> bytes:
        """So many session tickets in records of at most *size* bytes."""
        data = TICKET * count
        return b"".join(self.sealer.seal(HANDSHAKE, data[start : start + size]) for start in range(0, len(data), size))
