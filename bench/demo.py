"""`make demo`: many small objects from the embedded server, to memory and to files, beside http.client.

Each client is a process of its own, so that its CPU time is its own. Where the system allows it, the server
has one core and the client another. When the clock has stopped, the SHA-256 of every object that arrived is
compared with that of the object asked for; files are read back for that. http.client moves fewer objects, one
after the other on one kept connection, and writes each file in place, where httpio writes under a temporary
name and renames. Files go to a file system in memory where there is one: on ext4 to make a file took from 30
to 600 us of CPU, whoever made it, which hides what the clients cost.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from httpio.testing import Server, object_bytes

SIZE = 1024
PATIENCE = 60
"""Seconds after which a client that has not ended is stopped."""
ROOM = 256 << 20
"""Bytes that must be free where the files go."""


class Clock:
    """Seconds by the clock, and of this process's CPU, that the timed part took."""

    seconds = 0.0
    cpu = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time what is done inside."""
        start, used = time.perf_counter(), self._cpu()
        yield
        self.seconds, self.cpu = time.perf_counter() - start, self._cpu() - used

    @staticmethod
    def _cpu() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime


def target(number: int) -> str:
    """The address of an object, without the server's."""
    return f"/objects/{number}?size={SIZE}"


# The clients. Each imports what it needs itself, so that no process carries another's modules.


def httpio_memory(clock: Clock, url: str, count: int, folder: Path) -> list[bytes]:
    """`httpio.fetch`, all contents kept."""
    import httpio

    urls = [url + target(number) for number in range(count)]
    with clock.running():
        results = list(httpio.fetch(urls))
    return [content_of(result) for result in results]


def httpio_files(clock: Clock, url: str, count: int, folder: Path) -> Iterator[bytes]:
    """The engine of `httpio get`, into files of one folder."""
    from httpio.bulk.engine import Job, transfer
    from httpio.bulk.sinks import FolderSink
    from httpio.urls import split_url

    jobs = [Job(*split_url(url + target(number)), str(number)) for number in range(count)]
    with closing(FolderSink(folder)) as sink, clock.running():
        results = list(transfer(jobs, sink=sink))
    for result in results:
        content_of(result)
    return read_back(folder, count)


def content_of(result: Any) -> bytes:
    """The content of an `httpio.Result`; raises when there is none because something went wrong."""
    if result.error is not None:
        raise result.error
    if result.status != 200:
        raise ValueError(f"status {result.status}")
    content: bytes = result.content
    return content


def client_memory(clock: Clock, url: str, count: int, folder: Path) -> list[bytes]:
    """http.client, all contents kept."""
    with clock.running():
        return list(get_each(url, count))


def client_files(clock: Clock, url: str, count: int, folder: Path) -> Iterator[bytes]:
    """http.client, each content written to a file."""
    with clock.running():
        for number, content in enumerate(get_each(url, count)):
            with open(folder / str(number), "wb") as file:
                file.write(content)
    return read_back(folder, count)


def get_each(url: str, count: int) -> Iterator[bytes]:
    """Get the objects one after the other with http.client."""
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)) as connection:
        for number in range(count):
            connection.request("GET", target(number))
            response = connection.getresponse()
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            yield response.read()


def read_back(folder: Path, count: int) -> Iterator[bytes]:
    """Read the files that a client has written, and nothing else may be there."""
    if len(os.listdir(folder)) != count:
        raise ValueError(f"{len(os.listdir(folder))} files instead of {count}")
    for number in range(count):
        yield (folder / str(number)).read_bytes()


class Client(NamedTuple):
    """A row of the table. `rival`: the row of http.client beside which it is put."""

    title: str
    move: Callable[[Clock, str, int, Path], Sequence[bytes] | Iterator[bytes]]
    objects: int
    rival: str


CLIENTS = {
    "httpio-memory": Client("httpio, to memory", httpio_memory, 100_000, "client-memory"),
    "client-memory": Client("http.client, to memory", client_memory, 5_000, "client-memory"),
    "httpio-files": Client("httpio, to files", httpio_files, 20_000, "client-files"),
    "client-files": Client("http.client, to files", client_files, 5_000, "client-files"),
}


def run_client(name: str, url: str, count: int, folder: Path) -> dict[str, float]:
    """What a client's process does: move, then check every object."""
    clock = Clock()
    checked = 0
    for number, content in enumerate(CLIENTS[name].move(clock, url, count, folder)):
        if sha256(content).digest() != sha256(object_bytes(number, SIZE)).digest():
            raise ValueError(f"object {number} arrived with a wrong content")
        checked += 1
    if checked != count:
        raise ValueError(f"{checked} objects arrived instead of {count}")
    return {"seconds": clock.seconds, "cpu": clock.cpu}


# The parent


class Outcome(NamedTuple):
    """Objects a second, CPU us an object, and what the server saw; or why there is nothing."""

    objects: int
    rate: float = 0.0
    cpu: float = 0.0
    requests: int = 0
    connections: int = 0
    failure: str = ""


def measure(name: str, count: int, cores: list[int], where: str) -> Outcome:
    """Run a client in a process of its own, against a server of its own."""
    with Server() as server, tempfile.TemporaryDirectory(prefix="httpio-demo-", dir=where) as folder:
        command = [sys.executable, __file__, "--client", name, "--url", server.url]
        command += ["--count", str(count), "--folder", folder]
        if cores:
            os.sched_setaffinity(server.pid, {cores[0]})
            command += ["--core", str(cores[1])]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        except subprocess.TimeoutExpired:
            return Outcome(count, failure=f"stopped after {PATIENCE} s")
        if done.returncode:
            return Outcome(count, failure=(done.stderr.strip().splitlines() or ["no word"])[-1])
        took = json.loads(done.stdout)
        stats = server.stats()
        return Outcome(
            count, count / took["seconds"], took["cpu"] / count * 1e6, stats.requests, stats.connections
        )


def two_cores() -> list[int]:
    """Two cores for server and client; none where they cannot be chosen, or are not there."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    return cores[:2] if len(cores) > 1 else []


def place_for_files() -> str:
    """A folder in memory with room for the files, else the system's folder for temporary files."""
    memory = "/dev/shm"
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM:
        return memory
    return tempfile.gettempdir()


HEADINGS = ("", "objects", "objects/s", "ratio", "CPU us each", "ratio", "digests right", "requests", "conns")


def rows(outcomes: dict[str, Outcome]) -> Iterator[tuple[str, ...]]:
    """The table's lines; a ratio says how many times better than http.client."""
    for name, outcome in outcomes.items():
        client = CLIENTS[name]
        if outcome.failure:
            continue
        rival = outcomes.get(client.rival)
        ratios = ("", "")
        if rival is not None and not rival.failure:
            ratios = (f"{outcome.rate / rival.rate:.1f}", f"{rival.cpu / outcome.cpu:.1f}")
        yield (
            client.title,
            f"{outcome.objects:,}",
            f"{outcome.rate:,.0f}",
            ratios[0],
            f"{outcome.cpu:.2f}",
            ratios[1],
            f"{outcome.objects:,}",
            f"{outcome.requests:,}",
            f"{outcome.connections:,}",
        )


def print_table(outcomes: dict[str, Outcome]) -> None:
    """Print the outcomes, and below them the failures, one sentence each."""
    table = [HEADINGS, *rows(outcomes)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        first, *others = line
        cells = [first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True))]
        print("  ".join(cells).rstrip())
    for name, outcome in outcomes.items():
        if outcome.failure:
            print(f"{CLIENTS[name].title}: failed: {outcome.failure}")


def main() -> int:
    """Measure, print the table; 1 when a client failed."""
    parser = argparse.ArgumentParser(description="Move small objects with httpio and with http.client.")
    parser.add_argument("--client", choices=CLIENTS, help="be this client, and print what it took (internal)")
    parser.add_argument("--url")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--core", type=int)
    parser.add_argument("--count", type=int, help="so many objects, for each client")
    options = parser.parse_args()
    if options.client:
        if options.core is not None:
            os.sched_setaffinity(0, {options.core})
        print(json.dumps(run_client(options.client, options.url, options.count, options.folder)))
        return 0

    cores = two_cores()
    places = f"core {cores[0]}, client on core {cores[1]}" if cores else "whatever core is free"
    print(f"Objects of {SIZE} bytes from httpio.testing over loopback; server on {places}.")
    where = place_for_files()
    print(f"Files go to {where}.", flush=True)
    outcomes = {
        name: measure(name, options.count or client.objects, cores, where) for name, client in CLIENTS.items()
    }
    print_table(outcomes)
    return int(any(outcome.failure for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
