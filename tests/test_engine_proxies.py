"""A function that gives the proxy for each origin, and what becomes of items that lead nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import aclosing, closing
from itertools import count
from typing import Any

import pytest

import httpio
from httpio import DNSUnavailable, Result, afetch, fetch
from httpio.bulk.engine import LOOK_AHEAD
from servers.scripted import Scripted, answers

BAD = "http://bad.example"


def by_fetch(items: Iterable[str], **options: Any) -> list[Result]:
    return list(fetch(items, timeout=20, **options))


def by_afetch(items: Iterable[str], **options: Any) -> list[Result]:
    async def go() -> list[Result]:
        return [result async for result in afetch(items, timeout=20, **options)]

    return asyncio.run(go())


@pytest.fixture(params=[by_fetch, by_afetch])
def get(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize(
    "error", [OSError("no list of proxies"), DNSUnavailable("wpad"), KeyError("x"), ValueError("y")]
)
@pytest.mark.parametrize("before", [1, 200])
def test_a_function_that_raises(get: Any, error: Exception, before: int) -> None:
    """It is the error of what was to be fetched there, and of nothing else; it is asked once for each origin."""
    asked: list[str] = []

    def proxy_for(url: str) -> None:
        asked.append(url)
        if url == BAD:
            raise error

    with Scripted(answers) as server:
        good = [f"{server.url}/{number}" for number in range(before)]
        items = [*good, f"{BAD}/1", f"{server.url}/last", f"{BAD}/2"]
        results = get(items, proxy=proxy_for)
    assert sorted(result.request for result in results) == sorted(items)
    assert {result.request for result in results if not result.ok} == {f"{BAD}/1", f"{BAD}/2"}
    assert all(result.error is error and result.attempts == 0 for result in results if not result.ok)
    assert sorted(asked) == sorted([server.url, BAD])


@pytest.mark.parametrize("given", ["no scheme", ("127.0.0.1",), 80, "http://"])
def test_a_function_that_gives_what_is_no_proxy(get: Any, given: Any) -> None:
    (result,) = get([f"{BAD}/1"], proxy=lambda url: given)
    assert isinstance(result.error, TypeError | httpio.InvalidURL)


@pytest.mark.parametrize("given", ["no scheme", ("127.0.0.1",), 80])
def test_what_is_no_proxy(given: Any) -> None:
    """It is refused before anything is drawn."""
    drawn: list[str] = []

    def items() -> Iterator[str]:
        drawn.append("")
        yield f"{BAD}/1"

    for call in (fetch, lambda items, proxy: asyncio.run(_first(items, proxy))):
        with pytest.raises((TypeError, httpio.InvalidURL)):
            list(call(items(), proxy=given))
    assert not drawn


async def _first(items: Iterable[str], proxy: Any) -> list[Result]:
    return [result async for result in afetch(items, proxy=proxy)]


@pytest.mark.parametrize("item", [f"{BAD}/1", "ftp://nowhere/"])
def test_what_leads_nowhere_does_not_pile_up(item: str) -> None:
    """Results are handed out as they come, beside a lane that is busy."""
    drawn = 0

    def items(good: str) -> Iterator[str]:
        nonlocal drawn
        yield good
        for drawn in count(1):  # noqa: B007 - it is looked at outside
            yield item

    def proxy_for(url: str) -> None:
        if url == BAD:
            raise OSError("no list of proxies")

    with Scripted(answers) as server:
        most = taken = 0
        with closing(fetch(items(server.url + "/"), timeout=20, proxy=proxy_for)) as results:
            for taken, _ in enumerate(results, 1):
                most = max(most, drawn - taken)
                if taken == 3 * LOOK_AHEAD:
                    break
        assert most <= 2 * LOOK_AHEAD

        async def go() -> int:
            most = taken = 0
            async with aclosing(afetch(items(server.url + "/"), timeout=20, proxy=proxy_for)) as results:
                async for _ in results:
                    taken += 1
                    most = max(most, drawn - taken)
                    if taken == 3 * LOOK_AHEAD:
                        break
            return most

        assert asyncio.run(go()) <= 2 * LOOK_AHEAD


@pytest.mark.parametrize("own", [None, "Bearer x"])
def test_one_field_for_the_proxy(get: Any, own: str | None) -> None:
    """Once with each request that a proxy passes on; the caller's own wins."""
    with Scripted(answers) as proxy:
        headers = None if own is None else {"proxy-AUTHORIZATION": own}
        urls = [f"http://origin.example/{number}" for number in range(3)]
        results = get(urls, proxy=f"http://jane:secret@127.0.0.1:{proxy.port}", headers=headers)
        assert all(result.ok for result in results)
    for seen in proxy.seen:
        assert seen.target.startswith("http://origin.example/")
        assert seen.head.lower().count(b"\r\nproxy-authorization:") == 1
        assert seen.field("Proxy-Authorization") == (own or "Basic amFuZTpzZWNyZXQ=")
