"""One connection's HTTP/1.1, without I/O: bytes received go in, steps come out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import asdict
from hashlib import sha256

from httpio.testing.faults import Faults, Stats
from httpio.testing.objects import object_bytes, object_pieces
from httpio.testing.plain import PlainGets, response_head
from httpio.testing.requests import MAX_HEAD, Head, Refused, Wanted, parse_head, parse_query, route

__all__ = ["Conversation", "Step"]

Step = bytes | float | None
"""bytes: send these. None: receive something. A float: do nothing for so many seconds. The end: close."""

_Flow = Generator[Step, None, None]
_METHODS = ("GET", "HEAD", "PUT", "POST")
_MAX_PENDING = 1 << 17
_MAX_WHOLE = 1 << 16
_MAX_CHUNK_LINE = 4096
_MAX_TRAILERS = 65536
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_BINARY = "application/octet-stream"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"


class Conversation:
    """Reads requests and answers them, with the faults asked for.

    Whoever owns the socket takes the next of `steps`, does it, and takes the one after that. Before the step
    after a None it calls `receive`. Output is made only when a step is taken, at most about a quarter of a
    MiB at a time: a client that does not read stops the conversation and not the machine.
    """

    def __init__(self, faults: Faults, stats: Stats) -> None:
        self.steps: Iterator[Step] = self._serve()
        self._faults = faults
        self._stats = stats
        self._plain = PlainGets()
        self._quick = faults == Faults()
        self._input = b""
        self._at = 0
        self._output: list[bytes] = []
        self._pending = 0
        self._answered = 0
        self._burst = 0
        self._finished = False

    def receive(self, data: bytes) -> None:
        """Take what was received."""
        self._input = self._input[self._at :] + data
        self._at = 0

    def _serve(self) -> _Flow:
        try:
            while not self._finished:
                if self._at == len(self._input):
                    self._burst = 0
                    yield from self._more()
                    continue
                answered = self._plain.answer(self._input[self._at :]) if self._quick else None
                if answered is None:
                    yield from self._exchange()
                    continue
                yield from self._flush()
                self._input, self._at = answered.rest, 0
                self._stats.requests += answered.requests
                self._stats.responses += answered.requests
                yield answered.blob
        except Refused as refusal:
            self._stats.refused += 1
            text = f"{refusal}\n".encode()
            lines = (f"Content-Length: {len(text)}", "Connection: close")
            self._put(response_head(refusal.status, *lines, content_type="text/plain") + text)
        yield from self._flush()

    def _exchange(self) -> _Flow:
        """Read one request and answer it."""
        head = yield from self._read_head()
        try:
            number, query = route(head.target)
            if head.method not in _METHODS or (number is None and head.method not in ("GET", "HEAD")):
                raise Refused(405, "not with this method", fatal=False)
            wanted = Wanted() if number is None else parse_query(query)
        except Refused as refusal:
            self._stats.requests += 1
            yield from self._decline(head, refusal)
            return
        if number is None:
            yield from self._read_content(head)
            text = json.dumps(asdict(self._stats)).encode()
            yield from self._respond(head, Wanted(), text, "application/json")
            return
        self._stats.requests += 1
        digest = sha256()
        yield from self._read_content(head, digest.update)
        if self._is_dropped():
            self._stats.dropped += 1
            return
        if wanted.delay:
            yield from self._flush()
            yield wanted.delay
        self._put(_EARLY_HINTS * wanted.interim)
        self._stats.responses += 1
        if head.method in ("PUT", "POST"):
            yield from self._respond(head, wanted, digest.hexdigest().encode(), "text/plain")
        else:
            yield from self._respond(head, wanted, number)

    def _decline(self, head: Head, refusal: Refused) -> _Flow:
        """Answer a request that is wrong; read its content, unless the client waits for a 100."""
        fatal = head.expects_continue
        if not fatal:
            yield from self._read_content(head)
        if self._is_dropped():
            self._stats.dropped += 1
            return
        self._stats.responses += 1
        text = f"{refusal}\n".encode()
        yield from self._respond(head, Wanted(status=refusal.status), text, "text/plain", close=fatal)

    def _is_dropped(self) -> bool:
        """Count a request of the burst, and tell whether the fault drops it."""
        self._burst += 1
        return self._faults.answer_first_of > 0 and (self._burst - 1) % self._faults.answer_first_of > 0

    # Reading

    def _read_head(self) -> Generator[Step, None, Head]:
        """Wait for a whole head and read it; pass over one empty line before it (RFC 9112 section 2.2)."""
        while True:
            if self._input.startswith(b"\r\n", self._at):
                self._at += 2
            end = self._input.find(b"\r\n\r\n", self._at)
            if end >= 0 and end - self._at <= MAX_HEAD:
                break
            if len(self._input) - self._at > MAX_HEAD:
                raise Refused(431, "the head is too long")
            if _BARE_LF.search(self._input, self._at):
                raise Refused(400, "a line ends without CR")
            self._burst = 0
            yield from self._more()
        raw = self._input[self._at : end]
        self._at = end + 4
        head = parse_head(raw)
        if head.method == "GET" and head.length == 0 and not head.close and not head.expects_continue:
            self._plain.learn(raw, head.target)
        return head

    def _read_content(self, head: Head, take: Callable[[bytes], object] = len) -> _Flow:
        """Read a request's content and hand it to `take`; say 100 first where that is waited for."""
        if head.expects_continue and head.length != 0 and self._at == len(self._input):
            self._put(_CONTINUE)
        if head.length is not None:
            yield from self._read_exactly(head.length, take)
            return
        while True:
            line = yield from self._read_line(_MAX_CHUNK_LINE)
            match = _CHUNK_LINE.fullmatch(line)
            if match is None:
                raise Refused(400, "malformed chunk line")
            size = int(match[1], 16)
            if size == 0:
                break
            yield from self._read_exactly(size, take)
            if (yield from self._read_line(2)):
                raise Refused(400, "a chunk is longer than it says")
        room = _MAX_TRAILERS
        while line := (yield from self._read_line(room)):
            room -= len(line)

    def _read_exactly(self, size: int, take: Callable[[bytes], object]) -> _Flow:
        while size:
            piece = self._input[self._at : self._at + size]
            if not piece:
                yield from self._more()
                continue
            self._at += len(piece)
            size -= len(piece)
            self._stats.content += len(piece)
            take(piece)

    def _read_line(self, limit: int) -> Generator[Step, None, bytes]:
        """Wait for a line that ends in CR LF, at most `limit` bytes long, and return it without them."""
        while (end := self._input.find(b"\r\n", self._at)) < 0 and len(self._input) - self._at <= limit:
            yield from self._more()
        if not 0 <= end - self._at <= limit:
            raise Refused(400, "a line is too long")
        line = self._input[self._at : end]
        self._at = end + 2
        return line

    def _more(self) -> _Flow:
        yield from self._flush()
        yield None

    # Writing

    def _respond(
        self, head: Head, wanted: Wanted, content: bytes | int, kind: str = _BINARY, close: bool = False
    ) -> _Flow:
        """Answer with `content`, or with the object of that number."""
        status = wanted.status
        chunked = wanted.chunked and head.minor > 0
        if status == 205:
            content = b""
        size = wanted.size if isinstance(content, int) else len(content)
        lines = ["Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"]
        if status == 204:
            lines.clear()
        if status == 405:
            lines.append("Allow: " + ", ".join(_METHODS))
        if self._is_last(head, close):
            lines.append("Connection: close")
        self._put(response_head(status, *lines, content_type=kind))
        if head.method == "HEAD" or status in (204, 304):
            return
        if isinstance(content, bytes):
            pieces: Iterable[bytes] = (content,)
        elif size <= _MAX_WHOLE:
            pieces = (object_bytes(content, size),)
        else:
            pieces = object_pieces(content, size)
        for piece in _chunks(pieces, wanted.chunk) if chunked else pieces:
            self._put(piece)
            if self._pending >= _MAX_PENDING:
                yield from self._flush()
        if self._pending >= _MAX_PENDING:
            yield from self._flush()

    def _is_last(self, head: Head, close: bool) -> bool:
        """Count a response and note whether the connection ends with it; tell whether it has to say so."""
        self._answered += 1
        close = close or head.close
        if self._answered == self._faults.close_after:
            self._finished = True
            return close or self._faults.announce
        self._finished = close
        return close

    def _put(self, data: bytes) -> None:
        self._output.append(data)
        self._pending += len(data)

    def _flush(self) -> _Flow:
        if self._pending:
            blob = b"".join(self._output)
            self._output.clear()
            self._pending = 0
            yield blob


def _chunks(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Cut `pieces` into chunks of `size` bytes, the last one shorter where need be (RFC 9112 section 7.1)."""
    held = b""
    for piece in pieces:
        held += piece
        whole = len(held) - len(held) % size
        for at in range(0, whole, size):
            yield b"%x\r\n%b\r\n" % (size, held[at : at + size])
        held = held[whole:]
    if held:
        yield b"%x\r\n%b\r\n" % (len(held), held)
    yield b"0\r\n\r\n"
