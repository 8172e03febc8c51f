"""The sending side of an endpoint: requests, their bodies, the wait for 100 (Continue), early answers."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
from collections.abc import Sequence
from time import monotonic
from typing import Any, BinaryIO, NoReturn

from httpio.endpoint import Endpoint
from httpio.exceptions import ConnectionClosed, HTTPError, StateError, Unanswered
from httpio.framing import BodyKind, FilePart, encode_get, file_length, pieces
from httpio.messages import HTTPResponse, Request, Trailers
from httpio.protocol import Outgoing
from httpio.states import Sending
from httpio.transport import HANG_UP, SENT_AT_ONCE, Bell, Transport
from httpio.waiting import POLLIN, PollNeeded, Step

__all__ = ["Sender"]

PARTIAL_CHUNK = 16 * 1024
"""Bytes of one chunk that a partial write makes: it is taken whole."""

_log = logging.getLogger("httpio.connection")


class Sender(Endpoint):
    """What sends. While it waits for room it listens, unless another thread does: an answer may make the rest of a
    body pointless."""

    # -- requests --

    def put_request(self, request: Request | str, expect: bool | None = None) -> bool:
        """Check a request, a str being the target of a plain GET, and send it, or put it into the outbox; returns
        whether all of it was sent. *expect*: as for `Protocol.send_request`. Raises as `HTTPConnection.send_request`
        does; then nothing has changed, but that the peer may have been found to be gone."""
        sender = self._sender
        if not sender.acquire(blocking=False):
            raise StateError("another call is sending on this connection")
        try:
            return self._put_request(request, expect)
        finally:
            sender.release()

    def co_connect_to_send(self, request: Request, expect: bool | None) -> Step[bool]:
        """`co_connect`, then `put_request`; a reader may wait for that."""
        yield from self.co_connect(to_send=True)
        try:
            return self.put_request(request, expect)
        finally:
            self._about_to_send = False
            self._wake_reader()

    def _put_request(self, request: Request | str, expect: bool | None) -> bool:
        protocol, parser, transport = self.protocol, self.parser, self.transport
        self._just_sent = False
        if transport is None:
            raise ConnectionClosed("the connection is closed")
        if not parser.waiting_count and (transport.pending or transport.arrived(0)):
            self.look()
        if type(request) is str and parser.reusable and protocol.sending is Sending.IDLE and not protocol.outbox:
            data = encode_get(request, protocol.rest_of_get, protocol.start_of_get)
            if data is not None and not (parser.keep_timeout >= 0 and self.stale):
                return self._send_get(request, data, transport)
        if self.broken or not protocol.alive:
            raise ConnectionClosed("the connection has ended: connect() starts a new one", **protocol.facts("sending"))
        if parser.takes == 0 or self.stale:
            raise ConnectionClosed(
                "the peer takes no more on this connection (Keep-Alive)", **protocol.facts("sending")
            )
        self.put(Request("GET", request) if isinstance(request, str) else request, expect)
        self.start_exchange()
        return False

    def put(self, request: Request, expect: bool | None, item: str | Request | None = None) -> None:
        """Put a request into the outbox, and get ready to draw its body. Arguments and errors are those of
        `Protocol.send_request`."""
        protocol = self.protocol
        with self._moving:
            kind = protocol.send_request(request, expect, item)
        self._expect_end = None
        self._wake_reader()
        if kind is not BodyKind.SOURCE or protocol.expecting:
            return
        if protocol.sends_body:
            self._begin_source(request.body)
        elif not hasattr(request.body, "read"):
            self.source = pieces(request.body, 0)  # it was declared to be empty: let it show that it is
            self._ends_body = False

    def look_if_readable(self) -> None:
        """Take in what is here while nothing is outstanding: the peer has closed, or sent what nobody asked for. Either
        way nothing can be sent any more."""
        transport = self.transport
        if transport is not None and (transport.pending or transport.arrived(0)):
            with contextlib.suppress(HTTPError):
                self.look()

    def _send_get(self, target: str, data: bytes, transport: Transport) -> bool:
        """The short way: a plain GET, in one call, where nothing else waits to be sent."""
        if self.times.exchange is not None:
            self.start_exchange()
        outbox = self.protocol.outbox
        try:
            self.parser.expect(target)
            taken = transport.try_send(data)
            if taken == len(data):
                self.moved += taken
                self._just_sent = not transport.stuck
                return self._just_sent
        except OSError as exc:
            outbox.append(Outgoing(data, 1))
            self._fail_to_send(exc)
        except BaseException:
            self.break_off()  # it cannot be told what was sent
            raise
        outbox.append(Outgoing(data, 1))
        if taken:
            self.moved += taken
            outbox[0].take(taken)
        return False

    def _fail_to_send(self, error: OSError) -> NoReturn:
        """What was received stands; nothing more can be sent."""
        lost = self._lost(error, "sending")
        self.protocol.stop_sending()
        self.send_error = error
        raise lost from error

    @property
    def refused(self) -> bool:
        """Whether the peer has refused a body, and its answer has been read: the next request goes out on a new
        connection, since on this one it might be taken for the content (RFC 9110 section 10.1.1)."""
        refused = self.protocol.sending is Sending.REFUSED
        return refused and not (self.ready or self.current or self.parser.waiting_count or self.broken)

    def idle_error(self, facts: Sequence[Unanswered]) -> HTTPError:
        """What to say of a connection that ended while nothing was outstanding, to the requests that were to be sent on
        it."""
        if self.send_error is None:
            return ConnectionClosed(
                "the peer closed the connection before a request was sent", where="sending", outstanding=facts
            )
        lost = self._lost(self.send_error, "sending")
        lost.outstanding = tuple(facts)
        lost.__cause__ = self.send_error
        return lost

    # -- bodies --

    def put_body(self, data: bytes | bytearray | memoryview) -> None:
        """Put a piece of a body into the outbox."""
        self._prepare_body()
        with self._moving:
            self.refuse_unwanted()
            self.protocol.write(data)

    def put_end(self, trailers: Trailers) -> None:
        """Put the end of a chunked body into the outbox."""
        self._prepare_body()
        with self._moving:
            self.refuse_unwanted()
            self.protocol.end_body(trailers)

    def put_some(self, data: bytes | bytearray | memoryview) -> int:
        """Send of a piece of a body what the transport takes now; returns how many bytes it took, or will take without
        being asked again."""
        self._prepare_body()
        view = memoryview(data).cast("B")
        protocol = self.protocol
        with self._moving:
            self.refuse_unwanted()
            protocol.check_write(view.nbytes)
        if not view or not self.flush():
            return 0
        if protocol.chunked:
            piece = bytes(view[:PARTIAL_CHUNK])
            with self._moving:
                protocol.write(piece)
            self.flush()
            return len(piece)
        with self._right_to_send:
            try:
                taken = self._connected().try_send(view)
            except OSError as exc:
                self._fail_to_send(exc)
            except BaseException:
                self.break_off()
                raise
        if not taken:
            return 0
        self.moved += taken
        with self._moving:
            protocol.wrote(taken)
        return taken

    def put_file(self, file: BinaryIO) -> None:
        """The rest of a file is the next part of the body."""
        if not hasattr(file, "read") or isinstance(file, io.TextIOBase):
            raise TypeError("a binary file is wanted, not " + type(file).__name__)
        self._prepare_body()
        part = FilePart.of(file, None)
        length = file_length(file)
        with self._moving:
            self.refuse_unwanted()
            self.protocol.check_write(length or 0)
            if part is not None and self._connected().can_sendfile:
                self.protocol.write_file(part)
                return
        self.source = pieces(file, length)
        self._ends_body = False

    def _prepare_body(self) -> None:
        if self._sending:
            raise StateError("another call is sending on this connection")
        self._just_sent = False
        if self.protocol.sends_body:
            self.look()

    def refuse_unwanted(self) -> None:
        """ConnectionClosed where the rest of a body will not be sent."""
        self.check_not_closed_inside()
        protocol = self.protocol
        if protocol.unfinished and protocol.sending in _STOPPED:
            told = self.ready or (not self.broken and (self.current or self.parser.waiting_count))
            why = (
                "the rest of the body is not wanted: read_response() tells why" if told else "the connection has ended"
            )
            raise ConnectionClosed(why, **protocol.facts("sending"))

    def _begin_source(self, body: Any) -> None:
        """The request that is being sent has *body* for its body."""
        left = self.protocol.body_left
        part = None
        if not self.protocol.chunked and self._connected().can_sendfile:
            part = FilePart.of(body, left)
        if part is not None:
            self.protocol.write_file(part)
        else:
            self.source = iter([memoryview(body)]) if isinstance(body, _BYTES) else pieces(body, left)
            self._ends_body = True

    # -- flushing --

    def flush(self) -> bool:
        """Send what the transport takes now, and the pieces of `source` behind it, so many at a time; returns whether
        nothing is left to send now. Raises ConnectionClosed, and what the source raises, which breaks the link."""
        with self._right_to_send:
            return self._flush()

    def _flush(self) -> bool:
        transport = self._connected()
        protocol = self.protocol
        outbox = protocol.outbox
        unheard = 0
        try:
            while True:
                while outbox:
                    if protocol.sending in _STOPPED:
                        return True
                    first = outbox[0]
                    rest = first.rest
                    if isinstance(rest, FilePart):
                        taken = self._send_file(transport, rest)
                    else:
                        taken = transport.try_send(
                            rest if len(rest) <= SENT_AT_ONCE else memoryview(rest)[:SENT_AT_ONCE]
                        )
                    if taken is None:
                        return False
                    self.moved += taken
                    if taken == len(rest):
                        outbox.popleft()
                        if type(rest) is FilePart:
                            with contextlib.suppress(OSError, ValueError):  # what matters of it has been sent
                                rest.file.seek(rest.offset + taken)
                    else:
                        first.take(taken)
                    unheard += taken
                    if unheard >= SENT_AT_ONCE and (outbox or self.source is not None):
                        return not self.look()  # the peer takes on: it may have answered, and others have their turn
                if protocol.sending in _STOPPED:
                    return True
                if transport.stuck:
                    transport.try_send(b"")
                    if transport.stuck:
                        return False
                if protocol.held is not None:
                    if not self._release():
                        return True
                elif self.source is None or not self._draw():
                    return True
        except OSError as exc:
            if exc is self.source_error or isinstance(exc, HTTPError):
                raise
            if self._refused_before(exc):
                return True
            self._fail_to_send(exc)
        except BaseException:
            self.break_off()  # what was sent may not be noted
            raise

    def _refused_before(self, error: OSError) -> bool:
        """Whether an answer that makes the rest of a body pointless is here: the peer sent it, and then did what makes
        sending fail."""
        lost = self._lost(error, "sending")
        try:
            refused = not self.look() and bool(self.ready) and not self.ready[-1].request_complete
        except HTTPError:
            raise lost from error
        if refused:
            self.send_error = error
        return refused

    def _send_file(self, transport: Transport, part: FilePart) -> int | None:
        try:
            descriptor = part.file.fileno()  # asked for each time: of a closed file the number may be another's
        except ValueError as exc:
            self._fail_source(exc)
        try:
            taken = transport.try_sendfile(descriptor, part.offset, part.count)
        except OSError as exc:
            if exc.errno == errno.EIO:
                self._fail_source(exc)  # of the disk's: a socket has none
            raise
        if taken == 0:
            self._fail_source(StateError(f"the file had {part.count} bytes less than the body was to have"))
        return taken

    def _fail_source(self, error: Exception) -> NoReturn:
        """The body is not what was declared, or its source has failed: nothing can follow it."""
        self.source_error = error
        self.source = None
        with contextlib.suppress(HTTPError):
            self.look()  # an answer that is here stands
        self._break_off_sending()
        raise error

    def _draw(self) -> bool:
        """Put the next piece of `source` into the outbox; False: there is none."""
        source = self.source
        assert source is not None
        if not self.look():  # an answer has made the rest pointless
            self.source = None
            return False
        protocol = self.protocol
        try:
            piece = next(source, None)
            with self._moving:
                if protocol.sending in _STOPPED:  # by a reader, just now
                    self.source = None
                    return False
                if piece is not None:
                    protocol.write(piece)
                    if protocol.sends_body:
                        return True
                self.source = None
                if not self._ends_body:
                    return bool(protocol.outbox)
                if protocol.sends_body:
                    protocol.end_body()
            if piece is not None:
                next(source, None)  # the body is as long as was declared: a source that has more is wrong
            return bool(protocol.outbox)
        except Exception as exc:
            self._fail_source(exc)

    def co_flush(self) -> Step[None]:
        """Send all that is to be sent. While that waits, what the peer says is listened to, and may make the
        rest pointless."""
        sender = self._sender
        if not sender.acquire(blocking=False):
            raise StateError("another call is sending on this connection")
        need: PollNeeded | None = None
        protocol = self.protocol
        try:
            self._sending = True
            while not self.flush() or protocol.held is not None:
                bell = self._bell
                if bell is None:
                    bell = self._bell = Bell()
                # What a reader changes from here on, it rings for.
                if protocol.sending in _STOPPED or (protocol.held is not None and protocol.continued()):
                    continue
                need = self._need_room(need, bell)
                yield self.until_continue(need)
                self._check_open(protocol)
                bell.silence()
                if not self.look():
                    break
                if self.untold:
                    self.tell()
        except BaseException:
            if self.protocol is protocol:
                self._leave_source()
            raise
        finally:
            sender.release()
            if self.protocol is protocol:
                self._sending = False
                self._wake_reader()
                if protocol.outbox or (self.transport is not None and self.transport.stuck):
                    self._call_reader()  # this call was left: what it leaves goes out all the same
        if self.protocol.sending in _STOPPED:
            self._refuse_silence()
        else:
            self._just_sent = not self.protocol.expecting
        if self.untold:
            self.tell()

    def _leave_source(self) -> None:
        """A call is left before it has sent all. Bytes go out later as well; a file or an iterable was the caller's to
        give for that call only, and without the rest of its body nothing can follow."""
        protocol = self.protocol
        parts = any(isinstance(entry.rest, FilePart) for entry in protocol.outbox)
        unfinished = self.source is not None or protocol.held is not None or parts
        self.source = None
        if unfinished and protocol.sending not in _STOPPED:
            self._break_off_sending()

    def _break_off_sending(self) -> None:
        """Nothing can follow what was sent: the link is broken, and a call that reads is told."""
        self.break_off()
        if self._reading and self.transport is not None:
            self.transport.abort()  # it may wait for nothing but the peer, who has nothing more to say

    def _need_room(self, earlier: PollNeeded | None, bell: Bell) -> PollNeeded:
        """What to wait for until more can be sent, or there is a reason not to."""
        transport = self._connected()
        mask = transport.send_wants if self.protocol.outbox or transport.stuck or self.source is not None else 0
        # While the content of an answer is left to the caller it can be seen only that nothing follows it.
        mask |= POLLIN if self._may_listen() else 0 if self._reading else HANG_UP
        return self.need(mask, earlier, sending=True, bell=bell)

    def _refuse_silence(self) -> None:
        """What is left to send is pointless. Without an answer that tells why, the peer has closed: say so now."""
        if self.ready or self.parser.open is not None or not self.parser.waiting_count:
            return
        if self.broken or self.send_error is not None:  # another call has met that
            facts = self.protocol.facts("sending")
            raise ConnectionClosed("the connection was lost while the request was sent", **facts) from self.send_error
        if self.parser.at_eof and not self._reading:
            self.give_up("the peer closed the connection while the request was being sent")

    # -- 100 (Continue) --

    def _release(self) -> bool:
        """Let the body that waits for 100 (Continue) go, if that has come or is to be taken as given."""
        protocol = self.protocol
        if protocol.continued() is None and not self._is_assumed():
            return False
        with self._moving:
            if protocol.expecting:
                self._begin_source(protocol.go_on())
        return True

    def _is_assumed(self) -> bool:
        """Whether 100 (Continue) has been waited for long enough, or would be waited for without end where it cannot be
        seen: the body behind it may go out all the same (RFC 9110 section 10.1.1)."""
        limit = self.times.expect
        if limit is None:
            return self.protocol.held is not None and not (self._reading or self._may_listen())
        now = monotonic()
        if self._expect_end is None:
            self._expect_end = now + limit
        if now < self._expect_end:
            return False
        _log.debug("connection %d: no 100 (Continue) came: the body is sent without it", self.number)
        return True

    # -- listening --

    def _may_listen(self) -> bool:
        parser = self.parser
        return not (self._reading or parser.at_eof or parser.open is not None) and parser.room > 0

    def look(self) -> bool:
        """Take in what the peer has sent already, without waiting; returns whether it makes sense to send on.

        Where a call waits for the peer, it is left to that. A response that is wrong is left for `take_responses`,
        which meets it again: an answer that is here stands, whatever comes after it.
        """
        protocol = self.protocol
        responses: list[HTTPResponse] = []
        if self._may_listen():
            lock, taken = self._right_to_receive, False
            try:
                taken = lock.acquire(blocking=False)
                transport, parser = self._connected(), self.parser
                # Asked again: a reader may have gone on in between.
                count = transport.try_receive_into(parser) if taken and self._may_listen() else None
                if count is not None:
                    responses = parser.buffer_updated(count) if count else parser.eof(transport.clean)
                    self.moved += count
                    self.hand_over(responses)
            except HTTPError:
                protocol.stop_sending()
            except OSError as exc:
                lost = self._lost(exc, None)
                protocol.stop_sending()
                self.send_error = exc
                if not self.ready and self.current is None:
                    self.break_off()
                    raise lost from exc
            except BaseException:
                self.break_off()  # what was received is lost
                raise
            finally:
                if taken:
                    lock.release()
            over = self.parser.at_eof or self.parser.surplus
            if over and (protocol.sends_body or protocol.expecting or protocol.outbox):
                protocol.stop_sending()
            if self.on_informational is not None:
                self.note_interim(responses)
        elif self.parser.open is not None and not self._reading and self._connected().hung_up():
            protocol.stop_sending()
        return protocol.sending not in _STOPPED

    def hand_over(self, responses: list[HTTPResponse]) -> None:
        """Responses are ready, and the sending half is told of them."""
        protocol = self.protocol
        with self._moving:
            responses = protocol.answered(responses)
        self.ready.extend(responses)
        if responses and not responses[-1].request_complete and _log.isEnabledFor(logging.DEBUG):
            _log.debug("connection %d: %d has come before its request was sent", self.number, responses[-1].status)
        if self._bell is not None and (protocol.held is not None or protocol.sending in _STOPPED):
            self._bell.ring()

    def note_interim(self, responses: list[HTTPResponse]) -> None:
        """Note the interim responses that have come, before *responses* and before the one awaited."""
        awaited = self.parser.interim_responses
        interims = [interim for response in responses for interim in response.informational]
        self.untold += [*interims, *awaited][self._noted :]
        self._noted = len(awaited)

    def tell(self) -> None:
        """Show the caller the interim responses that were noted. What that raises passes through."""
        while self.untold:
            interim = self.untold.popleft()
            if self.on_informational is not None:
                self.on_informational(interim)


_BYTES = (bytes, bytearray, memoryview)
_STOPPED = frozenset((Sending.REFUSED, Sending.STOPPED, Sending.BROKEN))
