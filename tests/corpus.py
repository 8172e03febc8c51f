"""The rows of `cases/`, read once: `cases/README.md` says what each key means."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("cases")
LATER_GROUPS = frozenset({"range-resume"})
CODED = "content-coding"

Row = dict[str, Any]


@cache
def _rows(name: str) -> tuple[Row, ...]:
    text = (FOLDER / name).read_text(encoding="utf-8")
    return tuple(json.loads(line) for line in text.splitlines())


def responses() -> tuple[Row, ...]:
    """Every row of `responses.jsonl` that is about the message itself."""
    return tuple(row for row in _rows("responses.jsonl") if row["group"] not in LATER_GROUPS | {CODED})


def coded() -> tuple[Row, ...]:
    """Every row about a body that is to be decoded."""
    return tuple(row for row in _rows("responses.jsonl") if row["group"] == CODED)


def undecoded() -> tuple[Row, ...]:
    """The same, as rows about the message: its body is what the server sends, whatever that is the coding of."""
    return tuple(
        {**row, "expect": "ok", "status": 200, "body": wire(row).partition(b"\r\n\r\n")[2].decode("latin-1")}
        for row in coded()
    )


def requests() -> tuple[Row, ...]:
    """Every row of `requests.jsonl`."""
    return _rows("requests.jsonl")


def wire(row: Row) -> bytes:
    """The bytes that the server sends."""
    if row["wire"] is not None:
        return bytes(row["wire"].encode("latin-1"))
    return b"".join(text.encode("latin-1") * count for text, count in row["parts"])


def splits(wire: bytes, seed: str) -> Iterator[list[memoryview]]:
    """The pieces in which a wire arrives: whole, in small pieces, and cut in two at many places."""
    view = memoryview(wire)
    small = 1 if len(wire) <= 4096 else 1000
    yield [view]
    yield [view[at : at + small] for at in range(0, len(view), small)]
    places = range(1, len(view)) if small == 1 else random.Random(seed).sample(range(1, len(view)), 200)
    for at in places:
        yield [view[:at], view[at:]]


def methods(row: Row) -> list[str]:
    """The methods of the requests outstanding, in order."""
    return list(row.get("requests") or [row["request"]])


def results(row: Row) -> list[Row]:
    """One expected result for each request; a row about one request is its own result."""
    return list(row.get("results") or [row])


def is_body(row: Row, body: bytes | None) -> bool:
    """Whether `body` is the one that the row (or one of its results) names."""
    if body is None:
        return False
    if "body" in row:
        return bool(body == row["body"].encode("latin-1"))
    if "body_sha" in row:
        return bool(hashlib.sha256(body).hexdigest() == row["body_sha"])
    return True
