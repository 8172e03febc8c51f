"""Answers `/N` with what `plan(N)` says, as fast as it can: `python -m servers.flat`."""

from __future__ import annotations

import json
import socket
import sys
import threading
from itertools import pairwise
from typing import NamedTuple

from servers.objects import content

LARGEST = 300 * 1024
END = b"\r\n\r\n"


class Plan(NamedTuple):
    """What request number N is, and what answers it. size: of the content, also where HEAD leaves it out."""

    method: str
    status: int
    size: int
    chunked: bool
    interim: int


def plan(number: int) -> Plan:
    """93 of 100 bodies are small, the others have any size up to 300 KiB: 1 GB in 100,000."""
    chance = (number + 1) * 2654435761 % 2**32
    size = (chance >> 8) % (LARGEST + 1) if chance % 100 < 7 else (chance >> 8) % 1500
    kind = (chance >> 12) % 50
    method = "HEAD" if kind in (0, 1) else "GET"
    status = {2: 204, 3: 304}.get(kind, 200)
    return Plan(method, status, size, chunked=kind >= 40, interim=kind % 3 if kind % 10 == 5 else 0)


def answer(number: int) -> bytes:
    method, status, size, chunked, interim = plan(number)
    parts = [b"HTTP/1.1 103 Early Hints\r\nLink: </%d>\r\n\r\n" % number] * interim
    parts.append(b"HTTP/1.1 %d Planned\r\nX-Number: %d\r\n" % (status, number))
    if status == 204:
        parts.append(b"\r\n")
        return b"".join(parts)
    parts.append(b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: %d\r\n\r\n" % size)
    if method == "GET" and status == 200:
        body = content(number, size)
        parts += in_chunks(body, 1 + number % 20000) if chunked else [body]
    return b"".join(parts)


def in_chunks(body: bytes, size: int) -> list[bytes]:
    """A small chunk first, then chunks of `size`, and a trailer section."""
    places = [0, *range(min(7, len(body)), len(body), max(size, len(body) // 50)), len(body)]
    pieces = [body[low:high] for low, high in pairwise(places) if high > low]
    chunks = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
    return [*chunks, b"0\r\nX-Size: %d\r\n\r\n" % len(body)]


def converse(sock: socket.socket, counts: dict[str, int]) -> None:
    rest = b""
    while received := sock.recv(65536):
        *requests, rest = (rest + received).split(END)
        ready: list[bytes] = []
        size = 0
        for request in requests:
            counts["requests"] += 1
            method, target, _ = request.split(b" ", 2)
            number = int(target[1:])
            if method.decode() != plan(number).method:
                raise ValueError(f"request {number} came as {method!r}")
            ready.append(answer(number))
            size += len(ready[-1])
            if size > 256 * 1024:
                sock.sendall(b"".join(ready))
                ready, size = [], 0
        sock.sendall(b"".join(ready))


def serve(listener: socket.socket, counts: dict[str, int]) -> None:
    def one(sock: socket.socket) -> None:
        with sock:
            converse(sock, counts)

    while True:
        sock, _ = listener.accept()
        counts["connections"] += 1
        threading.Thread(target=one, args=(sock,), daemon=True).start()


def main() -> None:
    counts = {"connections": 0, "requests": 0}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        threading.Thread(target=serve, args=(listener, counts), daemon=True).start()
        sys.stdin.read()
        print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    main()
