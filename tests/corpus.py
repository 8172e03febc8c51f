"""The rows of `cases/`, read once: `cases/README.md` says what each key means."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("cases")
LATER_GROUPS = frozenset({"range-resume", "content-coding"})

Row = dict[str, Any]


@cache
def _rows(name: str) -> tuple[Row, ...]:
    text = (FOLDER / name).read_text(encoding="utf-8")
    return tuple(json.loads(line) for line in text.splitlines())


def responses() -> tuple[Row, ...]:
    """Every row of `responses.jsonl` that is about the message itself."""
    return tuple(row for row in _rows("responses.jsonl") if row["group"] not in LATER_GROUPS)


def requests() -> tuple[Row, ...]:
    """Every row of `requests.jsonl`."""
    return _rows("requests.jsonl")


def wire(row: Row) -> bytes:
    """The bytes that the server sends."""
    if row["wire"] is not None:
        return bytes(row["wire"].encode("latin-1"))
    return b"".join(text.encode("latin-1") * count for text, count in row["parts"])


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
