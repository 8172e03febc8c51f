"""How many requests may be out at once on the way to one origin, and what becomes of them after a loss. No
I/O.

RFC 9112 section 9.3.2 and RFC 9110 section 9.2.2: only what may be repeated rides behind other requests;
after a loss only what may be repeated is sent again, and the connection that it is sent on does not
pipeline at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from httpio.exceptions import InvalidResponse, Unanswered, UnsupportedResponse
from httpio.headers import encode_fields
from httpio.messages import Request

__all__ = ["MOST_BODIES", "Backlog", "Failure", "Window", "body_size", "refuse_one"]

T = TypeVar("T")

MAX_DEPTH = 256
"""Requests out at once, at most, where the caller sets no depth."""

MAX_ATTEMPTS = 2
"""Times that a request is sent when nothing comes back: a failed automatic retry is not retried (RFC 9110
section 9.2.2)."""

MOST_BODIES = 1024 * 1024
"""Bytes of request bodies that may be out, beside those of one more request: they are kept until they are answered."""

FIRST_PATIENCE = 1.0
"""Seconds to wait for the answers to a window on trial, unless the peer was seen to be slower."""

PROBE_EVERY = 64
"""Every so many connections it is tried again whether the peer still closes after the same number of
responses."""


class Failure(NamedTuple):
    """A request that will have no response."""

    request: Request
    error: Exception
    attempts: int


def refuse_one(items: T) -> T:
    """*items*, where it is no str or bytes: those are iterables too, and each character would be an item."""
    if isinstance(items, str | bytes):
        raise TypeError("an iterable of requests is wanted, not one " + type(items).__name__ + ": put it into a list")
    return items


class Backlog:
    """The requests that are not out: those put back after a loss, then the caller's iterable, which is
    drawn from lazily."""

    def __init__(self, source: Iterable[str | Request]) -> None:
        self._source: Iterator[str | Request] = iter(refuse_one(source))
        self._back: deque[str | Request] = deque()
        self.error: Exception | None = None
        """What the caller's iterable raised; nothing is drawn from it after that."""

    def draw(self, count: int, bodies: int = MOST_BODIES) -> list[str | Request]:
        """At most *count* requests, oldest first; fresh ones only until they have *bodies* bytes of bodies."""
        drawn: list[str | Request] = []
        while self._back and len(drawn) < count:
            item = self._back.popleft()
            drawn.append(item)
            if type(item) is not str:
                bodies -= body_size(item)
        if len(drawn) < count and bodies > 0 and self.error is None:
            try:
                # Item by item: what the iterable gave before it raised is kept.
                for item in self.fresh(count - len(drawn)):
                    drawn.append(item)
                    if type(item) is not str:
                        bodies -= body_size(item)
                        if bodies <= 0:
                            break
            except Exception as exc:
                self.error = exc
        return drawn

    def take_error(self) -> Exception:
        """What the caller's iterable raised, which is kept no longer: its traceback holds the connection."""
        error, self.error = self.error, None
        assert error is not None
        self._source = iter(())
        return error

    def fresh(self, count: int) -> Iterator[str | Request]:
        """At most *count* requests that were never drawn."""
        return islice(self._source, count)

    def put_back(self, requests: Sequence[str | Request]) -> None:
        """Requests to be sent before all others."""
        self._back.extendleft(reversed(requests))


class Window:
    """What one origin has shown of itself, and how deep to pipeline to it because of that.

    *depth*: requests out at once; None: it starts at 1 and doubles with each fully answered window.
    """

    def __init__(self, depth: int | None = None) -> None:
        if depth is not None and depth < 1:
            raise ValueError("the depth of a pipeline must be at least 1")
        self.depth = depth or 1
        self.expects = True
        """Whether the peer may be asked for 100 (Continue): it has not refused that."""
        self.ceiling = depth or MAX_DEPTH
        self.proven = 1
        """The deepest window that has been answered in full."""
        self.answered_here = 0
        """Responses on the connection under way."""
        self.done = 0
        """Requests answered or failed, on all connections: the number of the oldest request that is not."""
        self.attempts: dict[int, int] = {}
        """By number: how often a request was sent in vain. Only requests that were are in it."""
        self.blamed: dict[int, int] = {}  # by number: how often nothing but the request explains the loss
        self._sent_here = 0
        self._in_window = 0
        self._trial = 0  # what may still be sent of a window on trial
        self._alone = False
        self._bodies: deque[tuple[int, int]] = (
            deque()
        )  # of requests that are out: their numbers, the sizes of their bodies
        self._body_bytes = 0
        self._single = False  # the last one taken went out when nothing else was out
        self._announced: int | None = None  # responses before the close that the last connection announced
        self._cut: int | None = None  # the same without a word, when it happened twice in a row
        self._last_cut = 0
        self._connections = 0
        self._stalled = False
        self._strikes = 0
        self._lost_at = 0  # the depth at the last loss
        self._slowest = 0.0

    # -- sending --

    def take(self, backlog: Backlog, in_flight: int, most: int | None = None) -> list[str | Request]:
        """The requests to send now, in one batch, *most* at most; empty: none until more is answered.

        A batch is half of the window, so that a deep one always has two on their way. A window deeper than any
        that was answered is a trial: all of it goes out, and nothing more before all of it is answered. A peer
        that loses pipelined requests would otherwise be caught only when answers have gone to the wrong ones.
        """
        if self._alone and in_flight:
            return []
        self._alone = False
        if in_flight == 0:  # what was taken and put back was not sent
            self._sent_here = self.answered_here
            self._bodies.clear()
            self._body_bytes = 0
        elif self._body_bytes >= MOST_BODIES:
            return []
        batch = max(1, self.depth // 2)
        if self.depth > self.proven:
            if in_flight == 0:
                self._trial = self.depth
                self._in_window = 0
            batch = min(max(2, batch), self._trial)
        if self._cut is not None and not self._probing:
            batch = min(batch, self._cut - self._sent_here)
        if self._announced is not None:
            left = self._announced - self._sent_here
            if left <= 0 and in_flight == 0:
                self._announced = None  # it answered as many and goes on
            else:
                batch = min(batch, left)
        if batch <= 0 or self.depth - in_flight < batch:
            return []
        if most is not None:
            batch = min(batch, most)
        requests = self._riders(backlog.draw(batch, MOST_BODIES - self._body_bytes), backlog, in_flight)
        self._sent_here += len(requests)
        self._trial -= len(requests)
        if requests:
            self._single = in_flight == 0 and len(requests) == 1
        return requests

    def _riders(self, drawn: list[str | Request], backlog: Backlog, in_flight: int) -> list[str | Request]:
        """The requests at the front of *drawn* that may go together behind what is out; the rest is put
        back."""
        for index, item in enumerate(drawn):
            if type(item) is not str and not _may_ride(item):
                if index == 0 and in_flight == 0:
                    self._alone = True
                    index = 1
                backlog.put_back(drawn[index:])
                return drawn[:index]
            if type(item) is not str and (size := body_size(item)):
                self._bodies.append((self.done + in_flight + index, size))
                self._body_bytes += size
        return drawn

    def hold(self) -> None:
        """Nothing is sent until all that is out is answered."""
        self._alone = True

    @property
    def spent(self) -> bool:
        """Whether the connection should be replaced before it is used again: the peer is known to close
        here without a word."""
        return self._cut is not None and self.answered_here >= self._cut and not self._probing

    @property
    def _probing(self) -> bool:
        return self._connections % PROBE_EVERY == 0

    def connected(self) -> None:
        """A fresh connection is used from here on."""
        self.answered_here = self._sent_here = self._in_window = 0
        self._alone = False
        self._connections += 1

    # -- answers --

    def answered(self, count: int, waited: float = 0.0) -> None:
        """*count* responses came, the first of them after *waited* seconds without any byte."""
        self.answered_here += count
        self.done += count
        while self._bodies and self._bodies[0][0] < self.done:
            self._body_bytes -= self._bodies.popleft()[1]
        if self._cut is not None and self.answered_here > self._cut:
            self._cut = None
        self._in_window += count
        self._slowest = max(self._slowest, waited)
        if self._in_window >= self.depth:
            self._in_window = 0
            self.proven = max(self.proven, self.depth)
            if self.depth >= self._lost_at:
                self._strikes = 0
            self.depth = min(2 * self.depth, self.ceiling)

    @property
    def patience(self) -> float | None:
        """Seconds to wait for an answer while it is not known that the peer answers windows as deep as this
        one; None: no limit."""
        return None if self.depth <= self.proven or self._single else max(FIRST_PATIENCE, 8 * self._slowest)

    # -- the end of a connection --

    def closed(self) -> None:
        """The last complete response announced the close. That is no loss: the next connection may
        pipeline at once."""
        if self.answered_here:
            self._announced = self.answered_here

    def lost(self, facts: Sequence[Unanswered], error: Exception) -> bool:
        """The connection failed with *facts* outstanding. Returns whether the oldest of them has failed for
        good.

        The others are to be sent again, in order: what must not be repeated was never sent behind another.
        """
        on_trial, cut = self._stalled, isinstance(error, ConnectionError)
        # A connection that has answered others may have ended for reasons of its own.
        blamed = not on_trial and (self.answered_here == 0 or not cut)
        self._note_loss(cut)
        if not facts:
            return False
        oldest = facts[0]
        if blamed or oldest.state != "unsent":
            self.attempts[self.done] = self.attempts.get(self.done, 0) + 1
        if blamed:
            self.blamed[self.done] = self.blamed.get(self.done, 0) + 1
        if oldest.state != "unsent" and not oldest.request.repeatable:
            return True
        hopeless = isinstance(error, InvalidResponse | UnsupportedResponse)
        return hopeless or self.blamed.get(self.done, 0) >= MAX_ATTEMPTS

    def stalled(self) -> None:
        """The answers to a window on trial do not come: the connection is about to be given up for that."""
        self._stalled = True

    def failed(self, request: Any, error: Exception) -> Failure:
        """The oldest request has failed for good."""
        attempts = self.attempts.pop(self.done, 1)
        self.done += 1
        return Failure(request, error, attempts)

    @property
    def attempts_so_far(self) -> int:
        """How often the oldest request that is not answered was sent in vain."""
        return self.attempts.get(self.done, 0)

    def attempts_of(self, number: int) -> int:
        """How often request *number* was sent until it was answered."""
        return self.attempts.get(number, 0) + 1 if self.attempts else 1

    def _note_loss(self, cut: bool) -> None:
        here = self.answered_here if cut else 0
        self._cut = here if here and here == self._last_cut else None
        self._last_cut = here
        self._announced = None
        self._stalled = False
        if self.depth > 1:
            self._lost_at = self.depth
            # A close that was seen coming says nothing of the depth.
            self._strikes = 0 if self._cut is not None else self._strikes + 1
            if self._strikes > 1:  # twice at this depth: this peer is sent one request at a time from now on
                self.ceiling = 1
        self.depth = 1
        self._in_window = 0


def body_size(request: object) -> int:
    """Bytes of a request's body that are in memory."""
    body = getattr(request, "body", None)
    return memoryview(body).nbytes if isinstance(body, bytes | bytearray | memoryview) else 0


def _may_ride(request: object) -> bool:
    """Whether it may follow unanswered requests, and be followed before it is answered. What is no valid
    request may not."""
    if not isinstance(request, Request) or not request.repeatable or request.method == "CONNECT":
        return False
    if request.headers is None:
        return True
    try:
        return all(name not in (b"upgrade", b"expect") for _, name, _ in encode_fields(request.headers))
    except (TypeError, ValueError):
        return False
