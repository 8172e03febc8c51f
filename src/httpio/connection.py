"""HTTPConnection: each step as a blocking call, and what is there for speed and for io."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, ParamSpec, TypeVar, overload

from httpio.headers import FieldsLike
from httpio.link import BUFFER_SIZE
from httpio.messages import Body, HTTPResponse, Request, Trailers
from httpio.pipelining import Pipeline
from httpio.steps import Steps
from httpio.waiting import POLLIN, PollNeeded, Step, run
from httpio.window import Window

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["HTTPConnection"]

T = TypeVar("T")
P = ParamSpec("P")


class HTTPConnection(Steps):
    """One HTTP/1.1 connection, which may carry many requests before their answers are read.

    *hostname*, *port*: the peer; without a port 80, or 443 with an *ssl_context*. *proxy*: the way to it, a
    `Proxy`, its URL, or host and port of an http proxy; without an *ssl_context* an http proxy gets the
    requests themselves, with one it opens a tunnel (CONNECT), as a SOCKS proxy always does. *timeout*: seconds
    without progress, *deadline*: seconds for one whole exchange, *connect_timeout*: seconds for
    connecting, TLS handshake included; None or 0: no limit. *expect_timeout*: seconds to wait for 100
    (Continue) before the body is sent all the same; None: no limit. *unix_socket*: connect to this path
    instead; *hostname* is then only what the Host field and the certificate say. *source_address*,
    *socket_options*: as for `socket.bind` and `setsockopt`. *limits*, *lenient*: what responses are held
    to. *trace*: a path, in which ``%d`` stands for the connection's number, or a binary file, to which
    every byte that is sent and received is written, secrets and all; without it the environment variable
    HTTPIO_TRACEFILE may hold such a path. *on_informational*: called with each interim response as soon
    as it is here, by the thread that received it; what it raises comes out of that call. Raises InvalidURL
    for a host or port that cannot be one, ValueError for seconds that are negative.

    Every blocking call has a twin, ``co_`` and its name, that is a step: a generator which yields
    `PollNeeded` where it would block, and returns the call's result. One thread may send while another
    reads; anything else is an error.

    Errors of all calls: `ConnectionClosed` when the peer goes away, `ConnectionTimedOut`,
    `InvalidResponse`, `UnsupportedResponse`, and `StateError` for a call that does not fit. A failed
    connection stays broken until `connect` or `close`.
    """

    def _guarded(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What *call* returns. What interrupts it, such as Ctrl-C, may do so between any two instructions: where the
        connection then stands cannot be told, and it is not used any more."""
        try:
            return call(*args, **kwargs)
        except Exception:
            raise
        except BaseException:
            self._link.interrupt()
            raise

    def _run(self, step: Step[T]) -> T:
        """Run a step to its end."""
        return self._guarded(run, step)

    # -- connecting --

    def connect(self) -> None:
        """Connect, or connect anew: whatever was outstanding is given up.

        `send_request` does it where that was never done. Raises HostnameNotResolvable, DNSUnavailable,
        ConnectionTimedOut, ConnectionClosed where the peer goes away in the handshake, ProxyError where a
        proxy refuses, and the operating system's and ssl's own errors as they are.
        """
        self._run(self.co_connect())

    def __enter__(self) -> HTTPConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def get_ssl_peercert(self, binary_form: bool = False) -> dict[str, Any] | bytes | None:
        """The peer's certificate, as `ssl.SSLSocket.getpeercert` gives it: a dict, or DER bytes with *binary_form*;
        None without TLS. Connects where that was not done."""
        return self._run(self.co_get_ssl_peercert(binary_form))

    def get_ssl_cipher(self) -> tuple[str, str, int] | None:
        """The cipher in use: its name, the version of TLS, and the bits of its secret; None without TLS. Connects where
        that was not done."""
        return self._run(self.co_get_ssl_cipher())

    # -- sending --

    @overload
    def send_request(
        self,
        method: str,
        path: str,
        headers: FieldsLike = None,
        body: Body = None,
        expect100: bool = False,
        *,
        via_cofun: Literal[False] = False,
        trailers: Trailers = None,
    ) -> None: ...

    @overload
    def send_request(
        self,
        method: str,
        path: str,
        headers: FieldsLike = None,
        body: Body = None,
        expect100: bool = False,
        *,
        via_cofun: Literal[True],
        trailers: Trailers = None,
    ) -> Generator[None, None, None]: ...

    def send_request(
        self,
        method: str,
        path: str,
        headers: FieldsLike = None,
        body: Body = None,
        expect100: bool = False,
        *,
        via_cofun: bool = False,
        trailers: Trailers = None,
    ) -> Generator[None, None, None] | None:
        """Send a request; its response is for a later `read_response`, and other requests may be sent
        before that.

        *path*: the request target. *headers*: a mapping or pairs; they win over httpio's own, and are not
        changed. *body*: bytes, a binary file, an iterable of bytes, or a `BodyFollowing`, whose bytes go
        through `write`. *trailers*: fields that follow the body, or a function that gives them then.

        *expect100*: ask first whether the body is wanted (RFC 9110 section 10.1.1). With a `BodyFollowing`
        `read_response` then returns a response of status 100, and the body is to be written, or the final one,
        and it is not; with another body the waiting happens here, as for an ``Expect: 100-continue`` among
        the *headers*.

        *via_cofun*: return a generator that sends the request, and yields whenever response data can be read
        meanwhile; nothing is sent before it is iterated.

        Raises ValueError, InvalidURL or TypeError for what cannot be sent, such as a Proxy-Authorization
        field through a tunnel, before anything is; else the
        errors of the class. ConnectionClosed after a loss, or after a response that ended the connection,
        until `connect` or `close`.
        """
        link = self._link
        simple = method == "GET" and body is None and not (headers or expect100 or via_cofun) and trailers is None
        if simple and link.transport is not None and type(path) is str and not (self._pipeline or link.refused):
            self._guarded(self._send_plain, path)
            return None
        self._refuse_in_pipeline()
        request = Request(method, path, headers, body, trailers=trailers)
        if via_cofun:
            self._check(request, expect100 or None)
            return self._send_watching(self._co_send(request, expect100 or None))
        self._run(self._co_send(request, expect100 or None))
        return None

    def _send_plain(self, path: str) -> None:
        """A GET without fields of its own, on a connection that is there."""
        if not self._link.put_request(path):
            run(self._link.co_flush())

    def _send_watching(self, step: Step[None]) -> Generator[None, None, None]:
        """Run a step that sends; yields whenever response data can be read."""
        link = self._link
        for need in step:
            transport = link.transport
            if transport is None:
                need.poll()  # it connects
                continue
            PollNeeded(transport.fd, need.mask | POLLIN, need.deadline).poll()
            link.look()
            if self.buffered or transport.arrived(0):
                yield

    def write(self, buf: bytes | bytearray | memoryview, partial: bool = False) -> int:
        """Send the next bytes of a body that `BodyFollowing` announced; returns how many were taken: all.

        *partial*: take as many as can be sent now without waiting, which may be none.

        Raises ExcessBodyData for more than was announced, of which nothing is sent; StateError when no
        body is being sent, or when it waits for 100 (Continue); ConnectionClosed also when an answer has come
        that makes the rest pointless: `read_response` gives it.
        """
        return self._run(self.co_write(buf, partial))

    def sendfile(self, fh: BinaryIO) -> int:
        """Send a binary file, from where it stands to its end, as the next part of a body that `BodyFollowing`
        announced; returns how many bytes. On plain TCP they go out by sendfile(2) where that can be.

        Raises as `write` does; ExcessBodyData before anything of it is sent where the file's size can be known.
        """
        return self._run(self.co_sendfile(fh))

    def end_body(self, trailers: Trailers = None) -> None:
        """End a body of unknown length, which goes out in chunks. *trailers*: fields that follow it, in place of those
        that `send_request` was given.

        Raises StateError when no such body is being sent, ValueError or TypeError for what cannot be a trailer.
        """
        self._run(self.co_end_body(trailers))

    def flush(self) -> None:
        """Send what partial writes have left waiting."""
        self._run(self.co_flush())

    # -- receiving --

    def read_response(self, decode: bool = False) -> HTTPResponse:
        """The response to the oldest outstanding request, once its header section is here; its body is
        read after that.

        *decode*: what is read is the content with its codings undone (RFC 9110 section 8.4). The request says by its
        Accept-Encoding field which are welcome, such as `accept_encoding` gives; ``identity`` where it does not. The
        first read raises UnsupportedResponse for a coding that is not known here, and for a part of what is encoded
        (206); a read raises InvalidResponse for content that is cut short, goes on behind its end, is not what its
        label says, or grows beyond the limits. The connection is as it was then, and `discard` drops the rest.

        Interim responses that came before it are in its `informational`; only a 100 (Continue) that a
        `BodyFollowing` waits for is returned itself, or one with the reason "assumed" when none came in time.
        StateError when no request is outstanding, or when the body of the response before has not been read to
        its end.
        """
        if self._pipeline is not None:
            self._refuse_in_pipeline()
        return self._guarded(self._next_response, decode)

    def _next_response(self, decode: bool) -> HTTPResponse:
        link = self._link
        if link.sends and not link.parser.waiting_count:
            run(link.co_await_request())
            self._refuse_in_pipeline()
        response = link.wait_once() or link.next_ready() or run(link.co_next_response())
        if decode:
            link.begin_decoding(response)
        return response

    def read(self, len_: int | None = None) -> bytes:
        """Read at most *len_* bytes of content, as soon as there are any; None: all. ``b""``: the body has
        ended."""
        return self._run(self.co_read(len_))

    def readinto(self, buf: WriteableBuffer) -> int:
        """Read content into a writable buffer; returns how many bytes, at least one. 0: the body has
        ended."""
        return self._run(self.co_readinto(buf))

    def readall(self) -> bytes:
        """Read what is left of the content."""
        link = self._link
        if link.current is None:
            link.check_not_closed_inside()
            return b""
        return self._guarded(self._read_rest)

    def _read_rest(self) -> bytes:
        if self._link.decoding is not None:
            return run(self._co_rest(b""))
        content = self._link.read_now(BUFFER_SIZE)
        return content if self._link.current is None else run(self._co_rest(content))

    def discard(self) -> None:
        """Read what is left of the content, and drop it."""
        self._run(self.co_discard())

    def write_to(self, fh: BinaryIO) -> int:
        """Write what is left of the content to a binary file; returns how many bytes.

        Where the operating system can, they go from the socket to the file without entering Python. What
        *fh* raises passes through, and what was read for it is lost.
        """
        return self._run(self.co_write_to(fh))

    def read_raw(self, size: int) -> bytes:
        """Bytes as they came, at most *size*, whatever they mean; ``b""``: the peer has closed.

        For finding out what a peer sent when InvalidResponse or UnsupportedResponse was raised. The connection is
        broken by it.
        """
        return self._run(self.co_read_raw(size))

    def text(self, encoding: str = "utf-8", errors: str = "strict", newline: str | None = None) -> io.TextIOWrapper:
        """What is left of the content as a text file; the arguments are those of `open`. To close it leaves the
        connection as it is."""
        return io.TextIOWrapper(io.BufferedReader(_Content(self)), encoding, errors, newline)

    # -- a binary file, for io.TextIOWrapper --

    def readable(self) -> bool:
        """True: `read` and `readinto` are there."""
        return True

    def writable(self) -> bool:
        """True: `write` is there."""
        return True

    def seekable(self) -> bool:
        """False."""
        return False

    def _dealloc_warn(self, wrapper: object) -> None:
        # By this name io tells what a wrapper stands on that it is being collected, and then closes it. Nobody asked
        # for that, and other responses may be outstanding.
        self._collected = True

    # -- many --

    def pipeline(
        self,
        requests: Iterable[str | Request],
        depth: int | None = None,
        body_limit: int = 1024 * 1024,
        *,
        decode: bool = False,
    ) -> Iterator[HTTPResponse]:
        """Send many requests, each before the answers to those before it; yields the response to each, in
        order.

        *requests*: request targets (a str is a GET) or `Request`, drawn lazily. *depth*: how many may be
        out at once; None: 1 at first, and twice as many after each window that was answered in full.
        *body_limit*: a body up to this many bytes is in `response.body`; a larger one has None there, and
        is read through the connection before the next step, which drops what is left of it. *decode*:
        ask for content codings, and undo them: bodies and their limit are those of the content. What
        cannot be decoded is raised in its place, as `read_response` says.

        A lost connection is replaced, and what may be repeated is sent again. Leaving the loop early with
        requests outstanding closes the connection. A bad item, or an error of *requests* itself, is raised
        once all that came before it has been answered. StateError when a response is pending.
        """
        self._check_idle()
        return self._responses(Pipeline(self._link, requests, Window(depth), body_limit, decode))

    def _responses(self, pipeline: Pipeline) -> Iterator[HTTPResponse]:
        with self._in_pipeline(pipeline):
            while batch := self._run(pipeline.co_next()):
                yield from self._hand_out(pipeline, batch)


class _Content(io.RawIOBase):
    """The content being read, as a file whose end is the content's."""

    def __init__(self, connection: HTTPConnection) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        return self._connection.readinto(buffer)
