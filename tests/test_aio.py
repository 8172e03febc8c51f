"""AsyncHTTPConnection: its names, its calls, its tasks and loops."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import httpio
from httpio import AsyncHTTPConnection, BodyFollowing, HTTPConnection, HTTPResponse, StateError
from loops import KINDS, Held, Serve, ask, ends_with, noting, serving_tasks, turns, turns_of_others, until
from servers.scripted import Peer, Scripted, answers
from serving import BIG, Store

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(params=KINDS)
def loop(request: pytest.FixtureRequest) -> Iterator[Any]:
    with noting(request.param) as made:
        yield made


@pytest.fixture
def served(loop: Any) -> Iterator[Serve]:
    with serving_tasks() as serve:
        yield serve


# -- names --

AWAITED = {
    "connect", "send_request", "write", "sendfile", "end_body", "flush", "read_response", "read", "readinto", "readall",
    "discard", "write_to", "read_raw", "get_ssl_peercert", "get_ssl_cipher", "text", "aclose",
}  # fmt: skip
ONLY_BLOCKING = {"readable", "writable", "seekable"}  # of a binary file
ONLY_AWAITED = {"aclose"}
OTHER_PARAMETERS = {
    "send_request": {"via_cofun"},  # a task of its own does that
    "text": {"newline"},  # it gives a str, and no file
}
OTHER_TYPES = {"text", "pipeline"}


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_the_names_are_those_of_the_blocking_connection() -> None:
    assert public(HTTPConnection) - public(AsyncHTTPConnection) == ONLY_BLOCKING
    assert public(AsyncHTTPConnection) - public(HTTPConnection) == ONLY_AWAITED
    for name in public(HTTPConnection) & public(AsyncHTTPConnection):
        one, other = (inspect.getattr_static(kind, name) for kind in (HTTPConnection, AsyncHTTPConnection))
        assert type(one) is type(other), name
        if not inspect.isfunction(one):
            assert one is other, name
            continue
        assert inspect.iscoroutinefunction(other) == (name in AWAITED), name
        assert other.__doc__, name
        signature = inspect.signature(one)
        left_out = OTHER_PARAMETERS.get(name, set())
        kept = [parameter for parameter in signature.parameters.values() if parameter.name not in left_out]
        found = inspect.signature(other)
        if name in OTHER_TYPES:
            assert [(p.name, p.kind, p.default) for p in found.parameters.values()] == [
                (p.name, p.kind, p.default) for p in kept
            ], name
        else:
            assert list(found.parameters.values()) == kept, name
            assert found.return_annotation == ("None" if name == "send_request" else signature.return_annotation), name
    assert public(AsyncHTTPConnection) >= AWAITED


def test_it_is_made_like_the_blocking_connection() -> None:
    assert inspect.signature(AsyncHTTPConnection) == inspect.signature(HTTPConnection)
    assert httpio.AsyncHTTPConnection is AsyncHTTPConnection
    with pytest.raises(ValueError, match="time limit"):
        AsyncHTTPConnection("h", timeout=-1)
    with pytest.raises(httpio.InvalidURL):
        AsyncHTTPConnection("a b")


def test_settings() -> None:
    """No loop is needed for them."""
    conn = AsyncHTTPConnection("h", 81, timeout=0, connect_timeout=2, deadline=3, expect_timeout=0)
    assert (conn.hostname, conn.port, conn.ssl_context) == ("h", 81, None)
    assert (conn.timeout, conn.connect_timeout, conn.deadline, conn.expect_timeout) == (None, 2, 3, 0)
    conn.timeout, conn.connect_timeout, conn.deadline, conn.expect_timeout = 5, 0, None, None
    assert (conn.timeout, conn.connect_timeout, conn.deadline, conn.expect_timeout) == (5, None, None, None)
    assert (conn.peername, conn.local_address, conn.outstanding, conn.buffered) == (None, None, (), False)
    assert not conn.response_pending()
    assert conn.on_informational is conn.trace_fh is None
    for call in (conn.fileno, conn.detach):
        with pytest.raises(StateError):
            call()
    conn.abort()
    conn.close()


def test_it_is_called_in_a_loop_only() -> None:
    with Scripted(answers) as server:
        conn = AsyncHTTPConnection("127.0.0.1", server.port)
        coroutine = conn.connect()
        with pytest.raises(RuntimeError, match="running event loop"):
            coroutine.send(None)
        assert conn.peername is None
    assert server.connections == 0


# -- an exchange --


def test_calls_one_by_one(loop: Any, served: Serve) -> None:
    script = Store()
    server, conn = served(script)

    async def main() -> None:
        assert await conn.get_ssl_peercert() is await conn.get_ssl_cipher() is None
        await conn.connect()
        assert conn.peername == ("127.0.0.1", server.port)
        assert conn.local_address != conn.peername
        assert conn.fileno() >= 0
        await conn.send_request("PUT", "/1", {"X": "y"}, b"whole")
        await conn.send_request("PUT", "/2", body=BodyFollowing(10))
        assert await conn.write(b"01234") == 5
        assert await conn.sendfile(io.BytesIO(b"56789")) == 5
        await conn.send_request("PUT", "/3", body=BodyFollowing(None))
        assert await conn.write(b"abc") == 3
        await conn.flush()
        await conn.end_body({"X-Sum": "1"})
        assert [request.path for request in conn.outstanding] == ["/1", "/2", "/3"]
        await conn.read_response()
        assert [await conn.read(1), await conn.read(), await conn.read(1)] == [b"/", b"1", b""]
        await conn.read_response()
        buffer = bytearray(10)
        assert [await conn.readinto(buffer), await conn.readinto(buffer)] == [2, 0]
        await conn.read_response()
        target = io.BytesIO()
        assert await conn.write_to(target) == 2
        assert target.getvalue() == b"/3"
        await conn.send_request("GET", "/4")
        await conn.read_response()
        assert conn.response_pending()
        assert conn.buffered
        await conn.discard()
        assert not conn.response_pending()
        await conn.send_request("GET", "/5")
        with pytest.raises(ValueError, match="one byte"):
            await conn.read_raw(0)
        assert (await conn.read_raw(1000)).endswith(b"/5")

    loop.complete(main)
    assert script.bodies == [b"whole", b"0123456789", b"abc", b"", b""]
    assert script.trailers[2] == [b"X-Sum: 1"]
    assert server.connections == 1


@pytest.mark.parametrize(
    ("arguments", "body", "text"),
    [
        ((), "größe\r\n".encode(), "größe\r\n"),
        (("latin-1",), b"gr\xf6\xdfe", "größe"),
        (("utf-8", "replace"), b"a\xffb", "a\ufffdb"),
        ((), b"", ""),
        (("utf-16",), "€".encode("utf-16") * 100_000, "€" + "\ufeff€" * 99_999),
    ],
)
def test_text(arguments: tuple[str, ...], body: bytes, text: str, loop: Any, served: Serve) -> None:
    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.answer(body)

    server, conn = served(script)

    async def main() -> None:
        for _ in range(2):
            await conn.send_request("GET", "/")
            await conn.read_response()
            assert await conn.text(*arguments) == text
            assert await conn.text() == ""
        await conn.send_request("GET", "/")
        await conn.read_response()
        if b"\xff" in body:
            await ends_with(conn.text(), UnicodeDecodeError)
            assert not conn.response_pending()

    loop.complete(main)
    assert server.connections == 1


def test_partial_writes(loop: Any, served: Serve) -> None:
    """They take what can be sent now, and do not wait."""
    script = Store(held=True)
    _, conn = served(script)
    data = bytes(range(256)) * 4096

    async def main() -> None:
        await conn.send_request("PUT", "/", body=BodyFollowing(BIG))
        sent = 0
        with turns_of_others() as count:
            while taken := await conn.write(memoryview(data)[sent % len(data) :], partial=True):
                sent += taken
        assert not count
        assert 0 < sent < BIG
        script.gate.set()
        while sent < BIG:
            sent += await conn.write(memoryview(data)[sent % len(data) :])
        await conn.flush()
        await conn.read_response()
        await conn.discard()

    loop.complete(main)
    assert script.bodies == [data * (BIG // len(data))]


def test_interim_responses_are_shown(loop: Any, served: Serve) -> None:
    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
            peer.answer(b"content")

    seen: list[int] = []

    def show(response: HTTPResponse) -> None:
        seen.append(response.status)
        if len(seen) > 2:
            raise KeyError("mine")

    _, conn = served(script, on_informational=show)
    assert conn.on_informational is show

    async def main() -> None:
        await conn.send_request("GET", "/")
        response = await conn.read_response()
        assert (seen, [early.status for early in response.informational]) == ([103], [103])
        await conn.discard()
        assert [response.status async for response in conn.pipeline(["/"])] == [200]
        await conn.send_request("GET", "/")
        with pytest.raises(KeyError, match="mine"):
            await conn.read_response()
        conn.on_informational = None
        assert (await conn.read_response()).status == 200
        assert await conn.readall() == b"content"

    loop.complete(main)
    assert seen == [103] * 3


def test_traces(loop: Any, served: Serve, tmp_path: Path) -> None:
    _, conn = served(answers, trace=tmp_path / "trace-%d")

    async def main() -> None:
        await ask(conn, "/first")
        conn.trace_fh = file = io.BytesIO()
        await ask(conn, "/second")
        conn.trace_fh = None
        await ask(conn, "/third")
        assert b"/second" in file.getvalue()
        assert b"/third" not in file.getvalue()

    loop.complete(main)
    conn.close()
    (path,) = tmp_path.iterdir()
    assert b"/first" in path.read_bytes()


# -- tasks --


def test_one_task_sends_and_one_reads(loop: Any, served: Serve) -> None:
    """A second of either is an error, and the first goes on."""
    script = Store(held=True)
    _, conn = served(script)

    async def main() -> None:
        await conn.send_request("PUT", "/1", body=BodyFollowing(BIG))
        sender = asyncio.ensure_future(conn.write(bytes(BIG)))
        reader = asyncio.ensure_future(conn.read_response())
        await turns()
        assert not sender.done()
        assert not reader.done()
        for call in (conn.write(b"x"), conn.flush(), conn.send_request("GET", "/2"), conn.end_body()):
            await ends_with(call, StateError)
        await ends_with(conn.read_response(), StateError)
        assert not sender.done()
        assert not reader.done()
        script.gate.set()
        assert await sender == BIG
        assert (await reader).path == "/1"
        assert await conn.readall() == b"/1"
        await ask(conn, "/3")

    loop.complete(main)
    assert [len(body) for body in script.bodies] == [BIG, 0]


def test_a_second_reader_of_a_body(loop: Any, served: Serve) -> None:
    gate = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")
        assert gate.wait(20)
        peer.send(b"56789")
        answers(peer)

    _, conn = served(script)

    async def main() -> None:
        await conn.send_request("GET", "/")
        await conn.read_response()
        assert await conn.read(5) == b"01234"
        reader = asyncio.ensure_future(conn.readall())
        await turns()
        for call in (conn.read(1), conn.readinto(bytearray(1)), conn.discard(), conn.readall()):
            await ends_with(call, StateError)
        gate.set()
        assert await reader == b"56789"
        await ask(conn, "/after")

    loop.complete(main)


def test_a_reader_that_waits_for_another_to_send(loop: Any, served: Serve) -> None:
    """Nothing is outstanding yet when it begins."""
    _, conn = served()

    async def main() -> None:
        sender = asyncio.ensure_future(conn.send_request("GET", "/"))
        await turns(1)
        response = await conn.read_response()
        assert (response.path, await conn.readall()) == ("/", b"/")
        await sender

    loop.complete(main)


# -- loops --


@pytest.mark.parametrize("kind", KINDS)
def test_one_loop_after_another(kind: str, loop: Any, served: Serve) -> None:
    """The first has ended, or is only not running."""
    server, conn = served()
    loop.complete(lambda: ask(conn, "/1"))
    with noting(kind) as second:
        second.complete(lambda: ask(conn, "/2"))
        assert loop.watched == set()
        assert second.watched != set()
        loop.complete(lambda: ask(conn, "/3"))
        assert second.watched == set()
    loop.close()
    loop.watched.clear()  # a closed loop cannot be told
    with noting(kind) as third:
        third.complete(lambda: ask(conn, "/4"))
        conn.close()
    assert server.connections == 1


def test_run_after_run() -> None:
    """As programs do it: each asyncio.run has a loop of its own."""
    with Scripted(answers) as server:
        conn = AsyncHTTPConnection("127.0.0.1", server.port, timeout=20)
        for number in range(5):
            asyncio.run(ask(conn, f"/{number}"))

        async def left() -> None:
            await conn.send_request("GET", "/left")
            waiting = asyncio.ensure_future(conn.read_response())
            await asyncio.sleep(0)
            assert not waiting.done()

        asyncio.run(left())

        async def rest() -> None:
            assert (await conn.read_response()).path == "/left"
            await conn.discard()
            conn.close()

        asyncio.run(rest())
    assert server.connections == 1


def test_another_loop_while_a_call_waits(loop: Any, served: Serve) -> None:
    script = Store(held=True)
    server, conn = served(script)

    async def begin() -> asyncio.Task[int]:
        await conn.send_request("PUT", "/1", body=BodyFollowing(BIG))
        task = asyncio.ensure_future(conn.write(bytes(BIG)))
        await turns()
        return task

    sender = loop.run_until_complete(begin())
    with noting("asyncio") as second:
        second.complete(lambda: ends_with(conn.read_response(), StateError, "another event loop"))

    async def rest() -> None:
        assert not sender.done()
        script.gate.set()
        assert await sender == BIG
        assert (await conn.read_response()).path == "/1"
        await conn.discard()

    loop.complete(rest)
    assert server.connections == 1


def test_a_closed_loop_with_a_call_that_waits(loop: Any, served: Serve) -> None:
    """To close the connection still closes it."""
    script = Held()
    server, conn = served(script)

    async def begin() -> asyncio.Task[None]:
        task = asyncio.ensure_future(ask(conn, "/held"))
        await until(lambda: server.seen)
        return task

    left = loop.run_until_complete(begin())
    loop.close()
    loop.watched.clear()  # a closed loop cannot be told
    with contextlib.suppress(AttributeError):
        left._log_destroy_pending = False
    try:
        conn.close()
        assert conn.peername is None
        script.gate.set()
        with noting("asyncio") as second:
            second.complete(lambda: ask(conn, "/new"))
            conn.close()
    finally:
        conn._link.watch = None
        script.gate.set()
    assert server.connections == 2


@pytest.mark.parametrize("kind", ["reading", "sending", "idle"])
def test_fork(kind: str) -> None:
    """The child's connection is its own, and the parent's loop is told of what comes all the same."""
    script = Held()

    def serve(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            if seen.target == "/release":
                script.gate.set()
            elif seen.target.startswith("/held"):
                assert script.gate.wait(20)
            peer.answer(seen.target.encode())

    with Scripted(serve) as server:
        program = Path(__file__).with_name("fork_in_loop.py")
        for loop_kind in KINDS:
            script.gate.clear()
            command = [sys.executable, str(program), kind, str(server.port), loop_kind]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
    assert server.connections == 6
