"""One end of a connection: how it is made and given up, its deadlines, and what its failures mean.

`sending.py` adds what sends, and `link.py` what receives.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, BinaryIO, NoReturn
from weakref import WeakSet

from httpio.decoding import Decoding
from httpio.dial import Attempt
from httpio.exceptions import ConnectionClosed, ConnectionTimedOut, HTTPError, StateError, Where
from httpio.messages import HTTPResponse
from httpio.protocol import Protocol
from httpio.reaching import Acquaintance, Target, co_reach
from httpio.trace import TracedTransport, open_trace
from httpio.transport import Bell, Transport, tls_reason
from httpio.waiting import POLLIN, PollNeeded, Step, waiter

if TYPE_CHECKING:
    from httpio.watching import Watch  # it imports asyncio, which takes long

__all__ = ["Endpoint", "Times", "TraceTo"]

TraceTo = str | os.PathLike[str] | BinaryIO | None

TURN = 1024 * 1024
"""Bytes that may come or go without a wait."""

TRACE_VARIABLE = "HTTPIO_TRACEFILE"

_log = logging.getLogger("httpio.connection")
_numbers = count(1)
_endpoints: WeakSet[Endpoint] = WeakSet()


@dataclass
class Times:
    """Seconds that things may take; None: no limit."""

    idle: float | None = None
    """Without progress."""
    connect: float | None = None
    """To be connected, TLS handshake included."""
    exchange: float | None = None
    """From a request to the end of its response."""
    expect: float | None = 1.0
    """To wait for 100 (Continue), which is then taken as given."""


class Endpoint:
    """One connection at a time to one target. A failure leaves it broken until `co_connect` or `close`."""

    def __init__(self, target: Target, times: Times) -> None:
        self.target = target
        self.times = times
        self.trace: TraceTo = None
        self.on_informational: Callable[[HTTPResponse], object] | None = None
        self.transport: Transport | None = None
        self.number = 0
        """Of the connection: each that this process makes has its own."""
        self.broken = False
        self.closed_inside = False
        """It was closed here while something was under way, and has not been connected since."""
        self.forks = 0
        """How often it was left to a parent process."""
        self._known = Acquaintance()
        self._fields = target.defaults
        self._attempt: Attempt | None = None
        self._choosing = threading.Lock()  # held while it is decided which attempt that is
        self._trace_file: BinaryIO | None = None  # opened here, and to be closed here
        self._bell: Bell | None = None  # for a sender that waits
        self._reader_bell: Bell | None = None  # for a reader that waits while another call sends
        self._rung = False  # the reader's
        self.awaiting_request: Bell | None = None
        """For a reader that waits for a request to be sent."""
        self.watch: Watch | None = None
        """Where an event loop drives this: what it watches."""
        self._start()
        _endpoints.add(self)

    def _start(self) -> None:
        self.protocol = self.target.new_protocol(self._fields)
        self.parser = self.protocol.receiving.parser
        self.ready: deque[HTTPResponse] = deque()
        """Responses that were parsed and not yet asked for."""
        self.current: HTTPResponse | None = None
        """The response whose body is being read."""
        self.decoding: Decoding | None = None
        """Where its content codings are to be undone: what does so."""
        self._decoded = 0  # bytes that this gave since others had a turn
        self.source: Iterator[bytes | memoryview] | None = None
        """The rest of the body being sent, where that is drawn piece by piece."""
        self.source_error: Exception | None = None
        """What that file or iterable raised."""
        self.send_error: OSError | None = None
        """What the system said when sending failed, or while nothing was outstanding."""
        self.moved = 0
        """Bytes that the transport has taken or given."""
        self._turn_began = 0  # what `moved` was at the last wait
        self._exchange_end: float | None = None
        self._expect_end: float | None = None
        self._idle_since: float | None = None
        self._just_sent = False
        self._ends_body = True  # when there is nothing left of `source`, the body is complete
        self._raw = b""  # what came and was refused, as far as it is asked for
        self._noted = 0  # interim responses before the one awaited that were noted
        self.untold: deque[HTTPResponse] = deque()
        """Interim responses that the caller is to be shown."""
        self._needs: dict[tuple[bool, int, bool], PollNeeded] = {}
        self._about_to_send = False  # a call connects in order to send
        self._sending = False  # a call is in `co_flush`
        self._reading = False  # a call waits for the peer
        self._reader = threading.Lock()  # held by the one call that reads
        self._sender = threading.Lock()  # held by the one call that sends
        self._right_to_receive = threading.Lock()
        self._right_to_send = threading.Lock()  # held for a moment only: a reader sends too, while it waits
        self._moving = threading.Lock()  # the sending half from one state to another: a reader may stop it

    def send_with(self, fields: tuple[tuple[bytes, bytes, bytes], ...]) -> None:
        """Requests have these fields from now on, unless they bring their own: on this connection and on those that
        replace it."""
        self._fields = fields
        self.protocol.send_with(self.target.fields_of(fields))

    # -- its ends --

    def co_connect(self, to_send: bool = False) -> Step[None]:
        """Connect, or connect anew; what was outstanding is given up. *to_send*: the caller will send at once."""
        target = self.target
        limit = self.times.connect
        attempt = Attempt(None if limit is None else monotonic() + limit)
        with self._choosing:
            if self._attempt is not None:
                raise StateError("another call is connecting")
            self.close()
            self._attempt = attempt
            self._about_to_send = to_send
        try:
            transport = yield from co_reach(target, attempt, self._known)
            if self._attempt is attempt:
                self._wait_for_answer = waiter(transport.fd, POLLIN)
                self.transport = transport
        except BaseException:
            if self._attempt is attempt:
                self._about_to_send = False
            raise
        finally:
            if self._attempt is attempt:
                self._attempt = None
            self._wake_reader()
        if self.transport is not transport:  # closed here, or left to the parent process, when it was nearly over
            transport.drop()
            attempt.check()
            raise ConnectionClosed("the connection was given up while it was made", where="connecting")
        if attempt.aborted:  # when it was over, and before the transport was here to be aborted
            self.close()
            attempt.check()
        self.closed_inside = False
        self.number = next(_numbers)
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("connection %d: connected to %s at %s", self.number, target, transport.peername)
        trace = self.trace or os.environ.get(TRACE_VARIABLE)
        if trace:
            try:
                self.start_trace(trace)
            except BaseException:
                self.close()
                raise

    def retrace(self, trace: BinaryIO | None) -> None:
        """From now on, trace to this file, or not at all."""
        if isinstance(self.transport, TracedTransport):
            self.transport = self.transport.traced
        if trace is not None:
            self.start_trace(trace)

    def start_trace(self, trace: str | os.PathLike[str] | BinaryIO) -> None:
        """Write all that is sent and received from now on to *trace*."""
        if self.transport is None:
            return
        if isinstance(trace, str | os.PathLike):
            trace = self._trace_file = open_trace(trace, self.number)
        self.transport = TracedTransport(self.transport, trace)

    def close(self) -> None:
        """Close, or end an attempt to connect, and forget what was outstanding."""
        if self.watch is not None:
            self.watch.clear()
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.abort()
        transport, self.transport = self.transport, None
        self.broken = False
        if transport is not None:
            owed = self.ready or self.current or self.parser.waiting_count
            self.closed_inside = bool(owed) or self.protocol.unfinished
        self._start()
        if transport is not None:
            self._known.keep(self.target, transport)
            transport.close()
            if _log.isEnabledFor(logging.DEBUG):
                _log.debug("connection %d: closed", self.number)
        self._let_go()

    def _let_go(self) -> None:
        file, self._trace_file = self._trace_file, None
        bells, self._bell, self._reader_bell = (self._bell, self._reader_bell), None, None
        if file is not None:
            file.close()
        for bell in bells:
            if bell is not None:
                bell.close()

    def abort(self) -> None:
        """End the connection, or the attempt at one, from any thread: whoever waits for it wakes up."""
        attempt = self._attempt
        if attempt is not None:
            attempt.abort()
        transport = self.transport  # asked for last: it may have come of the attempt
        if transport is not None:
            transport.abort()

    def leave_to_parent(self) -> None:
        """This process was forked, and the connection is its parent's: close the copy without a word to the peer.
        What is outstanding here is lost."""
        transport, self.transport = self.transport, None
        self.forks += 1
        self.watch = None  # its loop is the parent's, down to the descriptors
        self._attempt = self.awaiting_request = None
        self._known = Acquaintance()  # the parent will resume the sessions
        self._sending = self._reading = self._about_to_send = False
        self._reader, self._sender, self._choosing = threading.Lock(), threading.Lock(), threading.Lock()
        self._right_to_receive, self._right_to_send = threading.Lock(), threading.Lock()
        self._moving = threading.Lock()
        self._let_go()
        if transport is None:
            return
        transport.drop()
        if self.parser.waiting_count or self.protocol.unfinished:
            self.ready.clear()
            self.break_off()
        else:
            self._start()

    # -- failing --

    def break_off(self) -> None:
        """Nothing can be sent or received any more, but what is here already."""
        if not self.broken and _log.isEnabledFor(logging.INFO):
            waiting = self.parser.waiting_count
            _log.info("connection %d to %s: broken, with %d requests outstanding", self.number, self.target, waiting)
        self.broken = True
        self.protocol.stop_sending()
        self.parser.give_up()
        self._wake_sender()
        self._call_reader()

    def interrupt(self) -> None:
        """A call was left between any two instructions, by Ctrl-C or the like: where the connection stands cannot be
        told."""
        self._attempt = None
        self._about_to_send = False
        self.break_off()
        if self.decoding is not None:
            self.decoding.interrupt()
        if self.watch is not None:
            self.watch.clear()

    def give_up(self, message: str) -> NoReturn:
        """The peer is gone: raise ConnectionClosed with the facts."""
        facts = self.protocol.facts()
        self.break_off()
        raise ConnectionClosed(message, **facts)

    def report(self, error: HTTPError) -> None:
        """*error* is on its way to the caller: give it the facts; but for a StateError, the link is broken."""
        if isinstance(error, StateError):
            return
        if error.where is None:
            for name, value in self.protocol.facts().items():
                setattr(error, name, value)
        self.break_off()

    def _lost(self, error: OSError, where: Where | None) -> HTTPError:
        """What an error of the operating system's, or of ssl's, means for a connection."""
        facts = self.protocol.facts(where)
        if self.transport is not None and error.errno != errno.EPIPE:
            self.transport.clean = False  # the system tells once: what ends a body from now on is not the peer's word
        if error.errno == errno.ETIMEDOUT:
            return ConnectionTimedOut("the connection timed out", **facts)
        reason = tls_reason(error)
        return ConnectionClosed("the connection was lost" + (f": {reason}" if reason else ""), **facts)

    def _check_open(self, protocol: Protocol) -> None:
        """ConnectionClosed where the connection that a step began on has been closed here since."""
        if self.protocol is not protocol:
            raise ConnectionClosed("the connection was closed while this waited for it")

    def check_not_closed_inside(self) -> None:
        """ConnectionClosed where what was under way was given up at a `close`: it has not ended."""
        if self.closed_inside:
            raise ConnectionClosed("the connection was closed while something was under way")

    def _connected(self) -> Transport:
        if self.transport is None:
            raise ConnectionClosed("the connection is closed")
        return self.transport

    def _wake_sender(self) -> None:
        """The sending half has changed: a sender that waits in another thread is to look."""
        bell = self._bell
        if bell is not None:
            bell.ring()

    @property
    def sends(self) -> bool:
        """Whether a call is under way that connects or sends."""
        return self._attempt is not None or self._sending or self._about_to_send

    def _wake_reader(self) -> None:
        """A request has gone out, or a call that was to send one has ended."""
        call = self.awaiting_request
        if call is not None:
            call.ring()

    def _call_reader(self) -> None:
        """A reader that waits is to look: there is something to send and nobody else to do it, or nothing to come."""
        bell = self._reader_bell
        if bell is not None:
            self._rung = True
            bell.ring()

    # -- deadlines --

    def start_exchange(self) -> None:
        """A request goes out: where none was outstanding, the deadline of an exchange begins to run."""
        if self.times.exchange is not None and self._exchange_end is None:
            self._exchange_end = monotonic() + self.times.exchange

    def end_answer(self) -> None:
        """A response was read to its end; the next one has a deadline of its own."""
        self.current = None
        if self.parser.keep_timeout >= 0:
            self._idle_since = monotonic()
        if self._exchange_end is not None:
            limit = self.times.exchange
            more = self.parser.waiting_count and limit is not None
            self._exchange_end = monotonic() + (limit or 0) if more else None

    @property
    def stale(self) -> bool:
        """Whether the connection has been idle for nearly as long as the peer said that it keeps one: a request might
        meet its close."""
        kept = self.parser.keep_timeout
        if kept < 0 or self._idle_since is None or self.parser.waiting_count:
            return False
        return monotonic() - self._idle_since >= max(kept - 1.0, kept / 2)

    def _time_out(self, where: Where | None) -> NoReturn:
        facts = self.protocol.facts(where)
        message = ""
        if self._exchange_end is not None and monotonic() >= self._exchange_end:
            limit = self.times.exchange  # None: it was taken back since
            message = "the exchange has taken longer than its deadline" + (f", {limit:g} seconds" if limit else "")
        elif self.times.idle is not None:
            message = f"nothing has moved for {self.times.idle:g} seconds (timeout)"
        self.break_off()
        raise ConnectionTimedOut(message, **facts)

    def need(
        self, mask: int, earlier: PollNeeded | None, sending: bool = False, bell: Bell | None = None
    ) -> PollNeeded:
        """What to yield in order to wait; *earlier* is what was yielded last and did not help. Raises
        ConnectionTimedOut when its time has passed and nothing has moved."""
        if earlier is not None and earlier.moved == self.moved:
            due = earlier.deadline
            if due is not None and monotonic() >= due:
                self._time_out("sending" if sending else None)
            if earlier[1] == mask and (bell is None or earlier.bell is not None):
                return earlier
        else:
            due = self._exchange_end
            if self.times.idle is not None:
                idle = monotonic() + self.times.idle
                due = idle if due is None else min(idle, due)
        self._turn_began = self.moved
        key = sending, mask, bell is not None
        need = self._needs.get(key)
        if need is None:
            need = self._needs[key] = PollNeeded(self._connected().fd, mask)
            need.bell = None if bell is None else bell.fd
        need.deadline = due
        need.moved = self.moved
        return need

    @property
    def turn_over(self) -> bool:
        """Whether so much has come without a wait that whoever shares a loop with this is to have a turn."""
        return self.moved - self._turn_began >= TURN

    def until_continue(self, need: PollNeeded) -> PollNeeded:
        """*need*, to be resumed no later than when 100 (Continue) is taken as given."""
        end = self._expect_end
        if end is None or not self.protocol.expecting or (need.deadline is not None and need.deadline <= end):
            return need
        sooner = PollNeeded(need.fd, need.mask, end)
        sooner.bell = need.bell
        return sooner


def _leave_all_to_parent() -> None:
    for endpoint in list(_endpoints):
        endpoint.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all_to_parent)
