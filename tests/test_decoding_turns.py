"""Decoding holds little, gives others their turns, and loses nothing where a call is cancelled."""

from __future__ import annotations

import asyncio
import io
import tracemalloc
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

import httpio
from cancelling import LOOPS, Cancel
from codings import TEXT, bomb, coded, coded_chunks, gzipped
from conformance.scenario import sends
from httpio import AsyncHTTPConnection, HTTPConnection, Limits
from httpio.waiting import run
from loops import noting, turns_of_others
from pumped import Pump, Well, working
from servers.scripted import Scripted


@pytest.fixture
def well() -> Iterator[Well]:
    made = Well()
    with made.works():
        yield made
    made.close()


# -- memory --

MANY_ZEROS = bomb(10, 20)
"""200 MiB, in as many bytes as a thousandth of that."""
LOOSE = Limits(max_ratio=1 << 20, max_decoded=1 << 40)
MOST = 3 << 20
"""Bytes of memory: buffers of both ends, and what is decoded at a time."""


@pytest.mark.parametrize("way", ["read", "readinto", "text", "co_read", "pipeline"])
def test_small_reads_stay_small(way: str) -> None:
    """The first bytes of what would be 200 MiB: little more is in memory, and the rest is dropped."""

    def few(conn: HTTPConnection) -> int:
        if way == "readinto":
            return sum(conn.readinto(bytearray(10)) for _ in range(1000))
        if way == "co_read":
            return sum(len(run(conn.co_read(10))) for _ in range(1000))
        return sum(len(conn.read(10)) for _ in range(1000))

    with (
        Scripted(sends(coded(MANY_ZEROS))) as server,
        HTTPConnection("127.0.0.1", server.port, limits=LOOSE, timeout=20) as conn,
    ):
        tracemalloc.start()
        try:
            if way == "pipeline":
                (number,) = [few(conn) for _ in conn.pipeline(["/"], body_limit=1000, decode=True)]
            else:
                conn.send_request("GET", "/")
                conn.read_response(decode=True)
                number = len(conn.text("latin-1").read(10_000)) if way == "text" else few(conn)
                conn.discard()
            assert number == 10_000
            assert tracemalloc.get_traced_memory()[1] < MOST
        finally:
            tracemalloc.stop()


class Null(io.RawIOBase):
    """Takes all, and counts it."""

    count = 0

    def write(self, data: Any) -> int:
        self.count += len(data)
        return len(data)


def test_writing_stays_small() -> None:
    with (
        Scripted(sends(coded(MANY_ZEROS))) as server,
        HTTPConnection("127.0.0.1", server.port, limits=LOOSE, timeout=20) as conn,
    ):
        conn.send_request("GET", "/")
        conn.read_response(decode=True)
        tracemalloc.start()
        try:
            null = Null()
            assert conn.write_to(null) == null.count == 200 << 20  # type: ignore[arg-type]
            assert tracemalloc.get_traced_memory()[1] < MOST
        finally:
            tracemalloc.stop()


# -- other tasks --


@pytest.mark.parametrize("way", ["write_to", "readall", "read", "pipeline", "fetch"])
@pytest.mark.parametrize("kind", LOOPS)
def test_others_have_turns_while_a_body_is_decoded(kind: str, way: str) -> None:
    """All of it is here at once, and is 40 MiB."""

    async def work(server: Scripted) -> int:
        if way == "fetch":
            url = f"http://127.0.0.1:{server.port}/"
            with turns_of_others() as turns:
                (result,) = [result async for result in httpio.afetch([url], decode=True, limits=LOOSE)]
            assert result.content == bytes(40 << 20)
            return turns["turns"]
        async with AsyncHTTPConnection("127.0.0.1", server.port, limits=LOOSE) as conn:
            if way == "pipeline":
                with turns_of_others() as turns:
                    async for _ in conn.pipeline(["/"], decode=True):
                        assert len(await conn.readall()) == 40 << 20
                return turns["turns"]
            await conn.send_request("GET", "/")
            await conn.read_response(decode=True)
            with turns_of_others() as turns:
                if way == "write_to":
                    assert await conn.write_to(Null()) == 40 << 20  # type: ignore[arg-type]
                elif way == "readall":
                    assert len(await conn.readall()) == 40 << 20
                else:
                    while await conn.read(1 << 20):
                        pass
        return turns["turns"]

    with noting(kind) as loop, Scripted(sends(coded(bomb(40)))) as server:
        assert loop.complete(lambda: work(server)) >= (1 if way == "fetch" else 20)


# -- cancelling --


@pytest.mark.parametrize("when", ["waiting", "woken"])
@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("way", ["read", "readinto", "large reads"])
def test_a_cancelled_read_loses_nothing(way: str, kind: str, when: str, well: Well) -> None:
    """It is cancelled at each of its awaits, and asked for again."""
    large = way == "large reads"  # that is more than is decoded in one turn
    content = bytes(3 << 20) if large else TEXT[:120]
    wire = coded_chunks(gzipped(content), 90 if large else 9) + coded(gzipped(b"next"))
    pieces = 2000 if large else 5
    size = 300_000 if large else 7

    async def work(pump: Pump, cancel: Cancel) -> bytes:
        async with working(pump), AsyncHTTPConnection("127.0.0.1", well.port, timeout=20, limits=LOOSE) as conn:
            await conn.send_request("GET", "/object")
            await conn.send_request("GET", "/next")
            await conn.read_response(decode=True)
            found, buffer = bytearray(), bytearray(7)
            while True:
                try:
                    if way == "readinto":
                        piece = bytes(buffer[: await cancel(conn.readinto(buffer))])
                    else:
                        piece = await cancel(conn.read(size))
                except asyncio.CancelledError:
                    continue
                if not piece:
                    break
                found += piece
            await conn.read_response(decode=True)
            return found + await conn.readall()

    with noting(kind) as loop:
        for at in count(1):
            assert at < 1000
            cancel = Cancel(at, when)
            with well.pump([wire[start : start + pieces] for start in range(0, len(wire), pieces)]) as pump:
                assert loop.complete(lambda pump=pump, cancel=cancel: work(pump, cancel)) == content + b"next"
            if not cancel.where:
                break
        assert at > (2 if large else 10)


@pytest.mark.parametrize("kind", LOOPS)
def test_what_a_cancelled_readall_had_read_is_not_passed_over(kind: str, well: Well) -> None:
    wire = coded_chunks(gzipped(TEXT[:120]), 9)

    async def work(pump: Pump) -> None:
        async with AsyncHTTPConnection("127.0.0.1", well.port, timeout=20) as conn:
            await conn.send_request("GET", "/object")
            while not pump.next():
                await asyncio.sleep(0)
            response = asyncio.ensure_future(conn.read_response(decode=True))
            async with working(pump):
                await response
            task = asyncio.ensure_future(conn.readall())
            for _ in range(10):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(httpio.ConnectionClosed):
                await conn.readall()

    cut = wire.index(b"\r\n\r\n") + 80
    with noting(kind) as loop, well.pump([wire[:100], wire[100:cut]]) as pump:
        loop.complete(lambda: work(pump))
