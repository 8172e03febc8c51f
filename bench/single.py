"""What does one GET of 1 KiB at a time cost the client?

`send_request`, `read_response`, `readall`; beside it a bare loop that sends the same request bytes and
receives the same number of bytes, the parser with the least Python around it, and http.client. They take turns in
short rounds; a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import http.client
import select
import socket
from collections.abc import Iterator
from typing import Any

from harness import Go, ask_again, interleave, main, rival
from pipeline import one_response
from report import Table
from servers import HOST, canned, nginx, nginx_program, request_bytes
from wires import WIRES

WIRE = "8 fields"
RESPONSE = WIRES[WIRE]()
TARGET = "/objects/000001"
ROUND = 500
ROUNDS = 40
MOST = 1.4


def _check(found: int, count: int) -> None:
    expected = count * (200 + RESPONSE.content)
    if found != expected:
        raise RuntimeError(f"the responses add up to {found}, not to {expected}")


def bare(options: dict[str, Any]) -> Go:
    """A blocking socket: send the request, receive until the known number of bytes is there."""
    sock = socket.create_connection((HOST, options["port"]))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = request_bytes(options["port"], TARGET)
    size = one_response(sock, request)
    buffer = bytearray(64 << 10)
    return ask_again(sock, request, size, buffer)


def connection(options: dict[str, Any]) -> Go:
    """httpio's HTTPConnection."""
    import httpio

    conn = httpio.HTTPConnection(HOST, options["port"], timeout=options["timeout"])
    conn.connect()

    def go(count: int) -> None:
        found = 0
        for _ in range(count):
            conn.send_request("GET", TARGET)
            response = conn.read_response()
            found += response.status + len(conn.readall())
        _check(found, count)

    return go


class _Least:
    """The least Python that can be put around the parser: one layer, and next to nothing checked."""

    def __init__(self, port: int) -> None:
        from httpio._parser import ResponseHead, ResponseParser

        self.sock = socket.create_connection((HOST, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        self.poll = poller.poll
        self.parser = ResponseParser(ResponseHead, ValueError, ValueError)
        self.rest = b" HTTP/1.1\r\nHost: %b:%d\r\nAccept-Encoding: identity\r\n\r\n" % (HOST.encode(), port)

    def send_request(self, target: str) -> None:
        if self.poll(0):
            raise RuntimeError("the server spoke, or closed the connection")
        data = b"GET %b%b" % (target.encode("ascii"), self.rest)
        self.parser.expect(target)
        self.sock.send(data)

    def read_response(self) -> Any:
        self.poll()
        return self.parser.buffer_updated(self.sock.recv_into(self.parser))[0]

    def readall(self) -> bytes:
        return self.parser.read(65536)


def least(options: dict[str, Any]) -> Go:
    """httpio's parser with the least Python around it: what is left for the layers to cost."""
    conn = _Least(options["port"])

    def go(count: int) -> None:
        found = 0
        for _ in range(count):
            conn.send_request(TARGET)
            response = conn.read_response()
            found += response.status + len(conn.readall())
        _check(found, count)

    return go


def http_client(options: dict[str, Any]) -> Go:
    """http.client."""
    conn = http.client.HTTPConnection(HOST, options["port"], timeout=options["timeout"])
    conn.connect()

    def go(count: int) -> None:
        found = 0
        for _ in range(count):
            conn.request("GET", TARGET)
            response = conn.getresponse()
            found += response.status + len(response.read())
        _check(found, count)

    return go


RIVALS = {"bare loop": bare, "least Python": least, "httpio": connection, "http.client": http_client}


def measure(rounds: int) -> Iterator[Table]:
    """The canned server, and nginx where it is installed."""
    with canned(WIRE) as port:
        yield _compare("canned server", port, rounds)
    if nginx_program():
        with nginx() as port:
            yield _compare("nginx", port, rounds)


def _compare(server: str, port: int, rounds: int) -> Table:
    options = {"port": port, "timeout": None}
    rivals = [
        rival(__file__, "bare loop", ROUND, options),
        rival(__file__, "least Python", ROUND, options, "least Python around the parser"),
        rival(__file__, "httpio", ROUND, options),
        rival(__file__, "httpio", ROUND, {**options, "timeout": 30}, "httpio, timeout=30"),
        rival(__file__, "http.client", ROUND, options),
        rival(__file__, "http.client", ROUND, {**options, "timeout": 30}, "http.client, timeout=30"),
    ]
    table = Table(f"single: GETs of 1 KiB, one at a time, {server}", interleave(rivals, rounds), "bare loop")
    table.require_ratio("httpio", "bare loop", MOST)
    return table


if __name__ == "__main__":
    main(measure, ROUNDS, RIVALS, __doc__)
