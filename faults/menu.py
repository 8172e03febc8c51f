"""The faults: what the server does, what the client is asked to do, and what is true.

What a client may do is told for each of its requests: deliver exactly this answer, or refuse it with an error, or
either. To deliver anything else is a silent wrong answer.
"""

from __future__ import annotations

import gzip
import random
from dataclasses import dataclass, field
from typing import NamedTuple

import scripts
from scripts import FORGED, SECOND, Script, fin, rst, sends, stay

UPLOAD = 16 << 20
"""Bytes of the body of a PUT: more than the buffers of both sockets hold."""


class Step(NamedTuple):
    """One request. A PUT has a body of `UPLOAD` bytes from a file, a POST a short one. *most*: the response is given up
    behind so many bytes of its body."""

    method: str
    target: str
    most: int | None = None


class Truth(NamedTuple):
    """What may come of one request. *body* is None where no answer may be delivered; *coded* is what a client gets that
    does not decode; *refusable*: an error is right."""

    body: bytes | None
    refusable: bool
    status: int = 200
    coded: bytes | None = None


REFUSE = Truth(None, True)


def deliver(body: bytes, status: int = 200) -> Truth:
    """This answer and no error."""
    return Truth(body, False, status)


def either(body: bytes) -> Truth:
    """This answer, or an error."""
    return Truth(body, True)


GET = (Step("GET", "/"),)
GET_TWICE = (Step("GET", "/first"), Step("GET", "/second"))


@dataclass(frozen=True)
class Scenario:
    """One row of the table.

    *title*: what it is called there. *gone*: the server goes away, so that an error of the last step says so.
    *pauses*: the client waits before its second request until the server has done what it does. *once*: the server may
    see a POST once only. *flood*: how much a client has taken that delivers an answer. *slow*: it is for the client's
    own limits of time to end it. *tls*: the URL begins with https; *plain*: but the server speaks no TLS. *known*: what
    wrong bodies are called.
    """

    name: str
    title: str
    script: Script
    truths: tuple[Truth, ...] = (REFUSE,)
    steps: tuple[Step, ...] = GET
    gone: bool = False
    pauses: bool = False
    once: bool = False
    flood: str = ""
    slow: bool = False
    tls: bool = False
    plain: bool = False
    known: dict[bytes, str] = field(default_factory=lambda: {b"forged": "a forged answer"})


class Group(NamedTuple):
    """Rows that stand together, under a heading."""

    title: str
    scenarios: tuple[Scenario, ...]


_OK = b"HTTP/1.1 200 OK\r\n"
_HEAD = _OK + b"Content-Length: 1000\r\n\r\n"
_CHUNKED = _OK + b"Transfer-Encoding: chunked\r\n\r\n"
_UNTIL_CLOSE = _OK + b"Connection: close\r\n\r\n"
_GOOD = _OK + b"Content-Length: 5\r\n\r\nhello"
_FIRST = _OK + b"Content-Length: 16\r\n\r\nthe first answer"
_HALF = b"h" * 500
_SPLIT = b"s" * 100 + FORGED
_SPLIT_HEAD = _OK + f"Content-Length: {len(_SPLIT)}\r\n\r\n".encode()

_words = random.Random(1)
_TEXT = " ".join(str(_words.randrange(1000)) for _ in range(5700)).encode()[:22000]
_GZIP = gzip.compress(_TEXT, mtime=0)
_MEMBERS = gzip.compress(_TEXT[:9000], mtime=0) + gzip.compress(_TEXT[9000:], mtime=0)
_MIB = 1 << 20


def _framed(body: bytes, fields: bytes = b"Content-Encoding: gzip\r\n") -> bytes:
    return _OK + fields + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def _chunks(body: bytes) -> bytes:
    return f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"


def _undecoded(coded: bytes) -> Truth:
    """A coded body that is damaged: nobody can deliver its text; a client that does not decode delivers the code."""
    return Truth(None, True, coded=coded)


CUT = Group(
    "The server goes away",
    (
        Scenario("length-fin", "Content-Length 1000, FIN after 500", sends(_HEAD + _HALF, fin), gone=True),
        Scenario("length-rst", "Content-Length 1000, RST after 500", sends(_HEAD + _HALF, rst), gone=True),
        Scenario(
            "length-tls", "Content-Length 1000 over TLS, FIN after 500", sends(_HEAD + _HALF, fin), gone=True, tls=True
        ),
        Scenario("chunk-fin", "FIN in a chunk", sends(_CHUNKED + b"3e8\r\n" + _HALF, fin), gone=True),
        Scenario(
            "no-last-chunk", "FIN where a chunk is due", sends(_CHUNKED + b"1f4\r\n" + _HALF + b"\r\n", fin), gone=True
        ),
        Scenario(
            "trailer-fin",
            "FIN in the trailer section, the whole body is here",
            sends(_CHUNKED + b"5\r\nhello\r\n0\r\nSum: 5", fin),
            (either(b"hello"),),
            gone=True,
        ),
        Scenario("close-rst", "body until close, RST after 500", sends(_UNTIL_CLOSE + _HALF, rst), gone=True),
        Scenario(
            "close-tls",
            "body until close over TLS, FIN without close_notify after 500",
            sends(_UNTIL_CLOSE + _HALF, fin),
            gone=True,
            tls=True,
        ),
        Scenario("status-fin", "FIN in the status line", sends(b"HTTP/1.1 200 O", fin), gone=True),
        Scenario(
            "head-fin",
            "FIN in the header section",
            sends(_OK + b"Content-Type: text/plain\r\nContent-Le", fin),
            gone=True,
        ),
        Scenario("nothing-fin", "FIN before any byte", sends(b"", fin), gone=True),
        Scenario("nothing-rst", "RST before any byte", sends(b"", rst), gone=True),
        Scenario("handshake-fin", "FIN in the TLS handshake", scripts.cuts_handshake, gone=True, tls=True, plain=True),
        Scenario(
            "upload-rst",
            "RST while a body goes out, no answer",
            scripts.cuts_upload,
            steps=(Step("PUT", "/"),),
            gone=True,
        ),
    ),
)

CODED = Group(
    "Content codings",
    (
        Scenario(
            "gzip-cut",
            "gzip cut in half, framing valid",
            sends(_framed(_GZIP[: len(_GZIP) // 2]), stay),
            (_undecoded(_GZIP[: len(_GZIP) // 2]),),
        ),
        Scenario(
            "gzip-no-sum",
            "gzip without its last 8 bytes (check sum and length)",
            sends(_framed(_GZIP[:-8]), stay),
            (_undecoded(_GZIP[:-8]),),
        ),
        Scenario(
            "gzip-members",
            "gzip of two members",
            sends(_framed(_MEMBERS), stay),
            (Truth(_TEXT, False, coded=_MEMBERS),),
        ),
    ),
)

RULES = Group(
    "Answers that break a rule, or look as if they did",
    (
        Scenario(
            "two-lengths",
            "two different Content-Length",
            sends(_OK + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\nhello, ", fin),
        ),
        Scenario(
            "no-number",
            "Content-Length: 1,000 and FIN after 500",
            sends(_OK + b"Content-Length: 1,000\r\n\r\n" + _HALF, fin),
        ),
        Scenario(
            "length-chunked",
            "Content-Length and chunked",
            sends(_OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + _chunks(b"hello"), fin),
            (either(b"hello"),),
        ),
        Scenario(
            "chunked-tab",
            "Transfer-Encoding: chunked, and a tab behind it",
            sends(_OK + b"Transfer-Encoding: chunked\t\r\n\r\n" + _chunks(b"hello"), fin),
            (either(b"hello"),),
            known={_chunks(b"hello"): "the chunks' framing"},
        ),
        Scenario(
            "gzip-chunked",
            "Transfer-Encoding: gzip, chunked",
            sends(_OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + _chunks(_GZIP), fin),
            (either(_TEXT),),
            known={_GZIP: "still in gzip", _chunks(_GZIP): "the chunks' framing"},
        ),
        Scenario(
            "long-chunk",
            "a chunk two bytes longer than its size says",
            sends(_CHUNKED + b"5\r\nhelloXY3\r\nfoo\r\n0\r\n\r\n", fin),
        ),
        Scenario("surplus", "bytes behind a complete body", sends(_GOOD + b"surplus\r\n", fin), (deliver(b"hello"),)),
        Scenario("bare-lf", "bare LF for CRLF", sends(_GOOD.replace(b"\r\n", b"\n"), stay), (either(b"hello"),)),
        Scenario("not-http", "no HTTP: the greeting of a mail server", sends(b"220 mail.example ESMTP\r\n", fin)),
    ),
)

KEPT = Group(
    "More than one request on a connection",
    (
        Scenario(
            "idle-fin",
            "a reused idle connection that the server has closed",
            scripts.idle(b"", closes=True),
            (deliver(b"the first answer"), either(SECOND)),
            GET_TWICE,
            gone=True,
            pauses=True,
        ),
        Scenario(
            "post-fin",
            "a POST on a reused connection: read by the server, FIN, no answer",
            scripts.then(scripts.takes_and_closes),
            (deliver(b"the first answer"), REFUSE),
            (Step("GET", "/first"), Step("POST", "/second")),
            gone=True,
            pauses=True,
            once=True,
        ),
        Scenario(
            "forged-behind",
            "an answer that nobody asked for, right behind the first",
            scripts.behind(_FIRST + FORGED),
            (deliver(b"the first answer"), either(SECOND)),
            GET_TWICE,
            pauses=True,
        ),
        Scenario(
            "split-answer",
            "the second answer begins right behind the first; the rest of its body reads like an answer",
            scripts.then(scripts.splits(_FIRST + _SPLIT_HEAD + _SPLIT[:100], _SPLIT[100:]), _SPLIT),
            (deliver(b"the first answer"), either(_SPLIT)),
            GET_TWICE,
            pauses=True,
        ),
        Scenario(
            "forged-idle",
            "an answer that nobody asked for, while the connection is idle",
            scripts.idle(FORGED, closes=False),
            (deliver(b"the first answer"), either(SECOND)),
            GET_TWICE,
            pauses=True,
        ),
        Scenario(
            "idle-408",
            "a 408 and FIN while the connection is idle",
            scripts.idle(
                b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", closes=True
            ),
            (deliver(b"the first answer"), either(SECOND)),
            GET_TWICE,
            pauses=True,
        ),
        Scenario(
            "head-body",
            "HEAD answered with a body, then a GET",
            scripts.behind(_OK + f"Content-Length: {len(FORGED)}\r\n\r\n".encode() + FORGED),
            (deliver(b""), either(SECOND)),
            (Step("HEAD", "/first"), Step("GET", "/second")),
            pauses=True,
        ),
        Scenario(
            "204-body",
            "a 204 with a body, then another GET",
            scripts.behind(f"HTTP/1.1 204 No Content\r\nContent-Length: {len(FORGED)}\r\n\r\n".encode() + FORGED),
            (deliver(b"", 204), either(SECOND)),
            GET_TWICE,
            pauses=True,
        ),
        Scenario(
            "half-read",
            "a response given up in its body, then another GET",
            scripts.then(scripts.half_read),
            (deliver(b"1" * scripts.UNREAD), either(SECOND)),
            (Step("GET", "/first", scripts.UNREAD), Step("GET", "/second")),
        ),
        Scenario(
            "early-413-open",
            "a 413 while a body goes out, the server reads no more",
            scripts.refuses_upload(scripts.stop_reading),
            (deliver(b"too large", 413),),
            (Step("PUT", "/"),),
        ),
        Scenario(
            "early-413-rst",
            "a 413 while a body goes out, and RST",
            scripts.refuses_upload(scripts.close_unread),
            (deliver(b"too large", 413),),
            (Step("PUT", "/"),),
        ),
    ),
)

FLOODS = Group(
    "Too much, too slow",
    (
        Scenario(
            "103",
            "a 103 before the answer",
            sends(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n" + _GOOD, stay),
            (deliver(b"hello"),),
        ),
        Scenario(
            "interim-flood",
            "10,000 times 100 Continue before the answer",
            scripts.floods(b"", lambda n: b"HTTP/1.1 100 Continue\r\n\r\n", 10_000, _GOOD),
            (either(b"hello"),),
            flood="10,000",
        ),
        Scenario(
            "header-flood",
            "16 MiB of header fields",
            scripts.floods(
                _OK, lambda n: b"X-%07d: %s\r\n" % (n, b"f" * 1011), 16 << 10, b"Content-Length: 5\r\n\r\nhello"
            ),
            (either(b"hello"),),
            flood="16 MiB",
        ),
        Scenario(
            "extension-flood",
            "a chunk extension of 16 MiB",
            scripts.floods(_CHUNKED + b"5;x=", lambda n: b"x" * 1024, 16 << 10, b"\r\nhello\r\n0\r\n\r\n"),
            (either(b"hello"),),
            flood="16 MiB",
        ),
        Scenario(
            "trailer-flood",
            "16 MiB of trailer fields",
            scripts.floods(
                _CHUNKED + b"5\r\nhello\r\n0\r\n", lambda n: b"X-%07d: %s\r\n" % (n, b"f" * 1011), 16 << 10, b"\r\n"
            ),
            (either(b"hello"),),
            flood="16 MiB",
        ),
        Scenario("silence", "no answer, the connection stays open", scripts.says_nothing, slow=True),
        Scenario("drip-head", "a byte of the header section every 0.2 s", scripts.drips(_OK + b"X: "), slow=True),
        Scenario("drip-body", "a byte of the body every 0.2 s", scripts.drips(_HEAD), slow=True),
    ),
)

GROUPS = (CUT, CODED, RULES, KEPT, FLOODS)
SCENARIOS = tuple(scenario for group in GROUPS for scenario in group.scenarios)
