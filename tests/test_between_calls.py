"""What one call does to another that is under way on the same connection: each has what is its own, or an error, and
none waits for what cannot come."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from httpio import AsyncHTTPConnection, ConnectionClosed, HTTPConnection, Request, StateError, afetch, eval_coroutine
from httpio.aio import CALLS
from servers.scripted import Peer, Scripted, answers

LIMIT = 20


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The first look-up of a name waits for this."""
    opened, first = threading.Event(), threading.Lock()
    look_up = socket.getaddrinfo

    def slowly(host: str, port: int, **options: Any) -> Any:
        if first.acquire(blocking=False):
            opened.wait(LIMIT)
        return look_up("127.0.0.1", port, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    yield opened
    opened.set()


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def run(main: Any) -> None:
    asyncio.run(asyncio.wait_for(main, LIMIT))


@pytest.mark.parametrize("second_reader", ["before", "after"])
def test_a_reader_of_a_connection_that_was_closed_has_no_answer_of_the_next(
    second_reader: str, gate: threading.Event
) -> None:
    async def main(port: int) -> None:
        conn = AsyncHTTPConnection("some.test", port)
        sender = asyncio.create_task(conn.send_request("GET", "/a"))
        await turns()
        reader = asyncio.create_task(conn.read_response())
        await turns()
        conn.close()
        second = asyncio.create_task(conn.send_request("GET", "/b"))
        if second_reader == "after":
            await second
        else:
            await asyncio.sleep(0)  # it connects by now
        assert (await conn.read_response()).path == "/b"
        await second
        for task in (sender, reader):
            with pytest.raises(ConnectionClosed):
                await task
        conn.close()

    with Scripted(answers) as server:
        run(main(server.port))


def test_a_pipeline_that_begins_before_a_call_has_its_turn() -> None:
    async def main(port: int) -> None:
        async with AsyncHTTPConnection("127.0.0.1", port) as conn:
            await conn.connect()
            while conn._unwaited < CALLS:
                await conn.flush()
            sender = asyncio.create_task(conn.send_request("GET", "/a"))
            assert [response.path async for response in conn.pipeline(["/0", "/1", "/2"])] == ["/0", "/1", "/2"]
            with pytest.raises(StateError):
                await sender

    with Scripted(answers) as server:
        run(main(server.port))
        assert server.targets() == ["/0", "/1", "/2"]


@pytest.mark.parametrize("call", ["co_connect", "co_send_request"])
def test_a_step_that_was_made_before_a_pipeline(call: str) -> None:
    with Scripted(answers) as server, HTTPConnection("127.0.0.1", server.port, timeout=LIMIT) as conn:
        conn.connect()
        step = conn.co_connect() if call == "co_connect" else conn.co_send_request("GET", "/a")
        for response in conn.pipeline(["/0", "/1", "/2"]):
            if response.path == "/0":
                with pytest.raises(StateError):
                    eval_coroutine(step)
        conn.close()
        server.settle()
        assert server.targets() == ["/0", "/1", "/2"]


def test_a_pipeline_waits_for_no_call_and_ends_none(gate: threading.Event) -> None:
    async def main(port: int) -> None:
        async with AsyncHTTPConnection("some.test", port) as conn:
            sender = asyncio.create_task(conn.send_request("GET", "/a"))
            await turns()
            with pytest.raises(StateError):
                conn.pipeline(["/0"])
            gate.set()
            await sender
            assert (await conn.read_response()).path == "/a"

    with Scripted(answers) as server:
        run(main(server.port))


def blocks() -> Iterator[bytes]:
    while True:
        yield bytes(65536)


@pytest.mark.parametrize("reads", ["a response", "a body"])
def test_a_reader_is_told_when_a_sender_breaks_the_connection(reads: str) -> None:
    over = threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        if reads == "a body":
            peer.take(65536)
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        over.wait(LIMIT)

    async def main(port: int) -> None:
        async with AsyncHTTPConnection("127.0.0.1", port) as conn:
            if reads == "a response":
                await conn.send_request("GET", "/1")
                reader: asyncio.Task[Any] = asyncio.create_task(conn.read_response())
                await turns()
            sender = asyncio.create_task(conn.send_request("PUT", "/2", body=blocks()))
            if reads == "a body":
                await turns()
                await conn.read_response()
                assert await conn.read(100) == b"hello"
                reader = asyncio.create_task(conn.read(100))
            await turns(100)  # the sockets are full by then, or not: it is the same
            sender.cancel()
            with pytest.raises(ConnectionClosed):
                await reader

    with Scripted(script, small=True) as server:
        try:
            run(main(server.port))
        finally:
            over.set()


def test_a_reader_in_another_thread_is_told_when_a_body_fails() -> None:
    over, told = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        over.wait(LIMIT)

    def read() -> None:
        with pytest.raises(ConnectionClosed):
            conn.read_response()
        told.set()

    def fails() -> Iterator[bytes]:
        yield bytes(10)
        raise KeyError("source")

    with Scripted(script) as server, HTTPConnection("127.0.0.1", server.port) as conn:
        conn.send_request("GET", "/1")
        reader = threading.Thread(target=read)
        reader.start()
        try:
            with pytest.raises(KeyError):
                conn.send_request("PUT", "/2", body=fails())
            assert told.wait(LIMIT)
        finally:
            over.set()
            reader.join()


@pytest.mark.parametrize("kind", ["iterable", "asynchronous iterable"])
def test_few_bodies_are_drawn_ahead(kind: str) -> None:
    drawn = 0
    over = threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        over.wait(LIMIT)

    def requests(port: int) -> Iterator[Request]:
        nonlocal drawn
        for number in range(300):
            drawn += 1
            yield Request("PUT", f"http://127.0.0.1:{port}/{number}", body=bytes(1024 * 1024))

    async def slowly(port: int) -> AsyncIterator[Request]:
        for request in requests(port):
            yield request

    async def main(port: int) -> None:
        results = afetch(requests(port) if kind == "iterable" else slowly(port))
        first = asyncio.create_task(anext(results))
        await turns(400)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await results.aclose()

    with Scripted(script) as server:
        try:
            run(main(server.port))
        finally:
            over.set()
    assert 1 <= drawn <= 80
