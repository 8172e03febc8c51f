"""The receiving half of a connection, usable alone: the parser, and what the RECEIVING table allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from httpio._parser import ResponseParser
from httpio.exceptions import InvalidResponse, UnsupportedResponse
from httpio.messages import HTTPResponse, Lenient, Limits
from httpio.states import RECEIVING, Receive, Receiving, move

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["ASKS_UPGRADE", "IS_CONNECT", "IS_HEAD", "PLAIN", "ReceivingHalf", "assumed_continue"]

PLAIN, IS_HEAD, IS_CONNECT, ASKS_UPGRADE = 0, 1, 2, 4
"""What the parser must know of a request before it can read the response."""


def assumed_continue(request: Any) -> HTTPResponse:
    """A 100 (Continue) to *request* that nobody sent; its reason is "assumed"."""
    half = ReceivingHalf(Limits(), Lenient(0))
    half.expect(request)
    half.feed(b"HTTP/1.1 100 assumed\r\n\r\n")
    return half.parser.interim_responses[0]


_STAGES = (
    Receiving.IDLE,
    Receiving.HEAD,
    Receiving.BODY,
    Receiving.TUNNEL,
    Receiving.ENDED,
    Receiving.BROKEN,
)


class ReceivingHalf:
    """Turns bytes into responses, each for the oldest request that is outstanding.

    Bytes come in one of the parser's two forms: received into `parser` and counted by `received`, or handed to
    `feed`. *body_limit*: the largest body that is collected into its response; -1: none is, each is read through
    `read_into`.
    """

    __slots__ = ("parser",)

    def __init__(self, limits: Limits, lenient: Lenient, body_limit: int = -1) -> None:
        self.parser = ResponseParser(HTTPResponse, InvalidResponse, UnsupportedResponse, limits, lenient, body_limit)

    @property
    def state(self) -> Receiving:
        """Where this half is."""
        return _STAGES[self.parser.stage]

    def expect(self, request: Any, fact: int = PLAIN) -> None:
        """A request goes out; *fact* is what its method says about the response. StateError where no answer can
        come any more."""
        move(RECEIVING, self.state, Receive.EXPECT)
        self.parser.expect(request, fact)

    def expect_all(self, requests: list[Any]) -> None:
        """Many requests go out, none of them HEAD, CONNECT or asking for an upgrade."""
        move(RECEIVING, self.state, Receive.EXPECT)
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

    @property
    def at_eof(self) -> bool:
        """Whether the peer has closed."""
        return self.parser.at_eof

    def received(self, count: int) -> list[HTTPResponse]:
        """*count* bytes were received into the parser: the responses that can be handed out now.

        A response in the list is complete, but for the last, which may be `open`. Raises InvalidResponse and
        UnsupportedResponse.
        """
        return self.parser.buffer_updated(count)

    def parse(self) -> list[HTTPResponse]:
        """The same, from what was received before."""
        return self.parser.parse()

    def feed(self, data: ReadableBuffer) -> int:
        """Parse bytes of the caller's, up to the end of a header section or of a message; returns how many were
        taken."""
        return self.parser.feed(data)

    def take(self) -> list[HTTPResponse]:
        """The responses that `feed` has completed, or has reached the body of, since the last call."""
        return self.parser.take()

    def read_into(self, target: WriteableBuffer) -> int:
        """Content of the open response that is here already; 0: none is, or the body has ended and nothing is
        `open`."""
        return self.parser.read_into(target)

    def eof(self, clean: bool) -> list[HTTPResponse]:
        """The peer has closed: returns the close-delimited response that this completes, if it does.

        *clean*: a FIN on plain TCP, close_notify on TLS; without it a close-delimited body is not complete
        (RFC 9112 section 9.8).
        """
        return self.parser.eof(clean)

    def fail(self) -> None:
        """Nothing that comes from now on can be trusted."""
        self.parser.give_up()
