"""Servers with TLS sessions, and what can be seen there of those that clients go on with."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import pytest

from bad_certificates import HOST, Certificates
from httpio import Proxy
from servers.scripted import Peer, Scripted
from servers.tls import ClientHello, Tap, TLSPeer, through_connect
from tls_ways import FIELDS, WAIT, Face

KINDS = ("1.3", "1.3 once", "1.2 ticket", "1.2 id")
"""Where a server has its sessions: in its tickets, or with it, where a ticket of TLS 1.3 is good for once."""

every_kind = pytest.mark.parametrize("kind", KINDS)
each_version = pytest.mark.parametrize("kind", ["1.3", "1.2 ticket"])


def server_side(certificates: Certificates, kind: str = "1.3", certificate: str = "plain") -> ssl.SSLContext:
    """A server with sessions of that kind, and keys for them that no other has."""
    context = certificates.server(certificate, ssl.TLSVersion[f"TLSv{kind[:3].replace('.', '_')}"])
    if kind in ("1.3 once", "1.2 id"):
        context.options |= ssl.OP_NO_TICKET
    return context


ENDS: dict[str, Callable[[Any], None]] = {
    "/finish": TLSPeer.finish,
    "/notify": TLSPeer.notify,
    "/reset": TLSPeer.reset,
}

TARGETS = [f"/{number}" for number in range(6)]


def answers_two(how: str) -> Callable[[Peer], None]:
    """Each connection answers two requests, and ends."""

    def script(peer: Peer) -> None:
        for number in range(2):
            seen = peer.request()
            if seen is None:
                return
            last = how == "/last" and number == 1
            peer.answer(seen.target.encode(), fields="Connection: close\r\n" * last)
        if how == "/last":
            peer.drain()
        else:
            ENDS[how](peer)
            peer.drain()

    return script


def resumed(tap: Tap) -> list[bool | None]:
    """Of each connection, whether it went on with a session; None: its handshake failed."""
    return [peer.tls.session_reused if peer.tls.cipher() else None for peer in tap.peers]


def offered(tap: Tap) -> list[list[bytes]]:
    """The tickets with which each connection began."""
    return [ClientHello.of(peer).tickets for peer in tap.peers]


def tickets_of(tap: Tap) -> list[bytes]:
    """All of these."""
    return [ticket for tickets in offered(tap) for ticket in tickets]


def assert_each_offered_once(tap: Tap) -> None:
    """Else who listens can tell that two connections are of one client (RFC 8446 appendix C.4)."""
    tickets = tickets_of(tap)
    assert len(set(tickets)) == len(tickets)


async def ask(conn: Any, target: str) -> None:
    await conn.send_request("GET", target, FIELDS)
    assert ((await conn.read_response()).status, await conn.readall()) == (200, target.encode())


def connected(face: Face, port: int, context: ssl.SSLContext, **options: Any) -> Any:
    return face.connection(HOST, port, context, timeout=WAIT, connect_timeout=WAIT, **options)


class Tunnel:
    """A proxy that is the origin, too: *inside* sees what comes through the tunnel, *outside* the proxy's own TLS."""

    def __init__(self, scheme: str, inside: Tap, *contexts: ssl.SSLContext) -> None:
        self.scheme = scheme
        self.inside = inside
        script = through_connect(inside)
        self.outside = Tap(script, *contexts) if scheme == "https" else None
        self.script = self.outside or script

    def proxy(self, server: Scripted, context: ssl.SSLContext) -> Proxy:
        url = f"{self.scheme}://{HOST}:{server.port}"
        return Proxy(url, ssl_context=context) if self.scheme == "https" else Proxy(url)
