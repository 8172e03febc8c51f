"""The bytes that the measurements move: prepared responses, made here so that every rival gets the same."""

from __future__ import annotations

import random
import zlib
from functools import cache
from typing import NamedTuple

END_OF_HEAD = b"\r\n\r\n"

NGINX_FIELDS = (
    ("Server", "nginx/1.22.1"),
    ("Date", "Tue, 03 Nov 2026 08:49:37 GMT"),
    ("Content-Type", "application/octet-stream"),
    ("Content-Length", "%d"),
    ("Last-Modified", "Mon, 02 Nov 2026 17:03:12 GMT"),
    ("Connection", "keep-alive"),
    ("ETag", '"6727a1b0-400"'),
    ("Accept-Ranges", "bytes"),
)
STORE_FIELDS = (
    *NGINX_FIELDS,
    ("Cache-Control", "public, max-age=31536000, immutable"),
    ("Vary", "Accept-Encoding, Origin"),
    ("Age", "86213"),
    ("Via", "1.1 cache-7.example.net"),
    ("X-Cache", "Hit from edge"),
    ("X-Request-Id", "9f0c41e2-5d37-4b53-8f6e-7e4f3c2b1a90"),
    ("X-Version-Id", "3sL4kqtJlcpXroDTDmJrmSpXd3dIbrHY"),
    ("X-Content-Type-Options", "nosniff"),
    ("Strict-Transport-Security", "max-age=63072000; includeSubDomains"),
    ("Access-Control-Allow-Origin", "*"),
    ("Timing-Allow-Origin", "*"),
    ("Alt-Svc", 'h3=":443"; ma=86400'),
)


class Wire(NamedTuple):
    """One response as it is sent: `head`, `piece` `repeats` times, `tail`. `content`: its body's length, decoded."""

    head: bytes
    piece: bytes
    repeats: int
    tail: bytes
    content: int

    @property
    def size(self) -> int:
        """Bytes on the wire, head included."""
        return len(self.head) + len(self.piece) * self.repeats + len(self.tail)

    @property
    def whole(self) -> bytes:
        """The response in one piece."""
        return self.head + self.piece * self.repeats + self.tail


def _head(fields: tuple[tuple[str, str], ...], length: int) -> bytes:
    lines = [f"{name}: {value % length if value == '%d' else value}\r\n" for name, value in fields]
    return ("HTTP/1.1 200 OK\r\n" + "".join(lines) + "\r\n").encode()


def _body(length: int) -> bytes:
    return bytes(i * 131 % 256 for i in range(length))


def small(fields: tuple[tuple[str, str], ...], length: int) -> Wire:
    """A response of `length` bytes, its length declared."""
    return Wire(_head(fields, length), _body(length), 1, b"", length)


def large(length: int, piece: int = 1 << 18) -> Wire:
    """A response of `length` bytes (a multiple of `piece`), its length declared."""
    return Wire(_head(NGINX_FIELDS, length), _body(1 << 10) * (piece >> 10), length // piece, b"", length)


def chunked(length: int, chunk: int, piece: int = 1 << 18) -> Wire:
    """A response of `length` bytes in chunks of `chunk`, which divides `piece`, which divides `length`."""
    fields = tuple(("Transfer-Encoding", "chunked") if name == "Content-Length" else (name, value)
                   for name, value in NGINX_FIELDS)
    one = b"%x\r\n" % chunk + _body(1 << 10) * (chunk >> 10) + b"\r\n"
    return Wire(_head(fields, 0), one * (piece // chunk), length // piece, b"0\r\n\r\n", length)


@cache
def log(length: int) -> bytes:
    """Lines of JSON as a server's log has them, `length` bytes; gzip makes them five times smaller."""
    choose = random.Random(7)
    hosts = [f"node-{choose.randrange(1 << 20):05x}.example.net" for _ in range(40)]
    targets = [f"/v1/objects/{choose.randrange(1 << 32):08x}/parts" for _ in range(500)]
    lines: list[bytes] = []
    at, clock = 0, 1_790_000_000_000
    while at < length:
        clock += choose.randrange(40)
        line = (f'{{"time": {clock}, "level": "info", "host": "{choose.choice(hosts)}", "method": "GET", '
                f'"target": "{choose.choice(targets)}", "status": {choose.choice((200, 200, 200, 206, 304, 404))}, '
                f'"bytes": {choose.randrange(1 << 20)}, "seconds": {choose.random():.6f}, '
                f'"id": "{choose.getrandbits(96):024x}"}}\n').encode()
        lines.append(line)
        at += len(line)
    return b"".join(lines)[:length]


def gzipped(length: int, member: int = 1 << 24) -> Wire:
    """A response with the gzip of `length` bytes of `log`, in members of `member` bytes, its length declared."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    piece = compressor.compress(log(member)) + compressor.flush()
    repeats = length // member
    fields = (*NGINX_FIELDS, ("Content-Encoding", "gzip"))
    return Wire(_head(fields, len(piece) * repeats), piece, repeats, b"", length)


GIB = 1 << 30
WIRES = {
    "8 fields": lambda: small(NGINX_FIELDS, 1024),
    "20 fields": lambda: small(STORE_FIELDS, 300),
    "length": lambda: large(GIB),
    "chunks of 16 KiB": lambda: chunked(GIB, 16 << 10),
    "chunks of 1 KiB": lambda: chunked(GIB, 1 << 10),
    "gzip": lambda: gzipped(1 << 26),
}
