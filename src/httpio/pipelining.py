"""The loop that keeps a link busy: one step sends what the window allows, receives what comes, and
replaces a link that was lost."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from time import monotonic

from httpio.exceptions import ConnectionTimedOut, HTTPError, StateError
from httpio.framing import BodyKind, pieces
from httpio.link import Link
from httpio.messages import BodyFollowing, HTTPResponse, Request
from httpio.transport import Transport
from httpio.waiting import PollNeeded, Step
from httpio.window import MAX_ATTEMPTS, Backlog, Failure, Window

__all__ = ["Outcome", "Pipeline"]

DRAIN = 64 * 1024
"""Bytes of a body that nobody read which are read and dropped to keep the connection; a longer rest costs
the connection."""

Outcome = HTTPResponse | Failure


class Pipeline:
    """A run of requests over one link. `co_next` gives their outcomes in order, batch by batch.

    *requests*: an iterable of request targets and `Request`, or a Backlog. *window*: what is known of the
    origin; it may outlive the run.
    """

    def __init__(
        self, link: Link, requests: Iterable[str | Request] | Backlog, window: Window, body_limit: int
    ) -> None:
        self._link = link
        self._backlog = requests if isinstance(requests, Backlog) else Backlog(requests)
        self._window = window
        self._body_limit = body_limit
        self._begun = False
        self._failures: list[Outcome] = []
        self._handed: HTTPResponse | None = None  # at its head, and its body not yet read
        self._again = False
        self._fresh = True
        self._need: PollNeeded | None = None  # what was waited for last
        self._waiting_since = 0.0

    # -- one batch --

    def co_next(self) -> Step[list[Outcome]]:
        """The next outcomes, in the order of the requests; empty when there are no more.

        Only the last response of a batch may have a body that is yet to be read (its `body` is None): through
        the link, before the next call, which drops the rest. Raises what connecting raises, and what the
        caller's iterable raised, once all before is answered.
        """
        self._begun = True
        yield from self._co_finish_reading()
        while True:
            try:
                outcomes = yield from self._co_exchange()
            except Exception as exc:
                outcomes = self._after_failure(exc)
                if not outcomes:
                    continue
            if not outcomes and self._backlog.error is not None:
                raise self._backlog.error
            return outcomes

    def read_next(self, response: HTTPResponse) -> None:
        """The body of *response*, the last of its batch, is to be read through the link."""
        if self._handed is response:
            self._link.current = response

    def repeat(self) -> bool:
        """Reading the body of the response that was handed out has failed: send its request again. False: it
        must not be, or was often enough."""
        window, response = self._window, self._handed
        attempts = window.attempts[window.done] = window.attempts.get(window.done, 0) + 1
        self._again = response is not None and response.request.repeatable and attempts < MAX_ATTEMPTS
        return self._again

    def close(self) -> None:
        """The run is over. With requests outstanding the link is closed."""
        if self._begun:
            self._begun = False
            link = self._link
            protocol = link.protocol
            if link.broken or protocol.receiving.parser.waiting_count or not protocol.reusable or protocol.outbox:
                link.close()
            else:
                protocol.receiving.parser.body_limit = -1

    def _co_exchange(self) -> Step[list[Outcome]]:
        """Send and receive until something can be handed out."""
        link = self._link
        if self._failures:
            return self._take_failures()
        if link.source_error is not None:
            raise link.source_error
        if not (yield from self._co_usable()):
            return []
        while True:
            flushed = self._flush()
            if flushed and self._refill():
                flushed = self._flush()
            if not link.ready and not link.parser.waiting_count:
                if flushed:
                    return self._take_failures()
            elif link.take_responses():
                return self._hand_out()
            yield self._wait(flushed)

    def _wait(self, flushed: bool) -> PollNeeded:
        """What to wait for; raises ConnectionTimedOut when that has taken too long."""
        link = self._link
        transport = self._transport()
        now = monotonic()
        if self._need is None or self._need.moved != link.moved:
            self._waiting_since = now
        mask = transport.receive_wants if flushed else transport.receive_wants | transport.send_wants
        self._need = need = link.need(mask, self._need)
        patience = self._window.patience
        if patience is None or not flushed or link.parser.progress is not None:
            return need
        due = self._waiting_since + patience
        if now >= due:
            self._window.stalled()
            raise ConnectionTimedOut("the peer does not answer pipelined requests")
        return need if need.deadline is not None and need.deadline < due else PollNeeded(need.fd, mask, due)

    def _transport(self) -> Transport:
        assert self._link.transport is not None
        return self._link.transport

    def _hand_out(self) -> list[Outcome]:
        """Account for the responses that are ready, and put more requests on their way before the caller gets to
        see them."""
        link, window = self._link, self._window
        responses = list(link.ready)
        link.ready.clear()
        waited = 0.0 if self._need is None else monotonic() - self._waiting_since
        self._need = None
        last = responses[-1]
        window.answered(len(responses) - (last.complete_by is None), waited)
        outcomes: list[Outcome] = list(responses)
        if last.complete_by is None:
            self._handed = last
        else:
            link.end_answer()
            if self._is_last(last):
                self._end_announced()
                return outcomes
        try:
            self._refill()
            self._flush()
        except Exception as exc:
            if exc is not link.source_error:  # the next call meets it; these responses stand
                raise
        return outcomes

    def _is_last(self, response: HTTPResponse) -> bool:
        """Whether no response can follow this one, which is complete."""
        protocol = self._link.protocol
        return not response.persistent or not (protocol.alive or self._link.parser.waiting_count > protocol.unsent)

    # -- sending --

    def _refill(self) -> bool:
        """Put into the outbox what the window allows; returns whether that is anything."""
        refilled = False
        link = self._link
        protocol = link.protocol
        parser = protocol.receiving.parser
        while protocol.reusable and not self._failures:
            requests = self._window.take(self._backlog, parser.waiting_count)
            if not requests:
                break
            refilled = True
            link.start_exchange()
            if type(requests[0]) is not str or not protocol.send_targets(requests):  # type: ignore[arg-type]
                self._send_singly(requests)
        return refilled

    def _send_singly(self, requests: list[str | Request]) -> None:
        protocol = self._link.protocol
        for index, item in enumerate(requests):
            if not protocol.reusable:
                self._backlog.put_back(requests[index:])
                return
            try:
                self._send_one(item)
            except (ValueError, TypeError, StateError) as exc:
                if protocol.receiving.parser.waiting_count:  # its turn comes when all before it is answered
                    self._backlog.put_back(requests[index:])
                    self._window.hold()
                else:
                    self._backlog.put_back(requests[index + 1 :])
                    self._failures.append(self._window.failed(item, exc))
                return

    def _send_one(self, item: str | Request) -> None:
        protocol = self._link.protocol
        request = Request("GET", item) if isinstance(item, str) else item
        if not isinstance(request, Request):
            raise TypeError("a request in a pipeline must be a str or a Request, not " + type(item).__name__)
        if isinstance(request.body, BodyFollowing):
            raise ValueError("the body of a request in a pipeline cannot be a BodyFollowing")
        kind = protocol.send_request(request)
        if kind is BodyKind.SOURCE and protocol.sends_body:
            self._link.source = pieces(request.body, protocol.body_length)

    def _flush(self) -> bool:
        """Send what the transport takes; returns whether nothing is left. A failure to send leaves what was
        received to be read."""
        link = self._link
        try:
            return link.flush()
        except HTTPError as exc:
            if exc is link.source_error:
                raise
            return True

    # -- replacing the connection --

    def _co_usable(self) -> Step[bool]:
        """Make sure of a connection that requests can go out on; False when there is nothing left to do."""
        link, window = self._link, self._window
        protocol = link.protocol
        under_way = link.ready or link.parser.waiting_count or protocol.sends_body or protocol.outbox
        if link.transport is not None and not link.broken and under_way:
            return True
        waiting = self._backlog.draw(1)
        if not waiting:
            return False
        self._backlog.put_back(waiting)
        if self._fresh and link.transport is not None and not link.broken:
            link.look()  # whether it has been closed while it was idle
        if link.transport is None or link.broken or not protocol.alive or window.spent:
            link.close()
            self._fresh = True
            yield from link.co_connect()
        if self._fresh:
            self._fresh = False
            self._need = None
            window.connected()
            link.parser.body_limit = self._body_limit
        return True

    def _end_announced(self) -> None:
        """The last response said that the connection ends with it: what is outstanding will not be answered on
        it."""
        self._window.closed()
        self._backlog.put_back(self._link.protocol.receiving.outstanding)
        self._link.close()

    def _after_failure(self, error: Exception) -> list[Outcome]:
        """Sort what was outstanding on a link that failed; raises what is not the link's failure."""
        link = self._link
        if link.transport is None:
            raise error  # it was not even connected
        protocol = link.protocol
        waiting = protocol.receiving.outstanding
        if error is link.source_error and waiting:
            # Its own body's fault: it went alone, and is not sent again.
            failed = True
        elif isinstance(error, HTTPError):
            link.report(error)
            failed = self._window.lost(protocol.unanswered(), error)
        else:
            raise error
        failures: list[Outcome] = []
        if failed:
            request = waiting[0]
            failure = self._window.failed(Request("GET", request) if isinstance(request, str) else request, error)
            failures.append(failure)
            waiting = waiting[1:]
        self._backlog.put_back(waiting)
        link.close()
        return failures

    def _co_finish_reading(self) -> Step[None]:
        """See the response that was handed out at its head to its end. What the caller left of its body is
        dropped: read where it is short, else the connection is replaced."""
        response, self._handed = self._handed, None
        if response is None:
            return
        link = self._link
        if response.complete_by is None and not self._again:
            with suppress(HTTPError):
                yield from self._co_drain()
        if response.complete_by is not None:
            self._window.answered(1)
            if self._is_last(response):
                self._end_announced()
            return
        waiting = link.protocol.receiving.outstanding
        if self._again:
            self._again = False
        else:
            waiting = waiting[1:]
            self._window.answered(1)
        self._backlog.put_back(waiting)
        link.close()

    def _co_drain(self) -> Step[None]:
        link = self._link
        link.current = link.protocol.receiving.open
        view = memoryview(bytearray(DRAIN))
        left = DRAIN
        while left > 0 and link.current is not None:
            left -= yield from link.co_readinto(view)

    def _take_failures(self) -> list[Outcome]:
        failures, self._failures = self._failures, []
        return failures
