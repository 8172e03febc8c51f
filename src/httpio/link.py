"""A protocol on a transport: the steps that move bytes, keep the deadlines, and say what a failure means.

`connection.py` makes the public calls of these, and `pipelining.py` its loop.
"""

from __future__ import annotations

import errno
import os
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from httpio.dial import SocketOption, co_dial
from httpio.exceptions import ConnectionClosed, ConnectionTimedOut, HTTPError, StateError, Where
from httpio.framing import BodyKind, encode_get, pieces
from httpio.headers import FieldsLike
from httpio.messages import Body, HTTPResponse, Lenient, Limits, Request
from httpio.protocol import Outgoing, Protocol
from httpio.states import Receiving, Sending
from httpio.transport import Transport, open_transport
from httpio.waiting import POLLIN, PollNeeded, Step, milliseconds, waiter

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["BUFFER_SIZE", "Link", "Target"]

BUFFER_SIZE = 65536
"""Bytes that are read at a time where the caller does not say."""


@dataclass(frozen=True)
class Target:
    """Where to connect, and how."""

    host: str
    port: int
    defaults: tuple[tuple[bytes, bytes, bytes], ...]
    ssl_context: ssl.SSLContext | None
    unix_socket: str | os.PathLike[str] | None
    source_address: tuple[str, int] | None
    socket_options: tuple[SocketOption, ...]
    limits: Limits
    lenient: Lenient


class Link:
    """One connection at a time to one target. A failure leaves it broken until `co_connect` or `close`.

    One thread may send while another reads. Only one of them receives at a time: a reading call all along, a
    sender that looks for an early answer for a moment.
    """

    def __init__(
        self, target: Target, timeout: float | None, connect_timeout: float | None, deadline: float | None
    ) -> None:
        self.target = target
        self.timeout = timeout
        self.connect_timeout = connect_timeout
        self.deadline = deadline
        self.transport: Transport | None = None
        self.broken = False
        self._sending = False  # a call is in `co_flush`
        self._reading = False  # a call waits for the peer
        self._right_to_receive = threading.Lock()
        self._right_to_send = threading.Lock()  # held for a moment only: a reader sends too, while it waits
        self._start()

    def _start(self) -> None:
        self.protocol = Protocol(self.target.defaults, self.target.limits, self.target.lenient)
        self.parser = self.protocol.receiving.parser
        self.ready: deque[HTTPResponse] = deque()
        """Responses that were parsed and not yet asked for."""
        self.current: HTTPResponse | None = None
        """The response whose body is being read."""
        self.source: Iterator[bytes | memoryview] | None = None
        """The rest of the body being sent, where that comes from a file or an iterable."""
        self.source_error: Exception | None = None
        """What that file or iterable raised."""
        self.moved = 0
        """Bytes that the transport has taken or given."""
        self._exchange_end: float | None = None
        self._just_sent = False
        self._needs: dict[tuple[bool, int], PollNeeded] = {}
        self._moving = threading.Lock()  # the sending half from one state to another: a reader may stop it

    # -- its ends --

    def co_connect(self) -> Step[None]:
        """Connect, or connect anew; what was outstanding is given up."""
        self.close()
        target = self.target
        sock = yield from co_dial(
            target.host,
            target.port,
            ssl_context=target.ssl_context,
            unix_socket=target.unix_socket,
            source_address=target.source_address,
            socket_options=target.socket_options,
            deadline=None if self.connect_timeout is None else monotonic() + self.connect_timeout,
        )
        self.transport = open_transport(sock)
        self._wait_for_answer = waiter(self.transport.fd, POLLIN)

    def close(self) -> None:
        """Close, and forget what was outstanding."""
        transport, self.transport = self.transport, None
        self.broken = False
        self._start()
        if transport is not None:
            transport.close()

    def break_off(self) -> None:
        """Nothing can be sent or received any more, but what is here already."""
        self.broken = True
        self.protocol.stop_sending()
        self.parser.give_up()

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
        if error.errno == errno.ETIMEDOUT:
            return ConnectionTimedOut("the connection timed out", **facts)
        return ConnectionClosed("the connection was lost", **facts)

    def _connected(self) -> Transport:
        if self.transport is None:
            raise ConnectionClosed("the connection is closed")
        return self.transport

    # -- deadlines --

    def end_answer(self) -> None:
        """A response was read to its end; the next one has a deadline of its own."""
        self.current = None
        if self._exchange_end is not None:
            more = self.parser.waiting_count and self.deadline is not None
            self._exchange_end = monotonic() + (self.deadline or 0) if more else None

    def start_exchange(self) -> None:
        """A request goes out: where none was outstanding, the deadline of an exchange begins to run."""
        if self.deadline is not None and self._exchange_end is None:
            self._exchange_end = monotonic() + self.deadline

    def _time_out(self, where: Where | None) -> NoReturn:
        facts = self.protocol.facts(where)
        self.break_off()
        raise ConnectionTimedOut(**facts)

    def need(self, mask: int, earlier: PollNeeded | None, sending: bool = False) -> PollNeeded:
        """What to yield in order to wait; *earlier* is what was yielded last and did not help. Raises
        ConnectionTimedOut when its time has passed and nothing has moved."""
        if earlier is not None and earlier.moved == self.moved:
            due = earlier.deadline
            if due is not None and monotonic() >= due:
                self._time_out("sending" if sending else None)
            if earlier[1] == mask:
                return earlier
        else:
            due = self._exchange_end
            if self.timeout is not None:
                idle = monotonic() + self.timeout
                due = idle if due is None else min(idle, due)
        need = self._needs.get((sending, mask))
        if need is None:
            need = self._needs[sending, mask] = PollNeeded(self._connected().fd, mask)
        need.deadline = due
        need.moved = self.moved
        return need

    # -- sending --

    def put_request(self, method: str, path: str, headers: FieldsLike, body: Body) -> bool:
        """Check a request and send it, or put it into the outbox; returns whether all of it was sent. Raises as
        `HTTPConnection.send_request` does; then nothing has changed, but that the peer may have been found to be
        gone."""
        protocol, parser, transport = self.protocol, self.parser, self.transport
        if self._sending:
            raise StateError("another thread is sending on this connection")
        self._just_sent = False
        if transport is None:
            raise ConnectionClosed("the connection is closed")
        if not parser.waiting_count and (transport.pending or transport.arrived(0)):
            self.look()  # nothing is to come from it: it has closed, or sent what nobody asked for
        if self.deadline is not None and protocol.alive:
            self.start_exchange()
        simple = method == "GET" and not headers and body is None
        if simple and parser.reusable and protocol.sending is Sending.IDLE and not protocol.outbox:
            data = encode_get(path, protocol.rest_of_get)
            if data is not None:
                parser.expect(path)
                try:
                    taken = transport.try_send(data)
                except OSError as exc:
                    protocol.outbox.append(Outgoing(data, 1))
                    lost = self._lost(exc, "sending")
                    protocol.stop_sending()
                    raise lost from exc
                if taken == len(data):
                    self.moved += taken
                    self._just_sent = not transport.stuck
                    return self._just_sent
                protocol.outbox.append(Outgoing(data, 1))
                if taken:
                    self.moved += taken
                    protocol.outbox[0].take(taken)
                return False
        if self.broken or not protocol.alive:
            raise ConnectionClosed("the connection has ended: connect() starts a new one", **protocol.facts())
        request = Request(method, path, headers, body)
        with self._moving:
            kind = protocol.send_request(request)
        if kind is BodyKind.SOURCE and protocol.sends_body:
            self.source = pieces(body, protocol.body_length)
        return False

    def put_body(self, data: bytes | bytearray | memoryview | None) -> None:
        """Put a piece of a body into the outbox; None: its end, where it is chunked."""
        protocol = self.protocol
        if self._sending:
            raise StateError("another thread is sending on this connection")
        self._just_sent = False
        if protocol.sends_body:
            self.look()
        with self._moving:
            if not protocol.sends_body and not protocol.alive and (self.ready or self.parser.waiting_count):
                raise ConnectionClosed(
                    "the rest of the body is not wanted: read_response() tells why", **protocol.facts("sending")
                )
            if data is None:
                protocol.end_body()
            else:
                protocol.write(data)

    def flush(self) -> bool:
        """Send what the transport takes now, and the pieces of `source` behind it; returns whether nothing is
        left to send. Raises ConnectionClosed, and what the source raises, which breaks the link."""
        with self._right_to_send:
            return self._flush()

    def _flush(self) -> bool:
        transport = self.transport
        if transport is None:
            raise ConnectionClosed("the connection is closed")
        protocol = self.protocol
        outbox = protocol.outbox
        while True:
            try:
                while outbox:
                    if protocol.sending is Sending.STOPPED:
                        return True
                    first = outbox[0]
                    taken = transport.try_send(first.rest)
                    if taken is None:
                        return False
                    self.moved += taken
                    if taken == len(first.rest):
                        outbox.popleft()
                    else:
                        first.take(taken)
                if transport.stuck:
                    transport.try_send(b"")
                    if transport.stuck:
                        return False
            except OSError as exc:
                lost = self._lost(exc, "sending")
                protocol.stop_sending()
                raise lost from exc
            if self.source is None or not self._draw():
                return True

    def _draw(self) -> bool:
        """Put the next piece of `source` into the outbox; False: there is none, and the body is complete."""
        source = self.source
        assert source is not None
        if not self.look():  # an answer has made the rest pointless
            self.source = None
            return False
        protocol = self.protocol
        try:
            piece = next(source, None)
            with self._moving:
                if piece is not None:
                    protocol.write(piece)
                    if protocol.sends_body:
                        return True
                self.source = None
                if protocol.sends_body:
                    protocol.end_body()
            if piece is not None:
                next(source, None)  # the body is as long as was declared: a source that has more is wrong
            return bool(protocol.outbox)
        except Exception as exc:
            # The request's body is not what was declared: nothing can follow it.
            self.source_error = exc
            self.break_off()
            raise

    def co_flush(self) -> Step[None]:
        """Send all that is to be sent. While that waits, what the peer says is listened to, and may make the
        rest pointless."""
        if self._sending:
            raise StateError("another thread is sending on this connection")
        self._sending = True
        need: PollNeeded | None = None
        try:
            while not self.flush():
                listening = self._may_listen()
                wants = self._connected().send_wants
                need = self.need(wants | POLLIN if listening else wants, need, sending=True)
                yield need
                if not self.look():
                    return
        finally:
            self._sending = False
        self._just_sent = True

    def _may_listen(self) -> bool:
        parser = self.parser
        return not (self._reading or parser.at_eof or parser.open is not None) and parser.room > 0

    def look(self) -> bool:
        """Take in what the peer has sent already, without waiting; returns whether it makes sense to send on.

        Where a call waits for the peer, it is left to that. An error is left for `take_responses`, which meets
        it again: an answer that is here stands, whatever comes after it.
        """
        protocol = self.protocol
        if self._may_listen() and self._right_to_receive.acquire(blocking=False):
            try:
                transport, parser = self._connected(), self.parser
                # Asked again: a reader may have gone on in between.
                count = transport.try_receive_into(parser) if self._may_listen() else None
                if count is not None:
                    responses = parser.buffer_updated(count) if count else parser.eof(transport.clean)
                    self.moved += count
                    self._hand_over(responses)
            except (HTTPError, OSError):
                protocol.stop_sending()
            finally:
                self._right_to_receive.release()
            if self.parser.at_eof and protocol.sends_body:
                protocol.stop_sending()
        return protocol.sending is not Sending.STOPPED and protocol.sending is not Sending.BROKEN

    # -- responses --

    def next_ready(self) -> HTTPResponse | None:
        """The next response, if it is here. Raises StateError where none can be asked for, ConnectionClosed on a
        broken link."""
        if self.current is not None and not self.broken:
            raise StateError("the body of the response before has not been read: read it, or discard() it")
        if not self.ready:
            if self.broken:
                raise ConnectionClosed("the connection was lost: connect() starts a new one", **self.protocol.facts())
            if not self.parser.waiting_count:
                raise StateError("no response is to come: no request is outstanding")
            return None
        return self._first_ready()

    def _first_ready(self) -> HTTPResponse:
        response = self.ready.popleft()
        if response.complete_by is None:
            self.current = response
        else:
            self.end_answer()
        return response

    def wait_once(self) -> HTTPResponse | None:
        """The next response after one wait that blocks, as most come to a request that was just sent; None: it
        takes the longer way of `next_ready` and `co_next_response`."""
        transport = self.transport
        if not self._just_sent or self._reading or self.current is not None or self.ready or self.parser.buffered:
            return None
        if transport is None or transport.pending or self._exchange_end is not None:
            return None
        self._just_sent = False
        self._right_to_receive.acquire()
        self._reading = True
        try:
            timeout = self.timeout
            if not self._wait_for_answer(None if timeout is None else milliseconds(timeout)) and timeout is not None:
                self._time_out(None)
            if not self.take_responses():
                return None
        finally:
            self._reading = False
            self._right_to_receive.release()
        return self._first_ready()

    def co_next_response(self) -> Step[HTTPResponse]:
        """Wait for the next response."""
        self._begin_reading()
        try:
            need = None
            if self._just_sent:
                self._just_sent = False
                if not self.parser.buffered and not self._connected().pending:
                    need = self._need_more(None)  # nothing can be here yet: to try would be in vain
                    yield need
            while not self.take_responses():
                need = self._need_more(need)
                yield need
        finally:
            self._end_reading()
        return self._first_ready()

    def take_responses(self) -> bool:
        """Parse what is here, and unless that gives a response receive once; returns whether one is ready.

        Raises for a response that cannot come.
        """
        if self.ready:
            return True
        parser = self.parser
        try:
            responses = parser.parse() if parser.buffered else None
            if not responses:
                if not parser.awaits:
                    self._refuse_more()
                transport = self.transport
                if transport is None:
                    self.give_up("the connection is closed")
                count = transport.try_receive_into(parser)
                if count is None:
                    return False
                self.moved += count
                responses = parser.buffer_updated(count) if count else parser.eof(transport.clean)
        except HTTPError as exc:
            self.report(exc)
            raise
        except OSError as exc:
            lost = self._lost(exc, None)
            self.break_off()
            raise lost from exc
        if responses:
            protocol = self.protocol
            if protocol.sending is Sending.IDLE and not protocol.outbox and responses[-1].persistent:
                self.ready.extend(responses)  # the sending half has nothing to learn from them
            else:
                self._hand_over(responses)
            return True
        if parser.at_eof:
            self.give_up("the peer closed the connection before the response was complete")
        return False

    def _hand_over(self, responses: list[HTTPResponse]) -> None:
        """Responses are ready, and the sending half is told of them."""
        with self._moving:
            self.protocol.answered(responses)
        self.ready.extend(responses)

    def _refuse_more(self) -> NoReturn:
        """No response can come: say why."""
        if self.protocol.receiving.state is Receiving.BROKEN:
            self.parser.parse()  # a parser that has refused its input says so again
        self.give_up("the connection ended before the response")

    # -- receiving --

    def receive_some(self, target: WriteableBuffer, size: int = 0) -> int | None:
        """Receive without waiting, at most *size* bytes (0: the length of *target*). Raises ConnectionClosed
        or ConnectionTimedOut for the operating system's errors."""
        transport = self.transport
        if transport is None:
            raise ConnectionClosed("the connection is closed")
        try:
            count = transport.try_receive_into(target, size)
            if count:
                self.moved += count
            return count
        except OSError as exc:
            lost = self._lost(exc, None)
            self.break_off()
            raise lost from exc

    def _begin_reading(self) -> None:
        """Become the one call that waits for the peer."""
        if self._reading:
            raise StateError("another thread is reading from this connection")
        self._right_to_receive.acquire()
        self._reading = True

    def _end_reading(self) -> None:
        self._reading = False
        self._right_to_receive.release()

    def _need_more(self, earlier: PollNeeded | None) -> PollNeeded:
        """What to wait for until more can be received. What could not be sent yet is sent meanwhile."""
        transport = self._connected()
        mask = transport.receive_wants
        if self.protocol.outbox or self.source is not None or transport.stuck:
            mask |= self._send_meanwhile(transport)
        return self.need(mask, earlier)

    def _send_meanwhile(self, transport: Transport) -> int:
        """Send what the transport takes now, unless another thread does; returns what to wait for to go on."""
        if not self._right_to_send.acquire(blocking=False):
            return 0
        try:
            return 0 if self._flush() or self._sending else transport.send_wants
        except HTTPError:
            return 0  # an answer may be here all the same
        finally:
            self._right_to_send.release()

    # -- bodies --

    def read_now(self, size: int) -> bytes:
        """Content that is here, at most *size* bytes; ``b""``: none is, or the body has ended and nothing is
        `current`."""
        try:
            content = self.parser.read(size)
        except HTTPError as exc:
            self.report(exc)
            raise
        if self.parser.open is not self.current:
            self.end_answer()
        return content

    def co_read(self, size: int) -> Step[bytes]:
        """Content, at most *size* bytes: what is here, else what comes next. ``b""``: the body has ended, whole."""
        while self.current is not None:
            content = self.read_now(size)
            if content or self.current is None:
                return content
            yield from self._co_more_content(None)
        return b""

    def co_readinto(self, target: memoryview) -> Step[int]:
        """The same into *target*; returns how many bytes."""
        while self.current is not None:
            try:
                count = self.parser.read_into(target)
            except HTTPError as exc:
                self.report(exc)
                raise
            if self.parser.open is not self.current:
                self.end_answer()
            if count or self.current is None:
                return count
            count = yield from self._co_more_content(target)
            if count:
                return count
        return 0

    def _co_more_content(self, target: memoryview | None) -> Step[int]:
        """Receive once while nothing is buffered: straight into *target*, where the framing allows that, else
        into the parser. Returns the bytes that are in *target*."""
        parser = self.parser
        if parser.at_eof or self.broken:
            self.give_up("the peer closed the connection inside the body")
        direct = 0 if target is None else min(parser.direct, len(target))
        need: PollNeeded | None = None
        self._begin_reading()
        try:
            while (count := self.receive_some(target if direct and target is not None else parser, direct)) is None:
                need = self._need_more(need)
                yield need
            if count == 0:
                parser.eof(self._connected().clean)
            elif direct:
                parser.direct_received(count)
            else:
                self._hand_over(parser.buffer_updated(count))
        except HTTPError as exc:
            self.report(exc)
            raise
        finally:
            self._end_reading()
        if parser.open is not self.current:
            self.end_answer()
        return count if direct else 0

    def co_splice(self, fh: BinaryIO) -> Step[int]:
        """Move content from the socket to a file inside the kernel, as long as that goes; returns how many bytes,
        0 where it cannot be done."""
        parser = self.parser
        if parser.direct < BUFFER_SIZE:
            return 0
        splice = self._connected().splice_to(fh)
        if splice is None:
            return 0
        moved = 0
        need: PollNeeded | None = None
        self._begin_reading()
        try:
            while parser.open is self.current and parser.direct:
                try:
                    count = splice.try_receive(parser.direct)
                except OSError as exc:
                    lost = self._lost(exc, None)
                    self.break_off()
                    raise lost from exc
                if count is None:
                    need = self._need_more(need)
                    yield need
                    continue
                if count == 0:
                    parser.eof(self._connected().clean)
                    break
                self.moved += count
                parser.direct_received(count)
                splice.write(count)
                moved += count
        finally:
            self._end_reading()
            splice.close()
        if parser.open is not self.current:
            self.end_answer()
        return moved
