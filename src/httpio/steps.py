"""What a connection does, as generator steps: each call's name with ``co_`` before it. They yield `PollNeeded` where
they would block, and return the call's result; `connection.py` and `aio.py` run them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from httpio.content import accept_encoding
from httpio.decoding import decode_collected
from httpio.exceptions import ConnectionClosed, StateError
from httpio.face import Face
from httpio.headers import FieldsLike, encode_fields
from httpio.link import BUFFER_SIZE
from httpio.messages import Body, HTTPResponse, Request, Trailers
from httpio.pipelining import Outcome, Pipeline
from httpio.transport import Transport
from httpio.waiting import Step
from httpio.window import Failure

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["Steps"]


class Steps(Face):
    """A connection whose calls are steps: for arguments, results and errors see the same names of `HTTPConnection`."""

    # -- connecting --

    def co_connect(self) -> Step[None]:
        """As `HTTPConnection.connect`."""
        self._refuse_in_pipeline()
        yield from self._link.co_connect()

    def co_get_ssl_peercert(self, binary_form: bool = False) -> Step[dict[str, Any] | bytes | None]:
        """As `HTTPConnection.get_ssl_peercert`."""
        return None if self.ssl_context is None else (yield from self._co_transport()).peer_certificate(binary_form)

    def co_get_ssl_cipher(self) -> Step[tuple[str, str, int] | None]:
        """As `HTTPConnection.get_ssl_cipher`."""
        return None if self.ssl_context is None else (yield from self._co_transport()).cipher()

    def _co_transport(self) -> Step[Transport]:
        link = self._link
        if link.transport is None:
            yield from self.co_connect()
        assert link.transport is not None
        return link.transport

    # -- sending --

    def co_send_request(
        self,
        method: str,
        path: str,
        headers: FieldsLike = None,
        body: Body = None,
        expect100: bool = False,
        *,
        trailers: Trailers = None,
    ) -> Step[None]:
        """As `HTTPConnection.send_request`."""
        if method == "GET" and body is None and not (headers or expect100) and trailers is None and type(path) is str:
            return self._co_get(path)
        return self._co_send(Request(method, path, headers, body, trailers=trailers), expect100 or None)

    def _co_get(self, path: str) -> Step[None]:
        """Send a GET without fields of its own."""
        self._refuse_in_pipeline()
        link = self._link
        if link.transport is None or link.refused:
            yield from self._co_send(Request("GET", path), None)
        elif not link.put_request(path):
            yield from link.co_flush()

    def _co_send(self, request: Request, expect: bool | None) -> Step[None]:
        self._refuse_in_pipeline()
        link = self._link
        if link.transport is None or link.refused:
            self._check(request, expect)  # what is wrong with it must not cost a connection
            sent = yield from link.co_connect_to_send(request, expect)
        else:
            sent = link.put_request(request, expect)
        if not sent:
            yield from link.co_flush()

    def _check(self, request: Request, expect: bool | None) -> None:
        self._link.protocol.frame(request, expect)

    def co_write(self, buf: bytes | bytearray | memoryview, partial: bool = False) -> Step[int]:
        """As `HTTPConnection.write`."""
        self._refuse_in_pipeline()
        if partial:
            return self._link.put_some(buf)
        self._link.put_body(buf)
        yield from self._link.co_flush()
        return memoryview(buf).nbytes

    def co_sendfile(self, fh: BinaryIO) -> Step[int]:
        """As `HTTPConnection.sendfile`."""
        self._refuse_in_pipeline()
        link = self._link
        before = link.protocol.written
        link.put_file(fh)
        yield from link.co_flush()
        link.refuse_unwanted()
        return link.protocol.written - before

    def co_end_body(self, trailers: Trailers = None) -> Step[None]:
        """As `HTTPConnection.end_body`."""
        self._refuse_in_pipeline()
        self._link.put_end(trailers)
        yield from self._link.co_flush()

    def co_flush(self) -> Step[None]:
        """As `HTTPConnection.flush`."""
        if self._link.transport is not None:
            yield from self._link.co_flush()

    # -- receiving --

    def co_read_response(self, decode: bool = False) -> Step[HTTPResponse]:
        """As `HTTPConnection.read_response`."""
        self._refuse_in_pipeline()
        link = self._link
        if link.sends and not link.parser.waiting_count:
            yield from link.co_await_request()
            self._refuse_in_pipeline()
        response = link.next_ready() or (yield from link.co_next_response())
        if decode:
            link.begin_decoding(response)
        return response

    def co_read(self, len_: int | None = None) -> Step[bytes]:
        """As `HTTPConnection.read`."""
        if len_ is None or len_ < 0:
            return (yield from self.co_readall())
        return (yield from self._link.co_read(min(len_, BUFFER_SIZE))) if len_ else b""

    def co_readinto(self, buf: WriteableBuffer) -> Step[int]:
        """As `HTTPConnection.readinto`."""
        target = memoryview(buf).cast("B")
        return (yield from self._link.co_readinto(target)) if target else 0

    def co_readall(self) -> Step[bytes]:
        """As `HTTPConnection.readall`."""
        return self._co_rest(b"")

    def _co_rest(self, content: bytes) -> Step[bytes]:
        """*content*, and what follows it."""
        link = self._link
        protocol = link.protocol
        parts = [content]
        decoding, most = link.decoding, link.target.limits.max_decoded
        left = most
        try:
            while link.current is not None:
                part = yield from link.co_read(BUFFER_SIZE)
                parts.append(part)
                left -= len(part)
                if left < 0 and decoding is not None:
                    decoding.refuse(most)
        except BaseException:
            if any(parts) and link.protocol is protocol and not (decoding is not None and decoding.failed):
                link.break_off()  # it is lost: what follows must not pass for the whole
                if decoding is not None:
                    decoding.interrupt()
            raise
        link.check_not_closed_inside()
        return b"".join(parts)

    def co_discard(self) -> Step[None]:
        """As `HTTPConnection.discard`."""
        link = self._link
        if link.decoding is not None:
            link.refuse_reader()
            link.stop_decoding()
        if link.current is not None:
            view = memoryview(bytearray(BUFFER_SIZE))
            while link.current is not None:
                yield from link.co_readinto(view)
        link.check_not_closed_inside()

    def co_write_to(self, fh: BinaryIO) -> Step[int]:
        """As `HTTPConnection.write_to`."""
        link = self._link
        total = 0
        view = memoryview(bytearray(BUFFER_SIZE if link.current is not None else 0))
        while link.current is not None:
            moved = yield from link.co_splice(fh)
            total += moved
            if link.current is None or moved:
                continue
            count = yield from link.co_readinto(view)
            total += count
            _write_all(fh, view[:count])
        link.check_not_closed_inside()
        return total

    def co_read_raw(self, size: int) -> Step[bytes]:
        """As `HTTPConnection.read_raw`."""
        if size < 1:
            raise ValueError("read_raw() reads at least one byte")
        return self._link.co_receive_raw(size)

    closed = False
    """Always False: a connection that was closed can be used again."""

    # -- many --

    @contextmanager
    def _in_pipeline(self, pipeline: Pipeline) -> Iterator[None]:
        """The connection belongs to *pipeline*, until the block ends or the connection is closed inside it."""
        self._check_idle()
        link = self._link
        try:
            self._pipeline = pipeline
            if pipeline.decodes:
                fields = [field for field in link.target.defaults if field[1] != b"accept-encoding"]
                link.send_with((*fields, *encode_fields({"Accept-Encoding": accept_encoding()})))
            yield
        finally:
            try:
                if self._pipeline is pipeline:
                    if pipeline.decodes:
                        link.send_with(link.target.defaults)
                    self._pipeline = None
                    pipeline.close()
            except BaseException:
                link.interrupt()
                raise

    def _hand_out(self, pipeline: Pipeline, batch: list[Outcome]) -> Iterator[HTTPResponse]:
        """The responses of a batch, each ready for its body to be read; raises what stands in place of one."""
        for outcome in batch:
            self._link.stop_decoding()  # what was left of the one before is dropped
            if isinstance(outcome, Failure):
                raise outcome.error
            if outcome.body is None:
                pipeline.read_next(outcome)
            if pipeline.decodes:
                self._decode(outcome, pipeline.body_limit)
            yield outcome
            self._check_in(pipeline)

    def _decode(self, response: HTTPResponse, body_limit: int) -> None:
        """Undo the codings of a body that was collected; where it grows too long for that, it is read like any other
        long one."""
        link, content = self._link, response.body
        if content is None:
            link.begin_decoding(response)
            return
        limits = link.target.limits
        body = decode_collected(response, content, limits, min(body_limit, limits.max_decoded))
        response.replace_body(body)
        if body is None:
            link.begin_decoding(response, content)

    def _check_in(self, pipeline: Pipeline) -> None:
        if self._pipeline is not pipeline:
            raise ConnectionClosed("the connection was closed inside its pipeline")

    def _check_idle(self) -> None:
        self._refuse_in_pipeline()
        if self.response_pending() or self._link.protocol.sends_body or self._link.sends:
            raise StateError("a pipeline begins when nothing is outstanding")


def _write_all(fh: BinaryIO, data: memoryview) -> None:
    """Write all of *data*, in as many writes as *fh* wants."""
    while data:
        written = fh.write(data)
        if written is None:  # what only looks like a file often does not say
            return
        if written == 0:
            raise OSError("the file to write to takes nothing")
        data = data[written:]
