"""The deterministic objects: the same content for a number and a size, here and in the server.

An object begins with its number, the digits backwards (so that neighbours differ in their first byte), and a
line feed. From there on it is one fixed pseudo-random block, entered at a place that depends on the number
and repeated. The block's length is a prime number: a piece of a large object that is lost, doubled or moved
does not pass unseen, as it would with a block as long as somebody's buffer. An object of a smaller size is
the beginning of the larger one.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import shake_128

__all__ = ["BLOCK", "MAX_DIGITS", "PERIOD", "STEP", "object_bytes", "object_pieces"]

PERIOD = 65521
"""Length of the block, in bytes."""
STEP = 257
"""How far apart two neighbours enter the block."""
MAX_DIGITS = 18
"""The longest number and the longest size that the server takes, in decimal digits."""
BLOCK = shake_128(b"httpio.testing").digest(PERIOD) * 2
"""The block twice, so that one slice of up to PERIOD bytes can begin anywhere in it."""


def object_bytes(number: int, size: int) -> bytes:
    """Return the content of object `number`, `size` bytes long.

    Raises ValueError when `number` or `size` is negative.
    """
    if number < 0 or size < 0:
        raise ValueError(f"an object's number and size are not negative: {number}, {size}")
    line = str(number)[::-1].encode() + b"\n"
    rest = size - len(line)
    if rest <= 0:
        return line[:size]
    start = number * STEP % PERIOD
    if rest <= PERIOD:
        return line + BLOCK[start : start + rest]
    return b"".join(object_pieces(number, size))


def object_pieces(number: int, size: int) -> Iterator[bytes]:
    """Yield the content of object `number` in pieces of at most 64 KiB."""
    line = str(number)[::-1].encode() + b"\n"
    yield line[:size]
    start = number * STEP % PERIOD
    round_ = BLOCK[start : start + PERIOD]
    whole, rest = divmod(max(0, size - len(line)), PERIOD)
    for _ in range(whole):
        yield round_
    if rest:
        yield round_[:rest]
