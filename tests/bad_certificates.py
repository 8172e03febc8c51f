"""Certificates that are wrong, each in one way, and good ones beside them; made with `cryptography`, once a session."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import warnings
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOST = "www.example.test"
ADDRESS = "127.0.0.1"
IDN = "bücher.example.test"
A_LABEL = "xn--bcher-kva.example.test"

Key = Any
"""A private key, RSA or of an elliptic curve."""


def year(number: int) -> datetime.datetime:
    return datetime.datetime(number, 1, 1, tzinfo=datetime.timezone.utc)


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def short_key() -> Key:
    """An RSA key of 512 bits: no library makes one any more."""
    p, q = 2**255 + 4201, 2**256 - 189
    p, q = next_prime(p), next_prime(q)
    d = pow(65537, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(65537, p * q)
    return rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public).private_key()


def next_prime(number: int) -> int:
    """The first probable prime from *number* on, which is odd."""
    while any(pow(base, number - 1, number) != 1 for base in (2, 3, 5, 7, 11)):
        number += 2
    return number


class Entity(NamedTuple):
    """Who has a certificate."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def names(*values: str) -> x509.SubjectAlternativeName:
    """Each is an address, with ``ip:`` before it, or a name."""
    return x509.SubjectAlternativeName(
        [
            x509.IPAddress(ipaddress.ip_address(value[3:])) if value.startswith("ip:") else x509.DNSName(value)
            for value in values
        ]
    )


def issue(
    issuer: Entity | None,
    *sans: str,
    name: str = "a server",
    key: Key = None,
    valid: tuple[int, int] = (2000, 2100),
    ca: bool | None = None,
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
) -> Entity:
    """A certificate, by *issuer* or by itself. *sans*: as `names` takes them. *valid*: from year to year."""
    key = key or new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(year(valid[0]))
        .not_valid_after(year(valid[1]))
        .add_extension(x509.BasicConstraints(ca=bool(ca), path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    signer = key if issuer is None else issuer.key
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
    )
    if ca:
        usage = dict.fromkeys(_USAGES, False) | {"key_cert_sign": True, "crl_sign": True}
        builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
    if sans:
        builder = builder.add_extension(names(*sans), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return Entity(builder.sign(signer, hashes.SHA256()), key)


_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip

_SIGNED_WITH = bytes.fromhex("06092a864886f70d0101")
"""The object identifier of a signature by RSA but for its last byte, which tells the hash."""


def signed_anew(entity: Entity, issuer: Entity, algorithm: hashes.HashAlgorithm, number: int) -> Entity:
    """The same certificate with a signature that no library makes any more. *number*: the last one of its identifier
    (RFC 8017 appendix A.2.4); the issuer's key is of RSA."""
    sha256, other = _SIGNED_WITH + b"\x0b", _SIGNED_WITH + bytes([number])
    content = entity.certificate.tbs_certificate_bytes
    signature = entity.certificate.signature
    changed = content.replace(sha256, other)
    assert changed != content
    der = entity.certificate.public_bytes(Encoding.DER).replace(sha256, other)
    der = der.replace(signature, issuer.key.sign(changed, padding.PKCS1v15(), algorithm))
    return Entity(x509.load_der_x509_certificate(der), entity.key)


def spoilt(entity: Entity) -> Entity:
    """The same certificate with one bit of its signature changed."""
    der = bytearray(entity.certificate.public_bytes(Encoding.DER))
    der[-1] ^= 1
    return Entity(x509.load_der_x509_certificate(bytes(der)), entity.key)


class Served(NamedTuple):
    """What a server shows. *crl*: what its client has of revocations: a list, or b"" for the wish of one."""

    chain: list[Entity]
    host: str = HOST
    crl: bytes | None = None
    key: Key = None

    def write(self, path: Path) -> None:
        """The chain and the key as one PEM file."""
        key = self.key or self.chain[0].key
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(b"".join(entity.pem for entity in self.chain) + pem)


class House:
    """The authorities of a session."""

    def __init__(self) -> None:
        self.root = issue(None, name="the root", ca=True)
        self.middle = issue(self.root, name="the intermediate", ca=True)
        self.stranger = issue(None, name="a stranger", ca=True)
        self.good = issue(self.middle, HOST, name="good")

    def by_middle(self, *sans: str, host: str = HOST, **options: Any) -> Served:
        """A server's certificate by the intermediate, which comes with it."""
        return Served([issue(self.middle, *(sans or (HOST,)), **options), self.middle], host)

    def below(self, middle: Entity, *sans: str) -> Served:
        """The same by another intermediate."""
        return Served([issue(middle, *(sans or (HOST,))), middle])

    def revocations(self, *revoked: Entity, until: int = 2100) -> bytes:
        """The intermediate's list."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.middle.certificate.subject)
            .last_update(year(2001))
            .next_update(year(until))
        )
        for entity in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(entity.certificate.serial_number)
                .revocation_date(year(2001))
                .build()
            )
        return builder.sign(self.middle.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def revoked(self, revoked: bool, until: int = 2100) -> Served:
        served = self.by_middle()
        return served._replace(crl=self.revocations(served.chain[0] if revoked else self.good, until=until))

    def hashed_by(self, algorithm: hashes.HashAlgorithm, number: int) -> Served:
        """A certificate whose signature is made with such a hash."""
        middle = issue(self.root, name="of RSA", ca=True, key=rsa.generate_private_key(65537, 2048))
        return Served([signed_anew(issue(middle, HOST), middle, algorithm, number), middle])


def _constrained(house: House) -> Entity:
    only = x509.NameConstraints(permitted_subtrees=[x509.DNSName("other.test")], excluded_subtrees=None)
    return issue(house.root, name="for others", ca=True, extensions=[(only, True)])


def _for(purpose: x509.ObjectIdentifier) -> dict[str, Any]:
    return {"extensions": [(x509.ExtendedKeyUsage([purpose]), False)]}


def _many(count: int) -> list[str]:
    return [HOST, *(f"www.number-{number:05}.example.test" for number in range(1, count))]


class Bad(NamedTuple):
    """*codes*: what OpenSSL finds (X509_V_ERR_...); none: it never comes to verify the certificate. *version*: the only
    one that can carry it."""

    make: Callable[[House], Served]
    codes: tuple[int, ...]
    version: ssl.TLSVersion | None = None


EXPIRED, NOT_YET, HOST_MISMATCH, ADDRESS_MISMATCH = (10,), (9,), (62,), (64,)
NO_ISSUER = (20, 21)
SELF_SIGNED, SELF_SIGNED_ROOT = (18,), (19,)
WEAK_KEY, WEAK_HASH = (66,), (68,)

BAD: dict[str, Bad] = {
    "expired": Bad(lambda house: house.by_middle(valid=(2000, 2001)), EXPIRED),
    "not yet valid": Bad(lambda house: house.by_middle(valid=(2099, 2100)), NOT_YET),
    "expired intermediate": Bad(
        lambda house: house.below(issue(house.root, name="old", ca=True, valid=(2000, 2001))), EXPIRED
    ),
    "wrong host": Bad(lambda house: house.by_middle("wrong.example.test"), HOST_MISMATCH),
    "name of a parent": Bad(lambda house: house.by_middle("example.test"), HOST_MISMATCH),
    "name of a child": Bad(lambda house: house.by_middle("a." + HOST), HOST_MISMATCH),
    "wildcard for a parent": Bad(lambda house: house.by_middle("*." + HOST), HOST_MISMATCH),
    "wildcard for a grandchild": Bad(
        lambda house: house.by_middle("*.example.test", host="a.www.example.test"), HOST_MISMATCH
    ),
    "wildcard inside": Bad(lambda house: house.by_middle("www.*.test"), HOST_MISMATCH),
    "part of a label as wildcard": Bad(lambda house: house.by_middle("w*.example.test"), HOST_MISMATCH),
    "wildcard below the root": Bad(lambda house: house.by_middle("*.test", host="example.test"), HOST_MISMATCH),
    "wildcard alone": Bad(lambda house: house.by_middle("*"), HOST_MISMATCH),
    "a name in the name": Bad(lambda house: house.by_middle("www.example.test.evil.test"), HOST_MISMATCH),
    "self-signed": Bad(lambda house: Served([issue(None, HOST)]), SELF_SIGNED),
    "untrusted root": Bad(lambda house: Served([issue(house.stranger, HOST)]), NO_ISSUER),
    "untrusted root, sent": Bad(
        lambda house: Served([issue(house.stranger, HOST), house.stranger]), SELF_SIGNED_ROOT
    ),
    "common name only": Bad(lambda house: Served([issue(house.middle, name=HOST), house.middle]), HOST_MISMATCH),
    "common name beside another name": Bad(
        lambda house: house.by_middle("wrong.example.test", name=HOST), HOST_MISMATCH
    ),
    "wrong address": Bad(lambda house: house.by_middle("ip:127.0.0.2", host=ADDRESS), ADDRESS_MISMATCH),
    "address as a name": Bad(lambda house: house.by_middle(ADDRESS, host=ADDRESS), ADDRESS_MISMATCH),
    "address as common name": Bad(
        lambda house: Served([issue(house.middle, name=ADDRESS), house.middle], ADDRESS), ADDRESS_MISMATCH
    ),
    "wrong IDN": Bad(lambda house: house.by_middle("xn--bcher-kva.example.test.evil.test", host=IDN), HOST_MISMATCH),
    "IDN without its accents": Bad(lambda house: house.by_middle("bucher.example.test", host=IDN), HOST_MISMATCH),
    "part of an A-label as wildcard": Bad(lambda house: house.by_middle("xn--*.example.test", host=IDN), HOST_MISMATCH),
    "RSA of 1024 bits": Bad(
        lambda house: house.by_middle(key=rsa.generate_private_key(65537, 1024)), WEAK_KEY
    ),
    # The signatures that TLS 1.3 allows are longer than that.
    "RSA of 512 bits": Bad(lambda house: house.by_middle(key=short_key()), WEAK_KEY, ssl.TLSVersion.TLSv1_2),
    "SHA-1": Bad(lambda house: house.hashed_by(hashes.SHA1(), 5), WEAK_HASH),
    "MD5": Bad(lambda house: house.hashed_by(hashes.MD5(), 4), WEAK_HASH),
    "chain missing": Bad(lambda house: Served([issue(house.middle, HOST)]), NO_ISSUER),
    # An intermediate may sign certificates only, which is no use for what TLS 1.2 negotiates here.
    "intermediate first": Bad(
        lambda house: Served([house.middle, house.good]), (26, *HOST_MISMATCH), ssl.TLSVersion.TLSv1_3
    ),
    "another intermediate of that name": Bad(
        lambda house: Served([issue(house.middle, HOST), issue(house.stranger, name="the intermediate", ca=True)]),
        NO_ISSUER,
    ),
    "revoked": Bad(lambda house: house.revoked(True), (23,)),
    "no list of revocations": Bad(lambda house: house.by_middle()._replace(crl=b""), (3,)),
    "old list of revocations": Bad(lambda house: house.revoked(False, until=2002), (12,)),
    "10,000 names": Bad(lambda house: house.by_middle(*_many(10_000)), ()),
    "name constraints violated": Bad(lambda house: house.below(_constrained(house)), (47,)),
    "issued by a server": Bad(lambda house: Served([issue(house.good, HOST), house.good, house.middle]), (24, 79)),
    "for clients only": Bad(lambda house: house.by_middle(**_for(ExtendedKeyUsageOID.CLIENT_AUTH)), (26,)),
    "spoilt signature": Bad(
        lambda house: Served([spoilt(issue(house.middle, HOST)), house.middle]), (7,)
    ),
}  # fmt: skip
"""T-40: each is refused, with nothing sent."""

GOOD: dict[str, Callable[[House], Served]] = {
    "plain": lambda house: house.by_middle(),
    "wildcard": lambda house: house.by_middle("*.example.test"),
    "one of many": lambda house: house.by_middle("other.example.test", HOST),
    "in capitals": lambda house: house.by_middle(HOST.upper()),
    "address": lambda house: house.by_middle("ip:" + ADDRESS, host=ADDRESS),
    "IDN": lambda house: house.by_middle(A_LABEL, host=IDN),
    "wildcard for an IDN": lambda house: house.by_middle("*.example.test", host=IDN),
    "by the root": lambda house: Served([issue(house.root, HOST)]),
    "RSA of 2048 bits": lambda house: house.by_middle(key=rsa.generate_private_key(65537, 2048)),
    # RFC 8446 section 4.4.2: only the end-entity certificate has its place, those behind it may come in any order.
    "chain reversed": lambda house: Served([issue(house.middle, HOST), house.root, house.middle]),
    "chain with strangers": lambda house: Served([issue(house.middle, HOST), house.stranger, house.middle]),
    "another was revoked": lambda house: house.revoked(False),
    "1,000 names": lambda house: house.by_middle(*_many(1000)),
    "for servers": lambda house: house.by_middle(**_for(ExtendedKeyUsageOID.SERVER_AUTH)),
    "expires soon": lambda house: house.by_middle(valid=(2000, datetime.date.today().year + 1)),
}
"""They are accepted."""


class Certificates:
    """All of them, made when they are asked for; their files go to *folder*."""

    def __init__(self, folder: Path) -> None:
        self.house = House()
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self.house.root.pem)
        self._folder = folder
        self.served = cache(self._served)

    def _served(self, kind: str) -> Served:
        return GOOD[kind](self.house) if kind in GOOD else BAD[kind].make(self.house)

    def server(self, kind: str, version: ssl.TLSVersion | None = None, ciphers: str = "DEFAULT") -> ssl.SSLContext:
        """A server with that certificate, which speaks *version* only, and has no scruples about what is weak."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers(ciphers + ":@SECLEVEL=0")
        if version is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of the versions that nobody is to speak
                context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
                context.maximum_version = version
                context.minimum_version = version
        path = self._folder / f"{kind}.pem"
        if not path.exists():
            self.served(kind).write(path)
        context.load_cert_chain(path)
        return context

    def client(self, kind: str = "plain") -> ssl.SSLContext:
        """Python's default context with the root as the only authority, and no use for common names."""
        context = ssl.create_default_context(cafile=self.ca)
        context.hostname_checks_common_name = False
        crl = self.served(kind).crl
        if crl is not None:
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        if crl:
            path = self._folder / f"{kind} crl.pem"
            path.write_bytes(crl)
            context.load_verify_locations(path)
        return context
