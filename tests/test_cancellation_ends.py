"""T-50 where a pipeline, a bulk transfer or an event loop is left in the midst of things: nothing stays behind, and the
connection goes on in step or starts anew."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from itertools import product
from typing import Any

import pytest

from awkward import Habits
from cancelling import LOOPS, assert_bare, descriptors, loop_of
from conftest import Contexts
from fifty import TARGETS, Objects, body_of
from httpio import AsyncHTTPConnection, ConnectionClosed, afetch
from servers.scripted import Peer, Scripted

pytestmark = pytest.mark.filterwarnings("error")


async def answers_own(conn: AsyncHTTPConnection, target: str) -> None:
    """A request that is sent now has its own answer, and nothing else comes."""
    await conn.send_request("GET", target)
    assert [request.path for request in conn.outstanding] == [target]
    response = await conn.read_response()
    assert (response.path, await conn.readall()) == (target, body_of(target))
    assert conn.outstanding == ()


async def slowly() -> AsyncIterator[str]:
    for target in TARGETS:
        await asyncio.sleep(0)
        yield target


# -- a pipeline that is left --


async def by_break(conn: AsyncHTTPConnection, requests: Any, limit: int, number: int) -> None:
    left = 0
    async for response in conn.pipeline(requests, 4, body_limit=limit):
        left += 1
        if response.body is None:
            assert body_of(response.path).startswith(await conn.read(7))
        if left == number:
            break


async def by_aclose(conn: AsyncHTTPConnection, requests: Any, limit: int, number: int) -> None:
    responses = conn.pipeline(requests, 4, body_limit=limit)
    async with aclosing(responses):
        for _ in range(number):
            await responses.__anext__()
    with pytest.raises(StopAsyncIteration):
        await responses.__anext__()


async def by_close(conn: AsyncHTTPConnection, requests: Any, limit: int, number: int) -> None:
    """It is kept, and told of the end when the connection is in use again."""
    responses = conn.pipeline(requests, 4, body_limit=limit)
    for _ in range(number):
        await responses.__anext__()
    conn.close()
    await conn.send_request("GET", "/60")
    with pytest.raises(ConnectionClosed):
        await responses.__anext__()
    assert ((await conn.read_response()).path, await conn.readall()) == ("/60", body_of("/60"))
    await answers_own(conn, "/61")
    with pytest.raises(StopAsyncIteration):
        await responses.__anext__()


async def by_error(conn: AsyncHTTPConnection, requests: Any, limit: int, number: int) -> None:
    with suppress(KeyError):
        async for response in conn.pipeline(requests, 4, body_limit=limit):
            if response.path == f"/{number}":
                raise KeyError(number)


Way = Callable[[AsyncHTTPConnection, Any, int, int], Awaitable[None]]


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("way", [by_break, by_aclose, by_close, by_error])
def test_t_50_a_pipeline_that_is_left(way: Way, kind: str, contexts: Contexts) -> None:
    with loop_of(kind, Habits()) as loop:
        gc.collect()  # what earlier tests have left
        before = descriptors()

        async def leave(port: int, requests: Any, limit: int, number: int) -> None:
            async with AsyncHTTPConnection("127.0.0.1", port, contexts[1]) as conn:
                await way(conn, requests, limit, number)
                await answers_own(conn, "/70")
                assert [response.path async for response in conn.pipeline(["/71", "/72"])] == ["/71", "/72"]
            await turns()  # the task that draws the requests ends by itself

        for number, limit, make in product((1, 2, 3, 7, 12), (100, 1 << 20), (lambda: TARGETS, slowly)):
            objects = Objects()
            with Scripted(objects, contexts[0]) as server:
                loop.run_until_complete(asyncio.wait_for(leave(server.port, make(), limit, number), 10))
                assert_bare(loop)
                server.settle()
            assert len(set(objects.targets)) == len(objects.targets)
            assert descriptors() == before


def looked_up_after(found: threading.Event) -> Callable[..., list[Any]]:
    """A `socket.getaddrinfo` to which every name is 127.0.0.1's, once that is set."""

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        assert found.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]

    return look_up


class Held:
    """A script whose first connection answers no more than *count* requests before `gate` is set."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.gate = threading.Event()

    def __call__(self, peer: Peer) -> None:
        left = self._count if peer.number == 0 else 1000
        while (seen := peer.request()) is not None:
            if left == 0:
                assert self.gate.wait(20)
            left -= 1
            peer.answer(body_of(seen.target))


async def turns(count: int = 20) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("waits_for", ["answer", "body", "requests"])
def test_t_50_another_task_closes_the_connection(waits_for: str, kind: str, contexts: Contexts) -> None:
    """It is used again at once: what waited ends with ConnectionClosed, and touches nothing of what comes."""

    async def few(more: asyncio.Event) -> AsyncIterator[str]:
        for target in TARGETS[:3]:
            yield target
        await more.wait()
        yield "/4"

    async def take(conn: AsyncHTTPConnection, found: list[str], more: asyncio.Event) -> None:
        requests = few(more) if waits_for == "requests" else TARGETS
        async for response in conn.pipeline(requests, 4, body_limit=100 if waits_for == "body" else 1 << 20):
            body = response.body if response.body is not None else await conn.readall()
            assert body == body_of(response.path)
            found.append(response.path)

    async def main(port: int, held: Held) -> None:
        found: list[str] = []
        conn = AsyncHTTPConnection("127.0.0.1", port, contexts[1])
        more = asyncio.Event()
        taking = asyncio.create_task(take(conn, found, more))
        while len(found) < 3:
            await asyncio.sleep(0)
        await turns()
        conn.close()
        await answers_own(conn, "/60")
        more.set()
        with pytest.raises(ConnectionClosed):
            await taking
        await answers_own(conn, "/61")
        held.gate.set()
        assert [response.path async for response in conn.pipeline(["/71", "/72"])] == ["/71", "/72"]
        conn.close()

    held = Held(3)
    with loop_of(kind, Habits()) as loop:
        gc.collect()  # what earlier tests have left
        before = descriptors()
        with Scripted(held, contexts[0]) as server:
            loop.run_until_complete(asyncio.wait_for(main(server.port, held), 10))
            assert_bare(loop)
        assert descriptors() == before


@pytest.mark.parametrize("kind", LOOPS)
def test_t_50_closed_while_another_task_connects(
    kind: str, contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That ends at once, and the connection connects anew when it is asked to."""
    found = threading.Event()

    async def main(port: int) -> None:
        conn = AsyncHTTPConnection("localhost", port, contexts[1])
        connecting = asyncio.create_task(conn.connect())
        await turns()
        conn.close()
        with pytest.raises(ConnectionClosed):
            await connecting
        assert conn.peername is None
        found.set()
        for number in range(1, 7):
            connecting = asyncio.create_task(conn.connect())
            await turns(number)
            conn.close()
            with suppress(ConnectionClosed):
                await connecting
            assert conn.peername is None
            await answers_own(conn, "/1")
            conn.close()

    monkeypatch.setattr(socket, "getaddrinfo", looked_up_after(found))
    with loop_of(kind, Habits()) as loop:
        gc.collect()  # what earlier tests have left
        before = descriptors()
        with Scripted(Objects(), contexts[0]) as server:
            loop.run_until_complete(asyncio.wait_for(main(server.port), 10))
            assert_bare(loop)
            server.settle()
        assert descriptors() == before


# -- a bulk transfer that is left --


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("way", ["break", "aclosing", "dropped", "closed loop"])
def test_t_50_afetch_that_is_left(way: str, kind: str, contexts: Contexts) -> None:
    async def items(port: int) -> AsyncIterator[str]:
        async for target in slowly():
            yield f"{'https' if contexts[0] else 'http'}://127.0.0.1:{port}{target}"

    async def main(port: int, number: int) -> None:
        tasks = asyncio.all_tasks()
        results = afetch(items(port), ssl_context=contexts[1])
        if way == "aclosing":
            async with aclosing(results):
                for _ in range(number):
                    await results.__anext__()
            assert asyncio.all_tasks() == tasks
            return
        left = number
        async for result in results:
            assert result.content is not None
            left -= 1
            if left == 0:
                break
        del results
        if way == "dropped":
            gc.collect()
            await turns()
            assert asyncio.all_tasks() == tasks

    for number in (1, 2, 7):
        gc.collect()  # what earlier tests have left
        before = descriptors()
        with Scripted(Objects(), contexts[0]) as server, loop_of(kind, Habits()) as loop:
            loop.run_until_complete(asyncio.wait_for(main(server.port, number), 10))
            if way != "closed loop":
                loop.run_until_complete(loop.shutdown_asyncgens())
                assert_bare(loop)
                server.settle()
        assert descriptors() == before


# -- a loop that ends --


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("what", ["read_response", "readall", "send_request", "connect", "pipeline"])
def test_t_50_a_loop_is_closed_with_a_call_under_way(
    what: str, kind: str, contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection can be closed, and used in another loop."""
    held = Held(0)

    def script(peer: Peer) -> None:
        if peer.number == 0 and what == "readall":
            assert peer.request() is not None
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\npart")
        if peer.number or what != "send_request":
            held(peer)
        else:
            assert held.gate.wait(20)

    async def wait(conn: AsyncHTTPConnection) -> None:
        if what == "pipeline":
            await conn.pipeline(TARGETS).__anext__()
        elif what == "send_request":
            await conn.send_request("PUT", "/1", body=bytes(24 << 20))
        elif what == "connect":
            await conn.connect()
        else:
            await conn.send_request("GET", "/1")
            await conn.read_response()
            await conn.readall()

    async def main(conn: AsyncHTTPConnection) -> Any:
        task = asyncio.create_task(wait(conn))
        await turns(1 if what == "connect" else 50)
        assert not task.done()
        return task

    async def again(conn: AsyncHTTPConnection) -> None:
        conn.close()
        held.gate.set()
        await answers_own(conn, "/60")

    gc.collect()  # what earlier tests have left
    before = descriptors()
    with Scripted(script, contexts[0]) as server:
        monkeypatch.setattr(socket, "getaddrinfo", looked_up_after(held.gate))
        conn = AsyncHTTPConnection("localhost" if what == "connect" else "127.0.0.1", server.port, contexts[1])
        loop = asyncio.new_event_loop()
        with loop_of(kind, Habits()) as other:
            task = loop.run_until_complete(main(conn))
            task._log_destroy_pending = False
            loop.close()
            other.run_until_complete(asyncio.wait_for(again(conn), 10))
            conn.close()
        del task
        gc.collect()
    assert descriptors() == before


def test_t_50_one_connection_in_several_runs(contexts: Contexts) -> None:
    """`asyncio.run` cancels what is under way when it ends; the next one goes on where that was."""
    held = Held(3)

    async def first(conn: AsyncHTTPConnection) -> None:
        for target in TARGETS[:5]:
            await conn.send_request("GET", target)
        reading = asyncio.create_task(read(conn, TARGETS[:5]))
        while len(conn.outstanding) > 2:
            await asyncio.sleep(0)
        await turns()
        assert not reading.done()

    async def read(conn: AsyncHTTPConnection, targets: list[str]) -> None:
        for target in targets:
            assert (await conn.read_response()).path == target
            assert await conn.readall() == body_of(target)

    async def second(conn: AsyncHTTPConnection) -> None:
        assert [request.path for request in conn.outstanding] == TARGETS[3:5]
        held.gate.set()
        await read(conn, TARGETS[3:5])

    gc.collect()  # what earlier tests have left
    before = descriptors()
    with Scripted(held, contexts[0]) as server:
        conn = AsyncHTTPConnection("127.0.0.1", server.port, contexts[1])
        asyncio.run(first(conn))
        asyncio.run(second(conn))
        asyncio.run(answers_own(conn, "/60"))
        conn.close()
        assert server.connections == 1
    assert descriptors() == before
