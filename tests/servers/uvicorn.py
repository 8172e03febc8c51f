"""uvicorn with a small application: `python -m servers.uvicorn`.

A path that is a status, as /413: answers with it, without receiving the body. At any other it receives all of the
body, and says how much it was.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

Message = dict[str, Any]
counts = {"requests": 0, "received": 0}


async def application(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    counts["requests"] += 1
    status, said = 200, b"no"
    if scope["path"][1:].isdigit():
        status = int(scope["path"][1:])
    else:
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size += len(message["body"])
            more = message["more_body"]
        counts["received"] += size
        said = b"%d" % size
    length = b"%d" % len(said)
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": said})


async def serve(listener: socket.socket) -> None:
    server = uvicorn.Server(
        uvicorn.Config(application, http="h11", lifespan="off", log_level="critical", timeout_keep_alive=60)
    )
    serving = asyncio.create_task(server.serve([listener]))
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    serving.cancel()  # its own way to end takes a tenth of a second more


def main() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        print(listener.getsockname()[1], flush=True)
        asyncio.run(serve(listener))
    print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    main()
