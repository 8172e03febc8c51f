"""The way to a peer: directly or through a proxy, and with TLS where that is asked for. Every wait is a step."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from typing import TypeAlias

from httpio.dial import Attempt, SocketOption, co_dial, co_resolve
from httpio.exceptions import ProxyError
from httpio.framing import refuse_for_proxy
from httpio.messages import Lenient, Limits
from httpio.protocol import Protocol
from httpio.proxies import Proxy
from httpio.tls import Resumption, co_secure, default_context
from httpio.transport import Transport
from httpio.tunnel import AddressRefused, Tunnel, load_socks
from httpio.urls import host_field
from httpio.waiting import Step

__all__ = ["Acquaintance", "Target", "co_reach"]


Fields: TypeAlias = tuple[tuple[bytes, bytes, bytes], ...]
"""As `encode_fields` gives them."""


@dataclass(frozen=True)
class Target:
    """Where to connect, and how."""

    host: str
    port: int
    defaults: Fields
    ssl_context: ssl.SSLContext | None
    unix_socket: str | os.PathLike[str] | None
    source_address: tuple[str, int] | None
    socket_options: tuple[SocketOption, ...]
    limits: Limits
    lenient: Lenient
    proxy: Proxy | None = None

    def __post_init__(self) -> None:
        if self.tunnelled:
            refuse_for_proxy(name for _, name, _ in self.defaults)

    @property
    def tunnelled(self) -> bool:
        """Whether a proxy is only the way there, and sees nothing of the requests."""
        return self.proxy is not None and (self.proxy.is_socks or self.ssl_context is not None)

    @property
    def relayed(self) -> bool:
        """Whether a proxy gets the requests, and passes them on."""
        return self.proxy is not None and not self.tunnelled

    def fields_of(self, fields: Fields) -> Fields:
        """These fields of requests, and those that a proxy is to see with each."""
        if self.proxy is None or self.tunnelled:
            return fields
        names = {name for _, name, _ in fields}  # the caller's own win
        return (*fields, *(field for field in self.proxy.fields if field[1] not in names))

    def new_protocol(self, fields: Fields) -> Protocol:
        """The protocol of a connection to it, whose requests have these fields."""
        field = host_field(self.host, self.port, "http")
        return Protocol(
            self.fields_of(fields),
            self.limits,
            self.lenient,
            origin=f"http://{field}".encode("ascii") if self.relayed else b"",
            tunnelled=self.tunnelled,
        )

    def __str__(self) -> str:
        return f"{self.host} port {self.port}" if self.unix_socket is None else os.fspath(self.unix_socket)


class Acquaintance:
    """What is kept from one connection to a target for the next."""

    def __init__(self) -> None:
        self.peer = Resumption()
        self.proxy = Resumption()
        self._proxy_context: ssl.SSLContext | None = None

    def keep(self, target: Target, transport: Transport) -> None:
        """The connection is about to be closed."""
        if target.ssl_context is None:
            self.proxy.keep(transport)
            return
        self.peer.keep(transport)
        if transport.carrier is not None:
            self.proxy.keep(transport.carrier)

    def proxy_context(self, proxy: Proxy) -> ssl.SSLContext:
        """The context for TLS with the proxy."""
        if proxy.ssl_context is not None:
            return proxy.ssl_context
        if self._proxy_context is None:
            self._proxy_context = default_context()
        return self._proxy_context


def co_reach(target: Target, attempt: Attempt, known: Acquaintance) -> Step[Transport]:
    """Connect to the target; returns the transport over which it is spoken to.

    Raises as `co_dial` and `co_secure` do; of a proxy that cannot be used, ProxyError where it refuses,
    InvalidResponse where its answer is none, ConnectionClosed where it goes away, and RuntimeError where the library
    for SOCKS is not installed.
    """
    proxy = target.proxy
    if proxy is None or not proxy.is_socks:
        return (yield from _co_reach_by(target, attempt, known, target.host))
    load_socks()  # where that is missing, nothing is to be sent
    hosts = [target.host]
    if not proxy.resolves_names:
        addresses = yield from co_resolve(target.host, target.port, attempt)
        hosts = list(dict.fromkeys(str(found.address[0]) for found in addresses))
    refusals: list[str] = []
    for host in hosts:
        try:
            return (yield from _co_reach_by(target, attempt, known, host))
        except AddressRefused as exc:
            refusals.append(str(exc))
    raise ProxyError("; ".join(refusals))


def _co_reach_by(target: Target, attempt: Attempt, known: Acquaintance, host: str) -> Step[Transport]:
    """`co_reach`, where a proxy is asked for the way to *host*."""
    proxy = target.proxy
    try:
        transport = yield from _co_first(target, attempt, known)
    except OSError as exc:
        if proxy is not None and exc.strerror:  # the system's and ssl's own: they do not say whose certificate it is
            exc.strerror = f"the proxy {proxy}: {exc.strerror}"
            exc.args = (exc.errno, exc.strerror)
        raise
    try:
        if proxy is not None and target.tunnelled:
            yield from Tunnel(transport, proxy, attempt).co_open(host, target.port, target.limits, target.lenient)
        if target.ssl_context is not None:
            transport = yield from co_secure(transport, target.ssl_context, target.host, attempt, known.peer)
        attempt.check()
    except BaseException:
        transport.drop()
        raise
    return transport


def _co_first(target: Target, attempt: Attempt, known: Acquaintance) -> Step[Transport]:
    """A transport to whom this side connects: the proxy, or the target."""
    proxy = target.proxy
    sock = yield from co_dial(
        target.host if proxy is None else proxy.host,
        target.port if proxy is None else proxy.port,
        unix_socket=target.unix_socket,
        source_address=target.source_address,
        socket_options=target.socket_options,
        attempt=attempt,
    )
    transport = Transport(sock)
    if proxy is None or proxy.scheme != "https":
        return transport
    try:
        context = known.proxy_context(proxy)
    except BaseException:
        transport.drop()
        raise
    return (yield from co_secure(transport, context, proxy.host, attempt, known.proxy))
