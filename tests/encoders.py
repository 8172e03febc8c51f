"""Contents, what writes each content coding, and ways to read them through a `Decoder`."""

from __future__ import annotations

import gzip
import itertools
import random
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest

import httpio.content
from conftest import need
from httpio.content import PIECE, Decoder
from httpio.exceptions import InvalidResponse
from httpio.messages import Limits

CODINGS = ("gzip", "deflate", "br", "zstd")
TEXT = b"".join(b"%d: the quick brown fox\n" % number for number in range(40))
NOISE = random.Random(1).randbytes(40_000)
MIXED = NOISE[:20_000] + TEXT * 200 + NOISE[20_000:] + bytes(300_000)
CONTENTS = {"nothing": b"", "a byte": b"x", "text": TEXT, "noise": NOISE, "mixed": MIXED}


def library(coding: str) -> Any:
    """The module that writes br or zstd; the test is skipped where it is not installed."""
    module = httpio.content._library(coding)
    need(module is not None, f"The Python package for {coding}")
    return module


def deflated(data: bytes, bits: int, level: int = 6) -> bytes:
    compressor = zlib.compressobj(level, zlib.DEFLATED, bits)
    return compressor.compress(data) + compressor.flush()


def zstd(data: bytes, **parameters: int) -> bytes:
    module = library("zstd")
    options = {module.CompressionParameter[name]: value for name, value in {"checksum_flag": 1, **parameters}.items()}
    compressor = module.ZstdCompressor(options=options)
    return bytes(compressor.compress(data) + compressor.flush())  # in two steps, so that its window is not the content


def skippable(data: bytes, number: int = 0) -> bytes:
    return struct.pack("<II", 0x184D2A50 + number, len(data)) + data


ENCODE: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "deflate raw": lambda data: deflated(data, -15),
    "br": lambda data: bytes(library("br").compress(data, quality=4)),
    "zstd": zstd,
}


def label(encoding: str) -> str:
    """The coding that a key of ENCODE stands for."""
    return encoding.partition(" ")[0]


def encoded(codings: Iterable[str], data: bytes) -> bytes:
    for coding in codings:
        data = ENCODE[coding](data)
    return data


def cut(data: bytes, sizes: int | Iterable[int]) -> Iterator[bytes]:
    """The data in pieces of these sizes, the last again and again."""
    size, at = 1, 0
    more = itertools.repeat(sizes) if isinstance(sizes, int) else iter(sizes)
    while at < len(data):
        size = next(more, size)
        yield data[at : at + size]
        at += size


def read(
    codings: Sequence[str],
    wire: bytes,
    pieces: int | Iterable[int] = 1 << 30,
    sizes: int | Sequence[int] = PIECE,
    limits: Limits | None = None,
) -> Iterator[bytes]:
    """What a Decoder gives of what the wire brings in pieces, read with these sizes in turn."""
    decoder = Decoder(codings, limits or Limits())
    coming = cut(wire, pieces)
    wanted = itertools.cycle((sizes,) if isinstance(sizes, int) else sizes)
    while not decoder.ended:
        if decoder.wants_input:
            if piece := next(coming, b""):
                decoder.feed(piece)
            else:
                decoder.finish()
        else:
            size = next(wanted)
            data = decoder.read(size)
            assert len(data) <= size
            assert data or decoder.wants_input or decoder.ended
            yield data
    assert not decoder.wants_input
    assert next(coming, None) is None
    assert decoder.read(1) == b""


def decoded(codings: Sequence[str], wire: bytes, *arguments: Any, **options: Any) -> bytes:
    return b"".join(read(codings, wire, *arguments, **options))


def refused(codings: Sequence[str], wire: bytes, text: str, *arguments: Any, **options: Any) -> bytes:
    """What came before the InvalidResponse, whose text matches."""
    got: list[bytes] = []
    with pytest.raises(InvalidResponse, match=text) as caught:
        got.extend(read(codings, wire, *arguments, **options))
    assert caught.value.where == "in body"
    return b"".join(got)


class Handed:
    """Calls of a library, bytes that were handed to it, and the most that it was asked for."""

    def __init__(self) -> None:
        self.calls = 0
        self.input = 0
        self.asked = 0

    def counting(self, make: Callable[..., Any]) -> Callable[..., Any]:
        """What makes decompressors as *make* does, whose calls are counted."""
        handed = self

        class Counting:
            def __init__(self, *arguments: Any, **options: Any) -> None:
                self._real = make(*arguments, **options)

            def decompress(self, data: bytes, size: int) -> bytes:
                handed.calls += 1
                handed.input += len(data)
                handed.asked = max(handed.asked, size)
                return bytes(self._real.decompress(data, size))

            def __getattr__(self, name: str) -> Any:
                return getattr(self._real, name)

        return Counting
