"""Content that has grown by more than it may waits for what comes: how the data arrives is not to decide."""

from __future__ import annotations

import gzip
from collections import deque

import pytest

from encoders import NOISE, TEXT
from httpio.content import FLOOR, HELD, PIECE, Decoder
from httpio.exceptions import InvalidResponse
from httpio.messages import Limits

CONTENT = bytes(3 << 20) + NOISE * 2


@pytest.mark.parametrize("first", [10, 100, 1000, 10_000, None])
def test_what_comes_makes_up_for_it(first: int | None) -> None:
    data = gzip.compress(CONTENT)
    limits = Limits(max_ratio=40)
    assert len(CONTENT) < 40 * len(data)
    decoder = Decoder(["gzip"], limits)
    content = b""
    for piece in (data,) if first is None else (data[:first], data[first:]):
        decoder.feed(piece)
        while got := decoder.read(PIECE):
            content += got
        assert decoder.wants_input
    assert len(content) <= max(FLOOR, 40 * len(data))
    decoder.finish()
    assert decoder.read(PIECE) == b""
    assert decoder.ended
    assert content == CONTENT


def test_no_more_is_given_than_of_what_has_come() -> None:
    data = gzip.compress(CONTENT)
    decoder = Decoder(["gzip"], Limits(max_ratio=40))
    given = 0
    for at in range(0, len(data), 1000):
        decoder.feed(data[at : at + 1000])
        while got := decoder.read(PIECE):
            given += len(got)
        assert given <= max(FLOOR, 40 * (at + 1000))


@pytest.mark.parametrize("finish", [True, False])
def test_not_for_ever(finish: bool) -> None:
    """At the end, and where too much waits."""
    data = gzip.compress(TEXT * 40_000, 1)
    decoder = Decoder(["gzip"], Limits(max_ratio=1))
    assert len(data) < FLOOR
    decoder.feed(data)
    while decoder.read(PIECE):
        pass
    assert decoder.wants_input
    if finish:
        decoder.finish()
    else:
        decoder.feed(bytes(HELD + 1))
    with pytest.raises(InvalidResponse, match="max_ratio"):
        deque(iter(lambda: decoder.read(PIECE), b""), maxlen=0)
