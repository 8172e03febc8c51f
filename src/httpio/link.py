"""A protocol on a transport: the steps that move bytes, keep the deadlines, and say what a failure means.

`connection.py` makes the public calls of these, and `pipelining.py` its loop.
"""

from __future__ import annotations

import errno
import os
import ssl
from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from httpio.dial import SocketOption, co_dial
from httpio.exceptions import ConnectionClosed, ConnectionTimedOut, HTTPError, StateError
from httpio.framing import pieces
from httpio.messages import HTTPResponse, Lenient, Limits
from httpio.protocol import Protocol
from httpio.states import Receiving, Sending
from httpio.transport import Transport, open_transport
from httpio.waiting import POLLIN, PollNeeded, Step

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
    """One connection at a time to one target. A failure leaves it broken until `co_connect` or `close`."""

    def __init__(
        self, target: Target, timeout: float | None, connect_timeout: float | None, deadline: float | None
    ) -> None:
        self.target = target
        self.timeout = timeout
        self.connect_timeout = connect_timeout
        self.deadline = deadline
        self.transport: Transport | None = None
        self.broken = False
        self.sending = False  # a thread is in `co_flush`
        self.receiving = False  # a thread is in `co_receive`
        self._start()

    def _start(self) -> None:
        self.protocol = Protocol(self.target.defaults, self.target.limits, self.target.lenient)
        self.ready: deque[HTTPResponse] = deque()
        """Responses that were parsed and not yet asked for."""
        self.current: HTTPResponse | None = None
        """The response whose body is being read."""
        self._exchange_end: float | None = None
        self._just_sent = False
        self._sent = 0
        self._needs: dict[tuple[bool, int], PollNeeded] = {}

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
        self.protocol.receiving.fail()

    def give_up(self, message: str) -> NoReturn:
        """The peer is gone: raise ConnectionClosed with the facts."""
        facts = self.protocol.facts()
        self.break_off()
        raise ConnectionClosed(message, **facts)

    def report(self, error: HTTPError) -> None:
        """*error* is on its way to the caller: give it the facts; the link is broken by it."""
        if error.where is None:
            for name, value in self.protocol.facts().items():
                setattr(error, name, value)
        self.break_off()

    def _connected(self) -> Transport:
        if self.transport is None:
            raise ConnectionClosed("the connection is closed")
        return self.transport

    # -- deadlines --

    def start_exchange(self) -> None:
        """A request goes out: where none was outstanding, the deadline of an exchange begins to run."""
        if self.deadline is not None and self._exchange_end is None:
            self._exchange_end = monotonic() + self.deadline

    def end_answer(self) -> None:
        """A response was read to its end; the next one has a deadline of its own."""
        self.current = None
        if self._exchange_end is not None:
            more = self.protocol.receiving.parser.waiting_count and self.deadline is not None
            self._exchange_end = monotonic() + (self.deadline or 0) if more else None

    def need(self, mask: int, earlier: PollNeeded | None, sending: bool = False) -> PollNeeded:
        """What to yield in order to wait; *earlier* is what was yielded last and did not help. Raises
        ConnectionTimedOut."""
        if earlier is not None:
            due = earlier.deadline
            if due is not None and monotonic() >= due:
                facts = self.protocol.facts("sending" if sending else None)
                self.break_off()
                raise ConnectionTimedOut(**facts)
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
        return need

    # -- sending --

    def flush(self) -> bool:
        """Send what the transport takes now; returns whether the outbox is empty. Raises ConnectionClosed."""
        transport = self.transport
        if transport is None:
            raise ConnectionClosed("the connection is closed")
        outbox = self.protocol.outbox
        try:
            while outbox:
                first = outbox[0]
                taken = transport.try_send(first.rest)
                if taken is None:
                    return False
                self._sent += taken
                if taken == len(first.rest):
                    outbox.popleft()
                else:
                    first.take(taken)
            if transport.stuck:
                transport.try_send(b"")
            return not transport.stuck
        except OSError as exc:
            facts = self.protocol.facts("sending")
            self.protocol.stop_sending()
            raise ConnectionClosed("the connection was lost while sending", **facts) from exc

    def co_flush(self) -> Step[None]:
        """Send all of the outbox. While that waits, what the peer says is listened to, and may make the
        rest pointless."""
        if self.sending:
            raise StateError("another thread is sending on this connection")
        self.sending = True
        need: PollNeeded | None = None
        try:
            while not self.flush():
                if self._sent:  # that is progress, and the time starts anew
                    self._sent, need = 0, None
                listening = self._may_listen()
                wants = self._connected().send_wants
                need = self.need(wants | POLLIN if listening else wants, need, sending=True)
                yield need
                if listening and not self.look():
                    return
        finally:
            self.sending = False
        self._just_sent = True

    def co_send_source(self, source: Any) -> Step[None]:
        """Send the pieces of a file or an iterable as the body; whatever it raises breaks the link."""
        protocol = self.protocol
        try:
            for piece in pieces(source, protocol.body_length):
                if not self.look():
                    return
                protocol.write(piece)
                yield from self.co_flush()
            if protocol.sends_body:
                protocol.end_body()
                yield from self.co_flush()
        except BaseException:
            self.break_off()
            raise

    def _may_listen(self) -> bool:
        receiving = self.protocol.receiving
        return (
            not (self.receiving or receiving.at_eof or receiving.open is not None)
            and receiving.parser.room > 0
        )

    def look(self) -> bool:
        """Take in what the peer has sent already, without waiting; returns whether it makes sense to send
        on.

        An error is left for `co_more`, which meets it again: an answer that is here stands, whatever comes
        after it.
        """
        protocol = self.protocol
        if self._may_listen():
            receiving = protocol.receiving
            transport = self._connected()
            try:
                count = transport.try_receive_into(receiving.parser)
                if count is not None:
                    responses = receiving.received(count) if count else receiving.eof(transport.clean)
                    self.ready.extend(protocol.answered(responses))
            except (HTTPError, OSError):
                protocol.stop_sending()
            if receiving.at_eof and protocol.sends_body:
                protocol.stop_sending()
        return protocol.sending not in (Sending.DONE, Sending.BROKEN)

    @property
    def usable(self) -> bool:
        """Whether a request may be sent: the connection is not at its end, and its peer has neither spoken nor
        closed while it was idle."""
        protocol = self.protocol
        receiving = protocol.receiving
        if receiving.state is Receiving.IDLE and protocol.answers and not self._connected().quiet():
            self.look()
        if self.broken or receiving.state is Receiving.ENDED or receiving.state is Receiving.BROKEN:
            return False
        return protocol.sending is not Sending.DONE and protocol.sending is not Sending.BROKEN

    # -- receiving --

    def co_more(self) -> Step[list[HTTPResponse]]:
        """Wait for the peer once; returns the responses that can be handed out, or raises for the one that
        cannot come."""
        protocol = self.protocol
        receiving = protocol.receiving
        parser = receiving.parser
        try:
            responses = receiving.parse() if parser.buffered else None
            if not responses:
                if receiving.state is not Receiving.HEAD:
                    self._refuse_more()
                count = yield from self.co_receive(parser)
                responses = receiving.received(count) if count else receiving.eof(self._connected().clean)
        except HTTPError as exc:
            self.report(exc)
            raise
        if responses:
            protocol.answered(responses)
        elif receiving.at_eof:
            self.give_up("the peer closed the connection before the response was complete")
        return responses

    def _refuse_more(self) -> None:
        """No response can come: say why."""
        receiving = self.protocol.receiving
        if receiving.state is Receiving.BROKEN:
            receiving.parse()  # a parser that has refused its input says so again
        self.give_up("the connection ended before the response")

    def co_receive(self, target: WriteableBuffer, size: int = 0) -> Step[int]:
        """Receive once into *target*, at most *size* bytes (0: its length); returns how many, 0 when the peer
        has closed."""
        if self.receiving:
            raise StateError("another thread is reading from this connection")
        if self.protocol.receiving.at_eof:
            return 0
        transport = self._connected()
        self.receiving = True
        need: PollNeeded | None = None
        try:
            if self._just_sent:  # nothing can be here yet: to try would be in vain
                self._just_sent = False
                if not transport.pending:
                    need = self.need(transport.receive_wants, None)
                    yield need
            while (count := self.receive_some(target, size)) is None:
                need = self.need(transport.receive_wants, need)
                yield need
            return count
        finally:
            self.receiving = False

    def receive_some(self, target: WriteableBuffer, size: int = 0) -> int | None:
        """Receive without waiting, at most *size* bytes (0: the length of *target*). Raises ConnectionClosed
        or ConnectionTimedOut for the operating system's errors."""
        transport = self.transport
        if transport is None:
            raise ConnectionClosed("the connection is closed")
        try:
            return transport.try_receive_into(target, size)
        except OSError as exc:
            facts = self.protocol.facts()
            self.break_off()
            if exc.errno == errno.ETIMEDOUT:
                raise ConnectionTimedOut("the connection timed out", **facts) from exc
            raise ConnectionClosed("the connection was lost", **facts) from exc

    # -- bodies --

    def co_readinto(self, target: memoryview) -> Step[int]:
        """Read content into *target*: what is here, else what comes next. 0: the body has ended, whole."""
        receiving = self.protocol.receiving
        while self.current is not None:
            try:
                count = receiving.read_into(target)
            except HTTPError as exc:
                self.report(exc)
                raise
            if receiving.open is not self.current:
                self.end_answer()
                return count
            if count:
                return count
            count = yield from self._co_more_content(target)
            if count:
                return count
        return 0

    def co_read(self, size: int) -> Step[bytes]:
        """The same as bytes, at most *size* of them. ``b""``: the body has ended, whole."""
        receiving = self.protocol.receiving
        while self.current is not None:
            try:
                content = receiving.read(size)
            except HTTPError as exc:
                self.report(exc)
                raise
            if receiving.open is not self.current:
                self.end_answer()
                return content
            if content:
                return content
            yield from self._co_more_content(None)
        return b""

    def _co_more_content(self, target: memoryview | None) -> Step[int]:
        """Receive once while nothing is buffered: straight into *target*, where the framing allows that, else
        into the parser. Returns the bytes that are in *target*."""
        receiving = self.protocol.receiving
        parser = receiving.parser
        if receiving.at_eof or receiving.state is Receiving.BROKEN:
            self.give_up("the peer closed the connection inside the body")
        direct = 0 if target is None else min(parser.direct, len(target))
        if direct and target is not None:
            count = yield from self.co_receive(target, direct)
            if count:
                receiving.direct_received(count)
                if receiving.open is not self.current:
                    self.end_answer()
                return count
        else:
            count = yield from self.co_receive(parser, 0)
            if count:
                try:
                    self.ready.extend(self.protocol.answered(receiving.received(count)))
                except HTTPError as exc:
                    self.report(exc)
                    raise
        if count == 0:
            receiving.eof(self._connected().clean)
            if receiving.open is not self.current:
                self.end_answer()
        return 0

    def co_splice(self, fh: BinaryIO) -> Step[int]:
        """Move content from the socket to a file inside the kernel; returns how many bytes, 0 where that
        is not possible now."""
        receiving = self.protocol.receiving
        parser = receiving.parser
        transport = self._connected()
        if parser.direct < BUFFER_SIZE:
            return 0
        current = self.current
        moved = 0
        with transport.splicing(fh) as splice:
            need: PollNeeded | None = None
            while splice is not None and parser.direct and receiving.open is current:
                count = splice(parser.direct)
                if count is None:
                    need = self.need(POLLIN, need)
                    yield need
                    continue
                need = None
                if count <= 0:
                    break
                moved += count
                receiving.direct_received(count)
        if receiving.open is not current:
            self.end_answer()
        return moved
