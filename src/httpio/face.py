"""What a connection is whoever waits for it: its settings, its ends, and what is known of it. Nothing here waits."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Any, BinaryIO

from httpio.dial import SocketOption
from httpio.endpoint import Times, TraceTo
from httpio.exceptions import StateError
from httpio.headers import encode_fields
from httpio.link import Link
from httpio.messages import HTTPResponse, Lenient, Limits, Request
from httpio.pipelining import Pipeline
from httpio.proxies import Proxy, ProxyLike
from httpio.reaching import Target
from httpio.states import Receiving
from httpio.tls import check_context
from httpio.urls import DEFAULT_PORTS, check_host, check_port, host_field

__all__ = ["Face"]


class Face:
    """The part of a connection that is the same for all ways of waiting. For the arguments see `HTTPConnection`."""

    def __init__(
        self,
        hostname: str,
        port: int | None = None,
        ssl_context: ssl.SSLContext | None = None,
        proxy: ProxyLike = None,
        *,
        timeout: float | None = None,
        connect_timeout: float | None = None,
        deadline: float | None = None,
        expect_timeout: float | None = 1.0,
        unix_socket: str | os.PathLike[str] | None = None,
        source_address: tuple[str, int] | None = None,
        socket_options: Iterable[SocketOption] = (),
        limits: Limits | None = None,
        lenient: Lenient = Lenient(0),  # noqa: B008 - an immutable value
        trace: TraceTo = None,
        on_informational: Callable[[HTTPResponse], object] | None = None,
    ) -> None:
        scheme = "http" if ssl_context is None else "https"
        self.hostname = check_host(hostname)
        self.port = DEFAULT_PORTS[scheme] if port is None else check_port(port)
        self.proxy = proxy
        """What was given."""
        if proxy is not None and unix_socket is not None:
            raise ValueError("a Unix socket is not reached through a proxy")
        target = Target(
            host=self.hostname,
            port=self.port,
            defaults=tuple(
                encode_fields({"Host": host_field(self.hostname, self.port, scheme), "Accept-Encoding": "identity"})
            ),
            ssl_context=check_context(ssl_context),
            unix_socket=unix_socket,
            source_address=_check_source(source_address),
            socket_options=tuple(socket_options),
            limits=Limits.of(limits),
            lenient=Lenient(lenient),
            proxy=Proxy.of(proxy),
        )
        times = Times(_limit(timeout), _limit(connect_timeout), _limit(deadline), _seconds(expect_timeout))
        self._link = Link(target, times)
        self._link.trace = trace
        self._link.on_informational = on_informational
        self._pipeline: Pipeline | None = None
        self._collected = False  # the next close is that of a wrapper which was dropped

    # -- its ends --

    def close(self) -> None:
        """Close the connection; never blocks. What was outstanding is given up, and a pipeline ends.
        `send_request` will connect anew."""
        if self._collected:
            self._collected = False
            return
        if self._pipeline is not None:
            self._pipeline = None
            self._link.send_with(self._link.target.defaults)
        self._link.close()

    disconnect = reset = close

    def abort(self) -> None:
        """End the connection at once, from any thread. A call that waits for it, or for it to be made, raises
        ConnectionClosed."""
        self._link.abort()

    def detach(self) -> tuple[socket.socket, bytes]:
        """Hand over the socket, which does not block, and the bytes already received beyond the response.

        Only after 101 (Switching Protocols) or a CONNECT that was accepted; StateError otherwise. The
        connection is closed then, and its next request connects anew.
        """
        link = self._link
        if link.transport is None or link.protocol.receiving.state is not Receiving.TUNNEL:
            raise StateError("only a connection that has switched protocols can be detached")
        leftover = link.parser.leftover()
        sock = link.transport.detach()
        link.transport = None
        link.close()
        return sock, leftover

    # -- what is known --

    @property
    def ssl_context(self) -> ssl.SSLContext | None:
        """The context for TLS with the peer; None: there is none. Another context takes another connection object."""
        return self._link.target.ssl_context

    @property
    def timeout(self) -> float | None:
        """Seconds without progress after which a call raises ConnectionTimedOut; None: no limit."""
        return self._link.times.idle

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._link.times.idle = _limit(seconds)

    @property
    def connect_timeout(self) -> float | None:
        """Seconds for connecting, TLS handshake included; None: no limit."""
        return self._link.times.connect

    @connect_timeout.setter
    def connect_timeout(self, seconds: float | None) -> None:
        self._link.times.connect = _limit(seconds)

    @property
    def deadline(self) -> float | None:
        """Seconds for one whole exchange; None: no limit."""
        return self._link.times.exchange

    @deadline.setter
    def deadline(self, seconds: float | None) -> None:
        self._link.times.exchange = _limit(seconds)

    @property
    def expect_timeout(self) -> float | None:
        """Seconds to wait for 100 (Continue); None: no limit."""
        return self._link.times.expect

    @expect_timeout.setter
    def expect_timeout(self, seconds: float | None) -> None:
        self._link.times.expect = _seconds(seconds)

    @property
    def on_informational(self) -> Callable[[HTTPResponse], object] | None:
        """What is called with each interim response as soon as it is here, or None."""
        return self._link.on_informational

    @on_informational.setter
    def on_informational(self, show: Callable[[HTTPResponse], object] | None) -> None:
        self._link.on_informational = show

    @property
    def trace_fh(self) -> BinaryIO | None:
        """The binary file to which every byte that is sent and received is written, or None. It is not closed here."""
        trace = self._link.trace
        return None if isinstance(trace, str | os.PathLike) else trace

    @trace_fh.setter
    def trace_fh(self, file: BinaryIO | None) -> None:
        self._link.trace = file
        self._link.retrace(file)

    @property
    def peername(self) -> Any:
        """The peer's address, as `socket.getpeername` gives it; None without a connection."""
        transport = self._link.transport
        return None if transport is None else transport.peername

    @property
    def local_address(self) -> Any:
        """The address of this end, as `socket.getsockname` gives it; None without a connection."""
        transport = self._link.transport
        return None if transport is None else transport.local_address

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

    def _refuse_in_pipeline(self) -> None:
        if self._pipeline is not None:
            raise StateError("the connection is in a pipeline: only the bodies of its responses can be read")


def _check_source(address: tuple[str, int] | None) -> tuple[str, int] | None:
    """A name would be looked up where it is bound, which blocks."""
    if address is None:
        return None
    if not isinstance(address, tuple) or len(address) != 2 or not isinstance(address[0], str):
        raise TypeError("source_address is a pair of an IP address and a port, or None")
    try:
        if address[0]:
            ip_address(address[0])
    except ValueError:
        raise ValueError("source_address has an IP address, not a name: a look-up would block") from None
    return address


def _limit(seconds: float | None) -> float | None:
    """Seconds that are a limit; 0 means none, as for the ancestor."""
    return _seconds(seconds) or None


def _seconds(seconds: float | None) -> float | None:
    if seconds is None:
        return None
    if isinstance(seconds, str | bytes):
        raise TypeError("a time limit is a number of seconds or None, not " + type(seconds).__name__)
    if not seconds >= 0:
        raise ValueError("a time limit is a number of seconds that is not negative, or None")
    return seconds
