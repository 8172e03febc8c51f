"""Certificates that clients show, by an authority that only servers know."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from bad_certificates import Entity, issue
from servers.tls import TLSPeer

PASSWORD = "Sésame"
"""As bytes it is in UTF-8."""


class Files(NamedTuple):
    """PEM files of one client."""

    certificate: Path
    key: Path
    locked_key: Path
    """The same key, to be read with `PASSWORD`."""
    both: Path
    """Certificate and key."""


class Identities:
    """Clients by name; their files are in *folder*."""

    def __init__(self, folder: Path) -> None:
        self._authority = issue(None, name="for clients", ca=True)
        self._folder = folder
        self.ca = folder / "clients.pem"
        self.ca.write_bytes(self._authority.pem)

    def files(self, name: str, known: bool = True) -> Files:
        """A new certificate in files. *known*: by the authority; else by itself."""
        entity = issue(self._authority if known else None, name=name)
        parts = ("certificate", "key", "locked key", "both")
        files = Files(*(self._folder / f"{name} {part}.pem" for part in parts))
        key = _key(entity, NoEncryption())
        files.certificate.write_bytes(entity.pem)
        files.key.write_bytes(key)
        files.locked_key.write_bytes(_key(entity, BestAvailableEncryption(PASSWORD.encode())))
        files.both.write_bytes(entity.pem + key)
        return files

    def demanded_by(self, context: ssl.SSLContext, mode: ssl.VerifyMode = ssl.CERT_REQUIRED) -> ssl.SSLContext:
        """The server's *context*, which asks clients for a certificate from now on."""
        context.verify_mode = mode
        context.load_verify_locations(self.ca)
        return context


def _key(entity: Entity, encryption: KeySerializationEncryption) -> bytes:
    pem: bytes = entity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return pem


def client_of(peer: TLSPeer) -> str:
    """The common name in the client's certificate."""
    found = peer.tls.getpeercert()
    return dict(entry[0] for entry in found["subject"])["commonName"] if found else "nobody"
