"""The client of test_bombs, a process because its memory and its time are measured: `bombs_client.py < JOB`.

The job is one JSON object: the `port`, and what else is said at each of the JOBS. Between the imports and the end the
process may map CEILING bytes more than it has by then.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import corpus
import httpio
import httpio.content
from httpio import AsyncHTTPConnection, HTTPConnection, HTTPError, Limits
from httpio.bulk.engine import Job, transfer
from httpio.bulk.sinks import FolderSink
from httpio.urls import split_url

CEILING = 64 << 20
PIECE = 65536


def status(name: str) -> int:
    """A size in /proc/self/status, in bytes. (getrusage would count the parent's, too.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":")) * 1024


class Asked:
    """One object, and how it is asked for."""

    def __init__(self, port: int, target: str, decode: bool = True, **limits: int) -> None:
        self.port = port
        self.target = target
        self.decode = decode
        self.limits = Limits(**limits)
        self.open = partial(HTTPConnection, "127.0.0.1", port, timeout=60, limits=self.limits)

    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.target}"

    def connection(self) -> HTTPConnection:
        """One that has sent the request and read the response's head."""
        conn = self.open()
        conn.send_request("GET", self.target)
        conn.read_response(decode=self.decode)
        return conn


def readinto(asked: Asked) -> int:
    buffer, got = bytearray(PIECE), 0
    with asked.connection() as conn:
        while count := conn.readinto(buffer):
            got += count
    return got


def read(asked: Asked) -> int:
    with asked.connection() as conn:
        return sum(map(len, iter(lambda: conn.read(PIECE), b"")))


def readall(asked: Asked) -> int:
    with asked.connection() as conn:
        return len(conn.readall())


def write_to(asked: Asked) -> int:
    with asked.connection() as conn, open(os.devnull, "wb") as sink:
        return conn.write_to(sink)


def write_to_a_file(asked: Asked) -> int:
    with asked.connection() as conn, tempfile.TemporaryFile() as file:
        try:
            return conn.write_to(file)
        finally:
            assert os.fstat(file.fileno()).st_blocks * 512 < 128 << 20


def text(asked: Asked) -> int:
    with asked.connection() as conn, conn.text("latin-1", newline="") as file:
        return sum(map(len, iter(lambda: file.read(PIECE), "")))


def pipeline(asked: Asked) -> int:
    with asked.open() as conn:
        got = 0
        for response in conn.pipeline([asked.target], decode=asked.decode):
            if response.body is not None:
                return len(response.body)
            got += sum(map(len, iter(lambda: conn.read(PIECE), b"")))
        return got


def fetch(asked: Asked) -> int:
    options: dict[str, Any] = {"decode": asked.decode, "limits": asked.limits, "body_limit": 16 << 20}
    (result,) = httpio.fetch([asked.url()], **options)
    return result_of(result)


def transfer_to_a_file(asked: Asked) -> int:
    with tempfile.TemporaryDirectory() as folder:
        job = Job(*split_url(asked.url()), "object")
        (result,) = transfer([job], sink=FolderSink(Path(folder)), decode=asked.decode, limits=asked.limits)
        return result_of(result)


def result_of(result: Any) -> int:
    if result.error is not None:
        raise result.error
    return len(result.content) if result.content is not None else result.path.stat().st_size


def asynchronous(asked: Asked) -> int:
    async def run() -> int:
        async with AsyncHTTPConnection("127.0.0.1", asked.port, timeout=60, limits=asked.limits) as conn:
            await conn.send_request("GET", asked.target)
            await conn.read_response(decode=asked.decode)
            got = 0
            while data := await conn.read(PIECE):
                got += len(data)
            return got

    return asyncio.run(run())


def afetch(asked: Asked) -> int:
    async def run() -> int:
        options: dict[str, Any] = {"decode": asked.decode, "limits": asked.limits, "body_limit": 16 << 20}
        async for result in httpio.afetch([asked.url()], **options):
            return result_of(result)
        raise AssertionError("there was no result")

    return asyncio.run(run())


WAYS: dict[str, Callable[[Asked], int]] = {
    "readinto": readinto,
    "read": read,
    "readall": readall,
    "write_to": write_to,
    "write_to a file": write_to_a_file,
    "text": text,
    "pipeline": pipeline,
    "fetch": fetch,
    "transfer": transfer_to_a_file,
    "asyncio": asynchronous,
    "afetch": afetch,
}


def one(asked: Asked, way: str) -> dict[str, Any]:
    """What became of an object."""
    began = process_time()
    found: dict[str, Any] = {"way": way, "target": asked.target}
    try:
        found["got"] = WAYS[way](asked)
    except HTTPError as error:
        found |= {"error": type(error).__name__, "why": str(error), "received": error.received}
    return {**found, "cpu": process_time() - began}


def bombs(port: int, targets: list[str], ways: list[str], limits: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Each target in each way."""
    for target in targets:
        for way in ways:
            yield one(Asked(port, target, **limits), way)


def announced(port: int) -> Iterator[dict[str, Any]]:
    """A body that is announced, and cut short, in each way: first a small one, then one of 1 TiB."""
    for way in WAYS:
        one(Asked(port, "/small", False), way)
    for way in WAYS:
        before = status("VmHWM")
        yield {**one(Asked(port, "/large", False), way), "grown": status("VmHWM") - before}


def rows(port: int, groups: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of these groups, each at its id."""
    for row in (*corpus.responses(), *corpus.coded()):
        if row["group"] in groups:
            limits = {"max_decoded": 1 << 20} if row["id"] == "CE-016" else {}
            found = one(Asked(port, f"/{row['id']}", row["group"] == "content-coding", **limits), "readall")
            yield {"id": row["id"], **found}


JOBS = {"bombs": bombs, "announced": announced, "rows": rows}


def main() -> None:
    job = json.load(sys.stdin)
    httpio.content.accept_encoding()  # imports the libraries
    most = status("VmSize") + CEILING
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    before, began = status("VmHWM"), process_time()
    found = list(JOBS[job.pop("job")](**job))
    print(json.dumps({"found": found, "grown": status("VmHWM") - before, "cpu": process_time() - began}))


if __name__ == "__main__":
    main()
