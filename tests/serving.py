"""A server that keeps the bodies it is sent, and a connection to it: plain, over TLS, or over a Unix socket."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from conftest import Authority
from httpio import HTTPConnection
from servers.scripted import Peer, Script, Scripted, server_context

BIG = 24 << 20
"""More than the sockets of two ends can hold."""

WAYS = ("plain", "tls", "unix")
DATA = b"".join(b"%07d\n" % number for number in range(50_000))

Serve = Callable[..., tuple[Scripted, HTTPConnection]]
"""`serve(script, way, **options)` runs a script, and gives the server and a connection to it, made with the options."""


@contextmanager
def serving(authority: Authority, folder: Path) -> Iterator[Serve]:
    """A `Serve`; what it starts ends with the block."""
    with ExitStack() as stack:

        def serve(script: Script, way: str = "plain", **options: Any) -> tuple[Scripted, HTTPConnection]:
            tls = way == "tls"
            path = folder / "socket" if way == "unix" else None
            server = Scripted(script, server_context(authority.chain, authority.key) if tls else None, path)
            stack.enter_context(server)
            client = ssl.create_default_context(cafile=authority.ca) if tls else None
            options = {"timeout": 20, "unix_socket": path, **options}
            conn = HTTPConnection("127.0.0.1", server.port or 80, client, **options)
            return server, stack.enter_context(conn)

        yield serve


class Store:
    """A script that keeps the bodies that it is sent. *held*: it reads nothing before `gate` is set."""

    def __init__(self, held: bool = False) -> None:
        self.bodies: list[bytes] = []
        self.trailers: list[list[bytes]] = []
        self.gate = threading.Event()
        if not held:
            self.gate.set()

    def __call__(self, peer: Peer) -> None:
        assert self.gate.wait(20)
        while (seen := peer.request()) is not None:
            self.bodies.append(seen.body)
            self.trailers.append(peer.trailers)
            peer.trailers = []
            peer.answer(seen.target.encode())


def answered(conn: HTTPConnection, *paths: str) -> None:
    """Read the answers to what was sent, and see that another request follows on the same connection."""
    conn.send_request("GET", "/behind")
    for path in (*paths, "/behind"):
        response = conn.read_response()
        assert (response.status, response.path, response.request_complete) == (200, path, True)
        assert conn.readall() == path.encode()
    assert conn.outstanding == ()
