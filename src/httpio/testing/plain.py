"""The fast path: many GETs of objects, pipelined, whose heads differ in the target only.

Nothing is taken on trust here. The first such request of a connection is read in full; those behind it pass
when all that follows the target is the same, byte for byte, and the target is an object's address with a
query seen before.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

from httpio.testing.objects import BLOCK, MAX_DIGITS, PERIOD, STEP
from httpio.testing.requests import Refused, Wanted, parse_query

__all__ = ["Answered", "PlainGets", "response_head"]

PREFIX = b"GET /objects/"
MAX_BYTES = 1 << 18
MAX_REQUESTS = 256
MAX_QUERIES = 4096
_SIZES = range(MAX_DIGITS + 2, PERIOD)
_ZERO = ord("0")
_KNOWN = frozenset(HTTPStatus)


class Answered(NamedTuple):
    """`blob`: the responses, joined. `requests`: how many. `rest`: the input behind the last one answered."""

    blob: bytes
    requests: int
    rest: bytes


class PlainGets:
    """Answers plain GETs; one for each connection, since it remembers how that client's heads end."""

    def __init__(self) -> None:
        self._tail = b""
        self._queries: dict[bytes, tuple[bytes, int]] = {}

    def learn(self, head: bytes, target: bytes) -> None:
        """Remember how `head`, which is good and plain and has this `target`, goes on behind the target."""
        self._tail = head[len(b"GET ") + len(target) :] + b"\r\n\r\n"

    def answer(self, received: bytes) -> Answered | None:
        """Answer the plain GETs that `received` begins with; None when it does not begin with a whole one."""
        tail = self._tail
        if not tail or not received.startswith(PREFIX):
            return None
        _, _, query = received[len(PREFIX) : max(0, received.find(tail))].partition(b"?")
        if query not in self._queries and not self._plain(query):
            return None
        between = tail + PREFIX
        targets = received[len(PREFIX) :].split(between, MAX_REQUESTS - 1)
        targets[-1], end, rest = targets[-1].partition(tail)
        whole = len(targets) if end else len(targets) - 1
        blob, count = self._render(targets[:whole])
        if not count:
            return None
        if count < len(targets):
            rest = PREFIX + between.join(targets[count:]) + end + rest
        return Answered(blob, count, rest)

    def _render(self, targets: list[bytes]) -> tuple[bytes, int]:
        """Render the answers to `targets`, as far as they are plain and the output stays bounded.

        The content is that of `objects.object_bytes`, made in place: a call for each would double the time.
        """
        queries = self._queries
        parts: list[bytes] = []
        count = made = 0
        for target in targets:
            number, _, query = target.partition(b"?")
            answer = queries.get(query) or self._plain(query)
            if answer is None or not number.isdigit() or number[0] == _ZERO or len(number) > MAX_DIGITS:
                break
            head, size = answer
            line = number[::-1] + b"\n"
            start = int(number) * STEP % PERIOD
            parts += (head, line, BLOCK[start : start + size - len(line)])
            count += 1
            made += size
            if made > MAX_BYTES:
                break
        return b"".join(parts), count

    def _plain(self, query: bytes) -> tuple[bytes, int] | None:
        """Return the response head and the size for `query`, None when it asks for more than a size."""
        try:
            wanted = parse_query(query)
        except Refused:
            return None
        if wanted.size not in _SIZES or wanted != Wanted(size=wanted.size):
            return None
        if len(self._queries) >= MAX_QUERIES:
            self._queries.clear()
        answer = self._queries[query] = (response_head(200, f"Content-Length: {wanted.size}"), wanted.size)
        return answer


def response_head(status: int, *lines: str, content_type: str = "application/octet-stream") -> bytes:
    """Render a response's head with these further field lines.

    No Date: this server counts as one without a clock (RFC 9110 section 6.6.1), so that its answers are the
    same bytes each time.
    """
    reason = HTTPStatus(status).phrase if status in _KNOWN else ""
    fields = "".join(f"{line}\r\n" for line in lines)
    first = f"HTTP/1.1 {status} {reason}\r\nServer: httpio.testing\r\nContent-Type: {content_type}\r\n"
    return f"{first}{fields}\r\n".encode()
