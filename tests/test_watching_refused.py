"""Event loops that cannot watch descriptors: one clear error, before anything is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from httpio import AsyncHTTPConnection, BodyFollowing, afetch
from httpio.watching import Watch
from loops import noting
from servers.scripted import Scripted, answers

pytestmark = pytest.mark.filterwarnings("error")


class WithoutReaders(asyncio.SelectorEventLoop):
    """As Windows' Proactor."""

    add_reader = asyncio.AbstractEventLoop.add_reader
    add_writer = asyncio.AbstractEventLoop.add_writer


@pytest.fixture
def bare() -> Iterator[WithoutReaders]:
    loop = WithoutReaders()
    yield loop
    loop.close()


REFUSED = r"add_reader.*Windows.*asyncio\.SelectorEventLoop"


def test_loops_without_add_reader(bare: WithoutReaders) -> None:
    class Minimal:
        """Not even the name."""

    class Base(asyncio.BaseEventLoop):
        """All but what waits."""

    base = Base()
    for unable in (bare, base, asyncio.AbstractEventLoop(), Minimal()):
        with pytest.raises(RuntimeError, match=REFUSED):
            Watch(unable)  # type: ignore[arg-type]
    base.close()


CALLS: dict[str, Callable[[AsyncHTTPConnection], Any]] = {
    "connect": lambda conn: conn.connect(),
    "send_request": lambda conn: conn.send_request("GET", "/"),
    "a body to follow": lambda conn: conn.send_request("PUT", "/", body=BodyFollowing(10)),
    "pipeline": lambda conn: anext(conn.pipeline(["/1", "/2"])),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_connection_without_add_reader(call: str, bare: WithoutReaders) -> None:
    """It says so before it connects."""
    with Scripted(answers) as server:

        async def main() -> None:
            conn = AsyncHTTPConnection("127.0.0.1", server.port)
            for _ in range(2):
                with pytest.raises(RuntimeError, match=REFUSED):
                    await CALLS[call](conn)
                assert conn.peername is None
            conn.close()

        bare.run_until_complete(asyncio.wait_for(main(), 20))
    assert server.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_afetch_without_add_reader(host: str, bare: WithoutReaders) -> None:
    with Scripted(answers) as server:

        async def main() -> None:
            with pytest.raises(RuntimeError, match=REFUSED):
                async for _ in afetch([f"http://{host}:{server.port}/1"]):
                    pass

        bare.run_until_complete(asyncio.wait_for(main(), 20))
    assert server.connections == 0


def test_a_connection_that_was_made_in_another_loop(bare: WithoutReaders) -> None:
    """A call that has to wait says so, and leaves the connection as it was."""
    with Scripted(answers) as server, noting("asyncio") as able:
        conn = AsyncHTTPConnection("127.0.0.1", server.port)

        async def rest() -> None:
            assert (await conn.read_response()).path == "/"
            assert await conn.readall() == b"/"

        able.complete(conn.connect)
        bare.run_until_complete(conn.send_request("GET", "/"))
        with pytest.raises(RuntimeError, match=REFUSED):
            bare.run_until_complete(conn.read_response())
        able.complete(rest)
        conn.close()
    assert server.connections == 1
