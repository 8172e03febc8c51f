"""A protocol on a transport, both ways: what is received is added to what sends.

`connection.py` makes the public calls of these steps, and `pipelining.py` its loop.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from time import monotonic
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from httpio.decoding import Decoding
from httpio.endpoint import TURN
from httpio.exceptions import ConnectionClosed, HTTPError, StateError
from httpio.messages import HTTPResponse
from httpio.receiving import assumed_continue
from httpio.sending import Sender
from httpio.states import Receiving, Sending
from httpio.transport import Bell, Splice, Transport
from httpio.waiting import POLLIN, POLLOUT, PollNeeded, Step, milliseconds

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["BUFFER_SIZE", "Link"]

BUFFER_SIZE = 65536
"""Bytes that are read at a time where the caller does not say."""

_log = logging.getLogger("httpio.connection")


class Link(Sender):
    """What sends and receives.

    One thread may send while another reads. Only one of them receives at a time: a reading call all along, a
    sender that looks for an early answer for a moment.
    """

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
                self.check_not_closed_inside()
                raise StateError("no response is to come: no request is outstanding")
            return None
        return self._first_ready()

    def _first_ready(self) -> HTTPResponse:
        if self.untold:
            self.tell()
        response = self.ready.popleft()
        self.decoding = None  # on a broken link the one before may not have been read to its end
        if response.complete_by is None:
            self.current = response
        else:
            self.end_answer()
        return response

    def wait_once(self) -> HTTPResponse | None:
        """The next response after one wait that blocks, as most come to a request that was just sent; None: it
        takes the longer way of `next_ready` and `co_next_response`."""
        transport = self.transport
        if not self._just_sent or self.current is not None or self.ready or self.parser.buffered:
            return None
        if transport is None or transport.pending or self._exchange_end is not None:
            return None
        if not self._reader.acquire(blocking=False):
            return None
        self._just_sent = False
        lock = self._right_to_receive
        with lock:
            try:
                self._reading = True
                timeout = self.times.idle
                limit = None if timeout is None else milliseconds(timeout)
                if not self._wait_for_answer(limit) and timeout is not None:
                    self._time_out(None)
                if not self.take_responses():
                    return None
            finally:
                self._end_reading(lock)
        return self._first_ready()

    def co_next_response(self) -> Step[HTTPResponse]:
        """Wait for the next response, or for the 100 (Continue) that the caller waits for."""
        protocol = self.protocol
        lock = self._only_reader()
        with lock:
            need = None
            try:
                self._reading = True
                if self._just_sent:
                    self._just_sent = False
                    if not self.parser.buffered and not self._connected().pending:
                        need = self._need_more(None)  # nothing can be here yet: to try would be in vain
                        yield need
                        self._check_open(protocol)
                while not self.take_responses():
                    if protocol.expecting and protocol.held is None:
                        interim = self._word_to_go_on()
                        if interim is not None:
                            return interim
                    need = self._need_more(need)
                    yield self.until_continue(need)
                    self._check_open(protocol)
            finally:
                self._end_reading(lock)
        return self._first_ready()

    def co_await_request(self) -> Step[None]:
        """Wait, where nothing is outstanding, as long as another step is about to send a request."""
        reader, protocol = self._reader, self.protocol
        if not reader.acquire(blocking=False):
            raise StateError("another call is reading from this connection")
        call = self.awaiting_request = Bell()
        try:
            while self.sends and not self.parser.waiting_count and not self.ready:
                yield PollNeeded(call.fd, POLLIN)
                call.silence()
                self._check_open(protocol)
        finally:
            if self.awaiting_request is call:
                self.awaiting_request = None
            call.close()
            reader.release()

    def _word_to_go_on(self) -> HTTPResponse | None:
        """The 100 (Continue) for the body that the caller is to write, as it came or as it is assumed, if all before
        it has been answered."""
        protocol = self.protocol
        if self.parser.waiting_count != 1:
            return None
        interim = protocol.continued()
        if interim is None:
            if not self._is_assumed():
                return None
            interim = assumed_continue(protocol.receiving.outstanding[0])
        with self._moving:
            if not protocol.expecting:
                return None
            protocol.go_on()
        return interim

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
                if self._exchange_end is not None:
                    self._check_exchange_end()
                while not responses:
                    count = transport.try_receive_into(parser)
                    if count is None:
                        if self.send_error is not None:
                            self._refuse_unsent()
                        return False
                    self.moved += count
                    responses = parser.buffer_updated(count) if count else parser.eof(transport.clean)
                    if not transport.pending:
                        break
        except HTTPError as exc:
            self.report(exc)
            raise
        except OSError as exc:
            self._lose(exc)
        except BaseException:
            self.break_off()  # what was received may be lost
            raise
        if responses:
            protocol = self.protocol
            if protocol.sending is Sending.IDLE and not protocol.outbox and responses[-1].persistent:
                self.ready.extend(responses)  # the sending half has nothing to learn from them
            else:
                self._hand_over_here(responses)
        elif self._bell is not None and self.protocol.held is not None:
            self._wake_sender()  # it may have been 100 (Continue)
        if self.on_informational is not None:
            self.note_interim(responses)
            self.tell()
        if responses:
            return True
        if parser.at_eof:
            self.give_up("the peer closed the connection before the response was complete")
        if parser.surplus:
            self.give_up("the peer sent what nobody had asked for")
        return False

    def _refuse_more(self) -> NoReturn:
        """No response can come: say why."""
        if self.protocol.receiving.state is Receiving.BROKEN:
            self.parser.parse()  # a parser that has refused its input says so again
        if self.send_error is not None:
            raise self._lost(self.send_error, "sending") from self.send_error
        self.give_up("the connection ended before the response")

    def _hand_over_here(self, responses: list[HTTPResponse]) -> None:
        """`hand_over` by a reader: what a sender in another thread has just sent has to be noted before."""
        if self.protocol.outbox:
            with self._right_to_send:
                self.hand_over(responses)
        else:
            self.hand_over(responses)

    def _refuse_unsent(self) -> None:
        """Sending has failed, and nothing is here: do not wait for the answer to what was never sent whole."""
        error = self.send_error
        if error is not None and self.parser.progress is None and self.protocol.awaits_unsent:
            lost = self._lost(error, "sending")
            self.break_off()
            raise lost from error

    def _lose(self, error: OSError) -> NoReturn:
        """Receiving has failed."""
        lost = self._lost(error, None)
        self.break_off()
        raise lost from error

    def _check_exchange_end(self) -> None:
        """A peer that always sends something is not to keep an exchange going beyond its deadline."""
        if self._exchange_end is not None and monotonic() >= self._exchange_end:
            self._time_out(None)

    # -- receiving --

    def receive_some(self, target: WriteableBuffer, size: int = 0) -> int | None:
        """Receive without waiting, at most *size* bytes (0: the length of *target*). Raises ConnectionClosed
        or ConnectionTimedOut for the operating system's errors."""
        transport = self._connected()
        if self._exchange_end is not None:
            self._check_exchange_end()
        try:
            count = transport.try_receive_into(target, size)
        except OSError as exc:
            self._lose(exc)
        if count:
            self.moved += count
        return count

    def _only_reader(self) -> threading.Lock:
        """What the one call that waits for the peer has to hold, and to give to `_end_reading`."""
        if not self._reader.acquire(blocking=False):
            raise StateError("another call is reading from this connection")
        return self._right_to_receive

    def _end_reading(self, lock: threading.Lock) -> None:
        if lock is not self._right_to_receive:
            return  # the connection was closed meanwhile
        self._reading = False
        self._reader.release()
        if self._bell is not None and self._sending:
            self._bell.ring()  # a sender that waits has to listen for itself

    def _need_more(self, earlier: PollNeeded | None) -> PollNeeded:
        """What to wait for until more can be received. What could not be sent yet is sent meanwhile."""
        transport = self._connected()
        mask = transport.receive_wants
        protocol = self.protocol
        bell = self._hear_sender() if self._sending else None
        if protocol.outbox or self.source is not None or transport.stuck or protocol.held is not None:
            mask |= self._send_meanwhile(transport)
        return self.need(mask, earlier, bell=bell)

    def _hear_sender(self) -> Bell:
        """What rings when the call that sends is left before it has sent all."""
        bell = self._reader_bell
        if bell is None:
            bell = self._reader_bell = Bell()
        if self._rung:
            self._rung = False
            bell.silence()
        return bell

    def _send_meanwhile(self, transport: Transport) -> int:
        """Send what the transport takes now, unless another thread does; returns what to wait for to go on."""
        lock, taken = self._right_to_send, False
        try:
            taken = lock.acquire(blocking=False)
            return transport.send_wants if taken and not self._flush() and not self._sending else 0
        except HTTPError:
            return 0  # an answer may be here all the same
        finally:
            if taken:
                lock.release()

    # -- content codings --

    def begin_decoding(self, response: HTTPResponse, content: bytes | None = None) -> None:
        """The content of *response* is read with its codings undone from now on. *content*: the encoded content, where
        all of it was collected; None: it is yet to be received."""
        decoding = Decoding(response, self.target.limits)
        if content is not None:
            self.current = response
            self.closed_inside = False  # it is all here, whatever was closed behind it
            decoding.feed(content)
            decoding.finish()
        if self.current is response and (decoding.needed or content is not None):
            self.decoding = decoding

    def refuse_reader(self) -> None:
        """StateError where another call reads the content."""
        if self._reader.locked():
            raise StateError("another call is reading from this connection")

    def stop_decoding(self) -> None:
        """What is left of the content is not decoded; what of it is here already is dropped."""
        decoding, self.decoding = self.decoding, None
        if decoding is not None and decoding.whole:
            self.current = None

    def _co_decode(self, decoding: Decoding, size: int) -> Step[bytes]:
        """Decoded content, at most *size* bytes; ``b""``: it has ended."""
        protocol = self.protocol
        transport = self.transport
        if self._decoded >= TURN and transport is not None and not self._sending:
            self._decoded = 0
            yield PollNeeded(transport.fd, POLLOUT, monotonic())  # due at once: others have a turn
            self._check_open(protocol)
        while self.decoding is decoding:
            reader = self._reader
            if not reader.acquire(blocking=False):
                raise StateError("another call is reading from this connection")
            try:
                content = decoding.read(size)
                if content:
                    self._decoded += len(content)
                    return content
                if decoding.ended:
                    self.stop_decoding()
                    return b""
                self._check_open(protocol)  # another thread may have closed it while the library decoded
                fed = self._feed(decoding)
            except HTTPError as exc:
                if decoding.failed:
                    exc.outstanding = protocol.unanswered()  # not broken: the framing is as it should be
                raise
            finally:
                reader.release()
            if not fed:
                yield from self._co_more_content(None)
        self._check_open(protocol)
        raise StateError("what was left of the content was dropped by another call")

    def _feed(self, decoding: Decoding) -> bool:
        """Feed what is here of the encoded content, or its end; False: nothing is."""
        try:
            encoded = self.parser.read(BUFFER_SIZE)
        except HTTPError as exc:
            self.report(exc)
            raise
        if encoded:
            decoding.feed(encoded)
        if self.parser.open is not self.current:
            self._end_content()
        return bool(encoded) or decoding.whole

    # -- bodies --

    def _end_content(self) -> None:
        """All of the content was received."""
        response = self.current
        self.end_answer()
        if self.decoding is not None:
            self.decoding.finish()
            self.current = response  # until all of it was decoded

    def read_now(self, size: int) -> bytes:
        """Content as it came that is here, at most *size* bytes; ``b""``: none is, or the body has ended and nothing is
        `current`."""
        try:
            content = self.parser.read(size)
        except HTTPError as exc:
            self.report(exc)
            raise
        if self.parser.open is not self.current:
            self._end_content()
        return content

    def co_read(self, size: int) -> Step[bytes]:
        """Content, at most *size* bytes: what is here, else what comes next. ``b""``: the body has ended, whole."""
        if self.decoding is not None:
            return (yield from self._co_decode(self.decoding, size))
        while self.current is not None:
            content = self.read_now(size)
            if content or self.current is None:
                return content
            yield from self._co_more_content(None)
        self.check_not_closed_inside()
        return b""

    def co_readinto(self, target: memoryview) -> Step[int]:
        """The same into *target*; returns how many bytes."""
        if self.decoding is not None:
            content = yield from self._co_decode(self.decoding, len(target))
            target[: len(content)] = content
            return len(content)
        while self.current is not None:
            try:
                count = self.parser.read_into(target)
            except HTTPError as exc:
                self.report(exc)
                raise
            if self.parser.open is not self.current:
                self._end_content()
            if count or self.current is None:
                return count
            count = yield from self._co_more_content(target)
            if count:
                return count
        self.check_not_closed_inside()
        return 0

    def _co_more_content(self, target: memoryview | None) -> Step[int]:
        """Receive once while nothing is buffered: straight into *target*, where the framing allows that, else
        into the parser. Returns the bytes that are in *target*."""
        parser = self.parser
        if parser.at_eof:
            self.give_up("the peer closed the connection inside the body")
        self._refuse_broken()
        direct = 0 if target is None else min(parser.direct, len(target))
        need: PollNeeded | None = None
        protocol = self.protocol
        lock = self._only_reader()
        with lock:
            try:
                self._reading = True
                if self.turn_over and not self._connected().pending:
                    need = self._need_more(None)
                    yield need
                    self._check_open(protocol)
                while (count := self._receive_content(target, direct)) is None:
                    need = self._need_more(need)
                    yield need
                    self._check_open(protocol)
                    self._refuse_broken()
            finally:
                self._end_reading(lock)
        if self.parser.open is not self.current:
            self._end_content()
        return count if direct else 0

    def _refuse_broken(self) -> None:
        """ConnectionClosed where the rest of a body cannot come: the link is broken, by this call or another."""
        if self.broken:
            self.give_up("the connection was lost inside the body: connect() starts a new one")

    def _receive_content(self, target: memoryview | None, direct: int) -> int | None:
        """Receive once, *direct* bytes at most into *target*, or into the parser where that is 0. None: nothing is
        there yet."""
        parser = self.parser
        responses: list[HTTPResponse] = []
        try:
            count = self.receive_some(target if direct and target is not None else parser, direct)
            if count is None:
                return None
            if count == 0:
                parser.eof(self._connected().clean)
            elif direct:
                parser.direct_received(count)
            else:
                responses = parser.buffer_updated(count)
                self._hand_over_here(responses)
        except HTTPError as exc:
            self.report(exc)
            raise
        except BaseException:
            self.break_off()  # what was received may be lost
            raise
        if self.on_informational is not None:
            self.note_interim(responses)
            self.tell()
        return count

    def co_splice(self, fh: BinaryIO) -> Step[int]:
        """Move content from the socket to a file inside the kernel, as long as that goes; returns how many bytes,
        0 where it cannot be done."""
        parser = self.parser
        if parser.direct < BUFFER_SIZE or self.decoding is not None:
            return 0
        splice = self._connected().splice_to(fh)
        if splice is None:
            return 0
        moved = 0
        need: PollNeeded | None = None
        protocol = self.protocol
        lock = self._only_reader()
        with lock, contextlib.closing(splice):
            try:
                self._reading = True
                while parser.open is self.current and parser.direct:
                    count = None if self.turn_over else self._receive_spliced(splice)
                    if count is None:
                        need = self._need_more(need)
                        yield need
                        self._check_open(protocol)
                        self._refuse_broken()
                        continue
                    if count == 0:
                        break
                    splice.write(count)
                    moved += count
            finally:
                self._end_reading(lock)
        if self.parser.open is not self.current:
            self._end_content()
        return moved

    def _receive_spliced(self, splice: Splice) -> int | None:
        """Receive content into the pipe of *splice*; None: nothing is there yet."""
        parser = self.parser
        if self._exchange_end is not None:
            self._check_exchange_end()
        try:
            count = splice.try_receive(parser.direct)
            if count:
                self.moved += count
                parser.direct_received(count)
            elif count == 0:
                parser.eof(self._connected().clean)
        except OSError as exc:
            self._lose(exc)
        except BaseException:
            self.break_off()  # what was received may be lost
            raise
        return count

    # -- raw bytes --

    def co_receive_raw(self, size: int) -> Step[bytes]:
        """At most *size* bytes as they came, whatever they mean; ``b""``: the peer has closed. The link is broken by
        it."""
        self.break_off()
        self._raw += self.parser.leftover()
        need: PollNeeded | None = None
        protocol = self.protocol
        while not self._raw:
            buffer = bytearray(size)
            count = self.receive_some(buffer)
            if count is not None:
                return bytes(buffer[:count])
            need = self.need(self._connected().receive_wants, need)
            yield need
            self._check_open(protocol)
        data, self._raw = self._raw[:size], self._raw[size:]
        return data
