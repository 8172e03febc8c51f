"""The client of test_asynchronous_flat, a process because its memory is measured: `afetch_client.py URL COUNT LOOP`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator

import uvloop

from flat_client import peak
from httpio import afetch


async def items(url: str, count: int) -> AsyncIterator[str]:
    for number in range(count):
        yield f"{url}/objects/{number}?size={number % 2000}"


async def main(url: str, count: int) -> None:
    seen = dict.fromkeys(("answered", "bytes", "first_peak", "last_peak"), 0)
    async for result in afetch(items(url, count)):
        assert result.error is None
        assert result.content is not None
        seen["answered"] += 1
        seen["bytes"] += len(result.content)
        if seen["answered"] == count // 10:
            seen["first_peak"] = peak()
    seen["last_peak"] = peak()
    print(json.dumps(seen))


if __name__ == "__main__":
    loop = uvloop.new_event_loop() if sys.argv[3] == "uvloop" else asyncio.new_event_loop()
    loop.run_until_complete(main(sys.argv[1], int(sys.argv[2])))
    loop.close()
