"""Content codings: the same content however it comes and is read, and an error for everything that is not whole."""

from __future__ import annotations

import gzip
import itertools
import random
import struct
import sys
import tracemalloc
import weakref
import zlib
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import httpio.content
from encoders import (
    CODINGS,
    CONTENTS,
    ENCODE,
    MIXED,
    NOISE,
    TEXT,
    Handed,
    decoded,
    deflated,
    encoded,
    label,
    library,
    read,
    refused,
    skippable,
    zstd,
)
from httpio.content import FLOOR, MEMBER, PIECE, Decoder, accept_encoding, codings_of
from httpio.exceptions import InvalidResponse, StateError, UnsupportedResponse
from httpio.messages import Limits


class Counted(int):
    """A number that notes each time that it is added to another."""

    begun: list[int]

    def __new__(cls, value: int, begun: list[int]) -> Counted:
        number = super().__new__(cls, value)
        number.begun = begun
        return number

    def __radd__(self, other: int) -> int:
        self.begun.append(other)
        return other + int(self)


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> Handed:
    """What zlib is handed."""
    counter = Handed()
    monkeypatch.setattr(zlib, "decompressobj", counter.counting(zlib.decompressobj))
    return counter


class TestNames:
    @pytest.mark.parametrize(
        ("values", "codings"),
        [
            ([], ()),
            ([""], ()),
            (["gzip"], ("gzip",)),
            (["GZip"], ("gzip",)),
            (["X-GZIP"], ("gzip",)),
            (["identity"], ()),
            (["deflate, gzip"], ("deflate", "gzip")),
            (["deflate", "gzip , br"], ("deflate", "gzip", "br")),
            ([" \tgzip\t,, Identity ,", "zstd"], ("gzip", "zstd")),
            (["gzip;q=1"], ("gzip;q=1",)),
            (["x-unknown"], ("x-unknown",)),
        ],
    )
    def test_codings_of(self, values: list[str], codings: tuple[str, ...]) -> None:
        assert codings_of(values) == codings

    def test_what_is_accepted_can_be_read(self) -> None:
        names = accept_encoding().split(", ")
        assert names[:2] == ["gzip", "deflate"]
        for name in names:
            assert decoded([name], ENCODE[name](TEXT)) == TEXT


class TestTheSameHoweverItComes:
    @pytest.mark.parametrize("content", CONTENTS)
    @pytest.mark.parametrize("encoding", ENCODE)
    def test_one_coding(self, encoding: str, content: str) -> None:
        data = CONTENTS[content]
        wire = ENCODE[encoding](data)
        for pieces, sizes in ((1 << 30, PIECE), (1 << 30, 1000), (1000, 1 << 30), (4099, 1024), (PIECE, 65 * 1024)):
            assert decoded([label(encoding)], wire, pieces, sizes) == data
        if len(data) < 2000:
            assert decoded([label(encoding)], wire, 1, 1) == data
        assert decoded([label(encoding)], wire, 1, PIECE) == data

    @pytest.mark.parametrize("chain", [*itertools.product(CODINGS, repeat=2), (*CODINGS, "gzip")])
    def test_chains(self, chain: tuple[str, ...]) -> None:
        for data in (b"", TEXT, MIXED):
            wire = encoded(chain, data)
            assert decoded(chain, wire) == data
            assert decoded(chain, wire, 1000, 4096) == data
        assert decoded(chain, encoded(chain, TEXT), 1, 1) == TEXT

    @given(data=st.data())
    def test_any_split(self, data: st.DataObject) -> None:
        chain = data.draw(st.lists(st.sampled_from([*ENCODE]), min_size=1, max_size=3))
        rest = data.draw(st.binary(max_size=300))
        content = rest * data.draw(st.integers(0, 2000)) + rest
        pieces = data.draw(st.lists(st.integers(1, 5000), min_size=1, max_size=20))
        sizes = data.draw(st.lists(st.integers(1, 100_000), min_size=1, max_size=5).filter(lambda some: max(some) > 99))
        wire = encoded(chain, content)
        if len(wire) > 20_000:
            pieces[-1] = max(pieces[-1], 100)
        assert decoded([label(name) for name in chain], wire, pieces, sizes) == content

    def test_no_coding_at_all(self) -> None:
        assert decoded([], TEXT, 7, 3) == TEXT
        assert decoded([], b"") == b""

    def test_a_read_of_nothing(self) -> None:
        decoder = Decoder(["gzip"], Limits())
        decoder.feed(gzip.compress(bytes(1 << 20)))
        assert decoder.read(0) == b""
        assert not decoder.wants_input
        assert len(decoder.read(5)) == 5

    def test_feeding_nothing(self) -> None:
        decoder = Decoder(["gzip"], Limits())
        decoder.feed(b"")
        assert decoder.wants_input
        decoder.finish()
        assert decoder.ended


class TestNotWhole:
    @pytest.mark.parametrize("encoding", ENCODE)
    def test_cut_short_at_every_byte(self, encoding: str) -> None:
        wire = ENCODE[encoding](TEXT)
        for end in range(1, len(wire)):
            for pieces in (1 << 30, 1) if end % 10 == 1 or len(wire) - end < 12 else (1 << 30,):
                assert TEXT.startswith(refused([label(encoding)], wire[:end], "cut short", pieces))

    @pytest.mark.parametrize("chain", [("gzip", "br"), ("zstd", "deflate"), ("br", "gzip")])
    def test_the_inner_coding_cut_short(self, chain: tuple[str, str]) -> None:
        inner = encoded(chain[:1], TEXT)
        for end in range(len(inner)):
            wire = encoded(chain[1:], inner[:end])
            assert TEXT.startswith(refused(chain, wire, f"{chain[0]} data is cut short"))

    @pytest.mark.parametrize("chain", [(name,) for name in CODINGS] + [("gzip", "br"), ("zstd", "gzip")])
    def test_an_empty_body_is_empty_whatever_its_label(self, chain: tuple[str, ...]) -> None:
        for name in chain:
            ENCODE[name](b"")
        assert decoded(chain, b"") == b""

    @pytest.mark.parametrize("encoding", ENCODE)
    @pytest.mark.parametrize(
        "garbage", [b"x", b"\0", bytes(512), b"\r\n", b"\x1f", b"\x28\xb5", b"\x50\x2a", b"\x1f\x8b"]
    )
    def test_bytes_behind_the_end(self, encoding: str, garbage: bytes) -> None:
        wire = ENCODE[encoding](TEXT)
        for pieces in (1 << 30, 1, (len(wire), 1000), (len(wire) - 1, 1000)):
            text = f"bytes follow the end of the {label(encoding)} data"
            if garbage[0] in {"gzip": b"\x1f", "zstd": b"\x28\x50"}.get(encoding, b""):
                text = "cut short"  # it begins as another member does
            elif encoding == "br" and pieces in (1 << 30, (len(wire) - 1, 1000)):
                text = "is not valid"
            got = refused([label(encoding)], wire + garbage, text, pieces)
            assert TEXT.startswith(got)
            assert got == TEXT or pieces not in (1, (len(wire), 1000))

    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
    def test_a_wrong_checksum(self, encoding: str) -> None:
        wire = bytearray(ENCODE[encoding](TEXT))
        trailer = {"gzip": 8, "deflate": 4, "zstd": 4}[encoding]
        for at in range(len(wire) - trailer, len(wire)):  # of gzip both, CRC and ISIZE
            for flip in (1, 0x80):
                wire[at] ^= flip
                refused([encoding], bytes(wire), f"the {encoding} data is not valid", 1 if at % 2 else 1 << 30)
                wire[at] ^= flip

    @pytest.mark.parametrize("encoding", [*ENCODE, "html"])
    @pytest.mark.parametrize("claim", CODINGS)
    def test_a_label_that_lies(self, encoding: str, claim: str) -> None:
        if label(encoding) == claim:
            return
        ENCODE[claim](b"")
        wire = b"<!DOCTYPE html><html></html>" if encoding == "html" else ENCODE[encoding](TEXT)
        for pieces in (1 << 30, 1):
            refused([claim], wire, f"the {claim} data is (not valid|cut short)|follow the end of", pieces)

    @pytest.mark.parametrize("chain", [("gzip", "br"), ("deflate", "gzip")])
    def test_the_codings_in_the_wrong_order(self, chain: tuple[str, str]) -> None:
        refused(chain[::-1], encoded(chain, TEXT), "is not valid|cut short")

    def test_it_has_not_ended_before_its_end_mark(self) -> None:
        for encoding in ENCODE:
            wire = ENCODE[encoding](TEXT)
            for end, ended in ((len(wire) - 1, False), (len(wire), True)):
                decoder = Decoder([label(encoding)], Limits())
                decoder.feed(wire[:end])
                while not decoder.wants_input:
                    decoder.read(PIECE)
                assert not decoder.ended
                decoder.finish()
                assert decoder.ended == ended
                assert not decoder.wants_input

    def test_an_error_stays(self) -> None:
        decoder = Decoder(["gzip"], Limits())
        decoder.feed(b"no gzip")
        for _ in range(3):
            with pytest.raises(InvalidResponse, match=r"the gzip data is not valid: .*header"):
                decoder.read(1)
            assert not decoder.wants_input
            assert not decoder.ended
        decoder.finish()
        assert not decoder.ended
        with pytest.raises(InvalidResponse, match=r"the gzip data is not valid: .*header"):
            decoder.read(1)

    def test_an_error_holds_nothing_of_the_libraries(self) -> None:
        """They may hold some MiB, and errors may be kept."""
        decoder = Decoder(["gzip"], Limits())
        coding = weakref.ref(decoder._chain[0])
        decoder.feed(gzip.compress(NOISE)[:-1] + b"x")
        with pytest.raises(InvalidResponse) as caught:
            decoder.read(PIECE)
        assert coding() is None
        assert caught.value.__context__ is None

    @pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
    def test_what_interrupts_a_read(self, error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
        """What the library had decoded may be lost, so nothing must follow."""
        decoder = Decoder(["gzip"], Limits())
        decoder.feed(gzip.compress(NOISE))
        make = zlib.decompressobj

        class Interrupted:
            def __init__(self, bits: int) -> None:
                self._real = make(bits)

            def decompress(self, data: bytes, size: int) -> bytes:
                self._real.decompress(data, size)
                raise error("now")

        monkeypatch.setattr(zlib, "decompressobj", Interrupted)
        with pytest.raises(error, match="now"):
            decoder.read(10)
        for _ in range(2):
            with pytest.raises(StateError, match="interrupted"):
                decoder.read(10)
            assert not decoder.wants_input
            assert not decoder.ended

    def test_too_little_memory_is_no_fault_of_the_peer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module = library("zstd")

        def fails(*arguments: Any, **options: Any) -> Any:
            raise zlib.error("Error -4 while decompressing data: out of memory")

        def fails_too(*arguments: Any, **options: Any) -> Any:
            raise module.ZstdError("Unable to decompress Zstandard data: Allocation error : not enough memory")

        fake = SimpleNamespace(decompress=fails)
        monkeypatch.setattr(zlib, "decompressobj", lambda bits: fake)
        other = SimpleNamespace(decompress=fails_too, needs_input=True)
        monkeypatch.setattr(module, "ZstdDecompressor", lambda options: other)
        for coding in ("gzip", "zstd"):
            decoder = Decoder([coding], Limits())
            decoder.feed(b"anything")
            with pytest.raises(MemoryError, match="memory"):
                decoder.read(10)


class TestDeflate:
    @pytest.mark.parametrize("level", range(10))
    def test_both_kinds(self, level: int) -> None:
        for bits in (9, 12, 15):
            for data in (b"", b"a", TEXT, NOISE[:3000]):
                for sign in (1, -1):
                    wire = deflated(data, sign * bits, level)
                    assert decoded(["deflate"], wire, 1) == decoded(["deflate"], wire) == data

    def test_a_raw_stream_that_would_pass_for_a_zlib_header(self) -> None:
        """Were it not for the method: two bytes that 31 divides."""
        wires = (deflated(b"%d" % number, -15) for number in range(1000))
        wire = next(wire for wire in wires if int.from_bytes(wire[:2], "big") % 31 == 0)
        assert decoded(["deflate"], wire) == zlib.decompress(wire, -15)

    @pytest.mark.parametrize("kind", ["gzip", "deflate", "deflate raw"])
    def test_output_that_is_left_when_all_input_is_gone(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(httpio.content._Zlib, "_least", 1)
        for data in (TEXT, *map(bytes, range(300, 600, 7))):
            for pieces in (1, 1 << 30):
                assert decoded([label(kind)], ENCODE[kind](data), pieces, 1) == data

    def test_a_single_byte_is_neither(self) -> None:
        refused(["deflate"], b"\x78", "cut short")

    def test_a_dictionary_that_is_not_here(self) -> None:
        compressor = zlib.compressobj(zdict=TEXT)
        refused(["deflate"], compressor.compress(TEXT) + compressor.flush(), "is not valid")

    @pytest.mark.parametrize("kind", ["deflate", "deflate raw"])
    def test_one_stream_only(self, kind: str) -> None:
        refused(["deflate"], ENCODE[kind](TEXT) * 2, "follow the end of the deflate data")


class TestGzip:
    def test_several_members(self) -> None:
        wire = gzip.compress(b"one") + gzip.compress(b"") + gzip.compress(MIXED) + gzip.compress(b"two")
        for pieces in (1, 23, 1 << 30):
            assert decoded(["gzip"], wire, pieces) == b"one" + MIXED + b"two"

    def test_a_later_member_cut_short(self) -> None:
        first, second = gzip.compress(b"first"), gzip.compress(b"second")
        for end in range(1, len(second)):
            assert refused(["gzip"], first + second[:end], "cut short", 5).startswith(b"first")

    def test_a_later_member_that_is_wrong(self) -> None:
        assert refused(["gzip"], gzip.compress(b"first") + b"\x1f\x8b\x07" + bytes(20), "is not valid", 5) == b"first"

    @pytest.mark.parametrize("flags", range(32))
    def test_header_fields(self, flags: int) -> None:
        head = b"\x1f\x8b\x08" + bytes([flags]) + b"\x01\x02\x03\x04\x00\x03"
        head += struct.pack("<H", 300) + bytes(300) if flags & 4 else b""  # FEXTRA
        head += b"name of a file\xff\0" if flags & 8 else b""  # FNAME
        head += b"a comment\n" * 50 + b"\0" if flags & 16 else b""  # FCOMMENT
        sum_of_head = struct.pack("<H", zlib.crc32(head) & 0xFFFF) if flags & 2 else b""  # FHCRC
        end = deflated(TEXT, -15) + struct.pack("<II", zlib.crc32(TEXT), len(TEXT))
        for pieces in (1, 1 << 30):
            assert decoded(["gzip"], (head + sum_of_head + end) * 2, pieces) == TEXT * 2
        if sum_of_head:
            refused(["gzip"], head + bytes([sum_of_head[0] ^ 1, sum_of_head[1]]) + end, "is not valid")

    @pytest.mark.parametrize("flags", [0x20, 0x40, 0x80])
    def test_reserved_flags(self, flags: int) -> None:
        wire = bytearray(gzip.compress(TEXT))
        wire[3] = flags
        refused(["gzip"], bytes(wire), "is not valid")

    @pytest.mark.parametrize("pieces", [1 << 30, PIECE, 7])
    def test_ten_thousand_empty_members_take_linear_time(self, pieces: int, handed: Handed) -> None:
        member = gzip.compress(b"")
        wire = member * 10_000
        assert decoded(["gzip"], wire, pieces) == b""
        assert handed.input < 5 * len(wire)
        assert handed.calls < (3 * 10_000 if pieces > 7 else len(wire))

    def test_one_long_member_behind_many_empty_ones(self, handed: Handed) -> None:
        wire = gzip.compress(b"") * 3000 + gzip.compress(NOISE * 50)
        assert decoded(["gzip"], wire) == NOISE * 50
        assert handed.calls < 3000 * 2 + 200
        assert handed.input < 4 * len(wire)

    @pytest.mark.parametrize("size", [1, 100, PIECE])
    def test_small_reads_of_what_grows_take_linear_time(self, size: int, handed: Handed) -> None:
        wire = gzip.compress(bytes(1000 * size + 3_000_000))
        decoder = Decoder(["gzip"], Limits(max_ratio=2000))
        decoder.feed(wire)
        got = 0
        while got < 1000 * size:
            got += len(decoder.read(size))
        assert handed.input < 60 * len(wire)
        assert handed.calls < 200


class TestBrotli:
    def test_everything_in_one_piece_of_input(self) -> None:
        """The library takes all of its input, says that it accepts more, and still holds most of the output."""
        data = bytes(3_000_000)
        wire = ENCODE["br"](data)
        assert len(wire) < 100
        for pieces in (1, 1 << 30):
            for size in (1000, PIECE, 1 << 30):
                assert decoded(["br"], wire, pieces, size, Limits(max_ratio=1_000_000)) == data

    def test_a_library_that_cannot_bound_its_output(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Decompressor:  # as in brotli 1.1
            def process(self, data: bytes) -> bytes:
                raise NotImplementedError

        monkeypatch.setattr(library("br"), "Decompressor", Decompressor)
        httpio.content._library.cache_clear()
        try:
            assert accept_encoding().split(", ").count("br") == 0
            with pytest.raises(UnsupportedResponse, match=r"needs brotli 1\.2 .* pip install 'httpio\[br\]'"):
                Decoder(["br"], Limits())
        finally:
            httpio.content._library.cache_clear()


class TestZstandard:
    def test_frames_and_skippable_ones(self) -> None:
        wire = skippable(b"") + zstd(b"one") + skippable(bytes(70_000), 15) + zstd(b"") + zstd(MIXED) + skippable(b"a")
        for pieces in (1, 23, 1 << 30):
            assert decoded(["zstd"], wire, pieces, 1 << 20) == b"one" + MIXED

    def test_nothing_but_skippable(self) -> None:
        library("zstd")
        assert decoded(["zstd"], skippable(b"abc") * 3, 2) == b""

    def test_cut_short_in_a_later_frame(self) -> None:
        for last in (zstd(TEXT), skippable(TEXT[:30])):
            for end in range(1, len(last)):
                assert refused(["zstd"], zstd(b"first") + last[:end], "cut short", 5).startswith(b"first")

    def test_many_empty_frames(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = random.Random(4).randbytes(1 << 20)
        wire = (zstd(b"") + skippable(b"")) * 2000 + zstd(data)
        module, handed = library("zstd"), Handed()
        monkeypatch.setattr(module, "ZstdDecompressor", handed.counting(module.ZstdDecompressor))
        assert decoded(["zstd"], wire) == data
        assert handed.input < len(data) + 10 * (len(wire) - len(data))
        assert handed.calls < 4000 + 100

    @pytest.mark.parametrize("window", [23, 24])
    def test_the_window_is_at_most_8_mib(self, window: int) -> None:
        data = bytes(20 << 20)
        wire = zstd(data, window_log=window)
        limits = Limits(max_ratio=1_000_000)
        if window == 23:
            assert decoded(["zstd"], wire, limits=limits) == data
        else:
            refused(["zstd"], wire, "is not valid", limits=limits)

    def test_a_dictionary_that_is_not_here(self) -> None:
        module = library("zstd")
        dictionary = module.train_dict([b"a sample of number %d" % number for number in range(2000)], 1000)
        refused(["zstd"], module.compress(TEXT, zstd_dict=dictionary), "is not valid")


class TestLimits:
    def test_codings(self) -> None:
        chain = ["gzip"] * 5
        assert decoded(chain, encoded(chain, TEXT)) == TEXT
        with pytest.raises(UnsupportedResponse, match="has 6 content codings, and max_codings is 5"):
            Decoder(["gzip"] * 6, Limits())
        with pytest.raises(UnsupportedResponse, match="has 1 content codings, and max_codings is 0"):
            Decoder(["gzip"], Limits(max_codings=0))

    @pytest.mark.parametrize("coding", ["x-unknown", "compress", "gzip;q=1", "\x1b[2J", "identity"])
    def test_unknown_codings(self, coding: str) -> None:
        with pytest.raises(UnsupportedResponse, match="is not known") as caught:
            Decoder(["gzip", coding], Limits())
        assert "\x1b" not in str(caught.value)

    @pytest.mark.parametrize("coding", ["br", "zstd"])
    def test_a_library_that_is_missing(self, coding: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("brotli", "compression.zstd", "backports.zstd"):
            monkeypatch.setitem(sys.modules, name, None)
        httpio.content._library.cache_clear()
        try:
            assert accept_encoding() == "gzip, deflate"
            text = rf"the content coding {coding} needs .* not installed: pip install 'httpio\[{coding}\]'"
            with pytest.raises(UnsupportedResponse, match=text):
                Decoder([coding], Limits())
            assert decoded(["gzip"], gzip.compress(TEXT)) == TEXT
        finally:
            httpio.content._library.cache_clear()

    @pytest.mark.parametrize("encoding", ENCODE)
    @pytest.mark.parametrize("size", [1000, PIECE, 1 << 30])
    def test_growth(self, encoding: str, size: int) -> None:
        """To the floor in any case, from there by the ratio."""
        codings, limits = [label(encoding)], Limits(max_ratio=2)
        assert decoded(codings, ENCODE[encoding](bytes(FLOOR)), 100, size, limits) == bytes(FLOOR)
        got = refused(codings, ENCODE[encoding](bytes(FLOOR + 1)), "max_ratio", 100, size, limits)
        assert len(got) <= FLOOR
        noise = random.Random(2).randbytes(FLOOR + PIECE)
        assert decoded(codings, ENCODE[encoding](noise), 1 << 30, size, limits) == noise

    @pytest.mark.parametrize("pieces", [1000, 1 << 30])
    def test_growth_is_measured_against_what_has_come(self, pieces: int) -> None:
        wire = gzip.compress(bytes(30 << 20))
        got = refused(
            ["gzip"], wire, "the gzip data grows by more than max_ratio", pieces, limits=Limits(max_ratio=100)
        )
        most = 100 * len(wire)
        assert len(got) <= most
        if pieces > len(wire):
            assert len(got) > most - (1 << 20)
        assert len(decoded(["gzip"], wire, pieces, limits=Limits(max_ratio=1200))) == 30 << 20

    def test_no_more_is_asked_for_than_may_grow(self, handed: Handed) -> None:
        refused(["gzip"], gzip.compress(bytes(30 << 20)), "max_ratio", 1000, 1 << 30, Limits(max_ratio=900))
        assert handed.asked == FLOOR + 1

    def test_growth_that_vanishes(self) -> None:
        """The outer coding grows without measure, and the inner makes nothing of it."""
        wire = gzip.compress(skippable(bytes(30 << 20)))
        library("zstd")
        text = "the gzip data grows by more than max_ratio"
        assert refused(["zstd", "gzip"], wire, text, 1000, limits=Limits(max_ratio=100)) == b""
        assert decoded(["zstd", "gzip"], wire, 1000, limits=Limits(max_ratio=1200)) == b""

    @pytest.mark.parametrize("coding", ["gzip", "zstd"])
    def test_many_empty_members_count_as_growth(self, coding: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each costs time: as many as one piece can grow to would take minutes."""
        empty = ENCODE[coding](b"")
        inner = empty * 200_000
        wire = gzip.compress(inner)
        limits = Limits()
        assert len(inner) < 1000 * len(wire)
        assert 1000 * len(wire) < 200_000 * MEMBER
        begun: list[int] = []
        monkeypatch.setattr(httpio.content, "MEMBER", Counted(MEMBER, begun))
        assert refused([coding, "gzip"], wire, f"the {coding} data grows by more", limits=limits) == b""
        assert len(begun) <= max(FLOOR, 1000 * len(wire)) // MEMBER + 2
        # Alone, as many are none.
        assert decoded([coding], empty * 5000) == b""


class TestMemory:
    @pytest.mark.parametrize("encoding", ENCODE)
    @pytest.mark.parametrize("size", [1, 1000, PIECE])
    def test_it_does_not_grow_with_the_content(self, encoding: str, size: int) -> None:
        wire = ENCODE[encoding](bytes(24 << 20))
        decoder = Decoder([label(encoding)], Limits(max_ratio=1 << 30))
        tracemalloc.start()
        try:
            decoder.feed(wire)
            got = 0
            while not decoder.wants_input and got < (24 << 20) * size // PIECE:
                got += len(decoder.read(size))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert got >= (24 << 20) * size // PIECE
        assert peak < 3 << 20

    @pytest.mark.parametrize("encoding", ENCODE)
    def test_of_noise_in_one_piece(self, encoding: str) -> None:
        """What is fed at once is looked at in parts."""
        data = random.Random(3).randbytes(8 << 20)
        wire = ENCODE[encoding](data)
        decoder = Decoder([label(encoding)], Limits())
        tracemalloc.start()
        try:
            decoder.feed(wire)
            got = 0
            while not decoder.wants_input:
                got += len(decoder.read(PIECE))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert got == len(data)
        assert peak < 3 << 20

    def test_a_chain(self) -> None:
        chain = ["gzip", "deflate", "gzip"]
        wire = encoded(chain, bytes(24 << 20))
        tracemalloc.start()
        try:
            got = sum(map(len, read(chain, wire, limits=Limits(max_ratio=1 << 30))))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert got == 24 << 20
        assert peak < 5 << 20
