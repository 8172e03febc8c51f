"""AsyncHTTPConnection.pipeline: requests from iterables of both kinds, leaving early, and being closed inside."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from httpio import AsyncHTTPConnection, ConnectionClosed, HTTPConnection, HTTPResponse, InvalidURL, Request, StateError
from httpio.aio import FED_AHEAD
from loops import KINDS, Held, Serve, ask, ends_with, noting, serving_tasks, turns, until
from servers.scripted import Peer, Scripted, answers
from sources import Source, each, paths, targets

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(params=KINDS)
def loop(request: pytest.FixtureRequest) -> Iterator[Any]:
    with noting(request.param) as made:
        yield made


@pytest.fixture
def served(loop: Any) -> Iterator[Serve]:
    with serving_tasks() as serve:
        yield serve


# -- requests --

WAYS: dict[str, Callable[[list[Any]], Any]] = {
    "list": lambda items: items,
    "generator": lambda items: (item for item in items),
    "async": each,
}


@pytest.mark.parametrize("depth", [None, 1, 7])
@pytest.mark.parametrize("way", WAYS)
def test_in_order(way: str, depth: int | None, loop: Any, served: Serve) -> None:
    server, conn = served()
    count = 3 * FED_AHEAD

    async def main() -> None:
        for part in (count, 1, 0, 2):
            assert await paths(conn.pipeline(WAYS[way](targets(part)), depth)) == targets(part)
        await ask(conn, "/after")

    loop.complete(main)
    assert server.targets() == [*targets(count), *targets(1), *targets(2), "/after"]
    assert server.connections == 1


@pytest.mark.parametrize("way", WAYS)
def test_requests_and_large_bodies(way: str, loop: Any, served: Serve) -> None:
    """A body over the limit is read inside the loop, in whole, in part or not at all."""

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            peer.answer(seen.body or seen.target.encode() * 100_000)

    server, conn = served(script)
    requests = [Request("PUT", "/0", body=b"x" * 100, tag=5), *targets(30)[1:]]

    async def main() -> None:
        seen = []
        async for response in conn.pipeline(WAYS[way](requests), body_limit=1000):
            number = len(seen)
            seen.append(response.path)
            if number == 0:
                assert response.request is requests[0]
                assert response.body == b"x" * 100
                continue
            assert response.body is None
            whole = response.path.encode() * 100_000
            if number % 3 == 1:
                assert await conn.readall() == whole
            elif number % 3 == 2:
                assert await conn.read(10) == whole[:10]
        assert seen == targets(30)
        assert not conn.response_pending()
        await conn.send_request("PUT", "/after", body=b"x")
        await conn.read_response()
        assert await conn.readall() == b"x"

    loop.complete(main)
    assert server.targets().count("/0") == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("bad", "error"), [(5, TypeError), ("no target", InvalidURL), (None, TypeError)])
def test_a_bad_item(bad: Any, error: type[Exception], way: str, loop: Any, served: Serve) -> None:
    """It is raised when all before it has been answered; none behind it is sent."""
    server, conn = served()

    async def main() -> None:
        found: list[str] = []
        await ends_with(paths(conn.pipeline(WAYS[way]([*targets(10), bad, "/never"])), found), error)
        assert found == targets(10)
        await ask(conn, "/after")

    loop.complete(main)
    assert server.targets() == [*targets(10), "/after"]
    assert server.connections == 1


@pytest.mark.parametrize("count", [0, 1, 20, 3 * FED_AHEAD])
@pytest.mark.parametrize("way", ["generator", "async"])
def test_an_iterable_that_raises(way: str, count: int, loop: Any, served: Serve) -> None:
    server, conn = served()

    def raising() -> Iterator[str]:
        yield from targets(count)
        raise KeyError("mine")

    async def main() -> None:
        found: list[str] = []
        source = raising() if way == "generator" else Source(count, error=KeyError("mine"))
        await ends_with(paths(conn.pipeline(source), found), KeyError, "mine")
        assert found == targets(count)
        await ask(conn, "/after")

    loop.complete(main)
    assert server.connections == 1


@pytest.mark.parametrize("count", [0, 3])
def test_a_source_that_cancels_itself(count: int, loop: Any, served: Serve) -> None:
    """Its end is not the end of the requests."""
    _, conn = served()

    async def main() -> None:
        found: list[str] = []
        source = Source(count, error=asyncio.CancelledError())
        await ends_with(paths(conn.pipeline(source), found), asyncio.CancelledError)
        assert found == targets(count)
        await ask(conn, "/after")

    loop.complete(main)


# -- leaving early --


async def leave_by_break(responses: AsyncIterator[HTTPResponse], last: str) -> None:
    async for response in responses:
        if response.path == last:
            break


async def leave_by_error(responses: AsyncIterator[HTTPResponse], last: str) -> None:
    with contextlib.suppress(KeyError):
        async for response in responses:
            if response.path == last:
                raise KeyError


LEAVING = {"break": leave_by_break, "error": leave_by_error}


@pytest.mark.parametrize("how", ["break", "error", "aclose"])
@pytest.mark.parametrize("way", ["list", "async", "waiting"])
@pytest.mark.parametrize("outstanding", [False, True])
def test_left_early_and_dropped(outstanding: bool, way: str, how: str, loop: Any, served: Serve) -> None:
    """With nothing outstanding the connection goes on, else it is closed. Nobody draws from the source any more."""
    server, conn = served()
    last = "/3" if outstanding else "/9"

    async def main() -> None:
        before = asyncio.all_tasks()
        source = Source(11 if way == "waiting" else 10, stops_at=10)
        items: Any = targets(10) if way == "list" else source
        responses = [conn.pipeline(items, 8)]
        if how == "aclose":
            iterator = responses[0]
            await leave_by_break(iterator, last)
            await iterator.aclose()  # type: ignore[attr-defined]
            await iterator.aclose()  # type: ignore[attr-defined]
            await ends_with(anext(iterator), StopAsyncIteration)
            del iterator
        else:
            await LEAVING[how](responses.pop(), last)
        assert (conn.peername is None) == outstanding
        await ask(conn, "/after")
        await turns()
        assert asyncio.all_tasks() == before
        if way != "list":
            assert not source.ended
            drawn = source.drawn
            source.go_on.set()
            await turns(20)
            assert source.drawn == drawn
            gc.collect()

    loop.complete(main)
    assert server.connections == 1 + outstanding


def test_never_begun(loop: Any, served: Serve) -> None:
    server, conn = served()

    async def main() -> None:
        source = Source(10)
        dropped = [conn.pipeline(source)]
        dropped.clear()
        await turns()
        assert source.ended is None
        responses: Any = conn.pipeline(source)
        await responses.aclose()
        await ends_with(anext(responses), StopAsyncIteration)
        assert source.ended is None
        await ask(conn, "/after")

    loop.complete(main)
    assert server.targets() == ["/after"]


@pytest.mark.parametrize("what", ["outstanding", "source"])
def test_cancelled(what: str, loop: Any, served: Serve) -> None:
    """The task that is in the pipeline: the source is let go with it."""
    server, conn = served(script := Held())

    async def main() -> None:
        before = asyncio.all_tasks()
        source = Source(10, stops_at=1)

        async def requests() -> AsyncIterator[str]:
            async for target in source:
                yield target if what == "source" else "/held"

        found: list[str] = []
        task = asyncio.ensure_future(paths(conn.pipeline(requests()), found))
        await until(lambda: found if what == "source" else server.seen)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await turns()
        assert not source.ended
        assert asyncio.all_tasks() == before
        script.gate.set()
        await ask(conn, "/after")

    loop.complete(main)
    assert server.connections == (1 if what == "source" else 2)


# -- others beside it --


def test_other_calls_inside(loop: Any, served: Serve) -> None:
    server, conn = served()

    async def main() -> None:
        async for _ in conn.pipeline(targets(3), 3):
            for call in (conn.send_request("GET", "/x"), conn.read_response(), conn.connect()):
                await ends_with(call, StateError)
            with pytest.raises(StateError):
                conn.pipeline(["/x"])
        await conn.send_request("GET", "/4")
        with pytest.raises(StateError):
            conn.pipeline(["/x"])
        await conn.read_response()
        await conn.discard()
        late = conn.pipeline(["/x"])
        await conn.send_request("GET", "/5")
        await ends_with(anext(late), StateError)
        await conn.read_response()
        await conn.discard()

    loop.complete(main)
    assert "/x" not in server.targets()
    assert server.connections == 1


@pytest.mark.parametrize("count", [2, 3])
def test_two_tasks_in_one_pipeline(count: int, loop: Any, served: Serve) -> None:
    """All but one are refused, and that one gets every response."""
    _, conn = served()

    async def main() -> None:
        responses = conn.pipeline(targets(100))
        found = await asyncio.gather(*(paths(responses) for _ in range(count)), return_exceptions=True)
        assert [outcome for outcome in found if not isinstance(outcome, Exception)] == [targets(100)]
        for outcome in found:
            assert isinstance(outcome, (list, StateError, RuntimeError))
            assert "StopIteration" not in str(outcome)

    loop.complete(main)


async def new_request(conn: AsyncHTTPConnection) -> None:
    """Close, and send a request on a new connection."""
    conn.close()
    await conn.send_request("GET", "/new")


async def answer_of_new(conn: AsyncHTTPConnection) -> None:
    assert [request.path for request in conn.outstanding] == ["/new"]
    assert (await conn.read_response()).path == "/new"
    assert await conn.readall() == b"/new"
    await ask(conn, "/newer")


@pytest.mark.parametrize("way", ["list", "async"])
def test_a_new_connection_while_an_answer_is_awaited(way: str, loop: Any, served: Serve) -> None:
    server, conn = served(script := Held())

    async def main() -> None:
        found: list[str] = []
        task = asyncio.ensure_future(paths(conn.pipeline(WAYS[way](["/0", "/held", "/2"]), 1), found))
        await until(lambda: "/held" in server.targets())
        await new_request(conn)
        await asyncio.wait([task])
        assert isinstance(task.exception(), ConnectionClosed)
        assert found == ["/0"]
        await answer_of_new(conn)
        script.gate.set()

    try:
        loop.complete(main)
    finally:
        script.gate.set()
    assert server.connections == 2
    assert "/2" not in server.targets()


def test_a_new_connection_while_the_source_is_awaited(loop: Any, served: Serve) -> None:
    server, conn = served()

    async def main() -> None:
        source = Source(5, stops_at=1)
        found: list[str] = []
        task = asyncio.ensure_future(paths(conn.pipeline(source), found))
        await until(lambda: found)
        await turns()
        await new_request(conn)
        source.go_on.set()
        await asyncio.wait([task])
        assert isinstance(task.exception(), ConnectionClosed)
        assert found == ["/0"]
        await answer_of_new(conn)

    loop.complete(main)
    assert server.targets() == ["/0", "/new", "/newer"]
    assert server.connections == 2


@pytest.mark.parametrize("left", ["goes on", "break"])
@pytest.mark.parametrize("count", [2, 100])
def test_a_new_connection_inside_the_loop(count: int, left: str, loop: Any, served: Serve) -> None:
    server, conn = served()

    async def main() -> None:
        with contextlib.suppress(ConnectionClosed):
            async for _ in conn.pipeline(targets(count)):
                await new_request(conn)
                if left == "break":
                    break
        await answer_of_new(conn)

    loop.complete(main)
    assert server.connections == 2


@pytest.mark.parametrize("left", ["goes on", "break"])
def test_a_new_connection_inside_the_loop_of_the_blocking_face(left: str) -> None:
    with Scripted(answers) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        with contextlib.suppress(ConnectionClosed):
            for _ in conn.pipeline(targets(100)):
                conn.close()
                conn.send_request("GET", "/new")
                if left == "break":
                    break
        assert [request.path for request in conn.outstanding] == ["/new"]
        assert conn.read_response().path == "/new"
        assert conn.readall() == b"/new"
    assert server.connections == 2


def test_a_new_pipeline_in_place_of_one_that_was_closed(loop: Any, served: Serve) -> None:
    server, conn = served(script := Held())

    async def main() -> None:
        task = asyncio.ensure_future(paths(conn.pipeline(["/held", "/never"], 1)))
        await until(lambda: server.seen)
        conn.close()
        assert await paths(conn.pipeline(targets(20))) == targets(20)
        await asyncio.wait([task])
        assert isinstance(task.exception(), ConnectionClosed)
        await ask(conn, "/after")

    try:
        loop.complete(main)
    finally:
        script.gate.set()
    assert server.connections == 2
