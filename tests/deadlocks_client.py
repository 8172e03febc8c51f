"""Runs the examples of docs/deadlocks.md; and the client of test_deadlocks, a process because its memory is measured:
`deadlocks_client.py WAY PORT COUNT [CA]` prints how many answers were right, and the peaks of memory."""

from __future__ import annotations

import functools
import hashlib
import json
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpio
from flat_client import peak

PAGE = Path(__file__).parent.parent / "docs" / "deadlocks.md"
SIZE = 1_000_000
"""Bytes of each body, one way and the other."""


def blocks() -> dict[str, list[str]]:
    """The page's blocks of Python, by the heading that they stand under. Lines before a block's first are empty, so
    that a traceback names the lines of the page."""
    found: dict[str, list[str]] = {}
    heading, begun = "", 0
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if line == "```python":
            begun = number + 1
        elif line == "```":
            found.setdefault(heading, []).append("\n" * begun + "\n".join(lines[begun:number]) + "\n")
            begun = 0
        elif line.startswith("#") and not begun:
            heading = line.lstrip("# ")
    return found


def run_example(heading: str, number: int, port: int, names: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Run the page's first lines and one block of it; returns its variables.

    *names* take the place of what the page's first lines define. *options*: of each HTTPConnection.
    """
    (first,), block = blocks()["Avoiding deadlocks"], blocks()[heading][number]
    space: dict[str, Any] = {}
    exec(compile(first, str(PAGE), "exec"), space)
    library = vars(httpio) | {"HTTPConnection": functools.partial(httpio.HTTPConnection, **options)}
    space |= {"host": "127.0.0.1", "port": port, "httpio": ModuleType("httpio"), **names}
    vars(space["httpio"]).update(library)
    try:
        exec(compile(block, str(PAGE), "exec"), space)
    except BaseException:
        conn = space.get("conn")
        if conn is not None:
            conn.close()  # the functions of the block hold each other, and it
        raise
    return space


def upload(path: str) -> bytes:
    """What is stored at *path*."""
    return hashlib.sha256(b"stored at " + path.encode()).digest() * (SIZE // 32)


def answer(path: str) -> bytes:
    """What the server says to *path*."""
    return hashlib.sha256(path.encode()).digest() * (SIZE // 32)


class Exchanges:
    """So many of them: what goes out, and whether what comes back is right and in order."""

    def __init__(
        self, count: int, content: Callable[[str], bytes] = upload, expected: Callable[[str], bytes] = answer
    ) -> None:
        self.paths = [f"/{number}" for number in range(count)]
        self.content = content
        self.expected = expected
        self.answered = 0
        self.first_peak = 0

    def done(self, path: str, status: int, body: bytes) -> None:
        assert (path, status) == (self.paths[self.answered], 200)
        assert body == self.expected(path), path
        self.answered += 1
        if self.answered == max(1, len(self.paths) // 10):
            self.first_peak = peak()

    @property
    def names(self) -> dict[str, Any]:
        """For the page's examples."""
        return {"paths": self.paths, "content": self.content, "done": self.done}


def get_by_steps(port: int, exchanges: Exchanges, **options: Any) -> None:
    """GETs by the steps of one connection: the loop is the page's."""
    run = run_example("Steps", 0, port, Exchanges(0).names)["run"]
    with httpio.HTTPConnection("127.0.0.1", port, **options) as conn:

        def send() -> Iterator[Any]:
            for path in exchanges.paths:
                yield from conn.co_send_request("GET", path)

        def receive() -> Iterator[Any]:
            for path in exchanges.paths:
                response = yield from conn.co_read_response()
                exchanges.done(path, response.status, (yield from conn.co_readall()))

        run(send(), receive())


def go(way: str, port: int, exchanges: Exchanges, **options: Any) -> None:
    """*way*: a heading of the page, with ``GET`` before it for requests without a body."""
    if way == "GET Steps":
        get_by_steps(port, exchanges, **options)
    else:
        run_example(way.removeprefix("GET "), int(way.startswith("GET ")), port, exchanges.names, **options)


def main(way: str, port: int, count: int, ca: str = "") -> None:
    exchanges = Exchanges(count)
    context = ssl.create_default_context(cafile=ca) if ca else None
    go(way, port, exchanges, ssl_context=context, timeout=60)
    print(json.dumps({"answered": exchanges.answered, "first_peak": exchanges.first_peak, "last_peak": peak()}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
