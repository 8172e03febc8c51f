"""TM-14 and T-50 in asyncio's loop: the user's Ctrl-C, in each system call of a run of fifty requests and at each line
of a short one."""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from awkward import Habits
from cancelling import descriptors, end_tasks, loop_of
from conftest import Contexts
from fifty import READERS, Objects, Run, Talk, assert_sent_once, awkwardly, body_of, by_hand, in_turn, pipelined
from httpio import AsyncHTTPConnection, ConnectionClosed, StateError
from servers.scripted import Scripted
from test_timing_calls import Interrupt, LineByLine

REFUSED = (ConnectionClosed, StateError)


async def plainly(call: Any) -> Any:
    return await call


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("sockets", ["quick", pytest.param("awkward", marks=pytest.mark.heavy)])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("talk", [by_hand, pipelined, pytest.param(in_turn, marks=pytest.mark.heavy)])
def test_tm_14_each_system_call(
    talk: Talk, when: str, sockets: str, contexts: Contexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the loop, too. What was under way goes on afterwards, in the same loop or another, or not at all."""
    options = {"received": 4000, "refusals": 1} if sockets == "awkward" else {}
    habits = awkwardly(monkeypatch, contexts, **options)
    interrupted = set()
    gc.collect()  # what earlier tests have left
    start = descriptors()
    for at in count(1):
        objects = Objects()
        with (
            Scripted(objects, contexts[0]) as server,
            Run(AsyncHTTPConnection("localhost", server.port, contexts[1]), plainly, tmp_path) as run,
            loop_of("asyncio", habits, False) as loop,
        ):
            interrupt = Interrupt(at, when, habits)
            with suppress(KeyboardInterrupt, ConnectionClosed):
                loop.run_until_complete(talk(run))
            interrupt.armed = False
            end_tasks(loop)
            if not interrupt.where:
                run.conn.close()
                break
            if sockets == "quick" or at % 2:
                loop.run_until_complete(asyncio.wait_for(run.finish(REFUSED), 5))
            else:
                with loop_of("asyncio", habits, False) as another:
                    another.run_until_complete(asyncio.wait_for(run.finish(REFUSED), 5))
            assert habits.open_sockets() == 0, interrupt.where
            server.settle()
        assert_sent_once(objects.targets, run)
        habits.sockets.clear()
        interrupted.add(interrupt.where)
        if descriptors() != start:
            gc.collect()  # the traceback may hold what waits for the peer's end, an epoll of its own
        assert descriptors() == start
    wanted = {"recv_into", "send", "select"}
    assert wanted | {"do_handshake" if contexts[0] else "connect"} <= interrupted


async def few_by_hand(run: Run) -> None:
    for number in range(4):
        await run.get(f"/{number}")
    for number in range(4):
        await run.read(READERS[number])


async def few_pipelined(run: Run) -> None:
    run.begun, run.ahead = [f"/{number}" for number in range(5)], 5
    async for response in run.conn.pipeline(run.begun, 3):
        run.is_answered(response.path, response.body)


async def assert_in_step(run: Run) -> None:
    """What can still be read, and what can still be sent, is answered by its own. A new connection works."""
    conn = run.conn
    with suppress(*REFUSED):
        await conn.discard()  # of a response that was being read, of which some may have been taken
        await conn.send_request("GET", "/99")
        expected = run.outstanding
        answered = []
        while conn.response_pending():
            answered.append((await conn.read_response()).path)
            assert await conn.readall() == body_of(answered[-1])
        assert answered[-len(expected) :] == expected
    conn.close()
    await conn.connect()
    await conn.send_request("GET", "/98")
    assert ((await conn.read_response()).path, await conn.readall()) == ("/98", body_of("/98"))
    conn.close()


# CPython 3.11 itself fails ("'traceback' object is not callable", or worse) now and then where a trace function raises
# below a coroutine; 3.10, 3.12 and 3.13 do not.
@pytest.mark.skipif(sys.version_info[:2] == (3, 11), reason="CPython 3.11 fails where a trace function raises")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.heavy)])
@pytest.mark.parametrize("talk", [few_by_hand, few_pipelined])
def test_tm_14_each_line(talk: Talk, step: int, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # between any two lines a socket may have no owner yet
        for at in count(1, step):
            objects = Objects()
            with (
                Scripted(objects) as server,
                Run(AsyncHTTPConnection("127.0.0.1", server.port), plainly, tmp_path) as run,
                loop_of("asyncio", Habits(), False) as loop,
            ):
                interrupt = LineByLine(at)
                tracer = sys.gettrace()
                sys.settrace(interrupt.watch)
                try:
                    loop.run_until_complete(talk(run))
                except KeyboardInterrupt:
                    pass
                finally:
                    sys.settrace(tracer)
                end_tasks(loop)
                try:
                    loop.run_until_complete(asyncio.wait_for(assert_in_step(run), 5))
                except Exception as error:
                    raise AssertionError(f"out of step after an interrupt at {interrupt.where}") from error
            assert len(set(objects.targets)) == len(objects.targets)
            if not interrupt.where:
                break
        gc.collect()
    assert at > 500
