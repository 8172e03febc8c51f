"""Response framing in plain Python, to be read beside RFC 9112.

It works on complete byte strings, shares nothing with httpio, and is slow. The comments name the clause that
each function follows. Where httpio is stricter than the RFC asks a recipient to be, they say "httpio".

    responses(wire, ["GET", "HEAD"], eof=True, clean=True) -> one Outcome for each request
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MAX_LINE = 65536
MAX_FIELDS = 100
MAX_SECTION = 256 * 1024
MAX_INTERIM = 100
MAX_INTERIM_SIZE = 256 * 1024
MAX_CHUNK_LINE = 4096
MAX_EXTENSIONS = 16 * 1024
MAX_LEADING = 64 * 1024
MAX_LENGTH = 2**63 - 1
MAX_CHUNK = 2**64 - 1

# RFC 9110 5.5, 5.6.2, RFC 9112 4: the character classes, as sets of octets.
TCHAR = rb"!#$%&'*+\-.^_`|~0-9A-Za-z"
TEXT = rb"\t \x21-\x7e\x80-\xff"
DIGIT = rb"0-9"
HEXDIG = rb"0-9A-Fa-f"
QDTEXT = rb"\t \x21\x23-\x5b\x5d-\x7e\x80-\xff"
LINE_BREAK = rb"\r\n"

Fields = list[tuple[str, str]]


class Incomplete(Exception):
    """The bytes end before the message does; so far nothing is wrong with it."""


class Invalid(Exception):
    """The bytes are not a response."""


class Unsupported(Exception):
    """The bytes may be a response, but not one that httpio reads."""


@dataclass
class Outcome:
    """What a request is answered with.

    verdict: ok, invalid, unsupported, closed (the connection ended first), waiting (it has not ended yet).
    reuse: whether the connection may serve another request after this one.
    """

    verdict: str
    status: int | None = None
    headers: Fields = field(default_factory=list)
    body: bytes | None = None
    trailers: Fields = field(default_factory=list)
    interim: list[int] = field(default_factory=list)
    reuse: bool = False
    tunnel: bytes | None = None
    why: str = ""


class Reader:
    """A cursor over the wire. Each method takes what must come next, or says why it cannot."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def peek(self) -> bytes:
        if self.at == len(self.data):
            raise Incomplete
        return self.data[self.at : self.at + 1]

    def literal(self, text: bytes) -> None:
        for octet in text:
            if self.peek()[0] != octet:
                raise Invalid(f"at {self.at}: {self.peek()!r} where {bytes([octet])!r} belongs")
            self.at += 1

    def many(self, octets: bytes, limit: int) -> bytes:
        match = re.compile(rb"[" + octets + rb"]*").match(self.data, self.at)
        assert match is not None
        if len(match[0]) > limit:
            raise Invalid(f"at {self.at}: more than {limit} octets")
        self.at = match.end()
        return match[0]

    def some(self, octets: bytes, limit: int) -> bytes:
        found = self.many(octets, limit)
        if not found:
            raise Invalid(f"at {self.at}: {self.peek()!r} begins no element")
        return found

    def one(self, octets: bytes) -> bytes:
        if not re.match(rb"[" + octets + rb"]", self.peek()):
            raise Invalid(f"at {self.at}: {self.peek()!r}")
        self.at += 1
        return self.data[self.at - 1 : self.at]

    def exactly(self, count: int) -> bytes:
        if len(self.data) - self.at < count:
            raise Incomplete
        self.at += count
        return self.data[self.at - count : self.at]

    def line_end(self) -> None:
        self.literal(b"\r\n")  # RFC 9112 2.2: a bare LF may be accepted; httpio refuses it


def status_line(reader: Reader) -> tuple[str, int]:
    """RFC 9112 4: HTTP-version SP status-code SP [ reason-phrase ] CRLF."""
    start = reader.at
    reader.literal(b"HTTP/")
    version = (reader.one(DIGIT) + reader.one(b".") + reader.one(DIGIT)).decode()
    reader.literal(b" ")
    if version not in ("1.0", "1.1"):
        raise Unsupported(f"HTTP/{version}")
    status = int(reader.one(DIGIT) + reader.one(DIGIT) + reader.one(DIGIT))
    if status < 100:
        raise Invalid(f"status {status:03}")  # RFC 9110 15: from 100; above 599 as a 5xx
    if reader.peek() != b"\r":  # httpio: the SP may be missing when there is no reason
        reader.literal(b" ")
        reader.many(TEXT, MAX_LINE)
    reader.line_end()
    if reader.at - start > MAX_LINE + 2:
        raise Invalid("the status line is too long")
    return version, status


def field_section(reader: Reader) -> Fields:
    """RFC 9112 5: *( field-name ":" OWS field-value OWS CRLF ) CRLF; section 5.2: httpio refuses obs-fold."""
    start = reader.at
    fields: Fields = []
    while reader.peek() != b"\r":
        if len(fields) == MAX_FIELDS:
            raise Invalid("too many fields")
        name = reader.some(TCHAR, MAX_SECTION)
        reader.literal(b":")
        value = reader.many(TEXT, MAX_SECTION).strip(b" \t")
        reader.line_end()
        fields.append((name.decode("latin-1"), value.decode("latin-1")))
        if reader.at - start > MAX_SECTION:
            raise Invalid("the field section is too long")
    reader.line_end()
    return fields


def values(fields: Fields, name: str) -> list[str]:
    return [value for found, value in fields if found.lower() == name]


def members(fields: Fields, name: str) -> list[str]:
    """RFC 9110 5.6.1.2: the members of a list; a recipient ignores the empty ones."""
    parts = ",".join(values(fields, name)).split(",")
    return [part.strip(" \t") for part in parts if part.strip(" \t")]


def persists(version: str, fields: Fields) -> bool:
    """RFC 9112 9.3, read in its order: close wins, wherever it stands."""
    options = {option.lower() for option in members(fields, "connection")}
    if "close" in options:
        return False
    return version == "1.1" or "keep-alive" in options


def is_chunked(version: str, fields: Fields) -> bool:
    """RFC 9112 6.1 and 7; httpio: the only coding is chunked, and it comes once."""
    if version == "1.0":
        raise Invalid("Transfer-Encoding in HTTP/1.0")
    codings = [coding.lower() for coding in members(fields, "transfer-encoding")]
    if not codings:
        raise Invalid("an empty Transfer-Encoding")
    for coding in codings:
        if not re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", coding):
            raise Invalid(f"not a transfer coding without parameters: {coding!r}")
    if codings.count("chunked") > 1:
        raise Invalid("chunked twice")
    if codings != ["chunked"]:
        raise Unsupported(f"transfer codings {codings}")
    return True


def content_length(fields: Fields) -> int:
    """RFC 9112 6.2, 6.3 rule 5; httpio: identical values may not be repeated either."""
    found = values(fields, "content-length")
    if len(found) != 1 or not re.fullmatch(r"[0-9]+", found[0]):
        raise Invalid(f"Content-Length: {found}")
    if len(found[0]) > 4000 or int(found[0]) > MAX_LENGTH:
        raise Invalid("Content-Length is too large")
    return int(found[0])


def chunk_extensions(reader: Reader, any_extension: bool) -> int:
    """RFC 9112 7.1.1; httpio refuses the bad whitespace that the grammar tolerates. Returns their size."""
    start = reader.at
    if any_extension and reader.peek() == b";":
        reader.many(TEXT, MAX_CHUNK_LINE)
    while reader.peek() == b";":
        reader.literal(b";")
        reader.some(TCHAR, MAX_CHUNK_LINE)
        if reader.peek() != b"=":
            continue
        reader.literal(b"=")
        if reader.peek() == b'"':
            quoted_string(reader)
        else:
            reader.some(TCHAR, MAX_CHUNK_LINE)
    return reader.at - start


def quoted_string(reader: Reader) -> None:
    """RFC 9110 5.6.4."""
    reader.literal(b'"')
    while True:
        reader.many(QDTEXT, MAX_CHUNK_LINE)
        if reader.peek() != b"\\":
            break
        reader.literal(b"\\")
        reader.one(TEXT)
    reader.literal(b'"')


def chunked_body(reader: Reader, any_extension: bool) -> tuple[bytes, Fields]:
    """RFC 9112 7.1: *chunk last-chunk trailer-section CRLF."""
    body = []
    extensions = 0
    while True:
        start = reader.at
        digits = reader.some(HEXDIG, MAX_CHUNK_LINE)
        size = int(digits, 16)
        if size > MAX_CHUNK:
            raise Invalid("the chunk is too large")
        extensions += chunk_extensions(reader, any_extension)
        reader.line_end()
        if reader.at - start > MAX_CHUNK_LINE + 2 or extensions > MAX_EXTENSIONS:
            raise Invalid("too much beside the chunk's data")
        if size == 0:
            break
        body.append(reader.exactly(size))
        reader.line_end()
    trailers = field_section(reader)
    if values(trailers, "content-length"):  # RFC 9110 6.5.1: not a field for trailers
        raise Invalid("Content-Length in the trailer section")
    return b"".join(body), trailers


def response(
    reader: Reader, method: str, answer: Outcome, eof: bool, clean: bool, upgrade: bool, any_extension: bool
) -> None:
    """One final response and the interim ones before it, into `answer`. RFC 9112 6.3, rule by rule."""
    interim_size = 0
    while True:
        start = reader.at
        version, status = status_line(reader)
        fields = field_section(reader)
        if status >= 200 or status == 101:
            break
        answer.interim.append(status)  # RFC 9110 15.2: any number may come first, and none has a body
        interim_size += reader.at - start
        if len(answer.interim) > MAX_INTERIM or interim_size > MAX_INTERIM_SIZE:
            raise Invalid("too many interim responses")
        skip_line_breaks(reader)
    answer.status = status
    answer.headers = fields
    persistent = persists(version, fields)

    if status == 101 and not upgrade:  # RFC 9110 15.2.2: only after a request to upgrade
        raise Unsupported("101 without an upgrade asked for")
    if status == 101 or (method == "CONNECT" and 200 <= status <= 299):  # rule 2
        answer.body = b""
        answer.tunnel = reader.data[reader.at :]
        reader.at = len(reader.data)
        persistent = False
    elif method == "HEAD" or status in (204, 304):  # rule 1
        answer.body = b""
    elif values(fields, "transfer-encoding"):
        if values(fields, "content-length"):  # rule 3: ought to be handled as an error
            raise Invalid("Transfer-Encoding and Content-Length")
        assert is_chunked(version, fields)  # rule 4
        answer.body, answer.trailers = chunked_body(reader, any_extension)
    elif values(fields, "content-length"):  # rules 5 and 6
        answer.body = reader.exactly(content_length(fields))
    elif version == "1.1" and persistent:  # rule 8; httpio: only a close that was announced ends a body
        raise Unsupported("no framing and no Connection: close")
    else:
        answer.body = reader.data[reader.at :]
        reader.at = len(reader.data)
        persistent = False
        if not eof or not clean:
            raise Incomplete
    answer.verdict = "ok"
    answer.reuse = persistent


def skip_line_breaks(reader: Reader) -> None:
    """Line breaks before a status line say nothing (RFC 9112 2.2 tells a server so; httpio does the same)."""
    reader.many(LINE_BREAK, MAX_LEADING)


def responses(
    wire: bytes, methods: list[str], eof: bool = True, clean: bool = True, upgrade: bool = False,
    any_extension: bool = False,
) -> list[Outcome]:  # fmt: skip
    """What each of the outstanding requests is answered with.

    wire: all that the server sends. methods: of the outstanding requests, in order. eof: the server closes
    after the wire; clean: with close_notify over TLS. upgrade: the requests asked for another protocol.
    any_extension: takes malformed chunk extensions too, for they say nothing about the data.
    After a failure, or a response that ends the connection, the later requests are `closed`.
    """
    reader = Reader(wire)
    answers: list[Outcome] = []
    for method in methods:
        answer = Outcome("closed")
        if not answers or answers[-1].reuse:
            try:
                skip_line_breaks(reader)
                response(reader, method, answer, eof, clean, upgrade, any_extension)
            except Incomplete:
                answer.verdict = "closed" if eof else "waiting"
            except Invalid as error:
                answer.verdict, answer.why = "invalid", str(error)
            except Unsupported as error:
                answer.verdict, answer.why = "unsupported", str(error)
            if answer.verdict != "ok":
                answer.body, answer.trailers = None, []
        answers.append(answer)
    last = answers[-1]
    if last.reuse:
        reader.many(LINE_BREAK, MAX_LEADING)
        last.reuse = not eof and reader.at == len(wire)
    return answers
