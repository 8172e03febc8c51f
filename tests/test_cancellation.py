"""TM-14 and T-50 in an event loop: a run of fifty requests that is cancelled at any of its awaits leaves no answer to
the wrong request, and nothing behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest

from cancelling import LOOPS, Cancel, assert_bare, descriptors, loop_of
from conftest import Contexts
from fifty import (
    COUNT,
    READERS,
    TARGETS,
    Objects,
    Run,
    Talk,
    assert_sent_once,
    awkwardly,
    body_of,
    by_hand,
    fed,
    in_turn,
    pipelined,
)
from httpio import AsyncHTTPConnection, ConnectionClosed, StateError, afetch
from servers.scripted import Scripted

pytestmark = pytest.mark.filterwarnings("error")

WHEN = ("waiting", "woken", "timed")

# The others are heavy.
LIGHT = {("plain", "asyncio", "waiting"), ("tls", "uvloop", "woken")}


def combinations() -> list[Any]:
    """Of the loop, TLS or not, and when a call is cancelled."""
    found = []
    for way, kind, when in product(("plain", "tls"), LOOPS, WHEN):
        if (kind, when) != ("uvloop", "timed"):
            marks = [] if (way, kind, when) in LIGHT else [pytest.mark.heavy]
            found.append(pytest.param(way, kind, when, id=f"{way}-{kind}-{when}", marks=marks))
    return found


each_way = pytest.mark.parametrize(("contexts", "kind", "when"), combinations(), indirect=["contexts"])


@each_way
@pytest.mark.parametrize("talk", [by_hand, in_turn, pipelined, fed])
def test_tm_14_each_await(
    talk: Talk, kind: str, when: str, contexts: Contexts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was under way goes on afterwards as if nothing had been, or not at all."""
    habits = awkwardly(monkeypatch, contexts, received=4000, refusals=2)  # each request waits, and most answers do
    broken: set[int] = set()
    with loop_of(kind, habits) as loop, loop_of(kind, habits, False) as another:
        gc.collect()  # what earlier tests have left
        before = descriptors()
        # Its kinds of bodies come again: every third await will do, but in the heavy test.
        for at in count(1, 3 if talk is in_turn and ("tls" if contexts[0] else "plain", kind, when) in LIGHT else 1):
            loop.set_debug(at % 10 == 1)
            objects, cancel = Objects(), Cancel(at, when)
            with Scripted(objects, contexts[0]) as server:
                conn = AsyncHTTPConnection("some.test" if not contexts[0] else "localhost", server.port, contexts[1])
                with Run(conn, cancel, tmp_path) as run:
                    with suppress(asyncio.CancelledError, ConnectionClosed):
                        loop.run_until_complete(talk(run))
                    if not cancel.where:
                        break
                    last = len(run.begun) - 1
                    goes_on = (loop, another)[at % 2]
                    alive = goes_on.run_until_complete(asyncio.wait_for(run.finish(), 5))
                assert_bare(loop)
                assert_bare(another)
                assert habits.open_sockets() == 0
                server.settle()
            assert_sent_once(objects.targets, run)
            if talk is by_hand and cancel.where != "readall":
                assert alive, f"{cancel.where} has broken the connection"
            if talk is in_turn and cancel.where == "send_request" and not alive:
                broken.add(last % 7)
            assert descriptors() == before
            habits.sockets.clear()
        assert run.answered == TARGETS
    assert at > COUNT
    assert talk is not in_turn or {1, 2, 3} <= broken  # what iterables and files had left


@each_way
def test_tm_14_each_await_of_afetch(kind: str, when: str, contexts: Contexts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two origins."""
    scheme = "https" if contexts[0] else "http"

    async def items(server: Scripted) -> AsyncIterator[str]:
        for number, target in enumerate(TARGETS):
            await asyncio.sleep(0)
            yield f"{scheme}://{'127.0.0.1' if number % 2 else 'localhost'}:{server.port}{target}"

    async def fetch_all(server: Scripted, cancel: Cancel, found: list[str]) -> None:
        results = afetch(items(server), ssl_context=contexts[1])
        try:
            while True:
                result = await cancel(results.__anext__())
                found.append("/" + result.request.rpartition("/")[2])
                assert result.content == body_of(found[-1])
        except StopAsyncIteration:
            assert not cancel.where or when == "timed"  # it may have ended just then
        except asyncio.CancelledError:
            with pytest.raises(StopAsyncIteration):
                await results.__anext__()

    habits = awkwardly(monkeypatch, contexts, received=4000, refusals=2)  # each request waits, and most answers do
    with loop_of(kind, habits) as loop:
        gc.collect()  # what earlier tests have left
        before = descriptors()
        for at in count(1):
            loop.set_debug(at % 10 == 1)
            objects, cancel = Objects(), Cancel(at, when)
            found: list[str] = []
            with Scripted(objects, contexts[0]) as server:
                loop.run_until_complete(fetch_all(server, cancel, found))
                assert_bare(loop)
                assert habits.open_sockets() == 0
                server.settle()
            assert len(set(objects.targets)) == len(objects.targets)
            assert set(found) <= set(objects.targets)
            assert descriptors() == before
            habits.sockets.clear()
            if not cancel.where:
                break
        assert sorted(found) == sorted(TARGETS)
    assert at > 20


# -- two tasks --


@pytest.mark.parametrize(
    ("contexts", "kind"), [("plain", "asyncio"), ("tls", "uvloop")], indirect=["contexts"], ids=["plain", "tls"]
)
def test_tm_14_one_sends_and_another_reads(
    kind: str, contexts: Contexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either is cancelled at each of its awaits: the other goes on as far as there is something to do."""
    habits = awkwardly(monkeypatch, contexts, received=4000, refusals=2)

    async def send(run: Run) -> None:
        for target in TARGETS:
            await run.get(target)

    async def read(run: Run, sender: asyncio.Task[None]) -> None:
        while not sender.done() or run.conn.response_pending():
            try:
                await run.read(READERS[1 + len(run.answered) % 3])
            except StateError:  # no request is outstanding
                await asyncio.sleep(0)

    async def both(run: Run) -> None:
        sender = asyncio.create_task(send(run))
        reader = asyncio.create_task(read(run, sender))
        done = await asyncio.gather(sender, reader, return_exceptions=True)
        assert {type(result) for result in done} <= {type(None), asyncio.CancelledError, ConnectionClosed}

    cancelled = set()
    with loop_of(kind, habits) as loop:
        gc.collect()  # what earlier tests have left
        before = descriptors()
        for at in count(1):
            objects, cancel = Objects(), Cancel(at, "woken" if at % 2 else "waiting")
            with (
                Scripted(objects, contexts[0]) as server,
                Run(AsyncHTTPConnection("localhost", server.port, contexts[1]), cancel, tmp_path) as run,
            ):
                run.ahead = COUNT
                loop.run_until_complete(asyncio.wait_for(both(run), 5))
                if not cancel.where:
                    assert run.answered == TARGETS
                    run.conn.close()
                    break
                if cancel.where != "send_request":
                    assert len(run.begun) == COUNT
                cancelled.add(cancel.where)
                alive = loop.run_until_complete(asyncio.wait_for(run.finish(), 5))
                assert alive or cancel.where == "send_request"  # it may have been connecting
                assert_bare(loop)
                server.settle()
            assert_sent_once(objects.targets, run)
            assert descriptors() == before
    assert at > COUNT
    assert {"send_request", "read_response"} <= cancelled
