"""The page "Avoiding deadlocks": each of its examples, against servers that answer before they read."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Authority, Contexts
from deadlocks_client import SIZE, Exchanges, answer, blocks, go, run_example, upload
from httpio import ConnectionTimedOut, HTTPConnection, PollNeeded
from servers.scripted import Peer, Scripted, server_context

MANY_ON_THEIR_WAY = ["pipeline", "Two threads", "One thread and select", "Steps"]
UPLOADS = ["The answer first", *MANY_ON_THEIR_WAY]
GETS = ["GET pipeline", "GET Steps"]

LITTLE = [(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)]
"""For the client: with it, and a server whose buffers are small, each body has to be read while it is sent."""


class Store:
    """The scripts of servers, and what they have stored."""

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}

    def _keep(self, target: str, body: bytes) -> None:
        assert target not in self.digests
        self.digests[target] = hashlib.sha256(body).hexdigest()

    def early(self, peer: Peer) -> None:
        """Answer at length, and read the body afterwards."""
        while (seen := peer.head()) is not None:
            peer.answer(answer(seen.target))
            if seen.method == "PUT":
                length = int(seen.field("Content-Length") or 0)
                body = peer.take(length)
                assert len(body) == length
                self._keep(seen.target, body)

    def late(self, peer: Peer) -> None:
        """Read the body, and answer at length."""
        while (seen := peer.request()) is not None:
            if seen.method == "PUT":
                self._keep(seen.target, seen.body)
            peer.answer(answer(seen.target))

    def reverse(self, peer: Peer) -> None:
        """Answer with what came, from its end to its beginning."""
        while (seen := peer.request()) is not None:
            peer.answer(seen.body[::-1])


@pytest.fixture(params=["plain", "tls"])
def tls(request: pytest.FixtureRequest, authority: Authority) -> Contexts:
    """The contexts of the server and of the client."""
    if request.param == "plain":
        return None, None
    return server_context(authority.chain, authority.key), ssl.create_default_context(cafile=authority.ca)


def assert_stored(store: Store, paths: list[str]) -> None:
    assert store.digests == {path: hashlib.sha256(upload(path)).hexdigest() for path in paths}


# -- the page --


def test_every_example_is_run_here() -> None:
    found = {heading: len(codes) for heading, codes in blocks().items()}
    assert found == {"Avoiding deadlocks": 1, "What happens": 1, **dict.fromkeys(UPLOADS, 1), "pipeline": 2}


@pytest.mark.parametrize("way", [*UPLOADS, "GET pipeline"])
def test_examples_as_they_stand(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store()
    with Scripted(store.late) as server:
        space = run_example(way.removeprefix("GET "), int(way.startswith("GET ")), server.port, {})
        server.settle(1)
    printed = capsys.readouterr().out.splitlines()
    assert printed == [f"/{number} 200 {SIZE}" for number in range(64)]
    if way in UPLOADS:
        assert store.digests["/63"] == hashlib.sha256(space["content"]("/63")).hexdigest()
        assert len(space["content"]("/63")) == SIZE


# -- the danger --


@pytest.mark.parametrize("script", ["early", "late"])
def test_sending_without_reading_hangs(script: str, tls: Contexts) -> None:
    """Otherwise the tests below would show nothing."""
    exchanges = Exchanges(64)
    store = Store()
    with Scripted(getattr(store, script), tls[0], small=True) as server:
        with pytest.raises(ConnectionTimedOut) as caught:
            run_example(
                "What happens", 0, server.port, exchanges.names, ssl_context=tls[1], timeout=0.5, socket_options=LITTLE
            )
        assert caught.value.where == "sending"
        assert server.connections == 1
    assert exchanges.answered == 0


def test_one_exchange_alone_hangs_with_an_early_answer() -> None:
    store = Store()
    exchanges = Exchanges(1)
    with Scripted(store.early, small=True) as server, pytest.raises(ConnectionTimedOut):
        go("The answer first", server.port, exchanges, timeout=0.5, socket_options=LITTLE)
    assert store.digests == {}


# -- the ways out --


@pytest.mark.parametrize("way", UPLOADS)
def test_uploads(way: str, tls: Contexts) -> None:
    """64 of 1 MB each, answered with 1 MB before they are read (one at a time: as soon as they are)."""
    exchanges = Exchanges(64)
    store = Store()
    with Scripted(store.late if way == UPLOADS[0] else store.early, tls[0]) as server:
        go(way, server.port, exchanges, ssl_context=tls[1], timeout=20)
        server.settle(1)
    assert exchanges.answered == 64
    assert_stored(store, exchanges.paths)
    assert server.connections == 1


@pytest.mark.parametrize("way", MANY_ON_THEIR_WAY)
def test_uploads_through_small_buffers(way: str, tls: Contexts) -> None:
    """Where next to nothing is on its way, every body has to be read while another is sent."""
    exchanges = Exchanges(3)
    store = Store()
    with Scripted(store.early, tls[0], small=True) as server:
        go(way, server.port, exchanges, ssl_context=tls[1], timeout=20, socket_options=LITTLE)
        server.settle(1)
    assert exchanges.answered == 3
    assert_stored(store, exchanges.paths)
    assert server.connections == 1


def test_whole_uploads_via_cofun(tls: Contexts) -> None:
    """The bodies go out with the requests, and none of it by `partial`."""
    exchanges = Exchanges(3)
    store = Store()
    yielded = 0
    with (
        Scripted(store.early, tls[0], small=True) as server,
        HTTPConnection("127.0.0.1", server.port, tls[1], timeout=20, socket_options=LITTLE) as conn,
    ):

        def receive() -> Iterator[PollNeeded | None]:
            for path in exchanges.paths:
                while not conn.response_pending():
                    yield None
                response = yield from conn.co_read_response()
                exchanges.done(path, response.status, (yield from conn.co_readall()))

        receiver = receive()
        for path in exchanges.paths:
            for nothing in conn.send_request("PUT", path, body=upload(path), via_cofun=True):
                assert nothing is None
                next(receiver, None)
                yielded += 1
        for need in receiver:
            assert need is not None
            need.poll()
        conn.close()
        server.settle(1)
    assert yielded > 3
    assert exchanges.answered == 3
    assert_stored(store, exchanges.paths)
    assert server.connections == 1


def small_upload(path: str) -> bytes:
    """300 bytes to 6 KiB."""
    seed = hashlib.sha256(path.encode()).digest()
    return (seed * 200)[: 300 + int.from_bytes(seed[:2], "big") % 5700]


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.heavy)])
@pytest.mark.parametrize("way", UPLOADS)
def test_many_small_uploads(way: str, count: int, tls: Contexts) -> None:
    """Each is answered with what was made of it."""
    exchanges = Exchanges(count, small_upload, lambda path: small_upload(path)[::-1])
    with Scripted(Store().reverse, tls[0]) as server:
        go(way, server.port, exchanges, ssl_context=tls[1], timeout=20)
        server.settle(1)
    assert exchanges.answered == count
    assert server.targets() == exchanges.paths
    assert server.connections == 1


@pytest.mark.parametrize("way", GETS)
def test_gets(way: str, tls: Contexts) -> None:
    exchanges = Exchanges(60)
    with Scripted(Store().early, tls[0]) as server:
        go(way, server.port, exchanges, ssl_context=tls[1], timeout=20)
        server.settle(1)
    assert exchanges.answered == 60
    assert [(seen.method, seen.target) for seen in server.seen] == [("GET", path) for path in exchanges.paths]
    assert server.connections == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_two_threads_when_reading_fails(tls: Contexts) -> None:
    """The sender, which waits for the server, is let out."""

    def done(path: str, status: int, body: bytes) -> None:
        raise RuntimeError("enough")

    store = Store()
    with Scripted(store.early, tls[0], small=True) as server:
        names = {**Exchanges(64).names, "done": done}
        with pytest.raises(RuntimeError, match="enough"):
            run_example("Two threads", 0, server.port, names, ssl_context=tls[1])
        server.settle(1)
    assert len(store.digests) < 64


@pytest.mark.heavy
@pytest.mark.parametrize(("way", "count"), [*((way, 64) for way in UPLOADS), *((way, 2000) for way in GETS)])
def test_memory_is_flat(way: str, count: int, tls: Contexts, authority: Authority) -> None:
    store = Store()
    program = Path(__file__).with_name("deadlocks_client.py")
    with Scripted(store.late if way == UPLOADS[0] else store.early, tls[0]) as server:
        arguments = [way, str(server.port), str(count), *([str(authority.ca)] if tls[1] else [])]
        done = subprocess.run([sys.executable, program, *arguments], capture_output=True, text=True, timeout=240)
        server.settle(1 if done.returncode == 0 else 0)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout)
    assert seen["answered"] == count
    assert server.connections == 1
    if way in UPLOADS:
        assert_stored(store, Exchanges(count).paths)
    assert seen["last_peak"] - seen["first_peak"] < 8 << 20, seen
