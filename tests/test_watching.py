"""Watch: who is woken, when, and how often the loop is asked for it; what stays registered: one reader, no more."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from clock import Clock
from httpio.transport import HANG_UP, Bell, Transport
from httpio.waiting import POLLIN, POLLOUT, PollNeeded
from httpio.watching import Watch
from loops import KINDS, Noting, noting, turns, until

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(params=KINDS)
def loop(request: pytest.FixtureRequest) -> Iterator[Any]:
    with noting(request.param) as made:
        yield made


class Wire:
    """A transport, its peer, and a Watch; `woken` has the names of those that were woken."""

    def __init__(self, loop: Noting) -> None:
        ours, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        self.transport = Transport(ours)
        self.fd = self.transport.fd
        self.watch = Watch(loop)
        self.loop = loop
        self.woken: list[str] = []

    def add(
        self, name: str, mask: int = POLLIN, due: float | None = None, bell: Bell | None = None, fd: int | None = None
    ) -> Any:
        need = PollNeeded(self.fd if fd is None else fd, mask, due)
        need.bell = None if bell is None else bell.fd
        return self.watch.add(need, self.transport, lambda: self.woken.append(name))

    async def wait(self) -> None:
        """Wait as a call does, until there is something to receive."""
        future = self.loop.create_future()
        self.watch.add(PollNeeded(self.fd, POLLIN), self.transport, lambda: future.set_result(None))
        await future

    def receive(self) -> int:
        return self.transport.try_receive_into(bytearray(100_000)) or 0

    def fill(self) -> None:
        """Send until nothing fits any more."""
        while self.transport.try_send(bytes(100_000)):
            pass

    def drain(self) -> None:
        """The peer receives all."""
        try:
            while self.peer.recv(1 << 20):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        self.watch.clear()
        self.transport.close()
        self.peer.close()


@pytest.fixture
def wire(loop: Any) -> Iterator[Wire]:
    made = Wire(loop)
    yield made
    made.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# -- who is woken --


def test_woken_once(loop: Any, wire: Wire) -> None:
    async def main() -> None:
        wire.add("a")
        assert wire.watch.busy
        await turns()
        assert wire.woken == []
        wire.peer.send(b"x")
        await until(lambda: wire.woken)
        wire.peer.send(b"y")
        await turns(20)
        assert wire.woken == ["a"]
        assert not wire.watch.busy

    loop.complete(main)


def test_two_that_wait_for_the_same(loop: Any, wire: Wire) -> None:
    async def main() -> None:
        wire.add("a")
        wire.add("b")
        wire.peer.send(b"x")
        await until(lambda: len(wire.woken) == 2)
        assert sorted(wire.woken) == ["a", "b"]
        assert loop.changes["add_reader"] == 1

    loop.complete(main)


def test_one_that_reads_and_one_that_sends(loop: Any, wire: Wire) -> None:
    async def main() -> None:
        wire.fill()
        wire.add("sender", POLLOUT)
        wire.add("reader")
        await turns()
        wire.peer.send(b"x")
        await until(lambda: wire.woken)
        await turns()
        assert wire.woken == ["reader"]
        assert wire.receive() == 1
        wire.add("reader again")
        wire.drain()
        await until(lambda: len(wire.woken) > 1)
        await turns()
        assert wire.woken == ["reader", "sender"]
        assert wire.watch.busy

    loop.complete(main)


def test_one_that_waits_for_both(loop: Any, wire: Wire) -> None:
    async def main() -> None:
        wire.fill()
        wire.add("a", POLLIN | POLLOUT)
        wire.peer.send(b"x")
        await until(lambda: wire.woken)
        wire.drain()
        await turns(20)
        assert wire.woken == ["a"]
        assert ("writer", wire.fd) not in loop.watched

    loop.complete(main)


def test_room_is_told_of_once(loop: Any, wire: Wire) -> None:
    """A writer that stayed registered would be called all the time."""

    async def main() -> None:
        for number in range(3):
            wire.add(str(number), POLLOUT)
            await until(lambda number=number: len(wire.woken) > number)
            await turns(20)
        assert wire.woken == ["0", "1", "2"]
        assert loop.called[wire.fd] == 3
        assert loop.watched == set()
        assert (loop.changes["add_writer"], loop.changes["remove_writer"]) == (3, 3)

    loop.complete(main)


def test_one_of_two_senders_leaves(loop: Any, wire: Wire) -> None:
    async def main() -> None:
        wire.fill()
        first = wire.add("first", POLLOUT)
        wire.add("second", POLLOUT)
        assert loop.changes["add_writer"] == 1
        wire.watch.remove(first)
        wire.drain()
        await until(lambda: wire.woken)
        assert wire.woken == ["second"]

    loop.complete(main)


def test_a_waiter_may_add_another_when_it_is_woken(loop: Any, wire: Wire) -> None:
    async def main() -> None:
        need = PollNeeded(wire.fd, POLLIN)
        wire.watch.add(need, wire.transport, lambda: wire.add("second"))
        wire.peer.send(b"x")
        await until(lambda: wire.woken)
        assert wire.woken == ["second"]

    loop.complete(main)


# -- the reader that stays --


def test_many_waits_cost_one_registration(loop: Any, wire: Wire) -> None:
    async def main() -> None:
        for number in range(50):
            wire.peer.send(b"x") if number % 2 else loop.call_soon(wire.peer.send, b"x")
            await wire.wait()
            assert wire.receive() == 1
        assert (loop.changes["add_reader"], loop.changes["remove_reader"]) == (1, 0)
        assert loop.watched == {("reader", wire.fd)}
        wire.watch.clear()
        assert (loop.changes["add_reader"], loop.changes["remove_reader"]) == (1, 1)

    loop.complete(main)


def test_only_the_connected_socket_stays(loop: Any, wire: Wire) -> None:
    """Of another, as of one that is not yet connected, it cannot be known when its number is given to another."""

    async def main() -> None:
        for transport in (None, wire.transport):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
                waiter = wire.watch.add(PollNeeded(other.fileno(), POLLIN), transport, lambda: None)
                assert loop.watched == {("reader", other.fileno())}
                wire.watch.remove(waiter)
                assert loop.watched == set()

    loop.complete(main)


def test_data_that_nobody_waits_for_keeps_no_loop_busy(loop: Any, wire: Wire) -> None:
    async def main() -> None:
        wire.add("a")
        wire.peer.send(b"x")
        await until(lambda: wire.woken)
        await turns(50)
        assert loop.called[wire.fd] == 2
        assert loop.watched == set()
        wire.add("b")
        await until(lambda: len(wire.woken) == 2)
        assert wire.receive() == 1
        await turns(50)
        assert wire.woken == ["a", "b"]

    loop.complete(main)


def test_data_is_no_news_for_one_that_waits_for_room(loop: Any, wire: Wire) -> None:
    async def main() -> None:
        wire.add("reader")
        wire.peer.send(b"x")
        await until(lambda: wire.woken)
        wire.fill()
        wire.add("sender", POLLOUT)
        await turns(50)
        assert wire.woken == ["reader"]
        assert loop.called[wire.fd] <= 3
        assert loop.watched == {("writer", wire.fd)}

    loop.complete(main)


def test_a_call_that_comes_late_wakes_nobody(loop: Any, wire: Wire) -> None:
    """The loop may have noted that the socket is readable before what made it so was received."""

    async def main() -> None:
        wire.add("a")
        loop.readers[wire.fd]()
        assert wire.woken == []
        assert loop.watched == {("reader", wire.fd)}
        wire.peer.send(b"x")
        loop.readers[wire.fd]()
        assert wire.woken == ["a"]

    loop.complete(main)


def test_a_peer_that_closes_while_nobody_waits(loop: Any, wire: Wire) -> None:
    async def main() -> None:
        wire.add("a")
        wire.peer.send(b"x")
        await until(lambda: wire.woken)
        wire.receive()
        wire.peer.close()
        await until(lambda: not loop.watched)
        await turns(20)
        assert loop.called[wire.fd] <= 3
        wire.add("b")
        await until(lambda: len(wire.woken) == 2)

    loop.complete(main)


# -- a bell --


@pytest.mark.parametrize("mask", [0, POLLIN, POLLOUT])
def test_a_bell(mask: int, loop: Any, wire: Wire) -> None:
    async def main() -> None:
        bell = Bell()
        wire.fill()
        wire.add("a", mask, bell=bell)
        await turns(10)
        assert wire.woken == []
        bell.ring()
        await until(lambda: wire.woken)
        assert ("reader", bell.fd) not in loop.watched
        assert ("writer", wire.fd) not in loop.watched
        await turns(10)
        assert wire.woken == ["a"]
        wire.add("b", mask, bell=bell)  # it was not silenced
        await until(lambda: len(wire.woken) == 2)
        bell.close()

    loop.complete(main)


def test_a_bell_that_did_not_ring_is_let_go(loop: Any, wire: Wire) -> None:
    async def main() -> None:
        bell = Bell()
        wire.add("a", bell=bell)
        wire.peer.send(b"x")
        await until(lambda: wire.woken)
        assert ("reader", bell.fd) not in loop.watched
        bell.close()

    loop.complete(main)


# -- the end of what the peer sends, behind data that is not read --


@pytest.mark.skipif(not HANG_UP, reason="the system does not tell")
@pytest.mark.parametrize("mask", [HANG_UP, HANG_UP | POLLOUT])
def test_a_peer_that_hangs_up(mask: int, loop: Any, wire: Wire) -> None:
    before = descriptors()

    async def main() -> None:
        wire.fill()
        wire.peer.send(b"unread")
        first = wire.add("a", mask)
        await turns(20)
        assert wire.woken == []
        assert sum(loop.called.values()) == 0
        wire.peer.shutdown(socket.SHUT_WR)
        await until(lambda: wire.woken)
        await turns(20)
        assert wire.woken == ["a"]
        assert loop.watched == set()
        assert sum(loop.called.values()) <= 2
        assert first.hang_up is None or first.hang_up.closed
        waiter = wire.add("b", mask)
        wire.watch.remove(waiter)
        wire.add("c", mask)
        await until(lambda: len(wire.woken) == 2)
        wire.add("d", mask)
        wire.watch.clear()
        assert wire.woken == ["a", "c", "d"]

    loop.complete(main)
    assert descriptors() <= before + 3  # the loop's own


# -- deadlines --


def test_a_deadline(loop: Any, wire: Wire) -> None:
    async def main() -> None:
        due = monotonic() + 0.02
        wire.add("a", due=due)
        await until(lambda: wire.woken)
        assert monotonic() >= due
        wire.add("b", due=monotonic() - 1)
        await until(lambda: len(wire.woken) == 2)
        assert wire.woken == ["a", "b"]
        wire.peer.send(b"x")
        wire.add("c", due=monotonic() + 1e7)
        await until(lambda: len(wire.woken) == 3)

    loop.complete(main)


def test_many_waits_with_deadlines_have_one_timer(loop: Any, wire: Wire) -> None:
    async def main() -> None:
        for _ in range(50):
            waiter = wire.add("x", due=monotonic() + 1000)
            wire.watch.remove(waiter)
        assert loop.changes["call_later"] == 1
        sooner = wire.add("sooner", due=monotonic() + 500)
        assert loop.changes["call_later"] == 2
        assert [timer.cancelled() for timer in loop.timers] == [True, False]
        wire.watch.remove(sooner)
        wire.watch.clear()
        assert all(timer.cancelled() for timer in loop.timers)
        wire.add("after", due=monotonic() + 2000)
        assert loop.changes["call_later"] == 3

    loop.complete(main)


def test_the_timer_is_set_again(loop: Any, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fires for the first deadline, also where that has gone by then; a loop's timer may be early."""
    clock = Clock(monkeypatch, still=True)

    async def main() -> None:
        now = clock.now()
        wire.add("first", due=now + 1000)
        second = wire.add("second", POLLOUT | POLLIN, due=now + 3000)
        gone = wire.add("gone", due=now + 2000)
        wire.watch.remove(second)
        second = wire.add("second", due=now + 3000)
        fire = wire.watch._tick
        clock(999)
        fire()
        assert wire.woken == []
        assert not loop.timers[-1].cancelled()
        clock(1)
        fire()
        assert wire.woken == ["first"]
        wire.watch.remove(gone)
        clock(1000)
        fire()
        assert wire.woken == ["first"]
        count = loop.changes["call_later"]
        clock(1000)
        fire()
        assert wire.woken == ["first", "second"]
        assert loop.changes["call_later"] == count  # nobody has a deadline
        loop.timers[-2].cancel()
        del second

    loop.complete(main)
    for timer in loop.timers:
        timer.cancel()


# -- leaving --


def test_removed(loop: Any, wire: Wire) -> None:
    async def main() -> None:
        bell = Bell()
        wire.fill()
        for mask in (POLLIN, POLLOUT, POLLIN | POLLOUT, HANG_UP):
            waiter = wire.add("never", mask, due=monotonic() + 0.001, bell=bell)
            wire.watch.remove(waiter)
            wire.watch.remove(waiter)
            assert not wire.watch.busy
            assert loop.watched <= {("reader", wire.fd)}
        wire.peer.send(b"x")
        bell.ring()
        wire.drain()
        await asyncio.sleep(0.01)
        assert wire.woken == []
        bell.close()

    loop.complete(main)


def test_wake_all(loop: Any, wire: Wire) -> None:
    async def main() -> None:
        wire.fill()
        bell = Bell()
        waiters = [wire.add("a"), wire.add("b", POLLOUT, due=monotonic() + 1000), wire.add("c", 0, bell=bell)]
        wire.watch.wake_all()
        assert wire.woken == ["a", "b", "c"]
        wire.watch.wake_all()
        for waiter in waiters:
            wire.watch.remove(waiter)
        assert wire.woken == ["a", "b", "c"]
        assert loop.watched == {("reader", wire.fd)}
        bell.close()

    loop.complete(main)


def test_cleared(loop: Any, wire: Wire) -> None:
    async def main() -> None:
        wire.fill()
        bell = Bell()
        wire.add("a")
        wire.add("b", POLLOUT, due=monotonic() + 1000)
        wire.add("c", HANG_UP, bell=bell)
        wire.watch.clear()
        assert sorted(wire.woken) == ["a", "b", "c"]
        assert not wire.watch.busy
        assert loop.watched == set()
        assert all(timer.cancelled() for timer in loop.timers)
        wire.watch.clear()
        assert len(wire.woken) == 3
        bell.close()

    loop.complete(main)


def test_a_number_that_is_used_again(loop: Any, wire: Wire) -> None:
    """For a socket of the same Watch, and for one of somebody else."""

    async def main() -> None:
        wire.add("old")
        wire.peer.send(b"x")
        await until(lambda: wire.woken)
        number = wire.fd
        wire.watch.clear()
        wire.transport.close()
        new, peer = socket.socketpair()
        with new, peer:
            if new.fileno() != number:
                os.dup2(new.fileno(), number)
                new.close()
                new = socket.socket(fileno=number)
            wire.transport = Transport(new)
            wire.add("new")
            await turns(20)
            assert wire.woken == ["old"]
            peer.send(b"x")
            await until(lambda: len(wire.woken) == 2)
            assert wire.receive() == 1
            wire.watch.clear()
            told: list[str] = []
            loop.add_reader(number, told.append, "theirs")
            wire.watch.clear()
            peer.send(b"x")
            await until(lambda: told)
            loop.remove_reader(number)

    loop.complete(main)


@pytest.mark.parametrize("clear", [False, True])
def test_a_closed_loop(clear: bool, loop: Any, wire: Wire) -> None:
    """Whoever waits in it cannot be woken; nothing else is the matter."""
    future = loop.create_future()
    future.add_done_callback(lambda _: None)  # to call that, the loop would have to go on
    need = PollNeeded(wire.fd, POLLIN, monotonic() + 1000)
    waiter = wire.watch.add(need, wire.transport, lambda: future.set_result(0))
    loop.run_until_complete(turns())
    loop.close()
    try:
        if clear:
            wire.watch.clear()
    finally:
        wire.watch.remove(waiter)
    assert not wire.watch.busy


@pytest.mark.parametrize("kind", ["closed", "file", "bell"])
def test_what_cannot_be_watched(kind: str, loop: Any, wire: Wire) -> None:
    with tempfile.TemporaryFile() as file:
        fd = wire.fd if kind == "bell" else file.fileno()
        need = PollNeeded(fd, POLLIN | POLLOUT, monotonic() + 1000)
        need.bell = file.fileno() if kind == "bell" else None
        if kind == "closed":
            file.close()
        with pytest.raises((OSError, ValueError, RuntimeError)):
            wire.watch.add(need, wire.transport, lambda: None)
        assert not wire.watch.busy
        assert loop.watched <= {("reader", wire.fd)}
        assert loop.timers == []
