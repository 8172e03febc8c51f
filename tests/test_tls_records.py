"""What TLS has to say of its own is no data: T-45. Wherever it comes, no answer is lost or shifted by it, and the
connection is neither given up nor spoilt.
"""

from __future__ import annotations

import asyncio
import select
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Authority, need
from httpio import Request
from servers.records import SealingPeer
from servers.s_server import PROGRAM, SServer
from servers.scripted import Peer, Scripted, server_context
from tls_ways import FACES, WAIT, Face, every_face, faces_that_differ

Noise = Callable[[SealingPeer], bytes]

NOISE: dict[str, Noise] = {
    "key update": lambda peer: peer.key_update(),
    "key update requested": lambda peer: peer.key_update(True),
    "ten key updates": lambda peer: b"".join(peer.key_update(bool(number % 2)) for number in range(10)),
    "ticket": lambda peer: peer.tickets(1),
    "many tickets": lambda peer: peer.tickets(20),
    "tickets in small records": lambda peer: peer.tickets(2, 50),
    "empty records": lambda peer: peer.record(b"") + peer.record(b"", 100) + peer.record(b""),
    "all of these": lambda peer: b"".join(
        (peer.tickets(1), peer.key_update(True), peer.record(b""), peer.tickets(2), peer.key_update())
    ),
}

PLACES = ("fresh", "before", "in the head", "in the body", "in a chunk size", "behind", "idle")


def answer(peer: SealingPeer, body: bytes, place: str, noise: Noise) -> bytes:
    """The records of an answer with something between them."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire = head + b"%04x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    if place in ("fresh", "idle"):
        return peer.record(wire, padding=100)
    at = {
        "before": 0,
        "in the head": 20,
        "in a chunk size": len(head) + 2,
        "in the body": len(head) + 7,
        "behind": len(wire),
    }[place]
    records = peer.record(wire[:at]) + noise(peer)
    return records if place == "behind" else records + peer.record(wire[at:])


class Server:
    """A script. *go*: set each time that the client is idle, and wants to hear of it."""

    def __init__(self, place: str, noise: str, authority: Authority, log: Path) -> None:
        self._place = place
        self._noise = NOISE[noise]
        self._log = log
        self._context = server_context(authority.chain, authority.key)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.num_tickets = 0
        self._context.keylog_filename = str(log)
        self.go = threading.Semaphore(0)

    def __call__(self, plain: Peer) -> None:
        peer = SealingPeer(plain, self._context, self._log)
        peer.handshake()
        if self._place == "fresh":
            peer.sock.sendall(self._noise(peer))
        while (seen := peer.request()) is not None:
            peer.sock.sendall(answer(peer, seen.target.encode() + seen.body, self._place, self._noise))
            if self._place == "idle" and seen.method == "POST":
                assert self.go.acquire(timeout=WAIT)
                peer.sock.sendall(self._noise(peer))


def readable(conn: Any) -> None:
    """Wait until something has come from the peer."""
    assert select.select([conn.fileno()], [], [], WAIT)[0]


@pytest.fixture
def server(place: str, noise: str, authority: Authority, tmp_path: Path) -> Server:
    return Server(place, noise, authority, tmp_path / "secrets")


every_noise = pytest.mark.parametrize("noise", NOISE)


@every_face
@every_noise
@pytest.mark.parametrize("place", PLACES)
def test_t_45_one_at_a_time(place: str, face: Face, authority: Authority, server: Server) -> None:
    """Requests that must not be repeated: each is sent on the one connection that there is."""

    async def main(port: int) -> None:
        context = ssl.create_default_context(cafile=authority.ca)
        async with face.connection("127.0.0.1", port, context, timeout=WAIT) as conn:
            await conn.connect()
            if place == "fresh":
                readable(conn)
            for number in range(4):
                await conn.send_request("POST", f"/{number}", body=b"x" * number)
                response = await conn.read_response()
                assert (response.status, response.path) == (200, f"/{number}")
                assert await conn.readall() == f"/{number}".encode() + b"x" * number
                if place == "idle":
                    server.go.release()
                    readable(conn)

    with Scripted(server) as scripted:
        asyncio.run(main(scripted.port))
        assert scripted.connections == 1


@pytest.mark.parametrize(
    ("face", "depth"), [(FACES["blocking"], 8), (FACES["asyncio"], 8), (FACES["asyncio"], 1)], ids=["b8", "a8", "a1"]
)
@every_noise
@pytest.mark.parametrize("place", PLACES)
def test_t_45_a_pipeline(depth: int, place: str, face: Face, authority: Authority, server: Server) -> None:
    """Two, one after the other, on one connection; what ends each is not repeated."""

    async def main(port: int) -> None:
        context = ssl.create_default_context(cafile=authority.ca)
        async with face.connection("127.0.0.1", port, context, timeout=WAIT) as conn:
            for start in (0, 12):
                requests: list[str | Request] = [f"/{number}" for number in range(start, start + 11)]
                requests.append(Request("POST", f"/{start + 11}", body=b""))
                bodies = [response.body async for response in conn.pipeline(requests, depth)]
                assert bodies == [b"/%d" % number for number in range(start, start + 12)]
                if place == "idle":
                    server.go.release()
                    readable(conn)

    with Scripted(server) as scripted:
        asyncio.run(main(scripted.port))
        assert scripted.connections == 1


@faces_that_differ
@every_noise
@pytest.mark.parametrize("place", [place for place in PLACES if place != "idle"])
def test_t_45_fetch(place: str, face: Face, authority: Authority, server: Server) -> None:
    async def main(port: int) -> None:
        context = ssl.create_default_context(cafile=authority.ca)
        urls = [f"https://127.0.0.1:{port}/{number}" for number in range(24)]
        results = [result async for result in face.fetch(urls, ssl_context=context, timeout=WAIT)]
        assert [(result.content, result.attempts) for result in results] == [(b"/%d" % n, 1) for n in range(24)]

    with Scripted(server) as scripted:
        asyncio.run(main(scripted.port))
        assert scripted.connections == 1


@every_face
@pytest.mark.parametrize("command", [b"r\n", b"R\n"], ids=["renegotiate", "ask for a certificate"])
def test_t_45_renegotiation_while_idle(command: bytes, face: Face, authority: Authority) -> None:
    """TLS 1.2: the server asks for another handshake (RFC 5246 section 7.4.1.1), which the next request waits for."""
    need(PROGRAM is not None, "The program openssl")

    async def main(server: SServer) -> None:
        context = ssl.create_default_context(cafile=authority.ca)
        async with face.connection("127.0.0.1", server.port, context, timeout=WAIT) as conn:
            await conn.connect()
            for number in range(3):
                server.tell(command)
                readable(conn)
                await conn.send_request("POST", f"/{number}", body=b"x\n")
                server.wait_for(b"POST /%d " % number)
                server.wait_for(b"x")
                server.tell(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
                assert (await conn.read_response()).path == f"/{number}"
                assert await conn.readall() == b"hello"

    with SServer(authority.chain, authority.key, "-tls1_2") as server:
        asyncio.run(main(server))
