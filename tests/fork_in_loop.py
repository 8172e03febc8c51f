"""Forks inside a running event loop, with an AsyncHTTPConnection in its hands; exits with 0 where all is as it should
be, in the child and in the parent.

Arguments: what the parent's connection does meanwhile, a port on 127.0.0.1, and the kind of the parent's loop.
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback

import uvloop

from httpio import AsyncHTTPConnection, BodyFollowing

BIG = 24 << 20


async def ask(conn: AsyncHTTPConnection, path: str) -> None:
    await conn.send_request("GET", path)
    assert (await conn.read_response()).path == path
    assert await conn.readall() == path.encode()


def child(conn: AsyncHTTPConnection) -> None:
    """In a loop of the child's; the parent's is not to be touched, not even ended."""

    async def main() -> None:
        assert conn.peername is None
        conn.close()
        await ask(conn, "/child")
        conn.close()
        await ask(conn, "/release")
        conn.abort()

    asyncio.run(main())
    conn.close()


async def parent(kind: str, port: int) -> None:
    async with AsyncHTTPConnection("127.0.0.1", port, timeout=20) as conn:
        await ask(conn, "/first")
        tasks = []
        if kind != "idle":
            await conn.send_request("GET", "/held")
            tasks.append(asyncio.ensure_future(conn.read_response()))
        if kind == "sending":
            await conn.send_request("PUT", "/put", body=BodyFollowing(BIG))
            tasks.append(asyncio.ensure_future(conn.write(bytes(BIG))))  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in tasks)
        pid = os.fork()
        if pid == 0:
            try:
                child(conn)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitpid(pid, 0) == (pid, 0)
        if tasks:
            response = await tasks[0]
            assert response.path == "/held"
            await conn.discard()
        if kind == "sending":
            assert await tasks[1] == BIG
            assert (await conn.read_response()).path == "/put"
            await conn.discard()
        await ask(conn, "/last")


if __name__ == "__main__":
    loop = uvloop.new_event_loop() if sys.argv[3] == "uvloop" else asyncio.new_event_loop()
    loop.run_until_complete(asyncio.wait_for(parent(sys.argv[1], int(sys.argv[2])), 30))
    loop.close()
