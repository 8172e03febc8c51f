"""What does it cost to undo a content coding?

From memory: 64 MiB of a log in pieces of 64 KiB, through httpio's `Decoder` with reads of 64 KiB, and through the
library alone, which gives each piece's content in one go. Then end to end: the same from a server, through
`read_response(decode=True)`, beside the same transfer not decoded and zlib alone on what was read.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from harness import Go, interleave, main, rival
from report import Table
from servers import HOST, canned
from wires import WIRES, log

STREAM = 1 << 24
STREAMS = 4
PIECE = 64 << 10
ROUNDS = 12
TARGET = "/objects/000001"
FIELDS = {"Accept-Encoding": "gzip"}
GZIP = 16 + zlib.MAX_WBITS
LIBRARIES = {"gzip": "zlib", "deflate": "zlib", "br": "brotli", "zstd": "zstd"}


def _zstd() -> Any:
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd
    return zstd


def _encode(coding: str, data: bytes) -> bytes:
    if coding == "br":
        import brotli

        return bytes(brotli.compress(data, quality=5))
    if coding == "zstd":
        # In pieces: with its length known, a sender asks for a window as large as the content.
        compressor = _zstd().ZstdCompressor()
        parts = [compressor.compress(data[at:at + PIECE]) for at in range(0, len(data), PIECE)]
        return b"".join(parts) + bytes(compressor.flush())
    compressor = zlib.compressobj(6, zlib.DEFLATED, GZIP if coding == "gzip" else zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def _pieces(coding: str) -> list[bytes]:
    stream = _encode(coding, log(STREAM))
    return [stream[at:at + PIECE] for at in range(0, len(stream), PIECE)]


def _check(found: int, expected: int) -> None:
    if found != expected:
        raise RuntimeError(f"{found} bytes of content, not {expected}")


def library(options: dict[str, Any]) -> Go:
    """The library alone."""
    coding = options["coding"]
    pieces = _pieces(coding)

    def begin() -> Any:
        if coding == "br":
            import brotli

            return brotli.Decompressor().process
        if coding == "zstd":
            return _zstd().ZstdDecompressor().decompress
        return zlib.decompressobj(GZIP if coding == "gzip" else zlib.MAX_WBITS).decompress

    def go(count: int) -> None:
        found = 0
        for _ in range(count):
            decompress = begin()
            for piece in pieces:
                found += len(decompress(piece))
        _check(found, count * STREAM)

    return go


def decoder(options: dict[str, Any]) -> Go:
    """httpio's Decoder."""
    from httpio import Limits
    from httpio.content import Decoder

    coding = options["coding"]
    pieces = _pieces(coding)

    def go(count: int) -> None:
        found = 0
        for _ in range(count):
            decoding = Decoder([coding], Limits())
            for piece in pieces:
                decoding.feed(piece)
                while not decoding.wants_input:
                    found += len(decoding.read(PIECE))
            decoding.finish()
            if not decoding.ended:
                raise RuntimeError("the decoder has not ended")
        _check(found, count * STREAM)

    return go


def _connection(options: dict[str, Any]) -> Any:
    import httpio

    conn = httpio.HTTPConnection(HOST, options["port"], timeout=30)
    conn.connect()
    return conn


def aside(options: dict[str, Any]) -> Go:
    """The body is read as it is, and zlib decodes it aside."""
    conn = _connection(options)
    buffer = memoryview(bytearray(PIECE))
    content = WIRES["gzip"]().content

    def go(count: int) -> None:
        found = 0
        for _ in range(count):
            conn.send_request("GET", TARGET, FIELDS)
            conn.read_response()
            inflater = zlib.decompressobj(GZIP)
            while length := conn.readinto(buffer):
                found += len(inflater.decompress(buffer[:length]))
                while inflater.eof and (rest := inflater.unused_data):
                    inflater = zlib.decompressobj(GZIP)
                    found += len(inflater.decompress(rest))
        _check(found, count * content)

    return go


def readinto(options: dict[str, Any]) -> Go:
    """httpio decodes, `readinto`."""
    conn = _connection(options)
    buffer = memoryview(bytearray(PIECE))
    content = WIRES["gzip"]().content

    def go(count: int) -> None:
        found = 0
        for _ in range(count):
            conn.send_request("GET", TARGET, FIELDS)
            conn.read_response(decode=True)
            while length := conn.readinto(buffer):
                found += length
        _check(found, count * content)

    return go


def read(options: dict[str, Any]) -> Go:
    """httpio decodes, `read`."""
    conn = _connection(options)
    content = WIRES["gzip"]().content

    def go(count: int) -> None:
        found = 0
        for _ in range(count):
            conn.send_request("GET", TARGET, FIELDS)
            conn.read_response(decode=True)
            while data := conn.read(PIECE):
                found += len(data)
        _check(found, count * content)

    return go


RIVALS = {
    "library": library,
    "Decoder": decoder,
    "readinto, zlib aside": aside,
    "readinto, decoded": readinto,
    "read, decoded": read,
}
GOALS = {"gzip": 1.1, "deflate": 1.1, "br": 1.15, "zstd": 1.15}


def measure(rounds: int) -> Iterator[Table]:
    """One table for each coding, and one end to end."""
    for coding, most in GOALS.items():
        options = {"coding": coding}
        alone = LIBRARIES[coding]
        rivals = interleave([rival(__file__, "library", STREAMS, options, alone),
                             rival(__file__, "Decoder", STREAMS, options)], rounds)
        table = Table(f"decode: a GiB of {coding}, from memory", rivals, alone, scale=64e3, unit="ms")
        table.require_ratio("Decoder", alone, most)
        yield table
    with canned("gzip") as port:
        names = ("readinto, zlib aside", "readinto, decoded", "read, decoded")
        rivals = interleave([rival(__file__, name, 1, {"port": port}) for name in names], rounds)
    table = Table("decode: a GiB of gzip, end to end", rivals, names[0], scale=16e3, unit="ms")
    for name in names[1:]:
        table.require_ratio(name, names[0], 1.1)
    yield table


if __name__ == "__main__":
    main(measure, ROUNDS, RIVALS, __doc__)
