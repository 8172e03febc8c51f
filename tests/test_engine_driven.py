"""The bulk engine, driven by hand: what it waits for, what it hands out, and that it goes on where it was left."""

from __future__ import annotations

import select
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

import httpio.bulk.engine
from httpio import Result
from httpio.bulk.engine import Engine, Settings, task_of
from httpio.waiting import POLLIN, PollNeeded, wait_any
from loops import Held
from servers.scripted import Peer, Script, Scripted, answers


@pytest.fixture
def start() -> Iterator[Callable[[Script], Scripted]]:
    with ExitStack() as stack:
        yield lambda script: stack.enter_context(Scripted(script))


@pytest.fixture
def engine_for() -> Iterator[Callable[[Iterable[Any]], Engine]]:
    """A function that makes an engine for items; it is closed at the end."""
    with ExitStack() as stack:
        yield lambda items: stack.enter_context(
            closing(Engine(map(task_of, items), None, Settings(None, None, 15.0, 15.0, 1 << 20, None, False, None)))
        )


def drive(engine: Engine, count: int) -> list[Result]:
    """So many results, with only the lanes resumed whose need is met; fewer at the end."""
    found: list[Result] = []
    while len(found) < count and engine.advance():
        found += engine.take_results()
        if needs := engine.needs():
            wait_any(needs)
            for lane in engine.active:
                lane.ready = lane.need is not None and lane.need.poll(0)
    return found


class Later:
    """An iterator that ends when it has no more for now."""

    def __init__(self) -> None:
        self.items: deque[str] = deque()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self.items:
            raise StopIteration
        return self.items.popleft()


class Counted:
    """A step, and how often it was resumed."""

    def __init__(self, step: Any) -> None:
        self.step = step
        self.times = 0

    def send(self, value: None) -> Any:
        self.times += 1
        return self.step.send(value)

    def close(self) -> None:
        self.step.close()


def test_only_who_is_ready_is_resumed(
    engine_for: Callable[[Iterable[Any]], Engine], start: Callable[[Script], Scripted]
) -> None:
    servers = [start(answers) for _ in range(4)]
    items = [f"{server.url}/{number}" for number in range(200) for server in servers]
    engine = engine_for(items)
    results = drive(engine, len(items) + 1)
    assert Counter(result.request for result in results) == Counter(items)
    assert all(result.content == b"/" + result.request.rpartition("/")[2].encode() for result in results)
    assert not engine.advance()
    assert not engine.active
    engine.check()


def test_what_it_waits_for(engine_for: Callable[[Iterable[Any]], Engine], start: Callable[[Script], Scripted]) -> None:
    """Nothing while anything can be done; then one need for each lane, which stand until they are met."""

    def silent(peer: Peer) -> None:
        peer.drain()

    servers = [start(silent) for _ in range(3)]
    engine = engine_for([f"{server.url}/" for server in servers])
    assert engine.needs() == []
    while not (needs := engine.needs()):
        assert engine.advance()
    for _ in range(20):  # connected, and asked
        if [need.mask for need in needs] == [POLLIN] * 3:
            break
        wait_any(needs)
        engine.resume()
        assert engine.advance()
        needs = engine.needs()
    assert len({need.fd for need in needs}) == len(engine.active) == 3
    steps = [Counted(lane.step) for lane in engine.active]
    for lane, step in zip(engine.active, steps, strict=True):
        lane.step = step  # type: ignore[assignment]
    for _ in range(3):  # nobody said that anything was there
        assert engine.advance()
        assert list(map(id, engine.needs())) == list(map(id, needs))
        assert list(engine.take_results()) == []
    engine.active[1].ready = True
    assert engine.needs() == []
    engine.advance()
    assert [step.times for step in steps] == [0, 1, 0]
    assert not engine.active[1].ready
    assert len(engine.needs()) == 3
    engine.resume()
    assert all(lane.ready for lane in engine.active)
    assert engine.needs() == []
    assert all(isinstance(need, PollNeeded) and need.deadline is not None for need in needs)
    assert not select.select([need.fd for need in needs], [], [], 0)[0]
    engine.close()
    for server in servers:
        server.settle(1)
    engine.close()


def test_a_place_that_is_free_is_not_waited_for(
    engine_for: Callable[[Iterable[Any]], Engine],
    start: Callable[[Script], Scripted],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(httpio.bulk.engine, "MAX_LANES", 2)
    servers = [start(answers) for _ in range(5)]
    engine = engine_for([f"{server.url}/{number}" for server in servers for number in range(3)])
    most = 0
    found: list[Result] = []
    while engine.advance():
        most = max(most, len(engine.active))
        found += engine.take_results()
        if needs := engine.needs():
            assert len(needs) == len(engine.active)
            wait_any(needs)
            engine.resume()
    assert (len(found), most) == (15, 2)
    assert all(result.ok for result in found)


def test_lanes_go_on_beside_one_that_waits(
    engine_for: Callable[[Iterable[Any]], Engine],
    start: Callable[[Script], Scripted],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The place that one leaves is the next one's at once."""
    monkeypatch.setattr(httpio.bulk.engine, "MAX_LANES", 2)
    slow, *others = [start(script := Held()), *(start(answers) for _ in range(4))]
    engine = engine_for([f"{slow.url}/held", *(f"{server.url}/{n}" for server in others for n in range(3))])
    try:
        results = drive(engine, 12)
        assert [result.request.rpartition("/")[2] for result in results] == ["0", "1", "2"] * 4
    finally:
        script.gate.set()
    assert [result.content for result in drive(engine, 2)] == [b"/held"]


def test_results_without_a_connection(engine_for: Callable[[Iterable[Any]], Engine]) -> None:
    """They are handed out in order, and count as something done."""
    engine = engine_for(iter(["nothing", 5, None]))
    assert engine.advance()
    assert engine.needs() == []
    results = engine.take_results()
    assert next(results).request == "nothing"
    assert engine.advance()
    assert [result.request for result in results] == [5, None]
    assert list(engine.take_results()) == []
    assert not engine.advance()


@pytest.mark.parametrize("kept", [False, True])
def test_items_that_come_later(
    kept: bool, engine_for: Callable[[Iterable[Any]], Engine], start: Callable[[Script], Scripted]
) -> None:
    """The connections stay where more is to come, and only there."""
    servers = [start(answers) for _ in range(2)]
    items = Later()
    engine = engine_for(items)
    engine.more_to_come = kept
    for number in range(4):
        urls = [f"{server.url}/{number}" for server in servers]
        items.items.extend(urls)
        if number % 2:
            assert not engine.advance()
        engine.draw_again()
        assert sorted(result.request for result in drive(engine, 3)) == sorted(urls)
        assert not engine.advance()
        assert not engine.active
    engine.close()
    for server in servers:
        server.settle(1 if kept else 4)
        assert server.connections == (1 if kept else 4)


def test_what_the_items_raise(
    engine_for: Callable[[Iterable[Any]], Engine], start: Callable[[Script], Scripted]
) -> None:
    server = start(answers)

    def raising() -> Iterator[str]:
        yield f"{server.url}/1"
        raise KeyError("mine")

    engine = engine_for(raising())
    engine.check()
    assert [result.content for result in drive(engine, 2)] == [b"/1"]
    with pytest.raises(KeyError, match="mine"):
        engine.check()
