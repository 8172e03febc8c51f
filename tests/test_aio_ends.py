"""AsyncHTTPConnection: how it ends: closed, aborted, or dropped, by whoever holds it, while others wait."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from httpio import AsyncHTTPConnection, BodyFollowing, ConnectionClosed
from loops import KINDS, Serve, ask, noting, serving_tasks, turns
from servers.scripted import Peer, Scripted, answers
from serving import BIG

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(params=KINDS)
def loop(request: pytest.FixtureRequest) -> Iterator[Any]:
    with noting(request.param) as made:
        yield made


@pytest.fixture
def served(loop: Any) -> Iterator[Serve]:
    with serving_tasks() as serve:
        yield serve


def test_with_closes(loop: Any, served: Serve) -> None:
    server, conn = served()

    async def main() -> None:
        async with conn as same:
            assert same is conn
            await ask(conn, "/1")
        assert conn.peername is None
        with contextlib.suppress(KeyError):
            async with conn:
                await ask(conn, "/2")
                raise KeyError
        assert conn.peername is None
        await ask(conn, "/3")
        assert await conn.aclose() is None
        assert conn.peername is None
        assert loop.watched == set()
        async with contextlib.aclosing(conn):
            await conn.connect()
        assert conn.peername is None

    loop.complete(main)
    server.settle(4)
    assert server.connections == 4


def test_a_connection_that_is_dropped(loop: Any) -> None:
    with Scripted(answers) as server:

        async def main() -> None:
            conn = AsyncHTTPConnection("127.0.0.1", server.port)
            await ask(conn, "/")
            assert loop.watched != set()
            dropped = [conn]
            del conn
            with pytest.warns(ResourceWarning, match=rf"unclosed connection to 127\.0\.0\.1 port {server.port}"):
                dropped.clear()
            assert loop.watched == set()

        loop.complete(main)
        server.settle(1)  # it has ended


def test_a_connection_that_is_dropped_after_its_loop(loop: Any) -> None:
    with Scripted(answers) as server:
        conns = [AsyncHTTPConnection("127.0.0.1", server.port)]
        loop.complete(lambda: ask(conns[0], "/"))
        loop.close()
        with pytest.warns(ResourceWarning, match="unclosed"):
            conns.clear()
        server.settle(1)


def test_no_warning_without_a_connection(loop: Any, served: Serve) -> None:
    """Warnings are errors here."""
    server, _ = served()

    async def main() -> None:
        for used in (False, True):
            conn = AsyncHTTPConnection("127.0.0.1", server.port)
            if used:
                await ask(conn, "/")
                conn.close()
            del conn

    loop.complete(main)
    gc.collect()


# -- while others wait --


@pytest.mark.parametrize("how", ["thread", "task"])
@pytest.mark.parametrize("what", ["reading", "sending", "both", "body", "connecting"])
def test_abort(what: str, how: str, loop: Any, served: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = threading.Event()
    if what == "connecting":

        def look_up(*_: Any, **__: Any) -> Any:
            looked_up.wait(20)
            raise socket.gaierror(socket.EAI_NONAME, "unknown")

        monkeypatch.setattr(socket, "getaddrinfo", look_up)

    def script(peer: Peer) -> None:
        if peer.number:
            return answers(peer)
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234" if what == "body" else b"")
        assert looked_up.wait(20)

    _, conn = served(script)
    name = conn.hostname
    if what == "connecting":
        conn = AsyncHTTPConnection("name.invalid", 80)

    async def main() -> None:
        calls: list[Any]
        if what == "connecting":
            calls = [conn.connect()]
        elif what == "body":
            await conn.send_request("GET", "/")
            await conn.read_response()
            calls = [conn.readall()]
        else:
            await conn.send_request("PUT", "/", body=BodyFollowing(BIG))
            calls = [] if what == "reading" else [conn.write(bytes(BIG))]
            calls += [] if what == "sending" else [conn.read_response()]
        tasks = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in tasks)
        if how == "thread":
            thread = threading.Thread(target=conn.abort)
            thread.start()
            await asyncio.wait(tasks)
            thread.join()
        else:
            conn.abort()
            await asyncio.wait(tasks)
        for task in tasks:
            assert isinstance(task.exception(), ConnectionClosed)
        looked_up.set()
        conn.close()
        if what != "connecting":
            await ask(conn, "/new")

    loop.complete(main)
    assert name == "127.0.0.1"
    conn.close()


@pytest.mark.parametrize("what", ["reading", "sending", "both", "body"])
def test_close_wakes_who_waits(what: str, loop: Any, served: Serve) -> None:
    over = threading.Event()

    def script(peer: Peer) -> None:
        if peer.number:
            return answers(peer)
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234" if what == "body" else b"")
        assert over.wait(20)

    _, conn = served(script)

    async def main() -> None:
        await conn.send_request("PUT", "/", body=BodyFollowing(BIG))
        calls: list[Any] = []
        if what == "body":
            await conn.read_response()
            calls += [conn.readall()]
        if what in ("sending", "both"):
            calls += [conn.write(bytes(BIG))]
        if what in ("reading", "both"):
            calls += [conn.read_response()]
        tasks = [asyncio.ensure_future(call) for call in calls]
        await turns()
        assert not any(task.done() for task in tasks)
        conn.close()
        assert loop.watched == set()
        await ask(conn, "/new")  # before they have had their turn, perhaps
        await asyncio.wait(tasks)
        for task in tasks:
            assert isinstance(task.exception(), ConnectionClosed)
        await ask(conn, "/newer")

    try:
        loop.complete(main)
    finally:
        over.set()


def test_close_while_connecting(loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    known = threading.Event()
    look_up = socket.getaddrinfo

    def slowly(*arguments: Any, **options: Any) -> Any:
        assert known.wait(20)
        return look_up(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    with Scripted(answers) as server:
        conn = AsyncHTTPConnection("localhost", server.port)

        async def main() -> None:
            task = asyncio.ensure_future(conn.connect())
            await turns()
            conn.close()
            known.set()
            await asyncio.wait([task])
            assert isinstance(task.exception(), ConnectionClosed)
            assert conn.peername is None
            await ask(conn, "/")

        try:
            loop.complete(main)
        finally:
            conn.close()
