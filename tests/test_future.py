"""AioFuture: steps in an asyncio loop, their waits, errors and ends, and what stays behind in the loop: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import socket
import ssl
import tempfile
import threading
import warnings
import weakref
from collections.abc import Awaitable, Callable, Generator, Iterator
from time import monotonic
from typing import Any

import pytest

from conftest import Authority
from httpio import BodyFollowing, ConnectionClosed, ConnectionTimedOut, HTTPConnection
from httpio.future import AioFuture, _waiting
from httpio.waiting import POLLIN, POLLOUT, PollNeeded
from servers.scripted import Peer, Scripted, answers, server_context

pytestmark = pytest.mark.filterwarnings("error")

Pair = tuple[socket.socket, socket.socket]
Main = Callable[[], Awaitable[Any]]
Wait = Generator[PollNeeded, None, Any]


def kinds_of_loop() -> Iterator[Any]:
    yield pytest.param(asyncio.new_event_loop, id="asyncio")
    with contextlib.suppress(ImportError):
        yield pytest.param(importlib.import_module("uvloop").new_event_loop, id="uvloop")


@pytest.fixture(params=kinds_of_loop())
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop, in which nothing goes wrong unseen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()  # sockets that earlier tests have left to it are not this one's matter
    made = request.param()
    seen: list[dict[str, Any]] = []
    made.set_exception_handler(lambda _, context: seen.append(context))
    yield made
    gc.collect()
    made.close()
    assert seen == []


@pytest.fixture
def run(loop: asyncio.AbstractEventLoop) -> Callable[[Main], Any]:
    """A function that runs an async function to its end; after it nobody waits for a descriptor."""

    def run_main(main: Main) -> Any:
        result = loop.run_until_complete(asyncio.wait_for(main(), 20))
        assert [key for key in _waiting if key[0] == id(loop)] == []
        return result

    return run_main


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    with left, right:
        yield left, right


def receive(sock: socket.socket, ended: list[Any] | None = None, deadline: float | None = None) -> Wait:
    """A step: what comes, or None at the deadline."""
    try:
        while deadline is None or monotonic() < deadline:
            try:
                return sock.recv(100)
            except BlockingIOError:
                yield PollNeeded(sock.fileno(), POLLIN, deadline)
        return None
    finally:
        if ended is not None:
            ended.append(sock)


def turns(count: int = 5) -> Awaitable[None]:
    """Let the loop go round a few times."""

    async def go_round() -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    return go_round()


def is_watched(sock: socket.socket) -> bool:
    """Whether the loop calls somebody when the socket is ready; it does not after this."""
    loop = asyncio.get_running_loop()
    return bool(loop.remove_reader(sock.fileno())) | bool(loop.remove_writer(sock.fileno()))


class TestSteps:
    def test_the_result(self, run: Callable[[Main], Any], pair: Pair) -> None:
        async def main() -> None:
            future = AioFuture(receive(pair[0]))
            await turns()
            assert not future.done()
            pair[1].send(b"x")
            assert await future == b"x"
            assert future.get_loop() is asyncio.get_running_loop()
            assert not is_watched(pair[0])

        run(main)

    def test_a_step_that_never_waits(self, run: Callable[[Main], Any]) -> None:
        def step() -> Wait:
            return 5
            yield

        async def main() -> None:
            future = AioFuture(step())
            assert not future.done()
            assert await future == 5
            assert not future.cancel()

        run(main)

    def test_what_it_raises(self, run: Callable[[Main], Any], pair: Pair) -> None:
        def step() -> Wait:
            yield PollNeeded(pair[0].fileno(), POLLOUT)
            raise KeyError("x")

        async def main() -> None:
            future = AioFuture(step())
            with pytest.raises(KeyError):
                await future
            assert not is_watched(pair[0])
            with pytest.raises(AttributeError):
                await AioFuture(None)  # type: ignore[arg-type]

        run(main)

    def test_an_exception_makes_no_cycle(self, run: Callable[[Main], Any]) -> None:
        def step() -> Wait:
            raise KeyError("x")
            yield

        async def main() -> None:
            future: AioFuture[Any] | None = AioFuture(step())
            assert future is not None
            await asyncio.wait([future])
            assert isinstance(future.exception(), KeyError)
            known = weakref.ref(future)
            gc.disable()
            try:
                future = None
                assert known() is None
            finally:
                gc.enable()

        run(main)

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    def test_what_ends_a_program(self, kind: type[BaseException], loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
        def step() -> Wait:
            raise kind
            yield

        future = AioFuture(step(), loop)
        with pytest.raises(kind):
            loop.run_until_complete(asyncio.sleep(10))
        assert isinstance(future.exception(), kind)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))

    def test_both_directions(self, run: Callable[[Main], Any], pair: Pair) -> None:
        """It is resumed once for each wait, when either is possible."""
        left, right = pair
        resumed = []

        def fill() -> None:
            while True:
                try:
                    left.send(bytes(100_000))
                except BlockingIOError:
                    return

        def step() -> Wait:
            fill()
            yield PollNeeded(left.fileno(), POLLIN | POLLOUT)
            resumed.append(left.recv(10))
            yield PollNeeded(left.fileno(), POLLIN | POLLOUT)
            resumed.append(b"room")

        async def main() -> None:
            future = AioFuture(step())
            await turns()
            right.send(b"x")
            while not resumed:
                await turns()
            await turns()
            assert resumed == [b"x"]
            while not future.done():
                right.recv(1_000_000)
                await turns()
            assert resumed == [b"x", b"room"]

        run(main)

    def test_both_at_once(self, run: Callable[[Main], Any], pair: Pair) -> None:
        count = 0

        def step() -> Wait:
            nonlocal count
            for _ in range(10):
                yield PollNeeded(pair[0].fileno(), POLLIN | POLLOUT)
                count += 1

        async def main() -> None:
            pair[1].send(b"x")
            await AioFuture(step())
            assert count == 10

        run(main)

    def test_pairs_without_a_deadline(self, run: Callable[[Main], Any], pair: Pair) -> None:
        def step() -> Generator[Any, None, str]:
            yield pair[0].fileno(), POLLOUT
            return "done"

        async def main() -> None:
            assert await AioFuture(step()) == "done"

        run(main)

    def test_a_deadline(self, run: Callable[[Main], Any], pair: Pair) -> None:
        async def main() -> None:
            deadline = monotonic() + 0.02
            assert await AioFuture(receive(pair[0], deadline=deadline)) is None
            assert monotonic() >= deadline
            assert not is_watched(pair[0])
            assert await AioFuture(receive(pair[0], deadline=monotonic() - 1)) is None
            pair[1].send(b"x")
            assert await AioFuture(receive(pair[0], deadline=monotonic() + 1e9)) == b"x"

        run(main)

    def test_a_deadline_that_was_not_needed_keeps_nothing(self, run: Callable[[Main], Any], pair: Pair) -> None:
        async def main() -> None:
            future: AioFuture[Any] | None = AioFuture(receive(pair[0], deadline=monotonic() + 1000))
            await turns()
            pair[1].send(b"x")
            assert future is not None
            assert await future == b"x"
            known = weakref.ref(future)
            future = None
            await turns()
            assert known() is None

        run(main)

    def test_no_descriptor_and_a_deadline(self, run: Callable[[Main], Any]) -> None:
        def step() -> Wait:
            yield PollNeeded(-1, 0, deadline)

        deadline = monotonic() + 0.02

        async def main() -> None:
            await AioFuture(step())
            assert monotonic() >= deadline - 0.01

        run(main)

    def test_a_bell(self, run: Callable[[Main], Any], pair: Pair) -> None:
        """A second descriptor, of which a step may be told."""
        ear, tongue = socket.socketpair()

        def step() -> Wait:
            need = PollNeeded(pair[0].fileno(), POLLIN)
            need.bell = ear.fileno()
            yield need
            return ear.recv(10)

        async def main() -> None:
            with ear, tongue:
                future = AioFuture(step())
                await turns()
                tongue.send(b"!")
                assert await future == b"!"
                assert not is_watched(ear)
                assert not is_watched(pair[0])

        run(main)

    def test_a_file_is_always_ready(self, run: Callable[[Main], Any]) -> None:
        def step(fd: int) -> Wait:
            yield PollNeeded(fd, POLLIN)
            return os.read(fd, 10)

        async def main() -> None:
            with tempfile.TemporaryFile() as file:
                file.write(b"content")
                file.seek(0)
                assert await AioFuture(step(file.fileno())) == b"content"

        run(main)


class TestLoops:
    def test_before_the_loop_runs(self, loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
        pair[1].send(b"ab")
        assert loop.run_until_complete(AioFuture(receive(pair[0]), loop)) == b"ab"

    def test_the_current_loop(self, loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
        asyncio.set_event_loop(loop)
        try:
            future = AioFuture(receive(pair[0]))
            assert future.get_loop() is loop
            pair[1].send(b"x")
            assert loop.run_until_complete(future) == b"x"
        finally:
            asyncio.set_event_loop(None)

    def test_two_loops_have_nothing_to_do_with_each_other(self, run: Callable[[Main], Any], pair: Pair) -> None:
        twin = pair[0].dup()
        got = []

        def elsewhere() -> None:
            async def main() -> None:
                waiting.set()
                got.append(await AioFuture(receive(pair[0], deadline=monotonic() + 20)))

            asyncio.run(main())

        waiting = threading.Event()
        thread = threading.Thread(target=elsewhere)

        async def main() -> None:
            future = AioFuture(receive(pair[0]))
            await turns()
            thread.start()
            await asyncio.get_running_loop().run_in_executor(None, waiting.wait, 20)
            pair[1].send(b"x")
            while not (got or future.done()):
                await asyncio.sleep(0.001)
            pair[1].shutdown(socket.SHUT_WR)
            got.append(await future)
            await asyncio.get_running_loop().run_in_executor(None, thread.join, 20)

        with twin:
            run(main)
        assert sorted(got) == [b"", b"x"]


class TestTwoFutures:
    def test_one_reads_and_one_writes(self, run: Callable[[Main], Any], pair: Pair) -> None:
        def write() -> Wait:
            yield PollNeeded(pair[0].fileno(), POLLOUT)
            return "written"

        async def main() -> None:
            reading = AioFuture(receive(pair[0]))
            await turns()
            assert await AioFuture(write()) == "written"
            assert not reading.done()
            pair[1].send(b"x")
            assert await reading == b"x"

        run(main)

    @pytest.mark.parametrize("mask", [POLLIN, POLLOUT, POLLIN | POLLOUT])
    def test_a_second_one_fails(self, mask: int, run: Callable[[Main], Any], pair: Pair) -> None:
        left, right = pair
        ended: list[Any] = []
        while True:
            try:
                left.send(bytes(100_000))
            except BlockingIOError:
                break

        def step(name: str) -> Wait:
            try:
                while name == "second" or not go_on:
                    yield PollNeeded(left.fileno(), mask)
            finally:
                ended.append(name)

        go_on = False

        async def main() -> None:
            nonlocal go_on
            first = AioFuture(step("first"))
            await turns()
            with pytest.raises(RuntimeError, match=f"descriptor {left.fileno()} "):
                await AioFuture(step("second"))
            assert ended == ["second"]
            go_on = True
            right.send(b"x")
            right.recv(10_000_000)
            await first
            assert ended == ["second", "first"]

        run(main)

    def test_the_first_may_have_another_wish_by_then(self, run: Callable[[Main], Any], pair: Pair) -> None:
        """As a sender, which listens to the peer only while nobody reads."""
        left, right = pair
        reads = False

        def send() -> Wait:
            while not ended:
                yield PollNeeded(left.fileno(), (0 if reads else POLLIN) | 0, monotonic() + 0.05)
            return "sent"

        def read() -> Wait:
            nonlocal reads
            reads = True
            return (yield from receive(left))

        ended: list[bool] = []

        async def main() -> None:
            sending = AioFuture(send())
            await turns()
            reading = AioFuture(read())
            await turns()
            right.send(b"x")
            assert await reading == b"x"
            ended.append(True)
            assert await sending == "sent"

        run(main)


class TestEnding:
    def test_cancelled_while_it_waits(self, run: Callable[[Main], Any], pair: Pair) -> None:
        ended: list[Any] = []

        async def main() -> None:
            future = AioFuture(receive(pair[0], ended, monotonic() + 1000))
            await turns()
            assert future.cancel()
            assert ended == [pair[0]]
            assert not is_watched(pair[0])
            assert future.cancelled()
            assert not future.cancel()
            with pytest.raises(asyncio.CancelledError):
                await future
            pair[1].send(b"x")
            await turns()
            assert await AioFuture(receive(pair[0])) == b"x"

        run(main)

    def test_cancelled_before_it_begins(self, run: Callable[[Main], Any], pair: Pair) -> None:
        begun = []

        def step() -> Wait:
            begun.append(True)
            yield PollNeeded(pair[0].fileno(), POLLIN)

        async def main() -> None:
            crt = step()
            future = AioFuture(crt)
            future.cancel("why")
            await turns()
            assert begun == []
            assert crt.gi_frame is None  # type: ignore[attr-defined]
            with pytest.raises(asyncio.CancelledError, match="why"):
                await future

        run(main)

    def test_cancelled_with_its_task(self, run: Callable[[Main], Any], pair: Pair) -> None:
        ended: list[Any] = []

        async def main() -> None:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(AioFuture(receive(pair[0], ended)), 0.01)
            assert ended == [pair[0]]
            assert not is_watched(pair[0])

        run(main)

    @pytest.mark.parametrize("end", ["waits", "returns", "raises"])
    def test_cancelled_by_its_own_step(self, end: str, run: Callable[[Main], Any], pair: Pair) -> None:
        ended = []

        def step() -> Wait:
            try:
                yield PollNeeded(pair[0].fileno(), POLLOUT)
                future.cancel()
                if end == "waits":
                    yield PollNeeded(pair[0].fileno(), POLLIN)
                elif end == "raises":
                    raise KeyError
            finally:
                ended.append(True)

        async def main() -> None:
            nonlocal future
            future = AioFuture(step())
            with pytest.raises(asyncio.CancelledError):
                await future
            await turns()
            assert ended == [True]
            assert not is_watched(pair[0])

        future: AioFuture[Any]
        run(main)

    def test_a_step_that_raises_cancelled(self, run: Callable[[Main], Any]) -> None:
        def step() -> Wait:
            raise asyncio.CancelledError
            yield

        async def main() -> None:
            future = AioFuture(step())
            await asyncio.wait([future])
            assert future.cancelled()

        run(main)

    def test_a_step_that_fails_at_its_close(self, loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
        def step() -> Wait:
            try:
                yield PollNeeded(pair[0].fileno(), POLLIN)
            finally:
                raise KeyError("x")

        async def main() -> None:
            future = AioFuture(step())
            await turns()
            assert future.cancel()
            assert not is_watched(pair[0])

        seen: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: seen.append(context))
        loop.run_until_complete(main())
        assert isinstance(seen.pop()["exception"], KeyError)
        assert seen == []

    def test_a_descriptor_that_a_transport_has_taken(
        self, loop: asyncio.AbstractEventLoop, run: Callable[[Main], Any], pair: Pair
    ) -> None:
        """As may happen where it was closed, and its number given to the transport's socket."""
        if not isinstance(loop, asyncio.SelectorEventLoop):
            pytest.skip("uvloop refuses such a transport")
        got = asyncio.Event()

        class Protocol(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                got.set()

        async def main() -> None:
            future = AioFuture(receive(pair[0]))
            await turns()
            transport, _ = await loop.create_connection(Protocol, sock=pair[0])
            assert future.cancel()
            pair[1].send(b"x")
            await got.wait()
            transport.close()
            await turns()

        run(main)

    def test_a_descriptor_that_is_closed_already(self, run: Callable[[Main], Any]) -> None:
        def step() -> Wait:
            sock = socket.socket()
            fd = sock.fileno()
            sock.close()
            yield PollNeeded(fd, POLLIN)
            yield PollNeeded(-1, POLLIN | POLLOUT)
            return "done"

        async def main() -> None:
            assert await AioFuture(step()) == "done"

        run(main)

    def test_a_descriptor_that_comes_back_as_another(self, run: Callable[[Main], Any]) -> None:
        """Whoever waited for a socket that was closed must not be told of, nor be in the way of, the next one."""
        ended: list[Any] = []

        async def main() -> None:
            first, peer = socket.socketpair()
            first.setblocking(False)
            waiting = AioFuture(receive(first, ended))
            await turns()
            fd = first.fileno()
            first.close()
            second, other = socket.socketpair()
            with contextlib.ExitStack() as below:
                while second.fileno() != fd:  # what the collector closes may leave others free
                    second = below.enter_context(second).dup()
            second.setblocking(False)
            with peer, second, other:
                reading = AioFuture(receive(second))
                await turns()
                with pytest.raises(OSError, match="Bad file descriptor"):
                    await waiting
                other.send(b"x")
                assert await reading == b"x"
            assert ended == [first]

        run(main)


# -- connections --


async def get(conn: HTTPConnection, target: str) -> bytes:
    await AioFuture(conn.co_send_request("GET", target))
    response = await AioFuture(conn.co_read_response())
    assert response.status == 200
    return await AioFuture(conn.co_readall())


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_several_connections(tls: bool, run: Callable[[Main], Any], authority: Authority) -> None:
    context = server_context(authority.chain, authority.key) if tls else None
    client = ssl.create_default_context(cafile=authority.ca) if tls else None

    async def main() -> None:
        with Scripted(answers, context) as server:
            conns = [HTTPConnection("localhost", server.port, client, timeout=20) for _ in range(8)]

            async def use(number: int, conn: HTTPConnection) -> None:
                with conn:
                    for turn in range(5):
                        target = f"/{number}/{turn}"
                        assert await get(conn, target) == target.encode()

            await asyncio.gather(*(use(number, conn) for number, conn in enumerate(conns)))
            assert server.connections == 8

    run(main)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_one_sends_and_one_reads(tls: bool, run: Callable[[Main], Any], authority: Authority) -> None:
    """The server goes on taking only what it can answer: neither half gets to its end without the other."""

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            peer.answer(seen.body)

    context = server_context(authority.chain, authority.key) if tls else None
    client = ssl.create_default_context(cafile=authority.ca) if tls else None
    count, body = 8, os.urandom(200_000)

    async def send(conn: HTTPConnection) -> None:
        for number in range(count):
            if number % 2:
                await AioFuture(conn.co_send_request("PUT", f"/{number}", body=body))
            else:
                await AioFuture(conn.co_send_request("PUT", f"/{number}", body=BodyFollowing(len(body))))
                await AioFuture(conn.co_write(body))

    async def read(conn: HTTPConnection) -> None:
        for number in range(count):
            while not conn.response_pending():
                await asyncio.sleep(0.001)
            response = await AioFuture(conn.co_read_response())
            assert response.path == f"/{number}"
            assert await AioFuture(conn.co_readall()) == body

    async def main() -> None:
        with (
            Scripted(script, context, small=True) as server,
            HTTPConnection("localhost", server.port, client, timeout=20) as conn,
        ):
            await AioFuture(conn.co_connect())
            await asyncio.gather(send(conn), read(conn))

    run(main)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_both_begin_before_there_is_a_connection(tls: bool, run: Callable[[Main], Any], authority: Authority) -> None:
    """One step sends all requests, another reads all responses, and neither knows of the other."""
    context = server_context(authority.chain, authority.key) if tls else None
    client = ssl.create_default_context(cafile=authority.ca) if tls else None
    targets = [f"/{number}" for number in range(100)]

    def send(conn: HTTPConnection) -> Wait:
        for target in targets:
            yield from conn.co_send_request("GET", target)

    def read(conn: HTTPConnection) -> Wait:
        bodies = []
        for _ in targets:
            yield from conn.co_read_response()
            bodies.append((yield from conn.co_readall()))
        return bodies

    async def main() -> None:
        with Scripted(answers, context) as server, HTTPConnection("localhost", server.port, client, timeout=20) as conn:
            _, bodies = await asyncio.gather(AioFuture(send(conn)), AioFuture(read(conn)))
            assert bodies == [target.encode() for target in targets]
            assert server.connections == 1

    run(main)


def test_the_connections_own_errors(run: Callable[[Main], Any]) -> None:
    def script(peer: Peer) -> None:
        seen = peer.request()
        if seen is not None and seen.target == "/slow":
            peer.drain()

    async def main() -> None:
        with Scripted(script) as server:
            conn = HTTPConnection("127.0.0.1", server.port, timeout=0.05)
            with conn, pytest.raises(ConnectionTimedOut):
                await get(conn, "/slow")
            conn.timeout = 20
            with conn, pytest.raises(ConnectionClosed):
                await get(conn, "/closed")
            with conn:
                task = asyncio.ensure_future(get(conn, "/slow"))
                while not conn.response_pending():
                    await turns()
                await turns()
                conn.abort()
                with pytest.raises(ConnectionClosed):
                    await task

    run(main)


def test_a_look_up_holds_up_nobody(run: Callable[[Main], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def look_up(*_: Any, **__: Any) -> list[Any]:
        over.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    async def main() -> None:
        nonlocal port
        with Scripted(answers) as server:
            port = server.port
            with HTTPConnection("slow.example", port, timeout=20) as conn:
                task = asyncio.ensure_future(get(conn, "/a"))
                await turns()
                assert not task.done()
                over.set()
                assert await task == b"/a"

    port = 0
    run(main)
