"""What does a body of 1 GiB cost the client?

`readinto` of 64 KiB at a time, thrown away; beside it a bare loop that receives the same bytes into such a
buffer, http.client, pycurl with a callback that does nothing, and the command curl. The server sends from
memory.
"""

from __future__ import annotations

import http.client
import shutil
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

from harness import Go, Usage, ask_again, interleave, main, rival, run_child
from report import Table
from servers import HOST, canned, request_bytes
from wires import GIB, WIRES

TARGET = "/objects/000001"
BUFFER = 64 << 10
ROUNDS = 4


class Shape(NamedTuple):
    """How the body comes, and what httpio is held to: at most `most` times the CPU of `other`."""

    wire: str
    other: str
    most: float


SHAPES = (
    Shape("length", "bare loop", 1.15),
    Shape("chunks of 16 KiB", "pycurl", 1.0),
    Shape("chunks of 1 KiB", "curl", 1.3),
)


def _check(found: int, count: int) -> None:
    if found != count * GIB:
        raise RuntimeError(f"{found} bytes of body, not {count * GIB}")


def bare(options: dict[str, Any]) -> Go:
    """A blocking socket: send the request, receive until the known number of bytes is there."""
    sock = socket.create_connection((HOST, options["port"]))
    request = request_bytes(options["port"], TARGET)
    size = WIRES[options["wire"]]().size
    buffer = bytearray(BUFFER)
    return ask_again(sock, request, size, buffer)


def connection(options: dict[str, Any]) -> Go:
    """httpio's HTTPConnection.readinto."""
    import httpio

    conn = httpio.HTTPConnection(HOST, options["port"], timeout=30)
    conn.connect()
    buffer = memoryview(bytearray(BUFFER))

    def go(count: int) -> None:
        found = 0
        for _ in range(count):
            conn.send_request("GET", TARGET)
            conn.read_response()
            while length := conn.readinto(buffer):
                found += length
        _check(found, count)

    return go


def http_client(options: dict[str, Any]) -> Go:
    """http.client's readinto."""
    conn = http.client.HTTPConnection(HOST, options["port"], timeout=30)
    conn.connect()
    buffer = memoryview(bytearray(BUFFER))

    def go(count: int) -> None:
        found = 0
        for _ in range(count):
            conn.request("GET", TARGET)
            response = conn.getresponse()
            while length := response.readinto(buffer):
                found += length
        _check(found, count)

    return go


def pycurl_client(options: dict[str, Any]) -> Go:
    """pycurl; its callback does nothing."""
    import pycurl

    handle = pycurl.Curl()
    handle.setopt(pycurl.URL, f"http://{HOST}:{options['port']}{TARGET}")
    handle.setopt(pycurl.WRITEFUNCTION, lambda data: None)
    handle.setopt(pycurl.BUFFERSIZE, BUFFER)
    received = pycurl.SIZE_DOWNLOAD_T

    def go(count: int) -> None:
        found = 0
        for _ in range(count):
            handle.perform()
            found += handle.getinfo(received)
        _check(found, count)

    return go


def curl(options: dict[str, Any]) -> Go:
    """The command curl, to nowhere."""
    program = shutil.which("curl")
    if program is None:
        raise FileNotFoundError("curl is not installed")
    url = f"http://{HOST}:{options['port']}{TARGET}"

    def go(count: int) -> Usage:
        found, spent, peak = 0, 0.0, 0
        for _ in range(count):
            output, cpu, peak = run_child([program, "-qs", "-o", "/dev/null", "-w", "%{size_download}", url])
            found += int(output)
            spent += cpu
        _check(found, count)
        return Usage(count, spent, peak)

    return go


RIVALS = {
    "bare loop": bare,
    "httpio": connection,
    "http.client": http_client,
    "pycurl": pycurl_client,
    "curl": curl,
}


def measure(rounds: int) -> Iterator[Table]:
    """One table for each shape of the body."""
    for shape in SHAPES:
        with canned(shape.wire) as port:
            options = {"port": port, "wire": shape.wire}
            rivals = interleave([rival(__file__, name, 1, options) for name in RIVALS], rounds)
        table = Table(f"download: 1 GiB, {shape.wire}", rivals, "bare loop", scale=1e3, unit="ms")
        table.require_ratio("httpio", shape.other, shape.most)
        yield table


if __name__ == "__main__":
    main(measure, ROUNDS, RIVALS, __doc__)
