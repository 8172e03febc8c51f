"""Getting connected by name through every face of httpio: dead addresses, names that are not found, look-ups that hang,
and what ends them."""

from __future__ import annotations

import asyncio
import errno
import selectors
import signal
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic
from typing import Any

import pytest

import httpio.dial
from clock import Clock
from conftest import Authority
from fake_network import FOUR, OTHER_FOUR, OTHER_SIX, SIX, Network, black_hole, needs_black_hole, no_descriptor_is_left
from httpio import (
    POLLIN,
    POLLOUT,
    AioFuture,
    AsyncHTTPConnection,
    ConnectionClosed,
    ConnectionTimedOut,
    DNSUnavailable,
    HostnameNotResolvable,
    HTTPConnection,
    afetch,
    eval_coroutine,
    fetch,
    is_temp_network_error,
)
from httpio.waiting import Step
from loops import KINDS, ask, noting, turns_of_others, until
from servers.scripted import WAIT, Peer, Scripted, answers, server_context

pytestmark = [needs_black_hole, pytest.mark.filterwarnings("error")]

NAME = "many.example"
SLOW = "slow.example"
DELAY = 0.02
"""Instead of 250 ms."""


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    with no_descriptor_is_left():
        yield


@pytest.fixture(scope="module")
def hole() -> Iterator[int]:
    for kind in KINDS:  # the first of its kind opens descriptors that it keeps
        with noting(kind):
            pass
    with black_hole() as port:
        yield port


@pytest.fixture
def network(hole: int, monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.setattr(httpio.dial, "CONNECTION_ATTEMPT_DELAY", DELAY)
    return Network(monkeypatch, hole)


class LookUp:
    """One that hangs until it is `over`, and has failed then."""

    def __init__(self) -> None:
        self.begun, self.over = threading.Event(), threading.Event()

    def __call__(self) -> list[str]:
        self.begun.set()
        self.over.wait(WAIT)
        raise socket.gaierror(socket.EAI_AGAIN, "no")


@pytest.fixture
def hanging(network: Network) -> Iterator[LookUp]:
    """That of the name `SLOW`."""
    look_up = network.names[SLOW] = LookUp()
    yield look_up
    look_up.over.set()


# -- the faces --

Face = Callable[..., bytes]
"""`face(host, port, **options)` asks for /a over a connection of its own, and returns the body."""


def blocking(host: str, port: int = 80, context: ssl.SSLContext | None = None, **options: Any) -> bytes:
    with HTTPConnection(host, port, context, **options) as conn:
        conn.send_request("GET", "/a")
        assert conn.read_response().status == 200
        return conn.readall()


def fetched(host: str, port: int = 80, context: ssl.SSLContext | None = None, **options: Any) -> bytes:
    scheme = "http" if context is None else "https"
    [result] = fetch([f"{scheme}://{host}:{port}/a"], ssl_context=context, **options)
    if result.error is not None:
        raise result.error
    assert result.content is not None
    return result.content


def stepwise(run: Callable[[Step[Any]], Any]) -> Face:
    def face(host: str, port: int = 80, context: ssl.SSLContext | None = None, **options: Any) -> bytes:
        with HTTPConnection(host, port, context, **options) as conn:
            run(conn.co_connect())
            run(conn.co_send_request("GET", "/a"))
            assert run(conn.co_read_response()).status == 200
            return bytes(run(conn.co_readall()))

    return face


def by_select(step: Step[Any]) -> Any:
    while True:
        try:
            need = next(step)
        except StopIteration as stop:
            return stop.value
        left = None if need.deadline is None else max(0.0, need.deadline - monotonic())
        select = selectors.SelectSelector()
        select.register(need.fd, (need.mask == POLLIN) + 2 * (need.mask == POLLOUT))
        select.select(left)
        select.close()


def in_loop(kind: str, main: Callable[..., Any]) -> Face:
    def face(host: str, port: int = 80, context: ssl.SSLContext | None = None, **options: Any) -> bytes:
        with noting(kind) as loop:
            return bytes(loop.complete(lambda: main(host, port, context, **options)))

    return face


async def by_futures(host: str, port: int, context: ssl.SSLContext | None, **options: Any) -> bytes:
    with HTTPConnection(host, port, context, **options) as conn:
        await AioFuture(conn.co_connect())
        await AioFuture(conn.co_send_request("GET", "/a"))
        assert (await AioFuture(conn.co_read_response())).status == 200
        return await AioFuture(conn.co_readall())


async def awaited(host: str, port: int, context: ssl.SSLContext | None, **options: Any) -> bytes:
    async with AsyncHTTPConnection(host, port, context, **options) as conn:
        await conn.send_request("GET", "/a")
        assert (await conn.read_response()).status == 200
        return await conn.readall()


async def fetched_in_loop(host: str, port: int, context: ssl.SSLContext | None, **options: Any) -> bytes:
    scheme = "http" if context is None else "https"
    [result] = [each async for each in afetch([f"{scheme}://{host}:{port}/a"], ssl_context=context, **options)]
    if result.error is not None:
        raise result.error
    assert result.content is not None
    return result.content


FACES: dict[str, Face] = {
    "blocking": blocking,
    "fetch": fetched,
    "steps": stepwise(lambda step: eval_coroutine(step, WAIT)),
    "steps by select": stepwise(by_select),
    **{f"{kind} AioFuture": in_loop(kind, by_futures) for kind in KINDS},
    **{f"{kind} AsyncHTTPConnection": in_loop(kind, awaited) for kind in KINDS},
    **{f"{kind} afetch": in_loop(kind, fetched_in_loop) for kind in KINDS},
}
every_face = pytest.mark.parametrize("face", FACES.values(), ids=FACES)
every_loop = pytest.mark.parametrize("kind", KINDS)


# -- dead addresses --


@every_face
@pytest.mark.parametrize("selector", [None, "SelectSelector"])
def test_dead_addresses(face: Face, selector: str | None, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next that answers is used; also where the system has no descriptor for several."""
    if selector is not None:
        monkeypatch.setattr(selectors, "DefaultSelector", getattr(selectors, selector))
    network.names[NAME] = [SIX, OTHER_SIX, FOUR, OTHER_FOUR]
    with Scripted(answers) as server:
        network.ways = {FOUR: "ECONNREFUSED", OTHER_FOUR: server.port}
        assert face(NAME, timeout=WAIT, connect_timeout=WAIT) == b"/a"
        assert server.connections == 1
        assert server.seen[0].field("Host") == NAME
    assert network.addresses() == [SIX, FOUR, OTHER_SIX, OTHER_FOUR]
    times = [time for _, time in network.tried]
    assert times[2] - times[0] >= DELAY
    assert times[3] - times[2] >= DELAY


@every_face
def test_all_refuse(face: Face, network: Network) -> None:
    network.names[NAME] = [SIX, FOUR]
    network.ways = dict.fromkeys([SIX, FOUR], "ECONNREFUSED")
    with pytest.raises(ConnectionRefusedError, match=rf"{SIX}.*{FOUR}") as caught:
        face(NAME)
    assert caught.value.errno == errno.ECONNREFUSED
    assert is_temp_network_error(caught.value)


@every_face
def test_all_are_dead(face: Face, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    network.names[NAME] = [SIX, FOUR]
    clock = Clock(monkeypatch)
    network.on_begin = lambda address: clock(1000.0 if address == FOUR else 0.0)
    with pytest.raises(ConnectionTimedOut, match=rf"{SIX}.*{FOUR}") as caught:
        face(NAME, connect_timeout=900)
    assert caught.value.where == "connecting"
    assert is_temp_network_error(caught.value)
    assert network.open() == []


@every_face
def test_the_limit_of_all_that_is_tried(face: Face, network: Network) -> None:
    """By the clock on the wall."""
    network.names[NAME] = [SIX, FOUR]
    began = monotonic()
    with pytest.raises(ConnectionTimedOut):
        face(NAME, connect_timeout=0.03)
    assert monotonic() - began >= 0.03
    assert network.open() == []


@pytest.mark.parametrize("limit", [0.1, DELAY / 2])
def test_the_callers_own_limit_for_each_wait(limit: float, network: Network) -> None:
    network.names[NAME] = [SIX, FOUR]
    with HTTPConnection(NAME) as conn, pytest.raises(ConnectionTimedOut, match="no progress"):
        eval_coroutine(conn.co_connect(), limit)
    assert network.addresses() == [SIX, FOUR][: 1 + (limit > DELAY)]
    assert network.open() == []


@every_face
def test_tls_with_the_winner(face: Face, authority: Authority, network: Network) -> None:
    """It is the name that is verified."""
    network.names["localhost"] = network.names["other.localhost"] = [SIX, FOUR]
    client = ssl.create_default_context(cafile=authority.ca)
    with Scripted(answers, server_context(authority.chain, authority.key)) as server:
        network.ways[FOUR] = server.port
        assert face("localhost", 443, client, timeout=WAIT) == b"/a"
        with pytest.raises(ssl.SSLCertVerificationError):
            face("other.localhost", 443, client, timeout=WAIT)
        assert server.targets() == ["/a"]


def test_the_time_covers_look_up_race_and_handshake(authority: Authority, network: Network) -> None:
    network.names[NAME] = [SIX, FOUR]
    client = ssl.create_default_context(cafile=authority.ca)
    with Scripted(Peer.drain) as server:
        network.ways[FOUR] = server.port
        with HTTPConnection(NAME, 443, client, connect_timeout=0.2) as conn:
            with pytest.raises(ConnectionTimedOut) as caught:
                conn.connect()
            assert caught.value.where == "connecting"
            assert network.open() == []


def test_a_proxy_with_a_dead_address(network: Network) -> None:
    """It is the proxy's name that is looked up, and no other."""
    network.names |= {"proxy.example": [SIX, FOUR], NAME: OSError("it was looked up")}
    with Scripted(answers) as server:
        network.ways[FOUR] = server.port
        with HTTPConnection(NAME, proxy="http://proxy.example:3128", timeout=WAIT) as conn:
            conn.send_request("GET", "/a")
            assert conn.read_response().status == 200
            assert conn.readall() == f"http://{NAME}/a".encode()
    assert network.addresses() == [SIX, FOUR]


# -- names --


@every_face
@pytest.mark.parametrize(("code", "kind"), [("EAI_NONAME", HostnameNotResolvable), ("EAI_AGAIN", DNSUnavailable)])
def test_no_addresses(code: str, kind: type[Exception], face: Face, network: Network) -> None:
    network.names[NAME] = socket.gaierror(getattr(socket, code), "no")
    with pytest.raises(kind, match=NAME) as caught:
        face(NAME)
    assert is_temp_network_error(caught.value) == (kind is DNSUnavailable)


@every_face
def test_a_look_up_that_hangs(face: Face, hanging: LookUp) -> None:
    with pytest.raises(ConnectionTimedOut, match=SLOW) as caught:
        face(SLOW, connect_timeout=0.03)
    assert caught.value.where == "connecting"


def test_a_look_up_that_takes_long(network: Network) -> None:
    """Longer than things may stand still once the connection is made."""
    with Scripted(answers) as server:

        def look_up() -> list[str]:
            threading.Event().wait(0.1)
            return [SIX, FOUR]

        network.names[NAME] = look_up
        network.ways[FOUR] = server.port
        with HTTPConnection(NAME, timeout=0.01) as conn:
            conn.connect()
            assert conn.peername[1] == server.port


def test_fetch_goes_on_with_other_names(network: Network, hanging: LookUp) -> None:
    """F37: what is wrong with one name is the error of its objects alone."""
    ends: dict[str, type[BaseException] | None] = {
        "good.example": None,
        "unknown.example": HostnameNotResolvable,
        "unavailable.example": DNSUnavailable,
        "refused.example": ConnectionRefusedError,
        "dead.example": ConnectionTimedOut,
        SLOW: ConnectionTimedOut,
    }
    network.names |= {
        "good.example": [SIX, FOUR],
        "unknown.example": socket.gaierror(socket.EAI_NONAME, "no"),
        "unavailable.example": socket.gaierror(socket.EAI_AGAIN, "no"),
        "refused.example": [OTHER_FOUR],
        "dead.example": [SIX, OTHER_SIX],
    }
    urls = [f"http://{name}/{number}" for number in range(20) for name in ends]
    with Scripted(answers) as server:
        network.ways = {FOUR: server.port, OTHER_FOUR: "ECONNREFUSED"}
        counts: Counter[str] = Counter()
        for result in fetch(urls, timeout=WAIT, connect_timeout=0.2):
            name = result.request.split("/")[2]
            kind = ends[name]
            if kind is None:
                assert (result.status, result.content) == (200, f"/{counts[name]}".encode())
            else:
                assert isinstance(result.error, kind)
                assert result.attempts == 0
            counts[name] += 1
    assert counts == dict.fromkeys(ends, 20)


# -- what others do meanwhile --


@every_loop
@pytest.mark.parametrize("name", [NAME, SLOW])
def test_the_loop_is_free(name: str, kind: str, network: Network, hanging: LookUp) -> None:
    """While a name is looked up, and while addresses are dead: that ends when others have had their turns."""
    network.names[NAME] = [SIX, FOUR]

    async def main(server: Scripted) -> None:
        conn = AsyncHTTPConnection(name)
        task = asyncio.ensure_future(conn.connect())
        await until(lambda: begun(network, hanging))
        with turns_of_others() as count:
            await until(lambda: count["turns"] > 20)
        assert not task.done()
        if name == SLOW:
            hanging.over.set()
            await ended(task, DNSUnavailable)
        else:
            network.end(SIX, server.port)
            await task
            await ask(conn, "/a")
        conn.close()

    with noting(kind) as loop, Scripted(answers) as server:
        loop.complete(lambda: main(server))


def begun(network: Network, hanging: LookUp) -> bool:
    """Whether a name is being looked up, or two of its addresses are being tried."""
    return hanging.begun.is_set() or len(network.tried) == 2


async def anew(conn: AsyncHTTPConnection, network: Network, hanging: LookUp) -> None:
    """The connection can be made when the network is better."""
    assert network.open() == []
    hanging.over.set()
    with Scripted(answers) as server:
        network.names[conn.hostname] = [FOUR]
        network.ways[FOUR] = server.port
        await ask(conn, "/anew")
        conn.close()


async def ended(task: asyncio.Task[None], kind: type[BaseException]) -> None:
    with pytest.raises(kind):
        await task


@every_loop
@pytest.mark.parametrize("name", [NAME, SLOW])
@pytest.mark.parametrize("how", ["cancel", "wait_for", "close", "abort", "abort by a thread"])
def test_ends_in_a_loop(how: str, name: str, kind: str, network: Network, hanging: LookUp) -> None:
    network.names[NAME] = [SIX, FOUR]

    async def main() -> None:
        conn = AsyncHTTPConnection(name)
        if how == "wait_for":
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(conn.connect(), 0.1)
        else:
            task = asyncio.ensure_future(conn.connect())
            await until(lambda: begun(network, hanging))
            if how == "abort by a thread":
                await asyncio.get_running_loop().run_in_executor(None, conn.abort)
            elif how == "cancel":
                task.cancel()
            else:
                getattr(conn, how)()
            await ended(task, asyncio.CancelledError if how == "cancel" else ConnectionClosed)
        await anew(conn, network, hanging)

    with noting(kind) as loop:
        loop.complete(main)
        loop.run_until_complete(loop.shutdown_default_executor())


@every_loop
@pytest.mark.parametrize("name", [NAME, SLOW])
def test_a_future_that_is_cancelled(name: str, kind: str, network: Network, hanging: LookUp) -> None:
    network.names[NAME] = [SIX, FOUR]

    async def main() -> None:
        conn = HTTPConnection(name)
        future = AioFuture(conn.co_connect())
        await until(lambda: begun(network, hanging))
        assert future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        assert network.open() == []

    with noting(kind) as loop:
        loop.complete(main)


@pytest.mark.parametrize("name", [NAME, SLOW])
@pytest.mark.parametrize("how", ["abort", "close"])
def test_ended_by_another_thread(how: str, name: str, network: Network, hanging: LookUp) -> None:
    network.names[NAME] = [SIX, FOUR]
    conn = HTTPConnection(name)

    def end() -> None:
        waits_for(lambda: begun(network, hanging))
        getattr(conn, how)()

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(ConnectionClosed) as caught:
        conn.connect()
    thread.join(WAIT)
    assert caught.value.where == "connecting"
    assert network.open() == []


def waits_for(there: Callable[[], bool]) -> None:
    latest = monotonic() + WAIT
    while not there():
        assert monotonic() < latest
        threading.Event().wait(0.001)


@pytest.mark.parametrize("name", [NAME, SLOW])
@pytest.mark.parametrize("face", [blocking, fetched])
def test_an_interrupt(face: Face, name: str, network: Network, hanging: LookUp) -> None:
    """Ctrl-C, while all wait."""
    network.names[NAME] = [SIX, FOUR]
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        waits_for(lambda: begun(network, hanging))
        signal.pthread_kill(main, signal.SIGINT)

    # Ignored signals are inherited: a shell that runs tests in the background has SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with suppress(KeyboardInterrupt):
            face(name)
            pytest.fail("it has not been interrupted")
    finally:
        thread.join(WAIT)
        signal.signal(signal.SIGINT, before)
    assert network.open() == []


def test_many_threads(network: Network) -> None:
    """Each has its own race."""
    network.names[NAME] = [SIX, FOUR]
    found = []
    with Scripted(answers) as server:
        network.ways[FOUR] = server.port
        threads = [threading.Thread(target=lambda: found.append(blocking(NAME, timeout=WAIT))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
    assert found == [b"/a"] * 8
    assert network.addresses().count(SIX) == network.addresses().count(FOUR) == 8
