"""The loop that keeps a link busy: one step sends what the window allows, receives what comes, and
replaces a link that was lost."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from time import monotonic

from httpio.exceptions import ConnectionClosed, ConnectionTimedOut, HTTPError, Unanswered
from httpio.link import Link
from httpio.messages import BodyFollowing, HTTPResponse, Request
from httpio.transport import Transport
from httpio.waiting import PollNeeded, Step
from httpio.window import MAX_ATTEMPTS, Backlog, Failure, Window

__all__ = ["Outcome", "Pipeline"]

_log = logging.getLogger("httpio.pipeline")

DRAIN = 64 * 1024
"""Bytes of a body that nobody read which are read and dropped to keep the connection; a longer rest costs
the connection."""

Outcome = HTTPResponse | Failure


class Pipeline:
    """A run of requests over one link. `co_next` gives their outcomes in order, batch by batch.

    *requests*: an iterable of request targets and `Request`, or a Backlog. *window*: what is known of the
    origin; it may outlive the run. *decodes*: the caller will undo content codings.
    """

    def __init__(
        self,
        link: Link,
        requests: Iterable[str | Request] | Backlog,
        window: Window,
        body_limit: int,
        decodes: bool = False,
    ) -> None:
        self._link = link
        self.decodes = decodes
        self._backlog = requests if isinstance(requests, Backlog) else Backlog(requests)
        self._window = window
        self.body_limit = body_limit
        self._begun = False
        self._forks = link.forks
        self._failures: list[Outcome] = []
        self._handed: HTTPResponse | None = None  # at its head, and its body not yet read
        self._again = False
        self._fresh = True
        self._reused = True  # the connection was there before this run
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
        if self._link.forks != self._forks:  # what is drawn and sent from here on is the parent's to draw and send
            facts = self._link.protocol.facts()
            raise ConnectionClosed("the process was forked inside the pipeline", **facts)
        yield from self._co_finish_reading()
        while True:
            try:
                outcomes = yield from self._co_exchange()
            except Exception as exc:
                outcomes = self._after_failure(exc)
                if not outcomes:
                    continue
            if not outcomes and self._backlog.error is not None:
                raise self._backlog.take_error()
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
            link.stop_decoding()
            protocol = link.protocol
            stuck = link.transport is not None and link.transport.stuck
            left = protocol.outbox or stuck or link.ready or link.parser.waiting_count
            if link.broken or left or not protocol.reusable:
                link.close()
            else:
                link.parser.body_limit = -1

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
            idle = not link.ready and not link.parser.waiting_count
            if idle and not flushed:
                flushed = not link.look()  # nobody else receives: what comes now was not asked for
            outcomes: list[Outcome] | None = None
            if idle and flushed:
                if not self._failures and (link.stale or not link.protocol.reusable):
                    self._note_idle_end()
                outcomes = self._take_failures()
            elif not idle and link.take_responses():
                outcomes = self._hand_out()
            if outcomes is None:
                if link.protocol.held is not None and link.protocol.continued() is not None:
                    continue  # the body may go
                protocol = link.protocol
                yield link.until_continue(self._wait(flushed))
                if link.protocol is not protocol:
                    self._begun = False  # closed by another call: what is there now is not this run's
                    raise ConnectionClosed("the connection was closed inside its pipeline")
            elif outcomes or not (yield from self._co_usable()):
                return outcomes

    def _note_idle_end(self) -> None:
        """The connection ended while nothing was out on it. When it had not been used at all, that counts against the
        next request: else a peer that closes whatever is opened would be tried for ever."""
        window = self._window
        waiting = self._backlog.draw(1)
        if not waiting:
            return
        item = waiting[0]
        request = Request("GET", item) if isinstance(item, str) else item
        facts = [Unanswered(request, "unsent", True)]
        error = self._link.idle_error(facts)
        if not window.answered_here and window.lost(facts, error):
            self._failures.append(window.failed(request, error))
        else:
            self._backlog.put_back(waiting)

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
        if self._is_misunderstood(link.ready[-1]):
            return []
        late = link.ready.pop() if self._comes_too_late(link.ready[-1]) else None
        responses = list(link.ready)
        link.ready.clear()
        if late is not None:
            window.answered(len(responses))
            window.closed()
            self._backlog.put_back([late.item, *link.protocol.receiving.outstanding])
            link.close()
            return list(responses)
        waited = 0.0 if self._need is None else monotonic() - self._waiting_since
        self._need = None
        last = responses[-1]
        depth = window.depth
        window.answered(len(responses) - (last.complete_by is None), waited)
        if window.depth != depth and _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s: %d requests may be out at once", link.target, window.depth)
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

    def _is_misunderstood(self, response: HTTPResponse) -> bool:
        """Whether the peer does not know what Expect: 100-continue asks for. Then its answer counts for nothing: the
        request is sent again without, on another connection, and no further one to this peer asks (RFC 9110 section
        10.1.1)."""
        window = self._window
        if response.status != 417 or not self._link.protocol.unwanted or not window.expects:
            return False
        _log.info("%s answers 417 to Expect: 100-continue: it is not asked again", self._link.target)
        window.expects = False
        self._backlog.put_back([response.item])
        self._link.close()
        return True

    def _comes_too_late(self, response: HTTPResponse) -> bool:
        """Whether it is the 408 with which a peer closes an idle connection, on its way when the request went out. The
        request may then be sent again on a new connection (RFC 9110 section 15.5.9), where a 408 is an answer."""
        if response.status != 408 or response.persistent or response.complete_by is None:
            return False
        used = self._reused or self._window.answered_here + len(self._link.ready) > 1
        return used and (isinstance(response.item, str) or response.item.repeatable)

    def _is_last(self, response: HTTPResponse) -> bool:
        """Whether no response can follow this one, which is complete."""
        protocol = self._link.protocol
        return not response.persistent or not (protocol.alive or self._link.parser.waiting_count > protocol.unsent)

    # -- sending --

    def _refill(self) -> bool:
        """Put into the outbox what the window allows; returns whether that is anything."""
        refilled = False
        link = self._link
        protocol, parser = link.protocol, link.parser
        while protocol.reusable and not link.stale and not self._failures:
            # Answers that are here and were not handed out yet are not accounted for in the window.
            in_flight = parser.waiting_count + sum(response.complete_by is not None for response in link.ready)
            requests = self._window.take(self._backlog, in_flight, parser.takes)
            if not requests:
                break
            if not parser.waiting_count:
                link.look_if_readable()  # nobody has asked for what is here; the iterable may have taken long
                if link.stale or not protocol.reusable:
                    self._backlog.put_back(requests)
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
            except Exception as exc:  # its own: nothing has been sent yet
                if protocol.receiving.parser.waiting_count:  # its turn comes when all before it is answered
                    self._backlog.put_back(requests[index:])
                    self._window.hold()
                else:
                    self._backlog.put_back(requests[index + 1 :])
                    self._failures.append(self._window.failed(item, exc))
                return

    def _send_one(self, item: str | Request) -> None:
        request = Request("GET", item) if isinstance(item, str) else item
        if not isinstance(request, Request):
            raise TypeError("a request in a pipeline must be a str or a Request, not " + type(item).__name__)
        if isinstance(request.body, BodyFollowing):
            raise ValueError("the body of a request in a pipeline cannot be a BodyFollowing")
        self._link.put(request, None if self._window.expects else False, item)

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
        owed = link.ready or link.parser.waiting_count  # also on a broken link: each has to be accounted for
        transport = link.transport
        sends = protocol.sends_body or protocol.outbox or (transport is not None and transport.stuck)
        if owed or (transport is not None and not link.broken and protocol.alive and sends):
            return True
        waiting = self._backlog.draw(1)
        if not waiting:
            return False
        self._backlog.put_back(waiting)
        if link.transport is not None and not link.broken:
            link.look_if_readable()  # it may have been closed while it was idle
        worn = not (protocol.alive and protocol.reusable) or link.stale or window.spent
        if link.transport is None or link.broken or worn:
            if link.parser.takes == 0:
                window.closed()  # it was announced
            link.close()
            self._fresh = True
            self._reused = False
            yield from link.co_connect()
        if self._fresh:
            self._fresh = False
            self._need = None
            window.connected()
            link.parser.body_limit = self.body_limit
        return True

    def _end_announced(self) -> None:
        """The last response said that the connection ends with it: what is outstanding will not be answered on
        it."""
        waiting = self._link.protocol.receiving.outstanding
        if waiting and _log.isEnabledFor(logging.INFO):
            _log.info("%s ends the connection, %d requests are sent again", self._link.target, len(waiting))
        self._window.closed()
        self._backlog.put_back(waiting)
        self._link.close()

    def _after_failure(self, error: Exception) -> list[Outcome]:
        """Sort what was outstanding on a link that failed; raises what is not the link's failure."""
        link = self._link
        if link.transport is None or not self._begun:
            raise error  # it was not even connected, or is another's
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
        if _log.isEnabledFor(logging.INFO):
            kind, again = type(error).__name__, len(waiting)
            _log.info("%s: the connection was lost (%s), %d requests are sent again", link.target, kind, again)
        self._backlog.put_back(waiting)
        link.close()
        return failures

    def _co_finish_reading(self) -> Step[None]:
        """See the response that was handed out at its head to its end. What the caller left of its body is
        dropped: read where it is short, else the connection is replaced."""
        response, self._handed = self._handed, None
        self._link.stop_decoding()  # what is dropped is not decoded
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
