"""What does a GET of 1 KiB cost under asyncio, one at a time and in bulk?

`AsyncHTTPConnection` on asyncio's loop and on uvloop's, beside aiohttp and httpx.AsyncClient, each with one client
and kept connections. aiohttp runs as fast as it could be made: no timeouts, no cookies, URLs parsed beforehand; "as it
comes" is aiohttp with its defaults and URLs as str. In bulk, since it does not pipeline, 16 tasks draw from one list,
on 16 connections: with 8 to 64, or gathered in batches of as many, it costs the same within the noise; one or two
tasks, or thousands that wait for a semaphore or for a connection, cost more. httpx has no timeouts either, and
takes no part in bulk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from itertools import cycle, islice
from typing import Any

from harness import Go, Rival, interleave, main, rival
from pipeline import RESPONSE, TARGETS, WIRE
from report import Table
from servers import HOST, canned, nginx, nginx_program

LOOPS = ("asyncio", "uvloop")
TASKS = 16
ROUND = 500
BULK = len(TARGETS) * 50
ROUNDS = 20
BASE = "aiohttp, uvloop"
MOST = 0.6
MOST_TIME = 50
MOST_IN_BULK = 0.1
MOST_TIME_IN_BULK = 4

Loop = asyncio.AbstractEventLoop
Work = Callable[[int], Coroutine[Any, Any, int]]


def _new_loop(options: dict[str, Any]) -> Loop:
    if options["loop"] == "asyncio":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()


def _urls(options: dict[str, Any]) -> list[str]:
    return [f"http://{HOST}:{options['port']}{target}" for target in TARGETS]


def _in(loop: Loop, work: Work) -> Go:
    """Run `work`, which returns the sum of the statuses and of the bodies' lengths, in `loop`."""

    def go(count: int) -> None:
        found = loop.run_until_complete(work(count))
        expected = count * (200 + RESPONSE.content)
        if found != expected:
            raise RuntimeError(f"the responses add up to {found}, not to {expected}")

    return go


def aiohttp_client(options: dict[str, Any]) -> Go:
    """aiohttp: `tasks` tasks, each with one request at a time, in one session."""
    import aiohttp
    import yarl

    loop = _new_loop(options)
    tasks = options.get("tasks", 1)

    async def start() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=tasks)
        if options.get("as it comes"):
            return aiohttp.ClientSession(connector=connector)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=None)
        return aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())

    session = loop.run_until_complete(start())
    urls: list[Any] = _urls(options)
    if not options.get("as it comes"):
        urls = [yarl.URL(url) for url in urls]

    async def draw(requests: Iterator[Any]) -> int:
        found = 0
        for url in requests:
            async with session.get(url) as response:
                found += response.status + len(await response.read())
        return found

    async def work(count: int) -> int:
        requests = islice(cycle(urls), count)
        if tasks == 1:
            return await draw(requests)
        return sum(await asyncio.gather(*[draw(requests) for _ in range(tasks)]))

    return _in(loop, work)


def httpx_client(options: dict[str, Any]) -> Go:
    """httpx.AsyncClient, one request at a time."""
    import httpx

    loop = _new_loop(options)
    client = httpx.AsyncClient(timeout=None)
    urls = [httpx.URL(url) for url in _urls(options)]

    async def work(count: int) -> int:
        found = 0
        for url in islice(cycle(urls), count):
            response = await client.get(url)
            found += response.status_code + len(response.content)
        return found

    return _in(loop, work)


def connection(options: dict[str, Any]) -> Go:
    """httpio's AsyncHTTPConnection, one request at a time."""
    import httpio

    loop = _new_loop(options)
    conn = httpio.AsyncHTTPConnection(HOST, options["port"], timeout=options.get("timeout"))
    loop.run_until_complete(conn.connect())

    async def work(count: int) -> int:
        found = 0
        for target in islice(cycle(TARGETS), count):
            await conn.send_request("GET", target)
            response = await conn.read_response()
            found += response.status + len(await conn.readall())
        return found

    return _in(loop, work)


def pipeline(options: dict[str, Any]) -> Go:
    """httpio's AsyncHTTPConnection.pipeline."""
    import httpio

    loop = _new_loop(options)
    conn = httpio.AsyncHTTPConnection(HOST, options["port"], timeout=30)
    loop.run_until_complete(conn.connect())

    async def work(count: int) -> int:
        found = 0
        async for response in conn.pipeline(islice(cycle(TARGETS), count)):
            found += response.status + len(response.body)
        return found

    return _in(loop, work)


def afetch(options: dict[str, Any]) -> Go:
    """httpio.afetch, which takes URLs; it connects anew in each round."""
    import httpio

    loop = _new_loop(options)
    urls = _urls(options)
    run = httpio.afetch

    async def work(count: int) -> int:
        found = 0
        async for result in run(islice(cycle(urls), count)):
            found += result.status + len(result.content)
        return found

    return _in(loop, work)


RIVALS = {
    "aiohttp": aiohttp_client,
    "httpx": httpx_client,
    "httpio": connection,
    "httpio pipeline": pipeline,
    "httpio afetch": afetch,
}


def measure(rounds: int) -> Iterator[Table]:
    """The canned server, and nginx where it is installed."""
    with canned(WIRE) as port:
        yield _one_at_a_time("canned server", port, rounds)
        yield _in_bulk("canned server", port, (rounds + 1) // 2)
    if nginx_program():
        with nginx() as port:
            yield _one_at_a_time("nginx", port, rounds)
            yield _in_bulk("nginx", port, (rounds + 1) // 2)


def _one_at_a_time(server: str, port: int, rounds: int) -> Table:
    def one(name: str, count: int, label: str, loop: str, **options: Any) -> Rival:
        return rival(__file__, name, count, {"port": port, "loop": loop, **options}, label)

    rivals = [
        one("aiohttp", ROUND, BASE, "uvloop"),
        one("aiohttp", ROUND, "aiohttp, uvloop, as it comes", "uvloop", **{"as it comes": True}),
        one("aiohttp", ROUND, "aiohttp, asyncio", "asyncio"),
        one("httpx", ROUND // 10, "httpx, asyncio", "asyncio"),
        *(one("httpio", ROUND, f"httpio, {loop}", loop) for loop in LOOPS),
        *(one("httpio", ROUND, f"httpio, {loop}, timeout=30", loop, timeout=30) for loop in LOOPS),
    ]
    title = f"asyncio: GETs of 1 KiB, one at a time, {server}"
    return _judged(Table(title, interleave(rivals, rounds), BASE), "httpio", MOST, MOST_TIME)


def _in_bulk(server: str, port: int, rounds: int) -> Table:
    rivals = []
    for loop in reversed(LOOPS):
        options = {"port": port, "loop": loop}
        rivals += [
            rival(__file__, "aiohttp", BULK // 8, {**options, "tasks": TASKS}, f"aiohttp, {loop}"),
            rival(__file__, "httpio pipeline", BULK, options, f"httpio pipeline, {loop}"),
            rival(__file__, "httpio afetch", BULK, options, f"httpio afetch, {loop}"),
        ]
    title = f"asyncio: GETs of 1 KiB in bulk, {server}"
    table = Table(title, interleave(rivals, rounds), BASE)
    return _judged(table, "httpio pipeline", MOST_IN_BULK, MOST_TIME_IN_BULK)


def _judged(table: Table, name: str, most: float, most_time: float) -> Table:
    """With the goals: a ratio with either server, a time with the canned one."""
    for loop in LOOPS:
        label = f"{name}, {loop}"
        table.require_ratio(label, BASE, most)
        if not table.title.endswith("nginx"):
            table.require_time(label, most_time)
    return table


if __name__ == "__main__":
    main(measure, ROUNDS, RIVALS, __doc__)
