"""AsyncHTTPConnection beside other tasks: a peer that is fast leaves them their turns."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from httpio import AsyncHTTPConnection, BodyFollowing
from httpio.aio import CALLS
from httpio.pipelining import Pipeline
from loops import KINDS, always_here, noting, takes_all, turns_of_others, until
from servers.scripted import Peer, Scripted

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(params=KINDS)
def loop(request: pytest.FixtureRequest) -> Iterator[Any]:
    with noting(request.param) as made:
        yield made


PIECES = 8 << 20


async def download(conn: AsyncHTTPConnection, read: Callable[[AsyncHTTPConnection], Awaitable[Any]]) -> None:
    await conn.send_request("GET", f"/{PIECES}")
    await conn.read_response()
    await read(conn)
    assert not conn.response_pending()


async def by_pieces(conn: AsyncHTTPConnection) -> None:
    while await conn.read(65536):
        pass


async def into_a_buffer(conn: AsyncHTTPConnection) -> None:
    buffer = bytearray(65536)
    while await conn.readinto(buffer):
        pass


async def into_a_file(conn: AsyncHTTPConnection) -> None:
    with tempfile.TemporaryFile() as file:
        assert await conn.write_to(file) == PIECES


async def in_a_pipeline(conn: AsyncHTTPConnection) -> None:
    async for response in conn.pipeline([f"/{PIECES}"], body_limit=2 * PIECES):
        assert response.body is not None
        assert len(response.body) == PIECES


async def inside_a_pipeline(conn: AsyncHTTPConnection) -> None:
    async for _ in conn.pipeline([f"/{PIECES}"]):
        await by_pieces(conn)


async def many_small_ones(conn: AsyncHTTPConnection) -> None:
    async for response in conn.pipeline(["/10"] * 3000):
        assert response.body == bytes(10)


FAST: dict[str, Callable[[AsyncHTTPConnection], Awaitable[None]]] = {
    "readall": lambda conn: download(conn, AsyncHTTPConnection.readall),
    "discard": lambda conn: download(conn, AsyncHTTPConnection.discard),
    "read": lambda conn: download(conn, by_pieces),
    "readinto": lambda conn: download(conn, into_a_buffer),
    "write_to": lambda conn: download(conn, into_a_file),
    "pipeline": in_a_pipeline,
    "pipeline, read inside": inside_a_pipeline,
    "many": many_small_ones,
}


def zeros(peer: Peer) -> None:
    """As many as the target says."""
    while (seen := peer.request()) is not None:
        peer.answer(bytes(int(seen.target[1:])))


@pytest.mark.parametrize("what", FAST)
def test_others_have_turns_beside_a_fast_peer(what: str, loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that always has more, or takes more, does not keep the loop to itself."""

    async def main() -> None:
        async with AsyncHTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
            await conn.connect()
            always_here(monkeypatch)
            with turns_of_others() as count:
                await FAST[what](conn)
            assert count["turns"] >= 6

    with Scripted(zeros) as server:
        loop.complete(main)


@pytest.mark.parametrize("what", ["bytes", "iterable", "file", "write", "sendfile"])
def test_others_have_turns_beside_a_peer_that_takes_all(what: str, loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with AsyncHTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
            await conn.connect()
            takes_all(conn, monkeypatch)
            with tempfile.TemporaryFile() as file:
                file.truncate(PIECES)
                bodies = {
                    "bytes": bytes(PIECES),
                    "iterable": (bytes(1 << 16) for _ in range(PIECES >> 16)),
                    "file": file,
                }
                with turns_of_others() as count:
                    body = bodies.get(what, BodyFollowing(PIECES))
                    await conn.send_request("PUT", "/2", {"Content-Length": str(PIECES)}, body)  # type: ignore[arg-type]
                    if what == "write":
                        await conn.write(bytes(PIECES))
                    elif what == "sendfile":
                        await conn.sendfile(file)
                assert count["turns"] >= 6
            await conn.read_response()
            await conn.discard()

    with Scripted(zeros) as server:
        loop.complete(main)


def test_another_that_waits_all_the_time(loop: Any) -> None:
    """Each of many exchanges wakes only who waits for it, and asks nothing of the loop."""

    async def main() -> None:
        async with (
            AsyncHTTPConnection("127.0.0.1", server.port, timeout=20) as conn,
            AsyncHTTPConnection("127.0.0.1", server.port, timeout=20) as other,
        ):
            await other.connect()
            await other.send_request("GET", "/1")
            await other.read_response()
            await other.readall()
            descriptor = other.fileno()
            told = loop.called[descriptor]
            for _ in range(200):
                await conn.send_request("GET", "/5")
                await conn.read_response()
                assert await conn.readall() == bytes(5)
            assert loop.called[descriptor] <= told + 1
            assert loop.changes["add_reader"] <= 2
            assert loop.changes["call_later"] <= 4

    with Scripted(zeros) as server:
        loop.complete(main)


@pytest.mark.parametrize("what", ["read", "readinto", "send_request", "read_response"])
def test_others_have_turns_beside_calls_that_do_not_wait(what: str, loop: Any) -> None:
    """All that is asked for is here, or fits."""
    count = 1000

    async def main() -> None:
        async with AsyncHTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
            await conn.connect()
            for _ in range(count if what == "read_response" else 1):
                await conn.send_request("GET", "/0" if what == "read_response" else f"/{count}")
            await conn.read_response()
            if what == "read_response":
                await conn.discard()
                await until(lambda: len(server.seen) == count)
            else:
                assert await conn.read(1) == bytes(1)
            buffer = bytearray(1)
            with turns_of_others() as turns:
                for _ in range(count - 1):
                    if what == "read":
                        await conn.read(1)
                    elif what == "readinto":
                        await conn.readinto(buffer)
                    elif what == "send_request":
                        await conn.send_request("GET", "/0")
                    else:
                        await conn.read_response()
                        await conn.discard()
            assert turns["turns"] >= count // CALLS - 2

    with Scripted(zeros) as server:
        loop.complete(main)


def test_others_have_a_turn_for_each_batch(loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = 0
    co_next = Pipeline.co_next

    def counting(pipeline: Pipeline) -> Any:
        nonlocal batches
        batches += 1
        return co_next(pipeline)

    async def main() -> None:
        async with AsyncHTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
            await conn.connect()
            always_here(monkeypatch)
            with turns_of_others() as count:
                await many_small_ones(conn)
            assert count["turns"] >= batches - 3 > 0

    monkeypatch.setattr(Pipeline, "co_next", counting)
    with Scripted(zeros) as server:
        loop.complete(main)
