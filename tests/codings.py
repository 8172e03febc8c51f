"""Content as servers encode it, and answers that carry it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType

from conftest import need

TEXT = b"".join(b"%05d: a line of a text that is worth its coding\n" % number for number in range(2000))
"""About 100 kB, each line of which is another."""


def gzipped(content: bytes) -> bytes:
    """One member (RFC 1952)."""
    return gzip.compress(content, mtime=0)


def raw_deflate(content: bytes) -> bytes:
    """deflate without zlib's header and check sum, as some servers send it."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(content) + packer.flush()


def brotli(content: bytes) -> bytes:
    """RFC 7932; the test is skipped where the library is missing."""
    need(find_spec("brotli") is not None, "The Python package brotli")
    import brotli

    return bytes(brotli.compress(content))


def zstandard(content: bytes) -> bytes:
    """One frame (RFC 8878); the test is skipped where no library is there."""
    return bytes(_zstd().compress(content))


def _zstd() -> ModuleType:
    try:
        from compression import zstd  # Python 3.14
    except ImportError:
        need(find_spec("backports.zstd") is not None, "The Python package backports.zstd")
        from backports import zstd
    return zstd


ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzipped),
    "x-gzip": ("x-gzip", gzipped),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "br": ("br", brotli),
    "zstd": ("zstd", zstandard),
    "two": ("deflate, gzip", lambda content: gzipped(zlib.compress(content))),
}
"""By what they are called here: the value of Content-Encoding, and what encodes so."""


def coded(content: bytes, coding: str = "gzip", status: str = "200 OK", fields: str = "") -> bytes:
    """A response whose body is *content*, encoded already, with a Content-Length. *fields*: whole lines, each with its
    CRLF."""
    head = f"HTTP/1.1 {status}\r\nContent-Encoding: {coding}\r\nContent-Length: {len(content)}\r\n{fields}\r\n"
    return head.encode("latin-1") + content


def coded_chunks(content: bytes, size: int, coding: str = "gzip", trailers: bytes = b"") -> bytes:
    """The same in chunks of that size. *trailers*: whole lines."""
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode("latin-1") + chunks + b"0\r\n" + trailers + b"\r\n"


def bomb(mebibytes: int, members: int = 1) -> bytes:
    """Zeros in gzip: so many members of so many MiB each."""
    return gzipped(bytes(mebibytes << 20)) * members
