"""TLS inside the TLS of a proxy: what comes with the end of a handshake, and what a refusal says to the peer."""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from conftest import Authority
from httpio import POLLOUT, ConnectionClosed, HTTPConnection, Proxy, default_context
from httpio.transport import NestedTLSTransport, Transport
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


class Narrow(Transport):
    """A transport to a peer in memory, which takes and gives so many bytes at a time, and every other time none."""

    def __init__(self, sock: socket.socket, width: int) -> None:
        super().__init__(sock)
        self.width = width
        self.out, self.into = bytearray(), bytearray()
        self._turn = False

    def _blocks(self) -> bool:
        self._turn = not self._turn
        return self._turn

    def try_send(self, data: Any) -> int | None:
        if self._blocks() or not data:
            return None
        self.out += memoryview(data)[: self.width]
        return min(len(data), self.width)

    def try_receive_into(self, buffer: Any, size: int = 0) -> int | None:
        count = min(size or len(buffer), self.width, len(self.into))
        if not count or self._blocks():
            return None
        memoryview(buffer)[:count] = self.into[:count]
        del self.into[:count]
        return count


class Nest:
    """A `NestedTLSTransport` over a `Narrow` one, and the peer's end of its TLS."""

    def __init__(self, authority: Authority, width: int) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.inner = Narrow(self.ours, width)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = default_context(authority.ca).wrap_bio(incoming, outgoing, server_hostname="localhost")
        self.nested = NestedTLSTransport(self.inner, tls, incoming, outgoing)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = server_context(authority.chain, authority.key)
        self.peer = context.wrap_bio(self._in, self._out, server_side=True)
        done = [False, False]
        while not all(done):
            for number, end in enumerate((tls, self.peer)):
                with suppress(ssl.SSLWantReadError):
                    end.do_handshake()
                    done[number] = True
            self.nested.shake()
            self.carry()

    def carry(self) -> None:
        """What was sent is at the other end."""
        self._in.write(bytes(self.inner.out))
        self.inner.out.clear()
        self.inner.into += self._out.read()

    def read(self) -> bytes:
        """What the peer has received."""
        self.carry()
        found = bytearray()
        with suppress(ssl.SSLWantReadError):
            while data := self.peer.read(65536):
                found += data
        return bytes(found)

    def close(self) -> None:
        self.nested.drop()
        self.theirs.close()


@pytest.fixture(params=[1000, 20_000, 1 << 20])
def nest(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Nest]:
    made = Nest(authority, request.param)
    yield made
    made.close()


def test_sending_where_there_is_little_room(nest: Nest) -> None:
    """What is taken arrives, in order and once, and `stuck` says whether more is to be done for it."""
    data = random.Random(1).randbytes(300_000)
    sent, received = 0, b""
    for _ in range(10_000):
        taken = nest.nested.try_send(memoryview(data)[sent:])
        assert taken is None or taken > 0
        sent += taken or 0
        if taken is None:
            assert nest.nested.send_wants == POLLOUT
        received += nest.read()
        if sent == len(data) and not nest.nested.stuck:
            break
        assert nest.nested.stuck or len(received) == sent
    assert received == data
    assert nest.nested.try_send(b"") is None
    assert not nest.nested.stuck


def test_receiving_a_little_at_a_time(nest: Nest) -> None:
    """`pending` says whether more can be had without waiting."""
    data = random.Random(2).randbytes(200_000)
    for at in range(0, len(data), 16384):
        nest.peer.write(data[at : at + 16384])
    nest.carry()
    received, buffer, waits = bytearray(), bytearray(5000), 0
    while len(received) < len(data):
        pending, below = nest.nested.pending, len(nest.inner.into)
        count = nest.nested.try_receive_into(buffer)
        if count is None:
            assert not nest.nested.pending
            waits += 1
        else:
            assert pending or len(nest.inner.into) < below
            received += buffer[:count]
    assert received == data
    assert not nest.nested.pending
    assert waits >= 1
    with suppress(ssl.SSLWantReadError):
        nest.peer.unwrap()
    nest.carry()
    while (count := nest.nested.try_receive_into(buffer)) is None:
        pass
    assert (count, nest.nested.clean) == (0, True)
