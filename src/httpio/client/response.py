"""The head of a response of `httpio.client`, read through the parser up to its last byte and no further."""

from __future__ import annotations

from functools import lru_cache
from http.client import HTTPException, ResponseNotReady
from time import monotonic
from typing import Any

from httpio._parser import ResponseParser
from httpio.client.body import Body
from httpio.client.errors import BadHead, NoAnswer, ShortMessage, refusal
from httpio.client.file import SocketFile
from httpio.client.message import LazyMessage
from httpio.exceptions import ConnectionTimedOut, InvalidResponse, UnsupportedResponse
from httpio.messages import HTTPResponse as Head
from httpio.messages import Lenient, Limits
from httpio.receiving import ASKS_UPGRADE, IS_CONNECT, IS_HEAD, ReceivingHalf

__all__ = ["Response", "limits_of"]

_LINE = 65536

# Whoever takes a 101 for an answer is to look at its status: what was asked for is not known here.
_FACTS: dict[str | None, int] = {"HEAD": IS_HEAD | ASKS_UPGRADE, "CONNECT": IS_CONNECT}


@lru_cache(maxsize=16)
def limits_of(max_line: int, max_headers: int, max_interim: int) -> Limits:
    return Limits(
        max_line_size=max_line,
        max_headers=max_headers,
        max_trailers=max_headers,
        max_interim=max_interim,
    )


class Response(Body):
    """A response without what its module's globals decide: limits, and where debugging output goes."""

    lenient = Lenient.UNTIL_CLOSE | Lenient.LF
    """What is forgiven in a response, beyond `legacy_short_reads`."""

    headers: Any = None
    msg: Any = None

    def _say(self, *words: object) -> None:
        """Print, for `debuglevel`."""
        raise NotImplementedError

    def _allowed(self) -> tuple[int, int, int]:
        """The largest line, field lines, and interim responses of a response."""
        raise NotImplementedError

    # -- the header section --

    def begin(self, *, _max_headers: int | None = None) -> None:
        """Read up to the end of the final response's header section."""
        if self.headers is None:
            self._read_head(_max_headers, False)

    def _lets_send(self, seconds: float | None, allowed: int | None) -> bool:
        """Wait for 100 (Continue): whether it has come, or nothing in so many *seconds*, None for without limit; False
        where the final response's head has. `begin` goes on from there."""
        if type(self.fp) is not SocketFile:
            return True
        end = None if seconds is None else monotonic() + seconds
        sock = self.fp.raw._sock
        timeout = sock.gettimeout()
        try:
            while self.headers is None:
                if end is not None:
                    left = end - monotonic()
                    if left <= 0:
                        return True
                    sock.settimeout(left if timeout is None else min(left, timeout))
                self._read_head(allowed, True)
                if self._parser is not None and any(head.status == 100 for head in self._parser.interim_responses):
                    return True
        except ConnectionTimedOut:
            if end is None:
                raise
            return True
        finally:
            sock.settimeout(timeout)
        self.will_close = True  # the peer may take for the body what comes next
        return False

    def _read_head(self, allowed: int | None, in_part: bool) -> None:
        """Read the final response's head, or *in part* what comes of it at once."""
        parser = self._parser
        if parser is None:
            parser = self._parser = self._start(allowed)
        fp = self.fp
        own = type(fp) is SocketFile
        ahead = self._looks_ahead = own or hasattr(fp, "peek")
        came: list[bytes] = []  # before `data`
        data = b""
        try:
            if self._reads_status_otherwise():
                came.append(self._status_by_hand())
                parser.feed(came[0])
            begun = parser.in_section
            while True:
                if own:
                    data, taken = fp.feed(parser)
                elif ahead:
                    data = fp.peek(_LINE)
                    taken = parser.feed(data)
                    fp.read(taken)
                else:
                    data = _section(fp, self._allowed()[1] if allowed is None else allowed)
                    taken = parser.feed(data)
                if not data:
                    self._set_head(self._end_head(parser, begun))
                    return
                heads = parser.take()
                if heads:
                    if own and heads[0].length == len(data) - taken:
                        fp.whole = True
                    self._set_head(heads[0])
                    return
                came.append(data)
                begun = parser.in_section
                if in_part:
                    return
        except (InvalidResponse, UnsupportedResponse) as exc:
            if isinstance(exc, HTTPException):
                raise
            if own:
                data = fp.raw.pending or fp.peek()  # what was refused was not taken
            allowed = self._allowed()[1] if allowed is None else allowed
            raise refusal(exc, allowed, b"".join([*came, data]), len(parser.interim_responses)) from exc

    def _start(self, allowed: int | None) -> ResponseParser[Head]:
        fp = self.fp
        if type(fp) is SocketFile:
            if fp.occupied:
                raise NoAnswer("the rest of an earlier response on this connection was not read")
            fp.occupied = self._begun = True
            fp.whole = fp.ended = fp.last_chunk = False
        max_line, max_headers, max_interim = self._allowed()
        if allowed is not None:
            max_headers = allowed
        parser = ReceivingHalf(limits_of(max_line, max_headers, max_interim), self.lenient).parser
        parser.expect(None, _FACTS.get(self._method, ASKS_UPGRADE))
        return parser

    def _status_by_hand(self) -> bytes:
        """The status line that a subclass's own `_read_status` returns."""
        while True:
            version, status, reason = self._read_status()
            if status != 100:
                return f"{version} {status} {reason.strip()}\r\n".encode("latin-1")
            while self.fp.readline(_LINE + 1) not in (b"\r\n", b"\n", b""):
                pass

    def _end_head(self, parser: ResponseParser[Head], begun: bool) -> Head:
        """The peer has closed: the end of a header section that has *begun*, where that is to be forgiven."""
        if not begun:
            raise NoAnswer("Remote end closed connection without response")
        for line_end in (b"\r\n", b"\r\n") if self.legacy_short_reads else ():
            parser.feed(line_end)
            responses = parser.take()
            if responses:
                return responses[0]
        raise ShortMessage(b"", None, "the connection was closed inside a header section", where="in head")

    def _set_head(self, head: Head) -> None:
        self.code = self.status = head.status
        self.reason = head.reason
        self.version = head.version
        self.headers = self.msg = LazyMessage(head)
        if self.debuglevel > 0:
            self._say_head(head)
        self.will_close = not head.persistent
        framing = head.framing
        if framing == "chunked":
            self.chunked = True
            self.chunk_left = self.length = None
            return
        self.chunked = False
        self._parser = None
        if framing == "length":
            length = self.length = self._expected = head.length
            self._in_sync = not length
        elif framing == "close":
            self.length = None
        else:
            self.length = 0
            self._in_sync = True
            if framing == "tunnel":
                self.will_close = self._method == "CONNECT"  # behind a 101 the socket is the caller's
                if self.will_close:
                    self.length = None  # what follows is read as if it were a body

    def _say_head(self, head: Head) -> None:
        for each in (*head.informational, head):
            self._say("reply:", repr(f"HTTP/{each.version / 10} {each.status} {each.reason}\r\n"))
        for name, value in self.headers.items():
            self._say("header:", name + ":", value)

    def _reads_status_otherwise(self) -> bool:
        return type(self)._read_status is not Response._read_status or "_read_status" in self.__dict__

    def _read_status(self) -> tuple[str, int, str]:
        """Read one status line: version, status code and reason phrase."""
        line = self.fp.readline(_LINE + 1)
        if self.debuglevel > 0:
            self._say("reply:", repr(str(line, "latin-1")))
        if not line:
            raise NoAnswer("Remote end closed connection without response")
        half = ReceivingHalf(limits_of(*self._allowed()), self.lenient)
        half.parser.expect(None, IS_CONNECT)
        try:
            half.parser.feed(line.rstrip(b"\r\n") + b"\r\n\r\n")
        except (InvalidResponse, UnsupportedResponse) as exc:
            raise refusal(exc, self._allowed()[1], line) from exc
        heads = half.parser.take() or half.parser.interim_responses
        head = heads[0]
        return f"HTTP/{head.version / 10}", head.status, head.reason

    def _check_close(self) -> bool:
        """Whether the connection ends with this response."""
        return bool(self.will_close)

    # -- what is known of it --

    def getheader(self, name: str, default: Any = None) -> Any:
        """The values of a field, joined with ``", "``; *default* where it is absent. ResponseNotReady before
        `begin`."""
        if self.headers is None:
            raise ResponseNotReady
        values = self.headers.get_all(name) or default
        if isinstance(values, str) or not hasattr(values, "__iter__"):
            return values
        return ", ".join(values)

    def getheaders(self) -> list[tuple[str, str]]:
        """The field lines as (name, value) pairs. ResponseNotReady before `begin`."""
        if self.headers is None:
            raise ResponseNotReady
        return list(self.headers.items())

    def info(self) -> Any:
        """`headers`."""
        return self.headers

    def geturl(self) -> Any:
        """`url`, which those who know it have set."""
        return self.url  # type: ignore[attr-defined]

    def getcode(self) -> int:
        """`status`."""
        return self.status  # type: ignore[no-any-return]


def _section(fp: Any, allowed: int) -> bytes:
    """The lines of a file up to an empty one, with which a head ends; the last of them may be cut, or too long."""
    lines: list[bytes] = []
    while len(lines) < allowed + 2:  # with the status line, and the empty one
        line = fp.readline(_LINE + 1)
        lines.append(line)
        if line in (b"\r\n", b"\n") or not line.endswith(b"\n"):
            return b"".join(lines)
    raise BadHead(f"got more than {allowed} headers")
