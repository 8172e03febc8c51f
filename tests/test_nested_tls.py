"""TLS inside the TLS of a proxy: what comes with the end of a handshake, and what a refusal says to the peer."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from conftest import Authority
from httpio import ConnectionClosed, HTTPConnection, Proxy, default_context
from servers.scripted import Peer, Scripted, server_context
from servers.tls import Tap, TLSPeer, through_connect


def over_the_proxy(server: Scripted, authority: Authority, context: ssl.SSLContext) -> HTTPConnection:
    proxy = Proxy(f"https://127.0.0.1:{server.port}", ssl_context=default_context(authority.ca))
    return HTTPConnection("localhost", 443, context, proxy, timeout=20)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2])  # where the last message of a handshake is the server's
def test_what_comes_with_the_end_of_the_handshake(version: ssl.TLSVersion, authority: Authority) -> None:
    """It is seen, and is not waited for: an answer that nobody has asked for."""
    inside = server_context(authority.chain, authority.key)
    inside.maximum_version = version

    def origin(peer: Peer) -> None:
        nested = TLSPeer(peer, inside)
        while True:
            try:
                nested.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                nested.flush()
                nested._receive_raw()
        nested.tls.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        nested.flush()
        peer.drain()

    proxy = Tap(through_connect(origin), server_context(authority.chain, authority.key))
    with Scripted(proxy) as server, over_the_proxy(server, authority, default_context(authority.ca)) as conn:
        conn.connect()
        assert conn.buffered
        with pytest.raises(ConnectionClosed):
            conn.send_request("GET", "/")


def test_the_peer_is_told_why(authority: Authority) -> None:
    """A certificate that does not verify gets an alert, as without a proxy."""
    said: list[Any] = []

    def origin(peer: Peer) -> None:
        nested = TLSPeer(peer, server_context(authority.chain, authority.key))
        try:
            nested.handshake()
            nested.receive()
        except ssl.SSLError as exc:
            said.append(exc.reason)

    proxy = Tap(through_connect(origin), server_context(authority.chain, authority.key))
    with Scripted(proxy) as server:
        conn = over_the_proxy(server, authority, default_context())
        with pytest.raises(ssl.SSLCertVerificationError):
            conn.connect()
    assert said == ["TLSV1_ALERT_UNKNOWN_CA"]
