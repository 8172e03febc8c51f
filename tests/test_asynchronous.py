"""afetch: what fetch gives, from iterables that may take their time, at the pace of whoever takes the results."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

import httpio.bulk.asynchronous
import httpio.bulk.engine
from httpio import ConnectionClosed, InvalidURL, Request, Result, afetch, fetch
from httpio.aio import FED_AHEAD
from httpio.bulk.engine import Engine
from httpio.window import MAX_DEPTH
from loops import KINDS, Held, always_here, noting, turns, turns_of_others, until
from servers.scripted import Peer, Script, Scripted, answers
from sources import Source, each

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(params=KINDS)
def loop(request: pytest.FixtureRequest) -> Iterator[Any]:
    with noting(request.param) as made:
        yield made


@pytest.fixture
def start() -> Iterator[Callable[[Script], Scripted]]:
    with ExitStack() as stack:
        yield lambda script: stack.enter_context(Scripted(script))


async def urls(server: Scripted, source: AsyncIterator[str]) -> AsyncIterator[str]:
    """The targets that *source* gives, at the server."""
    async for target in source:
        yield server.url + target


async def collect(items: Any, into: list[Result] | None = None, **options: Any) -> list[Result]:
    found = [] if into is None else into
    async for result in afetch(items, **{"timeout": 15, **options}):
        found.append(result)
    return found


# -- the same as fetch --


def sizes(peer: Peer) -> None:
    """As many bytes as the target says; 404 where it says nothing."""
    while (seen := peer.request()) is not None:
        size = seen.target.strip("/").partition("?")[0]
        if size.isdigit():
            peer.answer(seen.target[1:2].encode() * int(size), fields=f"X-Method: {seen.method}\r\n")
        else:
            peer.answer(b"none", "404 Not Found")


def faulty(peer: Peer) -> None:
    """Each path is met with the fault that its name says."""
    while (seen := peer.request()) is not None:
        if seen.target.startswith("/reset"):
            return peer.reset()
        if seen.target.startswith("/cut"):
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            return None
        if seen.target.startswith("/bad"):
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n")
            return peer.drain()
        peer.answer(seen.target.encode(), fields="Connection: close\r\n" if seen.target.startswith("/last") else "")


def many_origins(servers: Sequence[Scripted]) -> list[Any]:
    return [f"{server.url}/{number}?{index}" for number in range(150) for index, server in enumerate(servers)]


def bad_items(servers: Sequence[Scripted]) -> list[Any]:
    url = servers[0].url
    bad: list[Any] = ["ftp://h/", 5, None, f"{url}/a b", Request("G T", f"{url}/1"), Request("GET", "/no-origin")]
    return [item for number, wrong in enumerate(bad) for item in (f"{url}/{number}", wrong)]


def lost_connections(servers: Sequence[Scripted]) -> list[Any]:
    faults = ("reset", "cut", "bad", "last")
    return [f"{servers[2].url}/{faults[n % 40 // 10] if n % 10 == 7 else 'good'}{n}" for n in range(160)]


def large_bodies(servers: Sequence[Scripted]) -> list[Any]:
    return [f"{servers[0].url}/{size}" for size in (0, 1, 999, 1000, 1001, 5, 400_000, 5, 5_000_000, 1)]


def methods(servers: Sequence[Scripted]) -> list[Any]:
    url = servers[0].url
    found: list[Any] = []
    for number in range(20):
        found += [Request("POST", f"{url}/{number}", {"X": "y"}, b"x" * number), f"{url}/{number}?", f"{url}/none"]
    return found


def refused(servers: Sequence[Scripted]) -> list[Any]:
    return [url for n in range(50) for url in (f"{servers[0].url}/{n}", f"http://127.0.0.1:1/{n}")]


LISTS = {
    "origins": many_origins, "bad items": bad_items, "lost": lost_connections, "large": large_bodies,
    "methods": methods, "refused": refused, "nothing": lambda _: [],
}  # fmt: skip


def facts(results: list[Result], items: list[Any]) -> list[Any]:
    """What is to be the same: the results in the order of their items."""
    place = {id(item): number for number, item in enumerate(items)}
    found = []
    for result in sorted(results, key=lambda result: place[id(result.request)]):
        headers = None if result.headers is None else result.headers.items()
        error = None if result.error is None else (type(result.error), str(result.error))
        found.append((place[id(result.request)], result.status, headers, result.content, error, result.attempts))
    return found


@pytest.mark.parametrize("way", ["list", "iterator", "async"])
@pytest.mark.parametrize("kind", LISTS)
def test_as_fetch(kind: str, way: str, loop: Any, start: Callable[[Script], Scripted]) -> None:
    servers = [start(sizes), start(sizes), start(faulty)]
    items = LISTS[kind](servers)
    options: dict[str, Any] = {
        "timeout": 15,
        "headers": {"X-A": "1"},
        "body_limit": 1000 if kind == "large" else 10_000,
    }
    wanted = list(fetch(items, **options))
    given = each(items) if way == "async" else iter(items) if way == "iterator" else items
    found = loop.complete(lambda: collect(given, **options))
    assert facts(found, items) == facts(wanted, items)
    assert Counter(id(result.request) for result in found) == Counter(map(id, items))
    for server in servers:  # in order for each origin
        own = [id(item) for item in items if isinstance(item, str) and item.startswith(server.url + "/")]
        seen = [id(result.request) for result in found if id(result.request) in own]
        assert seen == own or kind == "bad items"


def test_arguments() -> None:
    """They are looked at before anything is done."""
    with pytest.raises(ValueError, match="X"):
        afetch([], headers={"X": "a\nb"})
    with pytest.raises(TypeError):
        afetch(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 300])
@pytest.mark.parametrize("way", ["iterator", "async"])
def test_items_that_raise(way: str, count: int, loop: Any, start: Callable[[Script], Scripted]) -> None:
    """What was drawn before is still fetched."""
    server = start(answers)

    def raising() -> Iterator[str]:
        for number in range(count):
            yield f"{server.url}/{number}"
        raise KeyError("mine")

    async def main() -> None:
        found: list[Result] = []
        items = raising() if way == "iterator" else urls(server, aiter(Source(count, error=KeyError("mine"))))
        with pytest.raises(KeyError, match="mine"):
            await collect(items, found)
        assert [result.content for result in found] == [b"/%d" % number for number in range(count)]

    loop.complete(main)


def test_items_that_cancel_themselves(loop: Any, start: Callable[[Script], Scripted]) -> None:
    """Their end is not the end of the items."""
    server = start(answers)

    async def main() -> None:
        found: list[Result] = []
        with pytest.raises(asyncio.CancelledError):
            await collect(urls(server, aiter(Source(3, error=asyncio.CancelledError()))), found)
        assert len(found) == 3

    loop.complete(main)


# -- items that come one by one --


class Trickle:
    """Gives each item when the result of the one before has been taken."""

    def __init__(self, items: Sequence[Any]) -> None:
        self._items = items
        self.taken = asyncio.Semaphore(1)

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in self._items:
            await self.taken.acquire()
            yield item

    async def results(self, **options: Any) -> list[Result]:
        found = []
        async for result in afetch(self, **{"timeout": 15, **options}):
            found.append(result)
            self.taken.release()
        assert [result.request for result in found] == self._items
        return found


def test_a_connection_is_kept_between_items(loop: Any, start: Callable[[Script], Scripted]) -> None:
    server, other = start(answers), start(answers)

    async def main() -> None:
        items = [f"{(other if number % 3 == 2 else server).url}/{number}" for number in range(60)]
        assert all(result.ok for result in await Trickle(items).results())

    loop.complete(main)
    assert (server.connections, other.connections) == (1, 1)


def test_a_connection_that_ends_between_items(loop: Any, start: Callable[[Script], Scripted]) -> None:
    """It is replaced, and no request is lost or sent twice."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.answer(b"only one")
        peer.finish()
        ended.append(peer.number)

    ended: list[int] = []
    server = start(script)

    async def main() -> None:
        answered: asyncio.Queue[int] = asyncio.Queue()

        async def items() -> AsyncIterator[str]:
            for number in range(10):
                yield f"{server.url}/{number}"
                await answered.get()
                await until(lambda number=number: len(ended) > number)  # type: ignore[misc]

        count = 0
        async for result in afetch(items(), timeout=15):
            assert (result.content, result.attempts) == (b"only one", 1)
            count += 1
            answered.put_nowait(count)
        assert count == 10

    loop.complete(main)
    assert server.connections == 10
    assert server.targets() == [f"/{number}" for number in range(10)]


def test_more_origins_than_lanes(
    loop: Any, start: Callable[[Script], Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are served; those that fit stay connected."""
    monkeypatch.setattr(httpio.bulk.engine, "MAX_LANES", 3)
    servers = [start(answers) for _ in range(6)]

    async def main() -> None:
        items = [f"{server.url}/{number}" for number in range(20) for server in servers]
        found, trickle = 0, Trickle(items)
        async for result in afetch(trickle, timeout=15):
            assert result.ok
            assert len(loop.watched) <= 4  # of one that is served, and of three that stay
            found += 1
            trickle.taken.release()
        assert found == len(items)
        assert min(server.connections for server in servers) < 5
        assert all(result.ok for result in await collect(each(items)))

    loop.complete(main)
    for server in servers:
        server.settle()
        assert Counter(server.targets()) == Counter({f"/{number}": 2 for number in range(20)})


@pytest.mark.parametrize("lanes", [1, 2, 64])
def test_a_new_origin_while_another_does_not_answer(
    lanes: int, loop: Any, start: Callable[[Script], Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked at once, where there is a lane for it."""
    monkeypatch.setattr(httpio.bulk.engine, "MAX_LANES", lanes)
    slow, other = start(script := Held()), start(answers)

    async def main() -> None:
        async def items() -> AsyncIterator[str]:
            yield f"{slow.url}/held"
            await until(lambda: slow.seen)
            await turns()
            for number in range(5):
                yield f"{other.url}/{number}"
                if lanes > 1:
                    await until(lambda number=number: len(results) > number)  # type: ignore[misc]
            script.gate.set()

        results: list[Result] = []
        await collect(items(), results)
        assert all(result.ok for result in results)
        assert len(results) == 6
        if lanes > 1:
            assert results[-1].request == f"{slow.url}/held"

    try:
        loop.complete(main)
    finally:
        script.gate.set()
    assert (slow.connections, other.connections) == (1, 1)


def test_an_item_for_an_origin_that_is_busy(loop: Any, start: Callable[[Script], Scripted]) -> None:
    """It waits, and the waiting for what is out goes on."""
    server = start(script := Held())

    async def main() -> None:
        async def items() -> AsyncIterator[str]:
            yield f"{server.url}/held"
            await until(lambda: server.seen)
            for number in range(200):
                yield f"{server.url}/{number}"
                await asyncio.sleep(0)
            script.gate.set()

        results = await collect(items())
        assert [result.content for result in results] == [b"/held", *(b"/%d" % number for number in range(200))]

    try:
        loop.complete(main)
    finally:
        script.gate.set()
    assert server.connections == 1


@pytest.mark.parametrize("count", [0, 1, 100])
def test_items_that_end_late(count: int, loop: Any, start: Callable[[Script], Scripted]) -> None:
    server = start(answers)

    async def main() -> None:
        source = Source(count, stops_at=count)
        found: list[Result] = []
        task = asyncio.ensure_future(collect(urls(server, aiter(source)), found))
        await until(lambda: len(found) == count)
        await turns()
        told = dict(loop.called)
        await turns(50)
        assert not task.done()
        assert dict(loop.called) == told
        source.go_on.set()
        assert len(await task) == count

    loop.complete(main)
    server.settle(int(count > 0))


def test_bad_items_that_come_one_by_one(loop: Any, start: Callable[[Script], Scripted]) -> None:
    server = start(answers)

    async def main() -> None:
        items = ["nothing", f"{server.url}/1", 5, None, f"{server.url}/2", "ftp://h/"]
        results = await Trickle(items).results()
        assert [result.ok for result in results] == [False, True, False, False, True, False]
        assert all(isinstance(result.error, InvalidURL | TypeError) for result in results if not result.ok)

    loop.complete(main)
    assert server.connections == 1


def test_an_origin_that_refuses_one_by_one(loop: Any, start: Callable[[Script], Scripted]) -> None:
    server, rude = start(answers), start(Peer.reset)

    async def main() -> None:
        items = [url for n in range(10) for url in (f"{server.url}/{n}", f"{rude.url}/{n}", f"http://127.0.0.1:1/{n}")]
        for number, result in enumerate(await Trickle(items).results()):
            kind = (type(None), ConnectionClosed, ConnectionRefusedError)[number % 3]
            assert isinstance(result.error, kind)

    loop.complete(main)
    assert server.connections == 1


# -- at the pace of whoever takes the results --


@pytest.mark.parametrize("way", ["iterator", "async"])
def test_a_slow_caller_slows_the_transfer(
    way: str, loop: Any, start: Callable[[Script], Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(httpio.bulk.engine, "LOOK_AHEAD", 300)
    sent_ahead = 4 * MAX_DEPTH
    drawn_ahead = sent_ahead + 300 + 64 + FED_AHEAD
    server = start(answers)
    drawn = 0

    def targets() -> Iterator[str]:
        nonlocal drawn
        for number in range(20_000):
            drawn += 1
            yield f"{server.url}/{number}"

    async def main() -> None:
        async with contextlib.aclosing(
            afetch(targets() if way == "iterator" else each(targets()), timeout=15)
        ) as found:
            assert drawn == 0
            taken = 0
            async for _ in found:
                taken += 1
                assert drawn - taken <= drawn_ahead
                if taken in (1, 700):
                    await turns(200)
                    before = len(server.seen), drawn
                    await asyncio.sleep(0.02)
                    assert drawn == before[1]
                    assert len(server.seen) <= taken + sent_ahead
                if taken == 1500:
                    break

    loop.complete(main)
    server.settle(1)


@pytest.mark.parametrize("way", ["iterator", "async"])
def test_others_have_turns_beside_fast_servers(
    way: str, loop: Any, start: Callable[[Script], Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(httpio.bulk.asynchronous, "ROUNDS", 1)
    server = start(sizes)
    rounds = 0
    advance = Engine.advance

    def counting(engine: Engine) -> bool:
        nonlocal rounds
        rounds += 1
        return advance(engine)

    monkeypatch.setattr(Engine, "advance", counting)

    async def main() -> None:
        items = [f"{server.url}/{number % 9}" for number in range(4000)]
        always_here(monkeypatch)
        with turns_of_others() as count:
            results = await collect(each(items) if way == "async" else items)
        assert len(results) == 4000
        assert count["turns"] >= rounds // 2 > 2

    loop.complete(main)


def test_rounds_without_a_wait(loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items that need no connection are no reason to keep the loop either."""
    monkeypatch.setattr(httpio.bulk.engine, "DRAWN_AT_ONCE", 1)

    async def main() -> None:
        with turns_of_others() as count:
            results = await collect(itertools.repeat("nothing", 1600))
        assert len(results) == 1600
        assert count["turns"] >= 1600 // httpio.bulk.asynchronous.ROUNDS - 2

    loop.complete(main)


# -- leaving early --


@pytest.mark.parametrize("how", ["aclosing", "break", "error", "cancel"])
@pytest.mark.parametrize("way", ["iterator", "async", "waiting"])
def test_left_early(way: str, how: str, loop: Any, start: Callable[[Script], Scripted]) -> None:
    """The connections are closed, and nobody draws from the items any more."""
    servers = [start(answers) for _ in range(3)]

    async def main() -> None:
        before = asyncio.all_tasks()
        source = Source(3000, stops_at=30 if way == "waiting" else -1)

        async def items() -> AsyncIterator[str]:
            numbers = itertools.count()
            async for target in source:
                yield servers[next(numbers) % 3].url + target

        listed = (f"{servers[number % 3].url}/{number}" for number in range(3000))
        results = [afetch(listed if way == "iterator" else items(), timeout=15)]
        taken: list[Result] = []

        async def take(count: int) -> None:
            async for result in results[0]:
                taken.append(result)
                if len(taken) == count:
                    if how == "error":
                        raise KeyError
                    break

        if how == "aclosing":
            async with contextlib.aclosing(results[0]):
                await take(10)
            assert loop.watched == set()
        elif how == "cancel":
            task = asyncio.ensure_future(take(-1))
            await until(lambda: len(taken) >= 10)
            task.cancel()
            await asyncio.wait([task])
        else:
            with contextlib.suppress(KeyError):
                await take(10)
        results.clear()
        gc.collect()
        await until(lambda: asyncio.all_tasks() == before and not loop.watched)
        drawn = source.drawn
        source.go_on.set()
        await turns(50)
        assert source.drawn == drawn
        assert asyncio.all_tasks() == before

    loop.complete(main)
    for server in servers:
        server.settle(1)


def test_never_begun(loop: Any, start: Callable[[Script], Scripted]) -> None:
    server = start(answers)

    async def main() -> None:
        source = Source(3)
        for _ in range(2):
            results = afetch(urls(server, aiter(source)))
            await results.aclose()
        del results
        assert source.ended is None

    loop.complete(main)
    assert server.connections == 0


def test_two_at_the_same_time(loop: Any, start: Callable[[Script], Scripted]) -> None:
    """They share nothing; each has its own connection."""
    server = start(answers)

    async def main() -> None:
        items = [f"{server.url}/{number}" for number in range(300)]
        for results in await asyncio.gather(collect(items), collect(each(items)), collect(iter(items))):
            assert [result.request for result in results] == items
            assert all(result.ok for result in results)

    loop.complete(main)
    assert server.connections == 3
