"""What the servers here serve: content that no two numbers share, and that both ends can compute."""

from __future__ import annotations

import random

_BLOCK = random.Random("httpio").randbytes(8 << 20)


def content(number: int, size: int) -> bytes:
    """The first `size` bytes of object `number`; unique from 8 bytes on."""
    if size <= 8:
        return number.to_bytes(8, "big")[8 - size :]
    start = number * 7919 % (len(_BLOCK) // 2)
    return number.to_bytes(8, "big") + _BLOCK[start : start + size - 8]


def sizes(count: int, mean: int, largest: int, seed: str) -> list[int]:
    """`count` sizes from 0 to `largest`, both included: most are small, enough are large to give the mean."""
    chance = random.Random(seed)
    found = [0, 1, largest]
    while len(found) < count:
        found.append(int(chance.random() ** 2 * min(4096, largest)))
    wanted, have = mean * count, sum(found)
    places = list(range(3, count))
    chance.shuffle(places)
    for place in places:
        if have >= wanted:
            break
        have -= found[place]
        found[place] = int(chance.random() ** 3 * largest)
        have += found[place]
    return found
