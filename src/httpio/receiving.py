"""The receiving half of a connection, usable alone: the parser, and where it has come to by the RECEIVING
table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from httpio._parser import ResponseParser
from httpio.exceptions import InvalidResponse, UnsupportedResponse
from httpio.messages import HTTPResponse, Lenient, Limits
from httpio.states import RECEIVING, Receive, Receiving, move

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["ASKS_UPGRADE", "IS_CONNECT", "IS_HEAD", "PLAIN", "ReceivingHalf"]

PLAIN, IS_HEAD, IS_CONNECT, ASKS_UPGRADE = 0, 1, 2, 4
"""What the parser must know of a request before it can read the response."""


class ReceivingHalf:
    """Turns bytes into responses, each for the oldest request that is outstanding.

    Bytes come in one of the parser's two forms: received into `parser` and counted by `received`, or
    handed to `feed`. *body_limit*: the largest body that is collected into its response; -1: none is, each
    is read through `read_into`.
    """

    __slots__ = ("at_eof", "parser", "state", "switched")

    def __init__(self, limits: Limits, lenient: Lenient, body_limit: int = -1) -> None:
        self.parser = ResponseParser(
            HTTPResponse, InvalidResponse, UnsupportedResponse, limits, lenient, body_limit
        )
        self.state = Receiving.IDLE
        self.at_eof = False
        """The peer has closed."""
        self.switched: HTTPResponse | None = None
        """The 101, or the answer to CONNECT, after which the connection is no longer HTTP."""

    def expect(self, request: Any, fact: int = PLAIN) -> None:
        """A request goes out; *fact* is what its method says about the response. StateError where no
        answer can come any more."""
        self.state = move(RECEIVING, self.state, Receive.EXPECT)
        self.parser.expect(request, fact)

    def expect_all(self, requests: list[Any]) -> None:
        """Many requests go out, none of them HEAD, CONNECT or asking for an upgrade."""
        self.state = move(RECEIVING, self.state, Receive.EXPECT)
        self.parser.expect_all(requests)

    @property
    def outstanding(self) -> tuple[Any, ...]:
        """The requests not answered in full, oldest first."""
        return self.parser.outstanding

    @property
    def progress(self) -> Literal["in head", "in body"] | None:
        """How far the response to the oldest outstanding request has come."""
        return self.parser.progress

    @property
    def open(self) -> HTTPResponse | None:
        """The response whose body is to be read, or None."""
        return self.parser.open

    def received(self, count: int) -> list[HTTPResponse]:
        """*count* bytes were received into the parser: the responses that can be handed out now.

        A response in the list is complete, but for the last, which may be `open`. Raises InvalidResponse,
        UnsupportedResponse.
        """
        try:
            responses = self.parser.buffer_updated(count)
        except (InvalidResponse, UnsupportedResponse):
            self.fail()
            raise
        return self._settle(responses)

    def parse(self) -> list[HTTPResponse]:
        """The same, from what was received before."""
        try:
            responses = self.parser.parse()
        except (InvalidResponse, UnsupportedResponse):
            self.fail()
            raise
        return self._settle(responses)

    def feed(self, data: ReadableBuffer) -> int:
        """Parse bytes of the caller's, up to the end of a header section or of a message; returns how many
        were taken."""
        try:
            taken = self.parser.feed(data)
        except (InvalidResponse, UnsupportedResponse):
            self.fail()
            raise
        return taken

    def take(self) -> list[HTTPResponse]:
        """The responses that `feed` has completed, or has reached the body of, since the last call."""
        return self._settle(self.parser.take())

    def read_into(self, target: WriteableBuffer) -> int:
        """Content of the open response that is here already; 0: none is, or the body has ended and nothing
        is `open`."""
        try:
            count = self.parser.read_into(target)
        except (InvalidResponse, UnsupportedResponse):
            self.fail()
            raise
        if self.state is Receiving.BODY and self.parser.open is None:
            self._answered()
        return count

    def read(self, size: int) -> bytes:
        """The same as bytes, at most *size* of them; ``b""`` for 0."""
        try:
            content = self.parser.read(size)
        except (InvalidResponse, UnsupportedResponse):
            self.fail()
            raise
        if self.state is Receiving.BODY and self.parser.open is None:
            self._answered()
        return content

    def direct_received(self, count: int) -> None:
        """*count* bytes of the open response went straight to the reader's memory (never more than
        `parser.direct`)."""
        self.parser.direct_received(count)
        if self.parser.open is None:
            self._answered()

    def eof(self, clean: bool) -> list[HTTPResponse]:
        """The peer has closed: returns the close-delimited response that this completes, if it does.

        *clean*: a FIN on plain TCP, close_notify on TLS; without it a close-delimited body is not complete
        (RFC 9112 section 9.8).
        """
        self.at_eof = True
        responses = self._settle(self.parser.eof(clean))
        if self.state is not Receiving.BROKEN and self.parser.open is None:
            self.state = Receiving.TUNNEL if self.switched is not None else Receiving.ENDED
        return responses

    def fail(self) -> None:
        """Nothing that comes from now on can be trusted."""
        self.state = move(RECEIVING, self.state, Receive.FAIL)

    def _settle(self, responses: list[HTTPResponse]) -> list[HTTPResponse]:
        """One move of the table for a whole batch of responses."""
        if responses:
            if self.parser.open is not None:
                self.state = RECEIVING[self.state, Receive.OPEN]
            elif responses[-1].framing == "tunnel":
                self.switched = responses[-1]
                self.state = RECEIVING[self.state, Receive.SWITCH]
            else:
                self._answered()
        elif self.state is Receiving.IDLE:
            if self.parser.surplus:
                self.state = RECEIVING[self.state, Receive.END]
        elif self.state is Receiving.BODY and self.parser.open is None:
            self._answered()
        return responses

    def _answered(self) -> None:
        parser = self.parser
        if parser.ended:
            event = Receive.END
        elif parser.waiting_count:
            event = Receive.ANSWERED
        else:
            event = Receive.ALL_ANSWERED
        self.state = RECEIVING[self.state, event]
