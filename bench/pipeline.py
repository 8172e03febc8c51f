"""What does a pipelined GET of 1 KiB cost the client?

The server only counts requests and sends prepared responses, so the client is what is measured. Each body is
looked at: its length and one byte are added up. The bare loop sends the same requests in batches, two in
flight, and counts bytes. wrk sends batches as well, on two connections, since it waits for a whole batch
before it sends the next.
"""

from __future__ import annotations

import http.client
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from harness import Go, Usage, interleave, main, rival, run_child
from report import Table
from servers import HOST, canned, nginx, nginx_program, request_bytes
from wires import WIRES

WIRE = "8 fields"
RESPONSE = WIRES[WIRE]()
BATCH = 256
TARGETS = [f"/objects/{i:06d}" for i in range(BATCH)]
ROUND = BATCH * 100
ROUNDS = 11
MOST = 2.5


def _check(found: int, count: int) -> None:
    expected = count * (RESPONSE.content + RESPONSE.piece[-1])
    if found != expected:
        raise RuntimeError(f"the bodies add up to {found}, not to {expected}")


def bare(options: dict[str, Any]) -> Go:
    """A socket, the same batches, and no parsing: bytes are counted."""
    sock = socket.create_connection((HOST, options["port"]))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one = request_bytes(options["port"], TARGETS[0]).partition(TARGETS[0].encode())
    batch = b"".join(one[0] + target.encode() + one[2] for target in TARGETS)
    buffer = bytearray(128 << 10)
    size = one_response(sock, b"".join(one))

    def go(count: int) -> None:
        batches = count // BATCH
        sent = received = 0
        while received < batches * BATCH * size:
            # The next batch goes out when fewer than two are unanswered.
            while sent < batches and sent * BATCH * size - received <= BATCH * size:
                sock.sendall(batch)
                sent += 1
            if not (length := sock.recv_into(buffer)):
                raise RuntimeError("the server closed the connection")
            received += length

    return go


def one_response(sock: socket.socket, request: bytes) -> int:
    """Send `request`, receive its answer, and return the bytes of the answer."""
    sock.sendall(request)
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    head, _, _ = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if length is None:
        raise RuntimeError("the server declared no length")
    size = len(head) + 4 + int(length[1])
    while len(data) < size:
        data += sock.recv(65536)
    return size


def pipeline(options: dict[str, Any]) -> Go:
    """httpio's HTTPConnection.pipeline."""
    import httpio

    conn = httpio.HTTPConnection(HOST, options["port"], timeout=30)
    conn.connect()

    def go(count: int) -> None:
        found = 0
        for response in conn.pipeline(islice(cycle(TARGETS), count), depth=options.get("depth")):
            body = response.body
            found += len(body) + body[-1]
        _check(found, count)

    return go


def fetch(options: dict[str, Any]) -> Go:
    """httpio.fetch, which takes URLs; it connects anew in each round."""
    import httpio

    urls = [f"http://{HOST}:{options['port']}{target}" for target in TARGETS]
    run = httpio.fetch

    def go(count: int) -> None:
        found = 0
        for result in run(islice(cycle(urls), count)):
            content = result.content
            found += len(content) + content[-1]
        _check(found, count)

    return go


def http_client(options: dict[str, Any]) -> Go:
    """http.client, one request at a time: it cannot pipeline."""
    conn = http.client.HTTPConnection(HOST, options["port"], timeout=30)
    conn.connect()

    def go(count: int) -> None:
        found = 0
        for target in islice(cycle(TARGETS), count):
            conn.request("GET", target)
            body = conn.getresponse().read()
            found += len(body) + body[-1]
        _check(found, count)

    return go


def wrk(options: dict[str, Any]) -> Go:
    """wrk for one second: one thread, two connections, batches of pipelined requests by a script."""
    program = shutil.which("wrk")
    if program is None:
        raise FileNotFoundError("wrk is not installed")
    script = Path(options["folder"]) / "batch.lua"
    script.write_text(f"init = function(args) local one = wrk.format('GET', '{TARGETS[0]}')\n"
                      f"  batch = string.rep(one, {BATCH}) end\nrequest = function() return batch end\n")
    url = f"http://{HOST}:{options['port']}{TARGETS[0]}"

    def go(count: int) -> Usage:
        output, cpu, peak = run_child([program, "-t1", "-c2", "-d1s", "-s", str(script), url])
        done = re.search(r"(\d+) requests in", output)
        if done is None or "Socket errors" in output or "Non-2xx" in output:
            raise RuntimeError(output)
        return Usage(int(done[1]), cpu, peak)

    return go


RIVALS = {
    "bare loop": bare,
    "httpio pipeline": pipeline,
    "httpio fetch": fetch,
    "http.client": http_client,
    "wrk": wrk,
}


def measure(rounds: int) -> Iterator[Table]:
    """The canned server, which the goal is for; and nginx where it is installed."""
    with canned(WIRE) as port:
        yield _compare("canned server", port, rounds)
    if nginx_program():
        with nginx() as port:
            yield _compare("nginx", port, (rounds + 1) // 2)


def _compare(server: str, port: int, rounds: int) -> Table:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        options = {"port": port, "folder": folder}
        rivals = interleave([
            rival(__file__, "bare loop", ROUND, options),
            rival(__file__, "httpio pipeline", ROUND, options),
            rival(__file__, "httpio pipeline", ROUND, {**options, "depth": 64}, "httpio pipeline, depth 64"),
            rival(__file__, "httpio fetch", ROUND, options),
            rival(__file__, "wrk", ROUND, options, f"wrk, batches of {BATCH}"),
            rival(__file__, "http.client", ROUND // 64, options),
        ], rounds)
    table = Table(f"pipeline: GETs of 1 KiB, {server}", rivals, "bare loop")
    if server != "nginx":
        table.require_time("httpio pipeline", MOST)
    return table


if __name__ == "__main__":
    main(measure, ROUNDS, RIVALS, __doc__)
