"""A whole connection without I/O: the sending half, the receiving half, and the rules that join them.

What is to be sent waits in the outbox until the transport has taken it, so that after a failure it is
known of every request whether the peer can have seen any of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from httpio.exceptions import ExcessBodyData, StateError, Unanswered, Where
from httpio.framing import BodyKind, FilePart, Frame, chunk, frame_request, join_targets, last_chunk
from httpio.messages import BodyFollowing, HTTPResponse, Lenient, Limits, Request, Trailers
from httpio.receiving import ASKS_UPGRADE, IS_CONNECT, IS_HEAD, PLAIN, ReceivingHalf
from httpio.states import SENDING, Receiving, Send, Sending, move

__all__ = ["Outgoing", "Protocol"]

JOINED = 64 * 1024
"""A body up to this many bytes is copied behind its head; a larger one is sent from where it is."""


class Outgoing:
    """Bytes, or a part of a file, on their way out, and how many requests begin in them."""

    __slots__ = ("_whole", "requests", "rest")

    def __init__(self, data: bytes | memoryview | FilePart, requests: int) -> None:
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
        rest = self.rest
        self.rest = rest.behind(count) if isinstance(rest, FilePart) else memoryview(rest)[count:]

    def unsent_requests(self) -> int:
        """How many of its requests the transport has not taken a byte of."""
        taken = len(self._whole) - len(self.rest)
        if taken == 0 or self.requests <= 1:
            return 0 if taken else self.requests
        assert isinstance(self._whole, bytes)
        gone = self._whole[:taken]
        # Several requests travel together only when none has a body: each ends with its empty line.
        begun = gone.count(b"\r\n\r\n") + (not gone.endswith(b"\r\n\r\n"))
        return self.requests - begun


class Protocol:
    """The state of one connection, from its first request to its end. A new connection takes a new
    Protocol.

    *defaults*: the fields that requests are sent with unless they bring their own, as `encode_fields`
    gives them. *origin*, *tunnelled*: as for `frame_request`.
    """

    def __init__(
        self,
        defaults: Sequence[tuple[bytes, bytes, bytes]],
        limits: Limits,
        lenient: Lenient,
        *,
        origin: bytes = b"",
        tunnelled: bool = False,
    ) -> None:
        self.sending = Sending.IDLE
        self.receiving = ReceivingHalf(limits, lenient)
        self._origin = origin
        self._tunnelled = tunnelled
        self.start_of_get = b"GET " + origin
        """What stands before the target, in origin-form, in the head of a GET request."""
        self.rest_of_get = b""
        """What follows it, where the request has no fields of its own."""
        self.send_with(defaults)
        self.outbox: deque[Outgoing] = deque()
        """What the transport is to take, in order."""
        self.chunked = False
        """Whether the body being sent goes out in chunks."""
        self._body_left: int | None = 0
        self.written = 0
        """Bytes of the body of the last request that has one of the caller's writing, as far as they are in the outbox,
        or sent."""
        self._early: HTTPResponse | None = None  # an answer that came while its request goes on going out
        self._trailers: Trailers = None
        self.held: Any = None
        """The body of a request that waits for 100 (Continue): bytes, a file, an iterable, or None where the caller
        writes it."""
        self.unfinished = False
        """A body was begun, and has not been sent to its end."""
        self.unwanted = False
        """The last request was answered before any of its body was sent: it was not wanted."""

    def send_with(self, defaults: Sequence[tuple[bytes, bytes, bytes]]) -> None:
        """Requests are sent with these fields from now on, unless they bring their own."""
        self._defaults = defaults
        lines = [b"%b: %b\r\n" % (name, value) for name, _, value in defaults]
        self.rest_of_get = b" HTTP/1.1\r\n%b\r\n" % b"".join(lines)

    def frame(self, request: Request, expect: bool | None) -> Frame:
        """What `send_request` would put into the outbox; raises what is wrong with the request."""
        return frame_request(
            request.method,
            request.path,
            request.headers,
            request.body,
            self._defaults,
            request.trailers,
            expect,
            origin=self._origin,
            tunnelled=self._tunnelled,
        )

    def _move(self, event: Send) -> None:
        self.sending = move(SENDING, self.sending, event)

    # -- requests --

    def send_request(self, request: Request, expect: bool | None = None, item: str | Request | None = None) -> BodyKind:
        """Put one request into the outbox, with its body where that is bytes; returns where the body comes
        from. *expect*: whether it asks for 100 (Continue) and its body waits for `go_on`; None: where its fields say
        so. *item*: what is outstanding, where that is not *request* itself.

        Raises StateError, ValueError, TypeError or InvalidURL, and then nothing has changed.
        """
        if self.sending is not Sending.IDLE:
            raise StateError(f"no request can be sent now: {self.sending.value}")
        body = request.body
        frame = self.frame(request, expect)
        ahead = frame.kind in (BodyKind.FOLLOWING, BodyKind.SOURCE) and frame.length != 0
        handover = frame.upgrade or request.method == "CONNECT"
        if handover and (ahead or frame.expects):
            raise StateError("the body of a request for an upgrade must be bytes, and cannot wait for 100 (Continue)")
        whole = None
        if handover and not frame.close:
            event = Send.HANDOVER
        elif frame.expects:
            event = Send.LAST_REQUEST_EXPECTING if frame.close else Send.REQUEST_EXPECTING
        elif frame.close:
            event = Send.LAST_REQUEST_AHEAD if ahead else Send.LAST_REQUEST
        else:
            event = Send.REQUEST_AHEAD if ahead else Send.REQUEST
        if frame.kind is BodyKind.BYTES and not frame.expects:
            assert isinstance(body, bytes | bytearray | memoryview)
            whole = [body] if frame.length is not None else [chunk(body), last_chunk(request.trailers)]
        self.receiving.expect(request if item is None else item, self._fact(request.method, frame))
        self._move(event)
        self.unwanted = False
        self._early = None
        if ahead or frame.expects:
            self.chunked = frame.length is None
            self._body_left = frame.length
            if self.chunked and isinstance(body, BodyFollowing):
                self._body_left = body.length  # held to, though it is not announced
            self.written = 0
            self.unfinished = True
            self._trailers = request.trailers
        if frame.expects:
            self.held = None if frame.kind is BodyKind.FOLLOWING else body
        if whole is None:
            self.outbox.append(Outgoing(frame.head, 1))
        elif sum(memoryview(part).nbytes for part in whole) <= JOINED:
            self.outbox.append(Outgoing(b"".join([frame.head, *whole]), 1))
        else:
            self.outbox.append(Outgoing(frame.head, 1))
            self.outbox.extend(Outgoing(memoryview(part).cast("B"), 0) for part in whole)
        return frame.kind

    # -- 100 (Continue) --

    @property
    def expecting(self) -> bool:
        """Whether the body of the last request waits for 100 (Continue)."""
        return self.sending is Sending.EXPECTING or self.sending is Sending.LAST_EXPECTING

    def continued(self) -> HTTPResponse | None:
        """The 100 (Continue) that has come for the body that waits, or None."""
        parser = self.receiving.parser
        if parser.waiting_count == 1 and parser.open is None:
            for interim in parser.interim_responses:
                if interim.status == 100:
                    return interim
        return None

    def go_on(self) -> Any:
        """100 (Continue) has come, or is taken as given: the body may be sent. Returns what waited for it, None where
        the caller writes it."""
        self._move(Send.CONTINUE)
        body, self.held = self.held, None
        return body

    # -- bodies --

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
        data = join_targets(targets, self.rest_of_get, self.start_of_get)
        if data is None:
            return False
        self.receiving.expect_all(targets)
        self.outbox.append(Outgoing(data, len(targets)))
        return True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Put a piece of the body into the outbox. ExcessBodyData, StateError: nothing of it was."""
        view = memoryview(data).cast("B")
        size = view.nbytes
        self.check_write(size)
        if size:
            self.outbox.append(Outgoing(chunk(view) if self.chunked else view, 0))
            self.wrote(size)

    def write_file(self, part: FilePart) -> None:
        """Put a part of a file into the outbox, as the next piece of the body. As `write`."""
        size = len(part)
        self.check_write(size)
        if size:
            parts: list[bytes | FilePart] = [b"%x\r\n" % size, part, b"\r\n"] if self.chunked else [part]
            self.outbox.extend(Outgoing(part, 0) for part in parts)
            self.wrote(size)

    def check_write(self, size: int) -> None:
        """StateError where no body is being sent, ExcessBodyData where *size* more bytes are more than it was declared
        to have."""
        self._check_sends_body()
        if self._body_left is not None and size > self._body_left:
            raise ExcessBodyData(f"{size} bytes are more than the {self._body_left} that the body has left")

    def wrote(self, size: int) -> None:
        """*size* more bytes of the body are in the outbox, or sent."""
        self.written += size
        if self._body_left is not None:
            self._body_left -= size
            if self._body_left == 0 and not self.chunked:
                self._end_body()

    def end_body(self, trailers: Trailers = None) -> None:
        """End a chunked body; *trailers*: what follows it, None: what the request came with. StateError when none is
        being sent, or when a declared length was not reached; what `last_chunk` raises."""
        self._check_sends_body()
        if self._body_left:
            raise StateError(f"the body has {self._body_left} bytes left to send")
        end = last_chunk(self._trailers if trailers is None else trailers)
        self.outbox.append(Outgoing(end, 0))
        self._end_body()

    def _check_sends_body(self) -> None:
        if self.expecting:
            raise StateError("the body waits for 100 (Continue): read_response() tells whether it has come")
        if not self.sends_body:
            raise StateError("no body is being sent")

    def _end_body(self) -> None:
        self._move(Send.END)
        self.unfinished = False

    @property
    def body_left(self) -> int | None:
        """Bytes that are still to be written of the body being sent; None: as many as the caller likes."""
        return self._body_left

    @property
    def sends_body(self) -> bool:
        """Whether more of a request's body is to be written."""
        return self.sending is Sending.BODY or self.sending is Sending.LAST_BODY

    def stop_sending(self) -> None:
        """Sending has failed, or has become pointless: what was not sent will not be."""
        if self._early is not None and self._is_going_out():
            self._early.request_complete = False
        self._move(Send.FAIL)
        self.held = None

    # -- responses --

    def answered(self, responses: list[HTTPResponse]) -> list[HTTPResponse]:
        """Take note of responses that have come; returns those to be handed out. Here the two halves meet."""
        if responses and self.outbox:
            self._drop_unasked(responses)
        if not responses:
            return responses
        last = responses[-1]
        if self.sending is Sending.IDLE and last.persistent and not self.outbox:
            return responses
        if self.sending is Sending.HELD and last.framing != "tunnel":
            self._move(Send.ANSWERED)
        if self.expecting:
            if self._answers_last():
                self.unwanted = True
                self.unfinished = False
                last.request_complete = False
                self._move(Send.REFUSE if last.persistent else Send.STOP)
                self.held = None
            elif not last.persistent:
                self._stop()
        elif self._is_going_out():
            # An answer that comes while its request is still going out (RFC 9112 section 9.5).
            if last.status >= 400 or not last.persistent or self.sending is Sending.BROKEN:
                last.request_complete = False
                self._stop()
            else:
                self._early = last
        elif not last.persistent:
            self._stop()
        return responses

    def _drop_unasked(self, responses: list[HTTPResponse]) -> None:
        """A response that came before the first byte of its request was sent answers nothing: drop it and what follows,
        which ends the connection."""
        unasked = self.unsent - self._still_awaited()
        if unasked > 0:
            unfinished = self.receiving.open is not None
            requests = [response.item for response in responses[-unasked:]]
            del responses[-unasked:]
            self.receiving.parser.disown(requests[:-1] if unfinished else requests)

    def _is_going_out(self) -> bool:
        """Whether the request that was answered last has not been sent whole."""
        if self.unfinished:
            return self._answers_last()
        waiting = self._still_awaited()
        entries = list(self.outbox)  # a copy: another thread may be sending
        return bool(entries) and entries[0].begun and waiting == sum(entry.unsent_requests() for entry in entries)

    def _still_awaited(self) -> int:
        """Outstanding requests, less the one whose response is being handed out."""
        return self.receiving.parser.waiting_count - (self.receiving.open is not None)

    def _answers_last(self) -> bool:
        """Whether the response being handed out is that to the last request."""
        return self._still_awaited() == 0

    def _stop(self) -> None:
        """Nothing more is sent on this connection; what waits in the outbox never will be."""
        if self.sending is not Sending.BROKEN:
            self._move(Send.STOP)
        self.held = None

    @property
    def alive(self) -> bool:
        """Whether neither half has come to its end."""
        state = self.receiving.state
        ended = self.sending in (Sending.DONE, Sending.REFUSED, Sending.STOPPED, Sending.BROKEN)
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

    @property
    def awaits_unsent(self) -> bool:
        """Whether the oldest request that is not answered has not been sent whole."""
        entries = list(self.outbox)
        begun = entries[0].begun if entries else self.unfinished
        left = bool(entries) or self.unfinished
        return left and self.receiving.parser.waiting_count == self.unsent + begun

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
        sends = self.outbox or self.sends_body or not self.receiving.parser.waiting_count
        return self.receiving.progress or ("sending" if sends else "awaiting response")

    def facts(self, where: Where | None = None) -> dict[str, Any]:
        """The facts that every error of a connection carries, as keyword arguments of `HTTPError`."""
        parser = self.receiving.parser
        in_body = parser.progress == "in body"
        return {
            "where": where or self.where(),
            "received": parser.received if in_body else None,
            "expected": parser.expected,
            "outstanding": self.unanswered(),
        }
