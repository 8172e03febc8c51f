"""HTTPConnection: each call as a generator step (``co_`` and its name), and as a blocking call that runs
the step."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from httpio.dial import SocketOption
from httpio.exceptions import ConnectionClosed, StateError
from httpio.framing import frame_request
from httpio.headers import FieldsLike, encode_fields
from httpio.link import BUFFER_SIZE, Link, Target
from httpio.messages import Body, HTTPResponse, Lenient, Limits, Request
from httpio.pipelining import Pipeline
from httpio.states import Receiving
from httpio.urls import DEFAULT_PORTS, check_host, check_port, host_field
from httpio.waiting import Step, run
from httpio.window import Failure, Window

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["HTTPConnection"]


class HTTPConnection:
    """One HTTP/1.1 connection, which may carry many requests before their answers are read.

    *hostname*, *port*: the peer; without a port 80, or 443 with an *ssl_context*. *timeout*: seconds
    without progress, *deadline*: seconds for one whole exchange, *connect_timeout*: seconds for
    connecting, TLS handshake included; None: no limit. *unix_socket*: connect to this path instead;
    *hostname* is then only what the Host field and the certificate say. *source_address*,
    *socket_options*: as for `socket.bind` and `setsockopt`. *limits*, *lenient*: what responses are held
    to. Raises InvalidURL for a host or port that cannot be one.

    Every blocking call has a twin, ``co_`` and its name, that is a step: a generator which yields
    `PollNeeded` where it would block, and returns the call's result. One thread may send while another
    reads; anything else is an error.

    Errors of all calls: `ConnectionClosed` when the peer goes away, `ConnectionTimedOut`,
    `InvalidResponse`, `UnsupportedResponse`, and `StateError` for a call that does not fit. A failed
    connection stays broken until `connect` or `close`.
    """

    def __init__(
        self,
        hostname: str,
        port: int | None = None,
        ssl_context: ssl.SSLContext | None = None,
        *,
        timeout: float | None = None,
        connect_timeout: float | None = None,
        deadline: float | None = None,
        unix_socket: str | os.PathLike[str] | None = None,
        source_address: tuple[str, int] | None = None,
        socket_options: Iterable[SocketOption] = (),
        limits: Limits | None = None,
        lenient: Lenient = Lenient(0),  # noqa: B008 - an immutable value
    ) -> None:
        scheme = "http" if ssl_context is None else "https"
        self.hostname = check_host(hostname)
        self.port = DEFAULT_PORTS[scheme] if port is None else check_port(port)
        self.ssl_context = ssl_context
        target = Target(
            host=self.hostname,
            port=self.port,
            defaults=tuple(
                encode_fields({"Host": host_field(self.hostname, self.port, scheme), "Accept-Encoding": "identity"})
            ),
            ssl_context=ssl_context,
            unix_socket=unix_socket,
            source_address=source_address,
            socket_options=tuple(socket_options),
            limits=Limits() if limits is None else limits,
            lenient=Lenient(lenient),
        )
        self._link = Link(target, timeout, connect_timeout, deadline)
        self._pipeline: Pipeline | None = None

    # -- connecting --

    def co_connect(self) -> Step[None]:
        """As `connect`."""
        self._refuse_in_pipeline()
        return self._link.co_connect()

    def connect(self) -> None:
        """Connect, or connect anew: whatever was outstanding is given up.

        `send_request` does it where that was never done. Raises HostnameNotResolvable, DNSUnavailable,
        ConnectionTimedOut, ConnectionClosed where the peer goes away in the handshake, and the operating
        system's and ssl's own errors as they are.
        """
        run(self.co_connect())

    def close(self) -> None:
        """Close the connection; never blocks. What was outstanding is given up, and a pipeline ends.
        `send_request` will connect anew."""
        self._pipeline = None
        self._link.close()

    disconnect = reset = close

    def abort(self) -> None:
        """End the connection at once, from any thread. A call that waits for it raises ConnectionClosed."""
        transport = self._link.transport
        if transport is not None:
            transport.abort()

    def detach(self) -> tuple[socket.socket, bytes]:
        """Hand over the socket, which does not block, and the bytes already received beyond the response.

        Only after 101 (Switching Protocols) or a CONNECT that was accepted; StateError otherwise. The
        connection is closed then, and its next request connects anew.
        """
        link = self._link
        if link.transport is None or link.protocol.receiving.state is not Receiving.TUNNEL:
            raise StateError("only a connection that has switched protocols can be detached")
        leftover = link.protocol.receiving.parser.leftover()
        sock = link.transport.detach()
        link.transport = None
        link.close()
        return sock, leftover

    def __enter__(self) -> HTTPConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- what is known --

    @property
    def timeout(self) -> float | None:
        """Seconds without progress after which a call raises ConnectionTimedOut; None: no limit."""
        return self._link.timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._link.timeout = seconds

    @property
    def deadline(self) -> float | None:
        """Seconds for one whole exchange; None: no limit."""
        return self._link.deadline

    @deadline.setter
    def deadline(self, seconds: float | None) -> None:
        self._link.deadline = seconds

    @property
    def outstanding(self) -> tuple[Request, ...]:
        """The requests not yet answered in full, oldest first."""
        waiting = self._link.protocol.receiving.outstanding
        return tuple(Request("GET", item) if isinstance(item, str) else item for item in waiting)

    def response_pending(self) -> bool:
        """Whether there is a response that has not been read in full."""
        link = self._link
        return bool(link.ready) or link.current is not None or bool(link.protocol.receiving.outstanding)

    @property
    def buffered(self) -> bool:
        """Whether data is here that `select` on the socket cannot see."""
        link = self._link
        if link.transport is None:
            return False
        return bool(link.ready) or link.protocol.receiving.parser.buffered > 0 or link.transport.pending

    def fileno(self) -> int:
        """The socket's file descriptor; StateError where there is none."""
        if self._link.transport is None:
            raise StateError("the connection has no socket")
        return self._link.transport.fd

    # -- sending --

    def co_send_request(self, method: str, path: str, headers: FieldsLike = None, body: Body = None) -> Step[None]:
        """As `send_request`."""
        link = self._link
        self._refuse_in_pipeline()
        if link.transport is None:
            # What is wrong with the request must not cost a connection.
            request = Request(method, path, headers, body)
            headers = request.headers
            frame_request(method, path, headers, body, link.target.defaults)
            yield from link.co_connect()
        if not link.put_request(method, path, headers, body):
            yield from link.co_flush()

    def send_request(self, method: str, path: str, headers: FieldsLike = None, body: Body = None) -> None:
        """Send a request; its response is for a later `read_response`, and other requests may be sent
        before that.

        *path*: the request target. *headers*: a mapping or pairs; they win over httpio's own, and are not
        changed. *body*: bytes, a binary file, an iterable of bytes, or a `BodyFollowing`, whose bytes go
        through `write`.

        Raises ValueError, InvalidURL or TypeError for what cannot be sent, before anything is; else the
        errors of the class. ConnectionClosed after a loss, or after a response that ended the connection,
        until `connect` or `close`.
        """
        link = self._link
        if link.transport is None or self._pipeline is not None:
            run(self.co_send_request(method, path, headers, body))
        else:
            if not link.put_request(method, path, headers, body):
                run(link.co_flush())

    def _refuse_in_pipeline(self) -> None:
        if self._pipeline is not None:
            raise StateError("the connection is in a pipeline: only the bodies of its responses can be read")

    def co_write(self, buf: bytes | bytearray | memoryview) -> Step[None]:
        """As `write`."""
        self._refuse_in_pipeline()
        self._link.put_body(buf)
        yield from self._link.co_flush()

    def write(self, buf: bytes | bytearray | memoryview) -> None:
        """Send the next bytes of a body that `BodyFollowing` announced.

        Raises ExcessBodyData for more than was announced, of which nothing is sent; StateError when no
        body is being sent; ConnectionClosed also when an answer has come that makes the rest pointless:
        `read_response` gives it.
        """
        run(self.co_write(buf))

    def co_end_body(self) -> Step[None]:
        """As `end_body`."""
        self._refuse_in_pipeline()
        self._link.put_body(None)
        yield from self._link.co_flush()

    def end_body(self) -> None:
        """End a body of unknown length, which goes out in chunks. StateError when no such body is being
        sent."""
        run(self.co_end_body())

    # -- receiving --

    def co_read_response(self) -> Step[HTTPResponse]:
        """As `read_response`."""
        self._refuse_in_pipeline()
        response = self._link.next_ready()
        return response or (yield from self._link.co_next_response())

    def read_response(self) -> HTTPResponse:
        """The response to the oldest outstanding request, once its header section is here; its body is
        read after that.

        Interim responses that came before it are in its `informational`. StateError when no request is
        outstanding, or when the body of the response before has not been read to its end.
        """
        if self._pipeline is not None:
            self._refuse_in_pipeline()
        link = self._link
        return link.wait_once() or link.next_ready() or run(link.co_next_response())

    def co_read(self, len_: int | None = None) -> Step[bytes]:
        """As `read`."""
        if len_ is None or len_ < 0:
            return (yield from self.co_readall())
        return (yield from self._link.co_read(min(len_, BUFFER_SIZE))) if len_ else b""

    def read(self, len_: int | None = None) -> bytes:
        """Read at most *len_* bytes of content, as soon as there are any; None: all. ``b""``: the body has
        ended."""
        return run(self.co_read(len_))

    def co_readinto(self, buf: WriteableBuffer) -> Step[int]:
        """As `readinto`."""
        target = memoryview(buf).cast("B")
        return (yield from self._link.co_readinto(target)) if target else 0

    def readinto(self, buf: WriteableBuffer) -> int:
        """Read content into a writable buffer; returns how many bytes, at least one. 0: the body has
        ended."""
        return run(self.co_readinto(buf))

    def co_readall(self) -> Step[bytes]:
        """As `readall`."""
        parts = []
        while self._link.current is not None:
            parts.append((yield from self._link.co_read(BUFFER_SIZE)))
        return b"".join(parts)

    def readall(self) -> bytes:
        """Read what is left of the content."""
        link = self._link
        if link.current is None:
            return b""
        content = link.read_now(BUFFER_SIZE)
        return content if link.current is None else content + run(self.co_readall())

    def co_discard(self) -> Step[None]:
        """As `discard`."""
        link = self._link
        if link.current is not None:
            view = memoryview(bytearray(BUFFER_SIZE))
            while link.current is not None:
                yield from link.co_readinto(view)

    def discard(self) -> None:
        """Read what is left of the content, and drop it."""
        run(self.co_discard())

    def co_write_to(self, fh: BinaryIO) -> Step[int]:
        """As `write_to`."""
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
        return total

    def write_to(self, fh: BinaryIO) -> int:
        """Write what is left of the content to a binary file; returns how many bytes.

        Where the operating system can, they go from the socket to the file without entering Python. What
        *fh* raises passes through, and what was read for it is lost.
        """
        return run(self.co_write_to(fh))

    # -- many --

    def pipeline(
        self, requests: Iterable[str | Request], depth: int | None = None, body_limit: int = 1024 * 1024
    ) -> Iterator[HTTPResponse]:
        """Send many requests, each before the answers to those before it; yields the response to each, in
        order.

        *requests*: request targets (a str is a GET) or `Request`, drawn lazily. *depth*: how many may be
        out at once; None: 1 at first, and twice as many after each window that was answered in full.
        *body_limit*: a body up to this many bytes is in `response.body`; a larger one has None there, and
        is read through the connection before the next step, which drops what is left of it.

        A lost connection is replaced, and what may be repeated is sent again. Leaving the loop early with
        requests outstanding closes the connection. A bad item, or an error of *requests* itself, is raised
        once all that came before it has been answered. StateError when a response is pending.
        """
        self._check_idle()
        return self._responses(Pipeline(self._link, requests, Window(depth), body_limit))

    def _check_idle(self) -> None:
        self._refuse_in_pipeline()
        if self.response_pending() or self._link.protocol.sends_body:
            raise StateError("a pipeline begins when nothing is outstanding")

    def _responses(self, pipeline: Pipeline) -> Iterator[HTTPResponse]:
        self._check_idle()
        self._pipeline = pipeline
        try:
            while batch := run(pipeline.co_next()):
                for outcome in batch:
                    if isinstance(outcome, Failure):
                        raise outcome.error
                    if outcome.body is None:
                        pipeline.read_next(outcome)
                    yield outcome
                    if self._pipeline is not pipeline:
                        raise ConnectionClosed("the connection was closed inside its pipeline")
        finally:
            if self._pipeline is pipeline:
                self._pipeline = None
            pipeline.close()


def _write_all(fh: BinaryIO, data: memoryview) -> None:
    """Write all of *data*, in as many writes as *fh* wants."""
    while data:
        written = fh.write(data)
        if written is None:  # what only looks like a file often does not say
            return
        if written == 0:
            raise OSError("the file to write to takes nothing")
        data = data[written:]
