"""What does it cost to parse a response that is already here?

The stream is the same for all: responses one after the other, in pieces of 64 KiB that cut them anywhere.
httpio's parser gets them as from a socket: each piece is copied into the parser's own buffer,
`buffer_updated` returns the finished responses, and the status and the body of each are looked at. The copy
is part of its figure, and is also measured alone. Bare llhttp is a C program: every callback is there and
does nothing (see `bare_llhttp.c`).
"""

from __future__ import annotations

import http.client
import io
import os
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from harness import HERE, Go, Rival, find_httpio, interleave, main, rival
from report import Table, costs_of
from wires import WIRES, Wire

PER_PASS = 400
PIECE = 64 << 10
ROUND = 50 * PER_PASS
ROUNDS = 25
LLHTTP = HERE.parent / "vendor" / "llhttp"
BUILD = HERE / ".build"
GOALS = {"8 fields": 0.6, "20 fields": None}


def _pieces(wire: Wire) -> list[memoryview]:
    stream = memoryview(wire.whole * PER_PASS)
    return [stream[at:at + PIECE] for at in range(0, len(stream), PIECE)]


def _passes(count: int) -> int:
    if count % PER_PASS:
        raise ValueError(f"{count} is not a multiple of {PER_PASS}")
    return count // PER_PASS


def _check(found: int, count: int, wire: Wire) -> None:
    expected = count * (200 + wire.content)
    if found != expected:
        raise RuntimeError(f"the responses add up to {found}, not to {expected}")


def httpio_parser(options: dict[str, Any]) -> Go:
    """httpio's parser in its own-buffer form."""
    from httpio import _parser, exceptions, messages

    wire = WIRES[options["wire"]]()
    pieces = _pieces(wire)
    requests = [f"/objects/{i}" for i in range(PER_PASS)]
    parser = _parser.ResponseParser(messages.HTTPResponse, exceptions.InvalidResponse,
                                    exceptions.UnsupportedResponse, body_limit=1 << 20)

    def go(count: int) -> None:
        found = 0
        for _ in range(_passes(count)):
            parser.expect_all(requests)
            for piece in pieces:
                at = 0
                while at < len(piece):
                    with memoryview(parser) as room:
                        taken = min(len(room), len(piece) - at)
                        room[:taken] = piece[at:at + taken]
                    at += taken
                    for response in parser.buffer_updated(taken):
                        found += response.status + len(response.body)
        _check(found, count, wire)

    return go


def copy_only(options: dict[str, Any]) -> Go:
    """The copy that is part of httpio's figure, into a plain buffer."""
    wire = WIRES[options["wire"]]()
    pieces = _pieces(wire)
    buffer = bytearray(PIECE)

    def go(count: int) -> None:
        for _ in range(_passes(count)):
            for piece in pieces:
                with memoryview(buffer) as room:
                    room[:len(piece)] = piece

    return go


def httptools_parser(options: dict[str, Any]) -> Go:
    """httptools, collecting what httpio's response object holds: status, fields and body."""
    import httptools

    wire = WIRES[options["wire"]]()
    pieces = _pieces(wire)

    class Responses:
        def __init__(self) -> None:
            self.done: list[tuple[int, list[tuple[bytes, bytes]], bytes]] = []

        def on_message_begin(self) -> None:
            self.fields: list[tuple[bytes, bytes]] = []
            self.body: list[bytes] = []

        def on_header(self, name: bytes, value: bytes) -> None:
            self.fields.append((name, value))

        def on_body(self, data: bytes) -> None:
            self.body.append(data)

        def on_message_complete(self) -> None:
            self.done.append((parser.get_status_code(), self.fields, b"".join(self.body)))

    responses = Responses()
    parser = httptools.HttpResponseParser(responses)

    def go(count: int) -> None:
        found = 0
        for _ in range(_passes(count)):
            for piece in pieces:
                parser.feed_data(piece)
                done, responses.done = responses.done, []
                for status, _fields, body in done:
                    found += status + len(body)
        _check(found, count, wire)

    return go


def http_client_parser(options: dict[str, Any]) -> Go:
    """http.client's HTTPResponse, reading from memory."""
    wire = WIRES[options["wire"]]()

    class Stream(io.BytesIO):
        def close(self) -> None:
            """Each response closes its file; the next one goes on in it."""

    class Socket:
        def makefile(self, mode: str) -> Stream:
            return stream

    stream = Stream(wire.whole * PER_PASS)
    peer: Any = Socket()

    def go(count: int) -> None:
        found = 0
        for number in range(count):
            if number % PER_PASS == 0:
                stream.seek(0)
            response = http.client.HTTPResponse(peer, method="GET")
            response.begin()
            found += response.status + len(response.read())
        _check(found, count, wire)

    return go


RIVALS = {
    "httpio": httpio_parser,
    "copy": copy_only,
    "httptools": httptools_parser,
    "http.client": http_client_parser,
}
BARE = "bare llhttp"


def build_bare() -> Path:
    """Compile `bare_llhttp.c` with vendor/llhttp, unless that was done; return the program.

    FileNotFoundError when a part is missing. The optimisation is that of the extension (`setup.py`).
    """
    sources = [HERE / "bare_llhttp.c", *sorted((LLHTTP / "src").glob("*.c"))]
    if len(sources) == 1:
        raise FileNotFoundError("vendor/llhttp is not there: build httpio first")
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        raise FileNotFoundError(f"no C compiler ({compiler[0]})")
    BUILD.mkdir(exist_ok=True)
    (BUILD / ".gitignore").write_text("*\n")
    program = BUILD / "bare_llhttp"
    if not program.exists() or program.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        flags = ["-O3", "-DNDEBUG", f"-I{LLHTTP / 'include'}", "-o", str(program)]
        subprocess.run([compiler[0], *flags, *map(str, sources)], check=True)
    return program


def _bare(stream: Path, wire: Wire) -> Rival:
    stream.write_bytes(wire.whole * PER_PASS)
    try:
        return Rival(BARE, [str(build_bare()), str(stream), str(PER_PASS)], ROUND)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        return Rival(BARE, [], ROUND, absent=f"{error}")


def measure(rounds: int) -> Iterator[Table]:
    """One table for each of the two kinds of response."""
    find_httpio()
    for name, most in GOALS.items():
        wire = WIRES[name]()
        options = {"wire": name}
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            rivals = interleave([
                _bare(Path(folder) / "stream", wire),
                rival(__file__, "httpio", ROUND, options),
                rival(__file__, "httptools", 10 * PER_PASS, options),
                rival(__file__, "http.client", PER_PASS, options),
                rival(__file__, "copy", ROUND, options, "the copy alone"),
            ], rounds)
        table = Table(f"parse: one response, {name} and {wire.content} B of body, from memory", rivals, BARE)
        table.notes.append(f"{BARE}: all callbacks are there and do nothing; no objects, no copies")
        with_copy, copy = costs_of(table.find("httpio")), costs_of(table.find("the copy alone"))
        if with_copy and copy:
            without = median(one - two for one, two in zip(with_copy, copy, strict=False))
            table.notes.append(f"httpio without the copy into its buffer: {without * 1e6:.3f} us")
        if most is not None:
            table.require_time("httpio", most)
        table.require_ratio("httpio", BARE, 3.0)
        yield table


if __name__ == "__main__":
    main(measure, ROUNDS, RIVALS, __doc__)
