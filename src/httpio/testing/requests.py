"""Reading a request's head, strictly (RFC 9112 sections 2 to 6); what an object's address asks for."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from httpio.testing.objects import MAX_DIGITS

__all__ = ["MAX_HEAD", "Head", "Refused", "Wanted", "parse_head", "parse_query", "route"]

MAX_HEAD = 65536
"""The longest request head, in bytes."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
_FIELD_LINE = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*)|)")
_DIGITS = re.compile(rb"[0-9]{1,%d}" % MAX_DIGITS)
_OBJECT = re.compile(rb"/objects/([0-9]{1,%d})" % MAX_DIGITS)
_ABSOLUTE = re.compile(rb"https?://[^/?#]+", re.IGNORECASE)


class Refused(Exception):
    """A request that gets an error for its answer.

    `status`: the error's status code. `fatal`: whether the connection must end after it, because where the
    next request begins is in doubt.
    """

    def __init__(self, status: int, text: str, fatal: bool = True) -> None:
        super().__init__(text)
        self.status = status
        self.fatal = fatal


class Head(NamedTuple):
    """A request's head, as far as the server looks at it.

    `length`: the content's length in bytes; None when it comes in chunks. `close`: this is the connection's
    last request.
    """

    method: str
    target: bytes
    minor: int
    length: int | None
    close: bool
    expects_continue: bool


@dataclass(frozen=True)
class Wanted:
    """What the query of an object's address asks for.

    `size`: bytes of content. `chunked`: chunked transfer coding, in chunks of `chunk` bytes. `status`: the
    status code, 200 to 599. `delay`: seconds before the answer. `interim`: so many 103 responses before it.
    """

    size: int = 1024
    chunked: bool = False
    chunk: int = 16384
    status: int = 200
    delay: float = 0.0
    interim: int = 0


def parse_head(head: bytes) -> Head:
    """Read a head: everything before the empty line. Raises Refused, always fatal."""
    first, _, fields = head.partition(b"\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise Refused(400, "malformed request line")
    method, target, major, minor = match.groups()
    if major != b"1":
        raise Refused(505, "this server speaks HTTP/1.1")
    old = minor == b"0"
    length, close, expects_continue = _parse_fields(fields, old)
    return Head(method.decode(), target, 0 if old else 1, length, close, expects_continue)


@lru_cache(256)
def _parse_fields(fields: bytes, old: bool) -> tuple[int | None, bool, bool]:
    """Read the field lines of an HTTP/1.1 request, or of an `old` one; return the last three parts of a Head.

    A client sends the same ones again and again, which is what the cache is for.
    """
    values: dict[bytes, list[bytes]] = {}
    for line in fields.split(b"\r\n") if fields else []:
        field = _FIELD_LINE.fullmatch(line)
        if field is None:
            raise Refused(400, "malformed field line")
        values.setdefault(field[1].lower(), []).append(field[2].rstrip(b" \t"))
    hosts = values.get(b"host", [])
    if len(hosts) > 1 or not (hosts or old):
        raise Refused(400, "exactly one Host field is needed")
    options = {each.strip(b" \t").lower() for each in b",".join(values.get(b"connection", [])).split(b",")}
    return _length(values, old), old or b"close" in options, not old and _expects_continue(values)


def _length(values: dict[bytes, list[bytes]], old: bool) -> int | None:
    """The content's length by RFC 9112 section 6.3, None for chunked; what is doubtful there is refused."""
    codings = values.get(b"transfer-encoding")
    lengths = values.get(b"content-length")
    if codings is not None:
        if old or lengths is not None:
            raise Refused(400, "Transfer-Encoding where it must not be")
        if b",".join(codings).lower() != b"chunked":
            raise Refused(501, "the only transfer coding known is chunked")
        return None
    if lengths is None:
        return 0
    if len(lengths) > 1 or not _DIGITS.fullmatch(lengths[0]):
        raise Refused(400, "malformed Content-Length")
    return int(lengths[0])


def _expects_continue(values: dict[bytes, list[bytes]]) -> bool:
    expectation = b",".join(values.get(b"expect", [])).lower()
    if expectation not in (b"", b"100-continue"):
        raise Refused(417, "the only expectation known is 100-continue")
    return bool(expectation)


def route(target: bytes) -> tuple[int | None, bytes]:
    """Split a target into the object's number (None: `/stats`) and the query. Raises Refused, not fatal."""
    absolute = _ABSOLUTE.match(target)
    path, _, query = target[absolute.end() if absolute else 0 :].partition(b"?")
    match = _OBJECT.fullmatch(path)
    if match is None and path != b"/stats":
        raise Refused(404, "there are /objects/NUMBER and /stats", fatal=False)
    return int(match[1]) if match else None, query


@lru_cache(4096)
def parse_query(query: bytes) -> Wanted:
    """Read the query of an object's address. Raises Refused, not fatal, for a name or value not known."""
    values: dict[str, int | float] = {}
    for pair in query.split(b"&") if query else []:
        raw_name, _, value = pair.partition(b"=")
        name = raw_name.decode("latin-1")
        if name in values:
            raise Refused(400, f"given twice: {name}", fatal=False)
        values[name] = _value(name, value)
    return Wanted(**values)  # type: ignore[arg-type]


def _value(name: str, text: bytes) -> int | float:
    if name == "delay":
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if 0 <= seconds <= 3600:
            return seconds
    elif name in _BOUNDS and _DIGITS.fullmatch(text) and int(text) in _BOUNDS[name]:
        return int(text)
    raise Refused(400, f"no such option, or not with this value: {name}", fatal=False)


_BOUNDS = {
    "size": range(10**MAX_DIGITS),
    "chunked": range(2),
    "chunk": range(1, 2**20 + 1),
    "status": range(200, 600),
    "interim": range(1001),
}
