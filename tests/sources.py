"""Iterables of requests for pipelines, and what comes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from httpio import HTTPResponse


async def each(items: Any) -> AsyncIterator[Any]:
    """The items, with a turn for others before each."""
    for item in items:
        await asyncio.sleep(0)
        yield item


class Source:
    """An asynchronous iterable of so many targets, which `drawn` counts. It waits before *stops_at* until `go_on`
    is set, and raises *error* at its end. `ended`: None before it is begun, then False, and True at its end."""

    def __init__(self, count: int, stops_at: int = -1, error: BaseException | None = None) -> None:
        self.count = count
        self.stops_at = stops_at
        self.error = error
        self.go_on = asyncio.Event()
        self.drawn = 0
        self.ended: bool | None = None

    async def __aiter__(self) -> AsyncIterator[str]:
        self.ended = False
        for number in range(self.count):
            if number == self.stops_at:
                await self.go_on.wait()
            self.drawn += 1
            yield f"/{number}"
        if self.count == self.stops_at:
            await self.go_on.wait()
        if self.error is not None:
            raise self.error
        self.ended = True


def targets(count: int) -> list[str]:
    return [f"/{number}" for number in range(count)]


async def paths(responses: AsyncIterator[HTTPResponse], into: list[str] | None = None) -> list[str]:
    """The targets of the responses, each of which has its own for a body."""
    found = [] if into is None else into
    async for response in responses:
        assert response.body == response.path.encode()
        found.append(response.path)
    return found
