"""Fault F41: proxies that hang, refuse, talk nonsense, go away. Each kind of proxy on each face of httpio."""

from __future__ import annotations

import asyncio
import gc
import linecache
import socket
import sys
import threading
from collections.abc import Iterator
from itertools import count
from types import FrameType
from typing import Any

import pytest

import awkward
from awkward import Habits
from conftest import Authority
from httpio import (
    ConnectionClosed,
    ConnectionTimedOut,
    HostnameNotResolvable,
    HTTPConnection,
)
from httpio.waiting import run
from servers.objects import content
from servers.proxy import GRANTED, OK, After, says, socks_says
from servers.scripted import WAIT, Peer, Script
from test_timing_calls import Interrupt, LineByLine, drive
from through import (
    KINDS,
    Kind,
    Network,
    ask,
    both,
    check_told,
    connects,
    each_scheme,
    every_kind,
    every_tunnel,
    fails,
    fetched,
    kinds,
    pipelines,
    real,
    until,
    url_of,
    use_network,
    with_and_without_http,
    without_tunnel,
)
from tls_ways import FACES, Face, every_face, faces_that_differ

SOON = 0.05
"""Seconds that a proxy is given which does not answer at all."""


@pytest.fixture
def network(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    yield from use_network(authority, tmp_path_factory)


ends = pytest.mark.parametrize("end", [Peer.finish, Peer.reset], ids=["FIN", "RST"])


# -- proxies that hang --


def hangs(kind: Kind, how: str, after: After = Peer.drain) -> Script:
    """A proxy that says nothing more, in some place; *after* is called there."""
    if how == "at once":
        return after
    stage, answer = PLACES[how][kind.is_http]
    return says(answer, after) if kind.is_http else socks_says(stage, answer, after)


PLACES = {
    "in its answer": ((0, b"\5"), (0, OK[:12])),
    "before the end of its answer": ((2, GRANTED[:-1]), (0, b"HTTP/1.1 407 No\r\nProxy-Auth")),
    "in the handshake inside": ((2, GRANTED), (0, OK)),
}
every_place = pytest.mark.parametrize("how", ["at once", *PLACES])


@every_face
@each_scheme
@every_place
def test_a_proxy_that_hangs(how: str, kind: Kind, face: Face, network: Network) -> None:
    """The limit for connecting ends it."""
    error = fails(network, face, kind, hangs(kind, how), named=how != "in the handshake inside", connect_timeout=SOON)
    assert type(error) is ConnectionTimedOut


@faces_that_differ
@with_and_without_http
@pytest.mark.parametrize("use", [connects, pipelines])
def test_a_proxy_that_hangs_whatever_connects(use: Any, kind: Kind, face: Face, network: Network) -> None:
    assert type(fails(network, face, kind, Peer.drain, use, connect_timeout=SOON)) is ConnectionTimedOut


@every_face
def test_a_proxy_that_hangs_in_its_own_handshake(face: Face, network: Network) -> None:
    """Nothing but TCP is there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        async def main() -> None:
            port = listener.getsockname()[1]
            async with network.connection(face, KINDS["tunnel through https"], 1, port, connect_timeout=SOON) as conn:
                with pytest.raises(ConnectionTimedOut) as caught:
                    await conn.connect()
                check_told(caught.value, None)
                assert "127.0.0.1" in str(caught.value)

        until(main)


@faces_that_differ
@without_tunnel
@pytest.mark.parametrize("limit", ["timeout", "deadline"])
def test_a_proxy_that_hangs_on_a_request(limit: str, kind: Kind, face: Face, network: Network) -> None:
    """It has the request: it is like an origin that hangs."""
    with network.proxy(kind, Peer.drain) as proxy:

        async def main() -> None:
            async with network.connection(face, kind, 80, proxy.port) as conn:
                setattr(real(conn), limit, SOON)
                await conn.send_request("GET", "/")
                with pytest.raises(ConnectionTimedOut) as caught:
                    await conn.read_response()
                assert caught.value.where == "awaiting response"
                assert [fact.state for fact in caught.value.outstanding] == ["sent"]

        until(main)


@faces_that_differ
@with_and_without_http
def test_fetch_through_a_proxy_that_hangs(kind: Kind, face: Face, network: Network) -> None:
    with network.proxy(kind, Peer.drain) as proxy:
        (result,) = fetched(face, ["https://localhost/"], network.options(kind, proxy.port, connect_timeout=SOON))
        assert type(result.error) is ConnectionTimedOut
        check_told(result.error, proxy.port)
        proxy.settle(2)
        assert proxy.connections == 2


# -- ended on this side --


class Place:
    """What a script does at its end: it lets others know that it has come there, and hangs."""

    def __init__(self) -> None:
        self.reached = threading.Event()

    def __call__(self, peer: Peer) -> None:
        self.reached.set()
        peer.drain()


@every_face
@each_scheme
@every_place
def test_abort(how: str, kind: Kind, face: Face, network: Network) -> None:
    """From another thread."""
    place = Place()

    async def use(conn: Any) -> None:
        thread = threading.Thread(target=lambda: place.reached.wait(WAIT) and conn.abort())
        thread.start()
        try:
            await conn.connect()
        finally:
            thread.join(WAIT)

    error = fails(network, face, kind, hangs(kind, how, place), use, named=False)
    assert type(error) is ConnectionClosed


@each_scheme
@every_place
@pytest.mark.parametrize("by", ["cancel", "close"])
def test_ended_in_a_loop(by: str, how: str, kind: Kind, network: Network) -> None:
    place = Place()

    async def use(conn: Any) -> None:
        task = asyncio.ensure_future(conn.connect())
        assert await asyncio.get_running_loop().run_in_executor(None, place.reached.wait, WAIT)
        if by == "close":
            conn.close()
            return await task
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        raise ConnectionClosed("the task was cancelled", where="connecting")

    error = fails(network, FACES["asyncio"], kind, hangs(kind, how, place), use, named=False)
    assert type(error) is ConnectionClosed


@each_scheme
@every_place
@pytest.mark.parametrize("by", ["the step is closed", "the connection is closed"])
def test_ended_between_steps(by: str, how: str, kind: Kind, network: Network) -> None:
    place = Place()

    async def use(wrapped: Any) -> None:
        conn: HTTPConnection = wrapped.conn
        step = conn.co_connect()
        while not place.reached.is_set():
            next(step).poll(0.01)
        if by == "the connection is closed":
            conn.close()
            return run(step)
        step.close()
        raise ConnectionClosed("nobody goes on with it", where="connecting")

    error = fails(network, FACES["blocking"], kind, hangs(kind, how, place), use, named=False)
    assert type(error) is ConnectionClosed


@every_tunnel
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_users_interrupt(when: str, kind: Kind, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """TM-14, in each system call on the way to a response."""
    habits = Habits()
    for context in (network.client, network.proxy_client):
        awkward.use(habits, monkeypatch, context)
    interrupted = set()
    with both(network, kind) as (origin, proxy):
        for at in count(1):
            context = network.client if kind.tls else None
            conn = HTTPConnection("localhost", origin.port, context, network.way(kind, proxy.port), timeout=WAIT)
            interrupt = Interrupt(at, when, habits)
            try:
                conn.send_request("GET", "/1")
                assert (conn.read_response().status, conn.readall()) == (200, b"/1")
            except KeyboardInterrupt:
                assert interrupt.where
            interrupt.armed = False
            if not interrupt.where:
                conn.close()
                break
            interrupted.add(interrupt.where)
            conn.close()
            assert habits.open_sockets() == 0, interrupt.where
            habits.sockets.clear()
            conn.send_request("GET", "/2")
            assert (conn.read_response().status, conn.readall()) == (200, b"/2")
            conn.close()
    assert {"recv_into", "send"} <= interrupted
    assert at > 5
    assert origin.targets().count("/1") <= at


class Lines(LineByLine):
    """No signal comes through at `try:` either; an error that a trace function raises there is not seen by what is
    around it."""

    def count(self, frame: FrameType, event: str, argument: object) -> Any:
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        return self.count if line == "try:" else super().count(frame, event, argument)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("step", [23, pytest.param(1, marks=pytest.mark.heavy)])
@kinds("tunnel through https", "socks5h")
def test_the_users_interrupt_at_each_line(kind: Kind, step: int, network: Network) -> None:
    """Between any two of which a socket may have no owner yet."""
    with both(network, kind) as (origin, proxy):
        way = network.way(kind, proxy.port)
        for at in count(1, step):
            conn = HTTPConnection("localhost", origin.port, network.client, way, timeout=WAIT)
            interrupt = Lines(at)
            tracer = sys.gettrace()
            sys.settrace(interrupt.watch)
            try:
                conn.send_request("GET", "/1")
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(tracer)
            conn.close()
            conn.send_request("GET", "/2")
            assert (conn.read_response().path, conn.readall()) == ("/2", b"/2"), interrupt.where
            conn.close()
            if not interrupt.where:
                break
        assert at > 100
    gc.collect()


@each_scheme
def test_steps_left_at_each_wait(kind: Kind, network: Network) -> None:
    start = len(threading.enumerate())
    with both(network, kind) as (origin, proxy):
        for at in count(1):
            way = network.way(kind, proxy.port)
            conn = HTTPConnection("localhost", origin.port, network.client, way, timeout=WAIT)
            interrupt = Interrupt(at, "at waits", Habits())
            try:
                drive(conn.co_connect(), interrupt)
            except KeyboardInterrupt:
                proxy.settle(proxy.connections)
            finished = not interrupt.where
            conn.send_request("GET", "/")
            assert (conn.read_response().status, conn.readall()) == (200, b"/")
            conn.close()
            if finished:
                break
        assert at > 1
    for thread in threading.enumerate():
        if thread.name == "httpio name look-up":  # of an attempt that was left
            thread.join(WAIT)
    assert len(threading.enumerate()) <= start


# -- proxies that go away --

REFUSAL = b'HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 6\r\n\r\n'
CUTS = {
    **{f"{len(head)} bytes of a head": (2, head) for head in (b"", REFUSAL[:5], REFUSAL[:17], REFUSAL[:-1], OK[:-1])},
    "in the handshake inside": (2, OK),
}
SOCKS_CUTS = {
    **{f"{size} bytes of the method": (0, b"\5\2"[:size]) for size in (0, 1)},
    **{f"{size} bytes of the password's answer": (1, b"\1\0"[:size]) for size in (0, 1)},
    **{f"{size} bytes of the reply": (2, GRANTED[:size]) for size in (0, 1, 3, 4, 9)},
    "in a name": (2, b"\5\0\0\3\xff" + b"n" * 254),
    "in the handshake inside": (2, GRANTED),
}


@faces_that_differ
@ends
@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in ("tunnel", "tunnel through https") for name in CUTS]
    + [("socks5h", name) for name in SOCKS_CUTS],
)
def test_a_proxy_that_goes_away(name: str, kind: str, end: After, face: Face, network: Network) -> None:
    stage, answer = (CUTS if kind.startswith("tunnel") else SOCKS_CUTS)[name]
    script = says(answer, end) if kind.startswith("tunnel") else socks_says(stage, answer, end)
    error = fails(network, face, KINDS[kind], script, named=name != "in the handshake inside")
    assert type(error) is ConnectionClosed


@faces_that_differ
@ends
@each_scheme
def test_a_tunnel_that_dies_in_the_handshake(kind: Kind, end: After, face: Face, network: Network) -> None:
    """The first bytes of the origin's came."""
    assert type(fails(network, face, kind, kind.good(500, end), named=False)) is ConnectionClosed


@every_face
@ends
def test_a_proxy_that_goes_away_in_its_own_handshake(end: After, face: Face, network: Network) -> None:
    """It has read what the client says first."""

    def script(peer: Peer) -> None:
        peer.receive()
        end(peer)

    kind = KINDS["tunnel through https"]
    with network.proxy(KINDS["tunnel"], script) as proxy:

        async def main() -> None:
            async with network.connection(face, kind, 1, proxy.port) as conn:
                with pytest.raises(ConnectionClosed) as caught:
                    await conn.connect()
                check_told(caught.value, None)
                assert "127.0.0.1" in str(caught.value)

        until(main)


@faces_that_differ
@every_kind
def test_a_proxy_that_is_not_there(kind: Kind, face: Face, network: Network) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]

        async def main() -> None:
            async with network.connection(face, kind, 1, port) as conn:
                with pytest.raises(ConnectionRefusedError) as caught:
                    await conn.send_request("GET", "/never")
                check_told(caught.value, port)
            (result,) = [
                result async for result in face.fetch([url_of(kind, 1, "/never")], **network.options(kind, port))
            ]
            assert type(result.error) is ConnectionRefusedError
            assert result.attempts == 0

        until(main)


@faces_that_differ
@every_kind
def test_the_name_of_a_proxy(kind: Kind, face: Face, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not exist; and who else is looked up."""
    looked_up = []

    def look_up(host: str, port: int, **_: Any) -> Any:
        looked_up.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    async def main() -> None:
        proxy = network.way(kind, 1, "proxy.test")
        async with face.connection("origin.test", None, network.client if kind.tls else None, proxy) as conn:
            with pytest.raises(HostnameNotResolvable) as caught:
                await conn.send_request("GET", "/never")
            check_told(caught.value, None)
        assert caught.value.name == "proxy.test" or kind.scheme == "socks5"

    until(main)
    assert kind.scheme == "socks5" or looked_up == ["proxy.test"]


# -- in the middle of a response --

BODY = content(1, 200_000)
CUT = 100_000


def large(peer: Peer) -> None:
    """Each answer is large, but for those of few."""
    while (seen := peer.request()) is not None:
        peer.answer(seen.target.encode() if seen.target.startswith("/few") else BODY)


@every_face
@every_kind
@ends
def test_a_proxy_that_dies_in_a_body(end: After, kind: Kind, face: Face, network: Network) -> None:
    with both(network, kind, kind.good(CUT, end), kind.good(), origin=large) as (origin, proxy):

        async def main() -> None:
            async with network.connection(face, kind, origin.port, proxy.port) as conn:
                await conn.send_request("GET", "/large")
                assert (await conn.read_response()).length == len(BODY)
                with pytest.raises(ConnectionClosed) as caught:
                    await conn.readall()
                error = caught.value
                assert (error.where, error.expected) == ("in body", len(BODY))
                assert error.received is not None
                assert 0 <= error.received <= CUT
                assert [fact.state for fact in error.outstanding] == ["answering"]
                with pytest.raises(ConnectionClosed):
                    await conn.send_request("GET", "/never")
                conn.close()
                await ask(conn, "/few")

        until(main)
        assert proxy.connections == 2
        assert origin.targets() == ["/large", "/few"]


@faces_that_differ
@every_kind
@ends
def test_a_pipeline_goes_on_through_another(end: After, kind: Kind, face: Face, network: Network) -> None:
    targets = [f"/few/{number}" for number in range(8)]
    targets[3] = targets[5] = "/large"
    with both(network, kind, kind.good(CUT, end), kind.good(), origin=large) as (origin, proxy):

        async def main() -> None:
            async with network.connection(face, kind, origin.port, proxy.port) as conn:
                bodies = [response.body async for response in conn.pipeline(targets)]
            assert bodies == [BODY if target == "/large" else target.encode() for target in targets]

        until(main)
        assert proxy.connections == 2
        assert origin.connections == 2
        assert max(map(origin.targets().count, targets)) <= 4  # "/large" is asked for twice


@faces_that_differ
@every_kind
def test_a_pipeline_does_not_go_on_for_ever(kind: Kind, face: Face, network: Network) -> None:
    with both(network, kind, kind.good(CUT), origin=large) as (origin, proxy):

        async def main() -> None:
            async with network.connection(face, kind, origin.port, proxy.port) as conn:
                with pytest.raises(ConnectionClosed) as caught:
                    await anext(conn.pipeline(["/large"]))
                assert caught.value.where == "in body"

        until(main)
        assert proxy.connections == 2
        assert origin.targets() == ["/large"] * 2


@faces_that_differ
@every_kind
@pytest.mark.parametrize("how", ["once", "always"])
def test_fetch_repeats(how: str, kind: Kind, face: Face, network: Network) -> None:
    scripts = [kind.good(CUT)] if how == "always" else [kind.good(CUT), kind.good()]
    with both(network, kind, *scripts, origin=large) as (origin, proxy):
        urls = [url_of(kind, origin.port, target) for target in ("/large", "/few/2")]
        first, second = fetched(face, urls, network.options(kind, proxy.port))
        assert first.attempts == 2
        if how == "once":
            assert first.content == BODY
        else:
            assert type(first.error) is ConnectionClosed
            assert 0 < first.error.received < CUT
        assert second.content == b"/few/2"
        assert proxy.connections == origin.connections == (2 if how == "once" else 3)
