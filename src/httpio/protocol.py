"""A whole connection without I/O: the sending half, the receiving half, and the rules that join them.

What is to be sent waits in the outbox until the transport has taken it, so that after a failure it is
known of every request whether the peer can have seen any of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from httpio.exceptions import ExcessBodyData, StateError, Unanswered, Where
from httpio.framing import (
    LAST_CHUNK,
    BodyKind,
    Frame,
    chunk,
    frame_request,
    join_targets,
)
from httpio.messages import HTTPResponse, Lenient, Limits, Request
from httpio.receiving import ASKS_UPGRADE, IS_CONNECT, IS_HEAD, PLAIN, ReceivingHalf
from httpio.states import SENDING, Receiving, Send, Sending, move

__all__ = ["Outgoing", "Protocol"]

JOINED = 64 * 1024
"""A body up to this many bytes is copied behind its head; a larger one is sent from where it is."""


class Outgoing:
    """Bytes on their way out, and how many requests begin in them."""

    __slots__ = ("_whole", "requests", "rest")

    def __init__(self, data: bytes | memoryview, requests: int) -> None:
        self._whole = data
        self.rest = data
        """What the transport has not taken."""
        self.requests = requests

    @property
    def begun(self) -> bool:
        """Whether the transport has taken the beginning of the request that goes on here."""
        return self.requests == 0 or len(self.rest) < len(self._whole)

    def take(self, count: int) -> None:
        """The transport has taken *count* bytes more, and not all."""
        self.rest = memoryview(self.rest)[count:]

    def unsent_requests(self) -> int:
        """How many of its requests the transport has not taken a byte of."""
        taken = len(self._whole) - len(self.rest)
        if taken == 0 or self.requests <= 1:
            return 0 if taken else self.requests
        gone = bytes(self._whole[:taken])
        # Several requests travel together only when none has a body: each ends with its empty line.
        begun = gone.count(b"\r\n\r\n") + (not gone.endswith(b"\r\n\r\n"))
        return self.requests - begun


class Protocol:
    """The state of one connection, from its first request to its end. A new connection takes a new
    Protocol.

    *defaults*: the fields that requests are sent with unless they bring their own, as `encode_fields`
    gives them.
    """

    def __init__(self, defaults: Sequence[tuple[bytes, bytes, bytes]], limits: Limits, lenient: Lenient) -> None:
        self.sending = Sending.IDLE
        self.receiving = ReceivingHalf(limits, lenient)
        self._defaults = defaults
        lines = [b"%b: %b\r\n" % (name, value) for name, _, value in defaults]
        self.rest_of_get = b" HTTP/1.1\r\n%b\r\n" % b"".join(lines)
        """What follows the target in the head of a GET request without fields of its own."""
        self.outbox: deque[Outgoing] = deque()
        """What the transport is to take, in order."""
        self._frame: Frame | None = None
        self._body_left: int | None = 0

    def _move(self, event: Send) -> None:
        self.sending = move(SENDING, self.sending, event)

    # -- requests --

    def send_request(self, request: Request) -> BodyKind:
        """Put one request into the outbox, with its body where that is bytes; returns where the body comes
        from.

        Raises StateError, ValueError, TypeError or InvalidURL, and then nothing has changed.
        """
        if self.sending is not Sending.IDLE:
            raise StateError(f"no request can be sent now: {self.sending.value}")
        body = request.body
        frame = frame_request(request.method, request.path, request.headers, body, self._defaults)
        ahead = frame.kind in (BodyKind.FOLLOWING, BodyKind.SOURCE) and frame.length != 0
        handover = frame.upgrade or request.method == "CONNECT"
        if handover and ahead:
            raise StateError("the body of a request for an upgrade must be bytes")
        if handover and not frame.close:
            event = Send.HANDOVER
        elif frame.close:
            event = Send.LAST_REQUEST_AHEAD if ahead else Send.LAST_REQUEST
        else:
            event = Send.REQUEST_AHEAD if ahead else Send.REQUEST
        self.receiving.expect(request, self._fact(request.method, frame))
        self._move(event)
        if ahead:
            self._frame = frame
            self._body_left = frame.length
        if frame.kind is BodyKind.BYTES:
            assert isinstance(body, bytes | bytearray | memoryview)
            self._put_whole(frame, body)
        else:
            self.outbox.append(Outgoing(frame.head, 1))
        return frame.kind

    def _put_whole(self, frame: Frame, body: bytes | bytearray | memoryview) -> None:
        parts = [body] if frame.length is not None else [chunk(body), LAST_CHUNK]
        if memoryview(body).nbytes <= JOINED:
            self.outbox.append(Outgoing(b"".join([frame.head, *parts]), 1))
        else:
            self.outbox.append(Outgoing(frame.head, 1))
            self.outbox.extend(Outgoing(memoryview(part).cast("B"), 0) for part in parts)

    @staticmethod
    def _fact(method: str, frame: Frame) -> int:
        if method == "HEAD":
            return IS_HEAD
        if method == "CONNECT":
            return IS_CONNECT
        return ASKS_UPGRADE if frame.upgrade else PLAIN

    def send_targets(self, targets: list[str]) -> bool:
        """Put GET requests for all of *targets* into the outbox in one piece. False: nothing was put, they
        are not all plain targets."""
        if self.sending is not Sending.IDLE:
            raise StateError(f"no request can be sent now: {self.sending.value}")
        data = join_targets(targets, self.rest_of_get)
        if data is None:
            return False
        self.receiving.expect_all(targets)
        self.outbox.append(Outgoing(data, len(targets)))
        return True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Put a piece of the body into the outbox. ExcessBodyData, StateError: nothing of it was."""
        if self.sending is not Sending.BODY and self.sending is not Sending.LAST_BODY:
            raise StateError("no body is being sent")
        view = memoryview(data).cast("B")
        size = view.nbytes
        if size == 0:
            return
        if self._body_left is None:
            self.outbox.append(Outgoing(chunk(view), 0))
            return
        if size > self._body_left:
            raise ExcessBodyData(f"{size} bytes are more than the {self._body_left} that the body has left")
        self.outbox.append(Outgoing(view, 0))
        self._body_left -= size
        if self._body_left == 0:
            self._end_body()

    def end_body(self) -> None:
        """End a chunked body. StateError when none is being sent, or when a declared length was not
        reached."""
        if self.sending is not Sending.BODY and self.sending is not Sending.LAST_BODY:
            raise StateError("no body is being sent")
        if self._body_left is not None:
            raise StateError(f"the body has {self._body_left} bytes left to send")
        self.outbox.append(Outgoing(LAST_CHUNK, 0))
        self._end_body()

    def _end_body(self) -> None:
        self._move(Send.END)
        self._frame = None

    @property
    def body_length(self) -> int | None:
        """The declared length of the body being sent; None: it is chunked."""
        return None if self._frame is None else self._frame.length

    @property
    def sends_body(self) -> bool:
        """Whether more of a request's body is to be written."""
        return self.sending is Sending.BODY or self.sending is Sending.LAST_BODY

    def stop_sending(self) -> None:
        """Sending has failed, or an answer has made it pointless: what was not sent will not be."""
        self._move(Send.FAIL)

    # -- responses --

    def answered(self, responses: list[HTTPResponse]) -> list[HTTPResponse]:
        """Take note of responses that are handed out; returns them. Here the two halves meet."""
        if not responses:
            return responses
        last = responses[-1]
        if self.sending is Sending.IDLE and last.persistent and not self.outbox:
            return responses
        if self.sending is Sending.HELD and last.framing != "tunnel":
            self._move(Send.ANSWERED)
        if self._is_going_out():
            # An answer that comes while its request is still going out (RFC 9112 section 9.5).
            if last.status >= 400 or not last.persistent or self.sending is Sending.BROKEN:
                last.request_complete = False
                self._stop()
        elif not last.persistent:
            self._stop()
        return responses

    def _is_going_out(self) -> bool:
        """Whether the request that was answered last has not been sent whole."""
        waiting = self.receiving.parser.waiting_count - (self.receiving.open is not None)
        if self.sends_body:
            return waiting == 0
        entries = list(self.outbox)  # a copy: another thread may be sending
        return bool(entries) and entries[0].begun and waiting == sum(entry.unsent_requests() for entry in entries)

    def _stop(self) -> None:
        """Nothing more is sent on this connection; what waits in the outbox never will be."""
        if self.sending is not Sending.BROKEN:
            self._move(Send.STOP)
        self._frame = None

    @property
    def alive(self) -> bool:
        """Whether neither half has come to its end."""
        state = self.receiving.state
        ended = self.sending in (Sending.DONE, Sending.STOPPED, Sending.BROKEN)
        return not ended and state is not Receiving.ENDED and state is not Receiving.BROKEN

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent, as far as this side knows."""
        return self.sending is Sending.IDLE and self.receiving.parser.reusable

    # -- what happened to each request --

    @property
    def unsent(self) -> int:
        """How many of the outstanding requests, counted from the last, the peer cannot have seen."""
        return sum(entry.unsent_requests() for entry in list(self.outbox))

    def unanswered(self) -> tuple[Unanswered, ...]:
        """Every outstanding request: whether it was sent, whether its answer had begun, whether it may be
        repeated."""
        waiting = self.receiving.outstanding
        first_unsent = len(waiting) - self.unsent
        # Behind a response that ends the connection no other will come: those requests count as unsent (RFC
        # 9112 section 9.6).
        refused = self.receiving.state is Receiving.ENDED and not self.receiving.at_eof
        answering = self.receiving.progress is not None
        facts = []
        for index, item in enumerate(waiting):
            request = Request("GET", item) if isinstance(item, str) else item
            if index >= first_unsent or refused:
                facts.append(Unanswered(request, "unsent", request.replayable))
            elif index == 0 and answering:
                facts.append(Unanswered(request, "answering", False))
            else:
                facts.append(Unanswered(request, "sent", request.repeatable))
        return tuple(facts)

    def where(self) -> Where:
        """The step of the exchange that a failure of the connection would interrupt now."""
        return self.receiving.progress or ("sending" if self.outbox or self.sends_body else "awaiting response")

    def facts(self, where: Where | None = None) -> dict[str, Any]:
        """The facts that every error of a connection carries, as keyword arguments of `HTTPError`."""
        parser = self.receiving.parser
        in_body = parser.progress == "in body"
        response = parser.open
        return {
            "where": where or self.where(),
            "received": parser.received if in_body else None,
            "expected": response.length if response is not None else None,
            "outstanding": self.unanswered(),
        }
