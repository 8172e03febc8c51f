"""Through a proxy to the peer: CONNECT (RFC 9110 section 9.3.6) and SOCKS5 (RFC 1928, RFC 1929), as steps."""

from __future__ import annotations

import errno
from collections.abc import Generator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from httpio.dial import Attempt
from httpio.exceptions import (
    ConnectionClosed,
    ConnectionTimedOut,
    HTTPError,
    InvalidResponse,
    ProxyError,
    UnsupportedResponse,
    quote,
)
from httpio.headers import encode_fields
from httpio.messages import HTTPResponse, Lenient, Limits, Request
from httpio.protocol import Protocol
from httpio.proxies import Proxy
from httpio.transport import Transport
from httpio.urls import host_field
from httpio.waiting import PollNeeded, Step

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["AddressRefused", "Tunnel", "load_socks"]

KEPT_ANSWER = 64 * 1024
"""Bytes of the body in which a proxy says why it refuses; of a longer one nothing is kept."""


class AddressRefused(ProxyError):
    """A SOCKS proxy does not connect to what it was asked for. It may to another address."""


class Tunnel:
    """The talk with a proxy, over a transport to it, until what is sent there reaches the peer."""

    def __init__(self, transport: Transport, proxy: Proxy, attempt: Attempt) -> None:
        self._transport = transport
        self._proxy = proxy
        self._attempt = attempt

    def co_open(self, host: str, port: int, limits: Limits, lenient: Lenient) -> Step[None]:
        """Ask for a way to *host*. Raises ProxyError where the proxy refuses, InvalidResponse where its answer is none,
        ConnectionClosed and ConnectionTimedOut."""
        try:
            if self._proxy.is_socks:
                yield from self._co_socks(host, port)
            else:
                yield from self._co_connect(host, port, limits, lenient)
        except (InvalidResponse, UnsupportedResponse) as exc:
            raise type(exc)(f"the proxy {self._proxy} gives no valid answer: {exc}", where="connecting") from exc
        except HTTPError:
            raise
        except OSError as exc:
            if exc.errno == errno.ETIMEDOUT:
                message = f"the connection to the proxy {self._proxy} timed out"
                raise ConnectionTimedOut(message, where="connecting") from exc
            raise self._closed() from exc

    def _closed(self) -> ConnectionClosed:
        return ConnectionClosed(f"the proxy {self._proxy} closed the connection before it answered", where="connecting")

    def _co_send(self, data: ReadableBuffer) -> Step[None]:
        transport, view = self._transport, memoryview(data)
        while True:
            taken = transport.try_send(view)
            view = view[taken or 0 :]
            if not view and not transport.stuck:
                return
            if not taken:
                yield from self._co_wait(transport.send_wants)

    def _co_receive(self, target: WriteableBuffer) -> Step[int]:
        transport = self._transport
        while (count := transport.try_receive_into(target)) is None:
            yield from self._co_wait(transport.receive_wants)
        return count

    def _co_wait(self, mask: int) -> Generator[PollNeeded, None, None]:
        return self._attempt.co_wait(self._transport.socket, mask, f"waiting for the proxy {self._proxy}")

    # -- CONNECT --

    def _co_connect(self, host: str, port: int, limits: Limits, lenient: Lenient) -> Step[None]:
        authority = host_field(host, port, "")
        fields = (*encode_fields({"Host": authority}), *self._proxy.fields)
        protocol = Protocol(fields, limits, lenient)
        protocol.send_request(Request("CONNECT", authority))
        yield from self._co_send(protocol.outbox.popleft().rest)  # type: ignore[arg-type]
        parser = protocol.receiving.parser
        responses: list[HTTPResponse] = []
        while not responses:
            count = yield from self._co_receive(parser)
            responses = parser.buffer_updated(count) if count else parser.eof(self._transport.clean)
            if parser.at_eof and not responses:
                raise self._closed()
        response = responses[0]
        if response.framing == "tunnel":
            if parser.leftover():
                raise InvalidResponse("bytes follow it, where the peer's would begin")
            return
        yield from self._co_keep_body(protocol, response)
        what = f"{response.status} {quote(response.reason)}"
        raise ProxyError(f"the proxy {self._proxy} answers {what} to CONNECT {authority}", response=response)

    def _co_keep_body(self, protocol: Protocol, response: HTTPResponse) -> Step[None]:
        """Have the body of a refusal in its response, if it is whole and not too long."""
        parser = protocol.receiving.parser
        content = b""
        try:
            while parser.open is response and not parser.at_eof and len(content) <= KEPT_ANSWER:
                content += parser.read(KEPT_ANSWER)
                if parser.open is response and not parser.buffered:
                    count = yield from self._co_receive(parser)
                    if count:
                        parser.buffer_updated(count)
                    else:
                        parser.eof(self._transport.clean)
            while parser.open is response and parser.buffered and len(content) <= KEPT_ANSWER:
                content += parser.read(KEPT_ANSWER)
        except (HTTPError, OSError):
            self._attempt.check()  # what it says at its head is known all the same
        if response.complete_by is not None and len(content) <= KEPT_ANSWER:
            response.replace_body(content)

    # -- SOCKS5 --

    def _co_socks(self, host: str, port: int) -> Step[None]:
        proxy, socks = self._proxy, load_socks()
        talk = socks.SOCKS5Connection()
        methods = [socks.SOCKS5AuthMethod.NO_AUTH_REQUIRED]
        if proxy.username is not None:
            methods.append(socks.SOCKS5AuthMethod.USERNAME_PASSWORD)
        reply = yield from self._co_ask(talk, socks.SOCKS5AuthMethodsRequest(methods), 5)
        if reply.method not in methods:
            lack = "a user name and password" if proxy.username is None else "another way to log in"
            raise ProxyError(f"the proxy {proxy} wants {lack}")
        if reply.method == socks.SOCKS5AuthMethod.USERNAME_PASSWORD:
            username, password = proxy.username or "", proxy.password or ""
            login = socks.SOCKS5UsernamePasswordRequest(username.encode(), password.encode())
            reply = yield from self._co_ask(talk, login, 1)
            if not reply.success:
                raise ProxyError(f"the proxy {proxy} refuses the user name and password")
        talk.send(socks.SOCKS5CommandRequest.from_address(socks.SOCKS5Command.CONNECT, (host.partition("%")[0], port)))
        yield from self._co_send(talk.data_to_send())
        # Read to its last byte and no further: behind it the peer's bytes begin.
        answer = yield from self._co_exactly(4, 5)
        if answer[1]:
            reason = _REFUSALS.get(answer[1], f"code {answer[1]}")
            raise AddressRefused(f"the proxy {proxy} does not connect to {host} port {port}: {reason}")
        if answer[3] not in (1, 3, 4):
            raise self._no_socks(answer)
        size = 4 if answer[3] == 1 else 16 if answer[3] == 4 else (yield from self._co_exactly(1))[0]
        yield from self._co_exactly(size + 2)  # the proxy's own address

    def _co_ask(self, talk: Any, request: Any, version: int) -> Step[Any]:
        """Send what has an answer of two bytes; returns that."""
        talk.send(request)
        yield from self._co_send(talk.data_to_send())
        answer = yield from self._co_exactly(2, version)
        try:
            return talk.receive_data(answer)
        except Exception as exc:  # socksio's own
            raise self._no_socks(answer) from exc

    def _no_socks(self, data: bytes) -> InvalidResponse:
        return InvalidResponse(f"{quote(data)} is not SOCKS5")

    def _co_exactly(self, size: int, version: int | None = None) -> Step[bytes]:
        """So many bytes, the first of which is *version*."""
        data = bytearray(size)
        here = 0
        while here < size:
            count = yield from self._co_receive(memoryview(data)[here:])
            if not count:
                raise self._closed()
            if version is not None and data[0] != version:
                raise self._no_socks(bytes(data[:count]))
            here += count
        return bytes(data)


_REFUSALS = {
    1: "general failure",
    2: "not allowed",
    3: "the network is unreachable",
    4: "the host is unreachable",
    5: "the connection was refused",
    6: "the time to live has expired",
    7: "the command is not supported",
    8: "the kind of address is not supported",
}
"""RFC 1928 section 6."""


def load_socks() -> Any:
    """The library that speaks SOCKS5; RuntimeError where it is not installed."""
    try:
        return import_module("socksio.socks5")
    except ImportError as exc:
        raise RuntimeError("a SOCKS proxy needs the package socksio: pip install 'httpio[socks]'") from exc
