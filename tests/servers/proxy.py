"""Proxies whose every connection runs a script of the test's: HTTP proxies, over TLS too, and SOCKS5 ones.

Every name leads to this machine: only the port of what a client asks for counts.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from servers.scripted import END, WAIT, Peer, Script, Scripted, Seen
from servers.tls import TLSPeer

OK = b"HTTP/1.1 200 OK\r\n\r\n"

NO_AUTHENTICATION, BY_PASSWORD, NONE_ACCEPTABLE = 0, 2, 0xFF
"""Methods of SOCKS5 (RFC 1928 section 3)."""
IPV4, NAME, IPV6 = 1, 3, 4
"""Types of addresses (RFC 1928 section 5)."""
GRANTED = b"\5\0\0\1\x7f\0\0\1\0\x50"
"""The reply to a request for SOCKS5 that is granted."""


After = Callable[[Peer], None]
"""What a script does at its end."""


class Wish(NamedTuple):
    """What a client has asked a SOCKS5 proxy for."""

    methods: bytes
    credentials: tuple[bytes, bytes] | None
    kind: int
    host: str
    port: int


class Proxy(Scripted):
    """`with Proxy(script, context) as proxy:` a `Scripted` that also keeps what its scripts have passed on."""

    def __init__(self, script: Script, context: ssl.SSLContext | None = None, small: bool = False) -> None:
        super().__init__(script, context, small=small)
        self.wishes: list[Wish] = []
        """Of SOCKS5, in the order in which they were read."""
        self.passed = bytearray()
        """All that clients have sent through tunnels."""
        self.sent = 0
        """Bytes that `pour` has sent."""

    def tunnels(self) -> int:
        """How many were asked for."""
        return len(self.wishes) + sum(seen.method == "CONNECT" for seen in self.seen)


def proxy_of(peer: Peer) -> Proxy:
    """Whose connection it is."""
    assert isinstance(peer.server, Proxy)
    return peer.server


def in_turn(*scripts: Script) -> Script:
    """The first connection gets the first script, and so on; the later ones the last."""
    return lambda peer: scripts[min(peer.number, len(scripts) - 1)](peer)


# -- passing on --


def origin_of(authority: str) -> socket.socket:
    """A connection to that port of this machine."""
    sock = socket.socket()
    try:
        sock.settimeout(WAIT)
        sock.connect(("127.0.0.1", int(authority.rpartition(":")[2])))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def ready(peer: Peer, origin: socket.socket) -> list[socket.socket]:
    """Which of the two has something to be received; waits for it."""
    if isinstance(peer, TLSPeer):
        pending = peer._incoming.pending > 0 or peer.tls.pending() > 0
    else:
        pending = isinstance(peer.sock, ssl.SSLSocket) and peer.sock.pending() > 0
    if pending:
        return [peer.sock]
    found = select.select([peer.sock, origin], [], [], WAIT)[0]
    assert found, "nothing moves between the client and the origin"
    return found


def pump(peer: Peer, origin: socket.socket, most: int | None = None) -> None:
    """Pass bytes both ways until one end closes, or *most* bytes have come from the origin."""
    proxy = proxy_of(peer)
    while True:
        moved = ready(peer, origin)
        if peer.sock in moved:
            if not peer.receive():
                return
            proxy.passed += peer.buffer
            origin.sendall(peer.buffer)
            peer.buffer.clear()
        if origin in moved:
            data = origin.recv(65536)
            if not data:
                return
            if most is not None:
                data = data[:most]
                most -= len(data)
            peer.send(data)
            if most == 0:
                return


def tunnels(most: int | None = None, after: After = Peer.finish, answer: bytes = OK, piece: int = 0) -> Script:
    """A script for CONNECT: *answer*, at most *piece* bytes at once, and then what is sent goes to the origin, until
    *most* bytes came from there, and then *after* is called."""

    def script(peer: Peer) -> None:
        seen = peer.head()
        if seen is None:
            return
        assert seen.method == "CONNECT"
        assert not peer.buffer, "the client does not wait for the answer"
        with origin_of(seen.target) as origin:
            in_pieces(peer, answer, piece)
            pump(peer, origin, most)
        after(peer)

    return script


def relays(most: int | None = None, after: After = Peer.finish) -> Script:
    """A script for requests in absolute form: each goes to its origin, without the fields that are for the proxy; all
    that come by one connection to the same. *most*, *after* as for `tunnels`."""

    def script(peer: Peer) -> None:
        seen = peer.head()
        if seen is None:
            return
        with origin_of(_authority(seen)) as origin:
            left = most
            while seen is not None:
                origin.sendall(_for_origin(seen) + peer.take(int(seen.field("Content-Length") or 0)))
                while END not in peer.buffer and peer.sock not in ready(peer, origin):
                    data = origin.recv(65536)[:left]
                    peer.send(data)
                    left = None if left is None else left - len(data)
                    if not data or left == 0:
                        return after(peer)
                seen = peer.head()

    return script


def _authority(seen: Seen) -> str:
    assert seen.target.startswith("http://"), seen.target
    return seen.target.removeprefix("http://").partition("/")[0]


def _for_origin(seen: Seen) -> bytes:
    """The head as it goes on: in origin-form, and without the fields for the proxy (RFC 9110 section 11.7.2)."""
    target = seen.target.removeprefix(f"http://{_authority(seen)}") or "/"
    line, *fields = seen.head.split(b"\r\n")
    kept = [field for field in fields if not field.lower().startswith(b"proxy-")]
    return b"\r\n".join([line.replace(seen.target.encode(), target.encode()), *kept])


# -- SOCKS5 --


def socks(most: int | None = None, after: After = Peer.finish, answer: bytes = GRANTED, piece: int = 0) -> Script:
    """The same for SOCKS5, with a password where one is offered. *answer*: to the request that is granted."""

    def script(peer: Peer) -> None:
        wish = listen(peer, (), piece)
        if wish is None:
            return
        with origin_of(f":{wish.port}") as origin:
            in_pieces(peer, answer, piece)
            pump(peer, origin, most)
        after(peer)

    return script


def in_pieces(peer: Peer, data: bytes, size: int) -> None:
    """Send it, at most *size* bytes at once; 0: all."""
    size = size or max(1, len(data))
    for start in range(0, len(data), size):
        peer.send(data[start : start + size])


def exactly(peer: Peer, count: int) -> bytes:
    """So many bytes; ConnectionError where the client closes before."""
    data = peer.take(count)
    if len(data) < count:
        raise ConnectionError("the client closed in the middle")
    return data


def listen(peer: Peer, instead: tuple[int, bytes] | tuple[()], piece: int = 0) -> Wish | None:
    """Go through RFC 1928 up to the request, which is not answered. *instead*: the number of an answer (0: which
    method, 1: whether the password is right) and what is sent in its place, behind which nothing more is read, and None
    is returned."""
    proxy = proxy_of(peer)
    version, count = exactly(peer, 2)
    assert version == 5
    methods = exactly(peer, count)
    method = BY_PASSWORD if BY_PASSWORD in methods else NO_AUTHENTICATION
    assert method in methods
    assert not peer.buffer, "the client does not wait for the answer"
    if instead and instead[0] == 0:
        peer.send(instead[1])
        return None
    in_pieces(peer, bytes((5, method)), piece)
    credentials = None
    if method == BY_PASSWORD:
        version, count = exactly(peer, 2)
        assert version == 1  # RFC 1929
        user = exactly(peer, count)
        credentials = user, exactly(peer, exactly(peer, 1)[0])
        if instead and instead[0] == 1:
            peer.send(instead[1])
            return None
        in_pieces(peer, b"\1\0", piece)
    version, asked, reserved, kind = exactly(peer, 4)
    assert (version, asked, reserved) == (5, 1, 0)
    if kind == NAME:
        host = exactly(peer, exactly(peer, 1)[0]).decode("ascii")
    elif kind == IPV4:
        host = socket.inet_ntop(socket.AF_INET, exactly(peer, 4))
    else:
        assert kind == IPV6
        host = socket.inet_ntop(socket.AF_INET6, exactly(peer, 16))
    wish = Wish(methods, credentials, kind, host, int.from_bytes(exactly(peer, 2), "big"))
    assert not peer.buffer, "the client does not wait for the answer"
    proxy.wishes.append(wish)
    return wish


# -- misbehaving --


def says(data: bytes, after: After = Peer.drain, piece: int = 0) -> Script:
    """A script: read a head, answer with these bytes, and then *after*."""

    def script(peer: Peer) -> None:
        if peer.head() is not None:
            in_pieces(peer, data, piece)
            after(peer)

    return script


def socks_says(stage: int, data: bytes, after: After = Peer.drain) -> Script:
    """The same for SOCKS5: these bytes in place of the answer of that number (2: the reply to the request)."""

    def script(peer: Peer) -> None:
        wish = listen(peer, (stage, data))
        if wish is not None:
            assert stage == 2
            peer.send(data)
        after(peer)

    return script


def pour(head: bytes, piece: bytes) -> Script:
    """A script: read a head, and answer with *head* and *piece* over and over, until the client closes."""

    def script(peer: Peer) -> None:
        proxy = proxy_of(peer)
        if peer.head() is None:
            return
        peer.send(head)
        with suppress(OSError):
            while proxy.sent < MOST:
                peer.send(piece)
                proxy.sent += len(piece)

    return script


MOST = 64 << 20
"""Bytes after which `pour` ends."""
