"""Asynchronous iterables of requests: drawn a little ahead, and never waited for where there is something to do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from httpio.aio import FED_AHEAD, Feed
from loops import KINDS, Held, Serve, ask, noting, serving_tasks, turns, until
from servers.scripted import Peer, answers
from sources import Source, paths, targets

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(params=KINDS)
def loop(request: pytest.FixtureRequest) -> Iterator[Any]:
    with noting(request.param) as made:
        yield made


@pytest.fixture
def served(loop: Any) -> Iterator[Serve]:
    with serving_tasks() as serve:
        yield serve


def test_drawn_a_little_ahead(loop: Any, served: Serve) -> None:
    """With a server that is slow, and with a caller that is."""
    server, conn = served(script := Held())

    async def main() -> None:
        source = Source(5000)

        async def requests() -> AsyncIterator[str]:
            async for target in source:
                yield "/held" if target == "/0" else target

        depth = 4
        responses = conn.pipeline(requests(), depth)
        assert source.drawn == 0
        first = asyncio.ensure_future(anext(responses))
        await until(lambda: server.seen)
        await turns(300)
        assert FED_AHEAD <= source.drawn <= FED_AHEAD + depth + 1
        assert not first.done()
        script.gate.set()
        assert (await first).path == "/held"
        for number in range(1, 1000):
            assert (await anext(responses)).path == f"/{number}"
            if number % 100 == 0:
                await turns(300)
            assert source.drawn <= number + FED_AHEAD + 3 * depth
        await responses.aclose()  # type: ignore[attr-defined]

    loop.complete(main)


def test_a_request_that_comes_while_others_are_out(loop: Any, served: Serve) -> None:
    """It is sent at once, and not when those are answered."""

    def script(peer: Peer) -> None:
        held = [peer.request() for _ in range(2)]
        for seen in held:
            assert seen is not None
            peer.answer(seen.target.encode())
        answers(peer)

    server, conn = served(script)

    async def main() -> None:
        source = Source(2, stops_at=1)
        task = asyncio.ensure_future(paths(conn.pipeline(source, 8)))
        await until(lambda: server.seen)
        assert not task.done()
        source.go_on.set()
        assert await task == targets(2)

    loop.complete(main)
    assert server.connections == 1


def test_one_at_a_time(loop: Any, served: Serve) -> None:
    """The source waits for each response before it gives the next request."""
    server, conn = served()

    async def main() -> None:
        answered = asyncio.Semaphore(1)

        async def requests() -> AsyncIterator[str]:
            for target in targets(50):
                await answered.acquire()
                yield target

        found = []
        async for response in conn.pipeline(requests()):
            found.append(response.path)
            answered.release()
        assert found == targets(50)

    loop.complete(main)
    assert server.connections == 1


@pytest.mark.parametrize("count", [0, 1, 10])
def test_a_source_that_ends_late(count: int, loop: Any, served: Serve) -> None:
    server, conn = served()

    async def main() -> None:
        source = Source(count, stops_at=count)
        found: list[str] = []
        task = asyncio.ensure_future(paths(conn.pipeline(source), found))
        await until(lambda: len(found) == count)
        await turns(20)
        assert not task.done()
        source.go_on.set()
        assert await task == targets(count)
        assert source.ended
        await ask(conn, "/after")

    loop.complete(main)
    assert server.connections == 1


def test_a_connection_that_is_lost_while_the_source_waits(loop: Any, served: Serve) -> None:
    """The next request goes out on another."""

    def script(peer: Peer) -> None:
        if peer.number == 0:
            peer.request()
            peer.answer(b"/0")
            peer.finish()
            ended.set()
        else:
            answers(peer)

    ended = threading.Event()
    server, conn = served(script)

    async def main() -> None:
        source = Source(3, stops_at=1)
        found: list[str] = []
        task = asyncio.ensure_future(paths(conn.pipeline(source), found))
        await until(lambda: found and ended.is_set())
        source.go_on.set()
        assert await task == targets(3)

    loop.complete(main)
    assert server.targets() == targets(3)
    assert server.connections == 2


# -- Feed by itself --


def test_a_feed_by_itself(loop: Any) -> None:
    """It ends when nothing is here, and gives more when there is."""

    async def main() -> None:
        source = Source(FED_AHEAD + 3, stops_at=2)
        feed: Feed[str] = Feed(source)
        assert list(feed) == []
        news: list[int] = []
        feed.start(lambda: news.append(source.drawn))
        assert await feed.more()
        await turns()
        assert (list(feed), list(feed)) == (targets(2), [])
        waiting = asyncio.ensure_future(feed.more())
        await turns()
        assert not waiting.done()
        source.go_on.set()
        assert await waiting
        await turns(300)
        found = list(feed)
        while await feed.more():
            found += list(feed)
        assert found == targets(FED_AHEAD + 3)[2:]
        assert (len(news), source.ended) == (FED_AHEAD + 4, True)
        assert not await feed.more()
        await feed.close()
        await feed.close()

    loop.complete(main)


def test_a_feed_that_fails(loop: Any) -> None:
    async def main() -> None:
        feed: Feed[str] = Feed(Source(3, error=KeyError("mine")))
        feed.start(lambda: None)
        found = []
        for _ in range(2):
            with pytest.raises(KeyError, match="mine"):  # noqa: PT012 - whichever of them has it
                while await feed.more():
                    found += list(feed)
            assert found == targets(3)
        await feed.close()

    loop.complete(main)


def test_a_feed_that_is_stopped(loop: Any) -> None:
    """Waiting for the source, and waiting for room."""

    async def main() -> None:
        for source in (Source(5, stops_at=1), Source(1000)):
            feed: Feed[str] = Feed(source)
            feed.start(lambda: None)
            await turns(300)
            drawn = source.drawn
            assert drawn in (1, FED_AHEAD)
            await feed.close()
            source.go_on.set()
            await turns(20)
            assert source.drawn == drawn
            assert asyncio.all_tasks() & {feed._task} == set()
        unstarted: Feed[str] = Feed(Source(1))
        unstarted.stop()
        await unstarted.close()

    loop.complete(main)


def test_a_source_that_minds_being_stopped(loop: Any, served: Serve) -> None:
    """What it raises then has nobody to hear it."""
    _, conn = served()

    async def stubborn() -> AsyncIterator[str]:
        yield "/0"
        try:
            await asyncio.Event().wait()
        finally:
            raise KeyError("in passing")

    async def main() -> None:
        responses: Any = conn.pipeline(stubborn())
        assert (await anext(responses)).path == "/0"
        await responses.aclose()
        await ask(conn, "/after")

    loop.complete(main)
