"""The race of a name's addresses (RFC 8305): who begins when, who wins, and what is said where nobody does."""

from __future__ import annotations

import errno
import os
import select
import selectors
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import httpio.dial
from clock import Clock
from fake_network import (
    FOUR,
    OTHER_FOUR,
    OTHER_SIX,
    SIX,
    THIRD_FOUR,
    THIRD_SIX,
    Network,
    Timed,
    black_hole,
    needs_black_hole,
    no_descriptor_is_left,
)
from httpio import ConnectionClosed, ConnectionTimedOut, DNSUnavailable, HostnameNotResolvable, is_temp_network_error
from httpio.dial import Attempt, SocketOption, co_dial
from httpio.waiting import POLLIN, POLLOUT, PollNeeded
from servers.scripted import Peer, Scripted, answers

pytestmark = needs_black_hole

NAME = "many.example"
DELAY = 0.25


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    with no_descriptor_is_left():
        yield


@pytest.fixture(scope="module")
def hole() -> Iterator[int]:
    with black_hole() as port:
        yield port


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch, still=True)


@pytest.fixture
def network(hole: int, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Network:
    began = clock.now()
    return Network(monkeypatch, hole, lambda: clock.now() - began)


Begin = Callable[..., Timed]


@pytest.fixture
def begin(network: Network, clock: Clock) -> Iterator[Begin]:
    """A function that looks up a name with these addresses, and begins to dial it. With the options of `co_dial`, and
    *limit*: seconds for all of it."""
    begun: list[Timed] = []

    def dial(*addresses: str, limit: float | None = None, **options: Any) -> Timed:
        network.names[NAME] = addresses
        attempt = Attempt(None if limit is None else clock.now() + limit)
        begun.append(Timed(co_dial(NAME, 80, **{"attempt": attempt, **options}), network, clock))
        return begun[-1]

    yield dial
    for timed in begun:
        timed.step.close()


def at(*times: float) -> Any:
    """These times, as far as sums of them are exact."""
    return pytest.approx(times, abs=1e-6)


# -- who begins when --


@pytest.mark.parametrize(
    ("resolved", "order"),
    [
        ([SIX, OTHER_SIX, THIRD_SIX, FOUR, OTHER_FOUR], [SIX, FOUR, OTHER_SIX, OTHER_FOUR, THIRD_SIX]),
        ([FOUR, OTHER_FOUR, THIRD_FOUR, SIX], [FOUR, SIX, OTHER_FOUR, THIRD_FOUR]),
        ([SIX, FOUR, OTHER_SIX, OTHER_FOUR], [SIX, FOUR, OTHER_SIX, OTHER_FOUR]),
        ([FOUR, OTHER_FOUR, THIRD_FOUR], [FOUR, OTHER_FOUR, THIRD_FOUR]),
        ([THIRD_SIX, SIX, OTHER_SIX], [THIRD_SIX, SIX, OTHER_SIX]),
        ([SIX, SIX, FOUR, SIX, FOUR, OTHER_FOUR], [SIX, FOUR, OTHER_FOUR]),
        ([FOUR] * 5, [FOUR]),
    ],
)
def test_families_in_turn(resolved: list[str], order: list[str], network: Network, begin: Begin) -> None:
    """RFC 8305 section 4, from the first family that the resolver gave; each address once; section 5: 250 ms."""
    begin(*resolved).run(5)
    assert network.addresses() == order
    assert [time for _, time in network.tried] == at(*(DELAY * number for number in range(len(order))))
    assert sorted(network.open()) == sorted(order)


def test_how_long_a_wait_may_take(begin: Begin) -> None:
    """Whoever drives the step is told when the next address is due, and of the deadline behind the last."""
    for limit, deadlines in ((10, [DELAY, 2 * DELAY, 10]), (0.3, [DELAY, 0.3]), (0.1, [0.1])):
        timed = begin(SIX, FOUR, OTHER_SIX, limit=limit)
        with pytest.raises(ConnectionTimedOut):
            timed.run()
        assert timed.deadlines == at(*deadlines)
    timed = begin(SIX, FOUR)
    timed.run()
    assert timed.deadlines[-1] is None


def test_resuming_early_changes_nothing(network: Network, begin: Begin, clock: Clock) -> None:
    timed = begin(SIX, FOUR, OTHER_SIX)
    timed.run(0.3)
    latest = timed.needs[-1].deadline
    for _ in range(100):
        clock(0.001)
        assert next(timed.step).deadline == latest
    assert network.addresses() == [SIX, FOUR]


@pytest.mark.parametrize("failing", [[FOUR], [FOUR, OTHER_SIX], [SIX, FOUR, OTHER_SIX]])
def test_what_fails_at_once_costs_nothing(failing: list[str], network: Network, begin: Begin) -> None:
    """Section 5: the next begins at once. What is under way goes on."""
    for address in failing:
        network.ways[address] = "ENETUNREACH"
    begin(SIX, OTHER_SIX, FOUR, OTHER_FOUR).run(5)
    order = [SIX, FOUR, OTHER_SIX, OTHER_FOUR]
    times = [DELAY * (number - sum(address in failing for address in order[:number])) for number in range(4)]
    assert network.tried == list(zip(order, times, strict=True))
    assert network.open() == [address for address in order if address not in failing]


def test_what_fails_later_lets_the_next_begin(network: Network, begin: Begin) -> None:
    timed = begin(SIX, OTHER_SIX, FOUR, OTHER_FOUR)
    timed.run(0.1)
    network.end(SIX, "ECONNREFUSED")
    timed.run(0.4)  # with two under way
    network.end(FOUR, "EHOSTUNREACH")
    timed.run(5)
    assert network.addresses() == [SIX, FOUR, OTHER_SIX, OTHER_FOUR]
    assert [time for _, time in network.tried] == at(0, 0.1, 0.35, 0.4)
    assert network.open() == [OTHER_SIX, OTHER_FOUR]


# -- who wins --


def answered(sock: socket.socket, path: bytes = b"/a") -> None:
    sock.settimeout(20)
    sock.sendall(b"GET %s HTTP/1.1\r\n\r\n" % path)
    assert sock.recv(100).endswith(path)


def test_a_dead_address_costs_the_delay(network: Network, begin: Begin) -> None:
    """At most 300 ms, with all that the program does beside."""
    with Scripted(answers) as server:
        network.ways[FOUR] = server.port
        with begin(SIX, OTHER_SIX, FOUR, OTHER_FOUR).run() as sock:
            assert network.tried == [(SIX, 0), (FOUR, DELAY)]
            assert DELAY <= 0.3
            assert network.open() == [FOUR]
            assert sock is network.sockets[FOUR]
            assert not sock.getblocking()
            answered(sock)


@pytest.mark.parametrize("late", [SIX, FOUR, OTHER_SIX])
def test_the_first_to_answer_wins(late: str, network: Network, begin: Begin) -> None:
    """Which need not be the one that began first, or last. The others are closed at once."""
    with Scripted(answers) as server:
        timed = begin(SIX, OTHER_SIX, FOUR, OTHER_FOUR)
        timed.run(0.6)
        assert network.open() == [SIX, FOUR, OTHER_SIX]
        network.end(late, server.port)
        with timed.run() as sock:
            assert network.open() == [late]
            answered(sock)
        assert len(network.tried) == 3


def test_the_loser_of_two_that_answer_is_closed(network: Network, begin: Begin) -> None:
    """It is told so at once, and nothing is sent to it."""
    ends = []

    def script(peer: Peer) -> None:
        peer.drain()
        ends.append(bytes(peer.buffer))

    with Scripted(answers) as winner, Scripted(script) as loser:
        timed = begin(SIX, FOUR)
        timed.run(0.5)
        network.end(FOUR, loser.port)
        network.end(SIX, winner.port)
        with timed.run() as sock:
            loser.settle(1)
            assert ends == [b""]
            assert network.open() == [SIX]
            answered(sock)


def test_one_that_fails_and_one_that_answers_together(network: Network, begin: Begin) -> None:
    with Scripted(answers) as server:
        timed = begin(SIX, FOUR, OTHER_SIX)
        timed.run(0.3)
        network.end(SIX, "ECONNREFUSED")
        network.end(FOUR, server.port)
        with timed.run() as sock:
            assert network.addresses() == [SIX, FOUR]
            answered(sock)


def test_a_family_that_the_system_does_not_have(
    network: Network, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = socket.socket

    def refuse(family: int, *args: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return new(family, *args)

    with Scripted(answers) as server:
        network.ways[OTHER_FOUR] = server.port
        monkeypatch.setattr(httpio.dial, "socket", SimpleNamespace(**{**vars(socket), "socket": refuse}))
        begin(SIX, OTHER_SIX, FOUR, OTHER_FOUR).run().close()
    assert network.tried == [(FOUR, 0), (OTHER_FOUR, DELAY)]


# -- waiting for several --


def test_each_wait_is_for_one_descriptor_that_select_and_poll_know(network: Network, begin: Begin) -> None:
    with Scripted(answers) as server:
        timed = begin(SIX, FOUR, OTHER_SIX)
        timed.run(0.6)
        need = next(timed.step)
        assert len(network.open()) == 3
        fd, mask = need
        assert mask == POLLIN
        poll = select.poll()
        poll.register(fd, mask)
        with select.epoll() as epoll:
            epoll.register(fd, mask)
            assert select.select([fd], [], [fd], 0) == ([], [], [])
            assert poll.poll(0) == epoll.poll(0) == []
            network.end(FOUR, server.port)
            assert select.select([fd], [], [fd], 20) == ([fd], [], [])
            assert poll.poll(20_000) == [(fd, POLLIN)]
            assert epoll.poll(20) == [(fd, POLLIN)]
        timed.run().close()


@pytest.fixture
def in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system whose selectors are no descriptors themselves."""
    monkeypatch.setattr(selectors, "DefaultSelector", selectors.SelectSelector)


@pytest.mark.usefixtures("in_turns")
def test_in_turns(network: Network, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no descriptor stands for several, they are looked at every 50 ms."""
    monkeypatch.setattr(httpio.dial, "CONNECTION_ATTEMPT_DELAY", 0.22)
    with Scripted(answers) as server:
        timed = begin(SIX, FOUR, OTHER_SIX)
        timed.run(0.45)
        assert [time for _, time in network.tried] == at(0, 0.22, 0.44)
        assert timed.deadlines == at(0.22, 0.27, 0.32, 0.37, 0.42, 0.44, 0.49)
        assert timed.needs[-1].mask == POLLOUT
        network.end(SIX, server.port)
        with timed.run(0.495) as sock:
            answered(sock)


def test_a_descriptor_that_is_used_again(network: Network, begin: Begin) -> None:
    """The socket of an address that has failed, and the next one's: it, too, wakes whoever waits."""
    with Scripted(answers) as server:
        timed = begin(SIX, FOUR, OTHER_SIX)
        timed.run(0.3)
        used = network.sockets[SIX].fileno()
        network.end(SIX, "ECONNREFUSED")
        timed.run(0.4)
        assert network.sockets[OTHER_SIX].fileno() == used
        network.end(OTHER_SIX, server.port)
        assert PollNeeded(*timed.needs[-1]).poll(20)
        timed.run().close()


def test_no_descriptor_for_the_wait(network: Network, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's error passes as it is."""

    def refuse() -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(selectors, "DefaultSelector", refuse)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - it is told by its number
        begin(SIX, FOUR).run()
    assert caught.value.errno == errno.EMFILE
    assert network.open() == []


# -- nobody wins --

ALONE = {
    "ECONNREFUSED": ConnectionRefusedError,
    "ENETUNREACH": OSError,
    "EHOSTUNREACH": OSError,
    "EACCES": PermissionError,
    "EADDRNOTAVAIL": OSError,
    "ETIMEDOUT": ConnectionTimedOut,
    "ECONNRESET": ConnectionClosed,
    "ECONNABORTED": ConnectionClosed,
    "EPIPE": ConnectionClosed,
}
TEMPORARY = set(ALONE) - {"EACCES", "EADDRNOTAVAIL"}


def fails(timed: Timed, name: str, *tried: str) -> str:
    """With the error of that name, whose text, which is returned, has all these."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - which one is checked below
        timed.run()
    error = caught.value
    assert type(error) is ALONE[name]
    if isinstance(error, ConnectionTimedOut | ConnectionClosed):
        assert error.where == "connecting"
        assert isinstance(error.__cause__, OSError)
        assert error.__cause__.errno == getattr(errno, name)
    else:
        assert error.errno == getattr(errno, name)
    assert is_temp_network_error(error) == (name in TEMPORARY)
    text = str(error)
    assert [part for part in tried if part not in text] == []
    assert os.strerror(getattr(errno, name)) in text
    return text


@pytest.mark.parametrize("name", ALONE)
@pytest.mark.parametrize("when", ["at once", "later"])
def test_all_fail(name: str, when: str, network: Network, begin: Begin) -> None:
    addresses = [SIX, FOUR, OTHER_SIX]
    if when == "at once":
        network.ways = dict.fromkeys(addresses, name)
    timed = begin(*addresses)
    if when == "later":
        timed.run(0.6)
        for address in addresses:
            network.end(address, name)
    text = fails(timed, name, *addresses, "port 80")
    assert text.count(os.strerror(getattr(errno, name))) >= 3  # once for each


@pytest.mark.parametrize("name", ALONE)
def test_one_alone_fails(name: str, network: Network, begin: Begin) -> None:
    """Its text does not speak of others."""
    network.ways[SIX] = name
    text = fails(begin(SIX), name, SIX, "port 80")
    assert text.count(os.strerror(getattr(errno, name))) == 1


@pytest.mark.parametrize(
    ("ends", "name"),
    [
        (["ECONNREFUSED", "ETIMEDOUT"], "ETIMEDOUT"),
        (["ETIMEDOUT", "ECONNREFUSED"], "ECONNREFUSED"),
        (["ENETUNREACH", "ECONNREFUSED"], "ECONNREFUSED"),
        (["EACCES", "ECONNREFUSED", "ECONNRESET"], "ECONNRESET"),
        (["ECONNREFUSED", "EACCES"], "EACCES"),
        (["ENETUNREACH", "EHOSTUNREACH"], "EHOSTUNREACH"),
        (["ECONNREFUSED", "ENETUNREACH"], "ECONNREFUSED"),  # that there is no way to an address says less
        (["ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH"], "ETIMEDOUT"),
    ],
)
def test_each_fails_in_its_own_way(ends: list[str], name: str, network: Network, begin: Begin) -> None:
    network.ways = dict(zip([SIX, FOUR, OTHER_SIX], ends, strict=False))
    reasons = [os.strerror(getattr(errno, end)) for end in ends]
    fails(begin(*network.ways), name, *network.ways, *reasons)


def test_the_time_is_over(network: Network, begin: Begin) -> None:
    """All that was tried is named, with what became of it; what was not is not."""
    network.ways[FOUR] = "ECONNREFUSED"
    timed = begin(SIX, FOUR, OTHER_SIX, OTHER_FOUR, THIRD_SIX, limit=0.6)
    with pytest.raises(ConnectionTimedOut) as caught:
        timed.run()
    text = str(caught.value)
    assert network.tried == [(SIX, 0), (FOUR, DELAY), (OTHER_SIX, DELAY), (OTHER_FOUR, 2 * DELAY)]
    assert [address for address in network.addresses() if address not in text] == []
    assert os.strerror(errno.ECONNREFUSED) in text
    assert THIRD_SIX not in text
    assert caught.value.where == "connecting"
    assert is_temp_network_error(caught.value)
    assert network.open() == []


def test_the_time_is_over_before_it_begins(network: Network, begin: Begin) -> None:
    """A look-up that has taken all of it leaves nothing to wait with."""
    timed = begin(SIX, FOUR, limit=0)
    with pytest.raises(ConnectionTimedOut, match=SIX):
        timed.run()
    assert network.open() == []


@pytest.mark.parametrize("found", [[], "EAI_NONAME", "EAI_AGAIN", "EAI_FAIL"])
def test_a_name_without_addresses(found: Any, network: Network, begin: Begin) -> None:
    """An empty list, too, is no more than that there is none."""
    timed = begin()
    if found:
        network.names[NAME] = socket.gaierror(getattr(socket, found), "no")
    unknown = found in ([], "EAI_NONAME")
    with pytest.raises(HostnameNotResolvable if unknown else DNSUnavailable, match=r"many\.example") as caught:
        timed.run()
    assert caught.value.where == "connecting"
    assert is_temp_network_error(caught.value) != unknown
    assert network.tried == []


# -- many addresses --


def thousand() -> list[str]:
    return [f"2001:db8::{number:x}" if number % 3 else f"192.0.2.{number // 3}" for number in range(750)] + [
        f"198.51.100.{number}" for number in range(250)
    ]


def test_a_thousand_that_refuse(network: Network, begin: Begin) -> None:
    addresses = thousand()
    network.ways = dict.fromkeys(addresses, "ECONNREFUSED")
    text = fails(begin(*addresses), "ECONNREFUSED", *addresses)
    assert text.count(os.strerror(errno.ECONNREFUSED)) >= 1000
    assert network.most == 1
    with Scripted(answers) as server:
        network.ways[addresses[-1]] = server.port
        begin(*addresses).run().close()


def test_a_thousand_dead(network: Network, begin: Begin) -> None:
    """The sockets that are open at one time are few, and the limit holds."""
    with pytest.raises(ConnectionTimedOut) as caught:
        begin(*thousand(), limit=300).run()
    assert network.most <= 64
    assert [address for address in network.addresses() if address not in str(caught.value)] == []
    assert network.open() == []


def test_those_that_do_not_answer_give_way(network: Network, begin: Begin) -> None:
    """Each is reached in the end, however many are dead before it."""
    addresses = [f"2001:db8::{number:x}" for number in range(1, 101)]
    with Scripted(answers) as server:
        network.ways[addresses[-1]] = server.port
        begin(*addresses).run().close()
        assert network.most == httpio.dial.CONTENDERS
        assert len(network.tried) == 100
        assert network.tried[-1][1] == pytest.approx(99 * DELAY)


# -- the sockets --


def options_of(sock: socket.socket) -> dict[str, int]:
    tcp, level = socket.IPPROTO_TCP, socket.SOL_SOCKET
    return {
        "nodelay": sock.getsockopt(tcp, socket.TCP_NODELAY),
        "keepalive": sock.getsockopt(level, socket.SO_KEEPALIVE),
        "idle": sock.getsockopt(tcp, socket.TCP_KEEPIDLE),
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], {"nodelay": 1, "keepalive": 1, "idle": 60}),
        ([(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)], {"nodelay": 1, "keepalive": 0, "idle": 60}),
        (
            [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0), (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 7)],
            {"nodelay": 0, "keepalive": 1, "idle": 7},
        ),
        ([(socket.SOL_SOCKET, socket.SO_KEEPALIVE, b"\0\0\0\0")], {"nodelay": 1, "keepalive": 0, "idle": 60}),
    ],
)
def test_options(given: list[SocketOption], expected: dict[str, int], network: Network, begin: Begin) -> None:
    """Each that is tried has them; the caller's come last, and win."""
    with Scripted(answers) as server:
        timed = begin(SIX, FOUR, socket_options=iter(given))
        timed.run(0.5)
        assert [options_of(sock) for sock in network.sockets.values()] == [expected, expected]
        network.end(FOUR, server.port)
        with timed.run() as sock:
            assert options_of(sock) == expected


def test_an_option_that_the_system_refuses(network: Network, begin: Begin) -> None:
    with pytest.raises(OSError, match=SIX) as caught:
        begin(SIX, FOUR, socket_options=[(socket.SOL_SOCKET, 9999, 1)]).run()
    assert caught.value.errno == errno.ENOPROTOOPT
    assert FOUR in str(caught.value)
    assert network.tried == []


def test_an_option_that_python_refuses(begin: Begin) -> None:
    """A mistake of the caller's is no failure of an address."""
    with pytest.raises(TypeError):
        begin(SIX, FOUR, socket_options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, "yes")]).run()


def test_source_address(network: Network, begin: Begin) -> None:
    """It is of one family: addresses of the other cost nothing."""
    with Scripted(answers) as server:
        network.ways[OTHER_FOUR] = server.port
        with begin(SIX, OTHER_SIX, FOUR, OTHER_FOUR, source_address=("127.0.0.5", 0)).run() as sock:
            assert sock.getsockname()[0] == "127.0.0.5"
        assert network.tried == [(FOUR, 0), (OTHER_FOUR, DELAY)]


def test_source_address_of_the_other_family(network: Network, begin: Begin) -> None:
    with pytest.raises(OSError, match=SIX) as caught:
        begin(SIX, OTHER_SIX, source_address=("127.0.0.1", 0)).run()
    assert OTHER_SIX in str(caught.value)
    assert not is_temp_network_error(caught.value)
    assert network.tried == []
    network.ways[FOUR] = "ECONNREFUSED"
    fails(begin(FOUR, SIX, source_address=("127.0.0.1", 0)), "ECONNREFUSED", FOUR, SIX)


def test_source_address_that_is_in_use(network: Network, begin: Begin) -> None:
    """By the first of those that are tried, at the latest."""
    with socket.create_server(("127.0.0.1", 0)) as used, pytest.raises(OSError, match=FOUR) as caught:
        begin(FOUR, OTHER_FOUR, source_address=used.getsockname()).run()
    assert caught.value.errno == errno.EADDRINUSE


# -- ends in the middle --


@pytest.fixture(params=["at once", "in turns"])
def both_ways(request: pytest.FixtureRequest) -> None:
    """A test with this is run with a descriptor for all addresses, and without one."""
    if request.param == "in turns":
        request.getfixturevalue("in_turns")


@pytest.mark.usefixtures("both_ways")
def test_closed_in_the_middle(network: Network, begin: Begin) -> None:
    timed = begin(SIX, FOUR, OTHER_SIX, OTHER_FOUR)
    timed.run(0.6)
    assert len(network.open()) == 3
    timed.step.close()
    assert network.open() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError])
def test_thrown_into_the_middle(error: type[BaseException], network: Network, begin: Begin) -> None:
    timed = begin(SIX, FOUR, OTHER_SIX, OTHER_FOUR)
    timed.run(0.6)
    with pytest.raises(error):
        timed.step.throw(error)
    assert network.open() == []


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("time", [0.1, 0.6])
def test_aborted_in_the_middle(time: float, network: Network, begin: Begin) -> None:
    """Whoever waits wakes up. No other address is tried."""
    attempt = Attempt()
    timed = begin(SIX, FOUR, OTHER_SIX, OTHER_FOUR, attempt=attempt)
    timed.run(time)
    tried = network.addresses()
    need = timed.needs[-1]
    assert not PollNeeded(*need).poll(0)
    attempt.abort()
    assert PollNeeded(*need).poll(20)
    with pytest.raises(ConnectionClosed, match="aborted") as caught:
        next(timed.step)
    assert caught.value.where == "connecting"
    assert network.addresses() == tried
    assert network.open() == []


@pytest.mark.parametrize("way", ["ECONNREFUSED", "EINPROGRESS"])
def test_aborted_by_what_connects(way: str, network: Network, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a signal's handler may do."""
    attempt = Attempt()
    begun = network._begin

    def begin_and_abort(sock: socket.socket, address: Any) -> int:
        code = begun(sock, address)
        attempt.abort()
        return code

    monkeypatch.setattr(network, "_begin", begin_and_abort)
    if way != "EINPROGRESS":
        network.ways = dict.fromkeys([SIX, FOUR], way)
    timed = begin(SIX, FOUR, OTHER_SIX, attempt=attempt)
    with pytest.raises(ConnectionClosed, match="aborted"):
        timed.run()
    assert network.addresses() == [SIX]
    assert network.open() == []
