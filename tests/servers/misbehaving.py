"""Servers that do not do what they say. `python -m servers.misbehaving MODE`, objects at `/N?size=S`.

drops:   thinks a moment about each request, and then forgets the one that came behind it meanwhile.
closes:  closes after each answer, and never says so; what came behind the request is read and thrown away.
resets:  the same, without reading it: the kernel resets the connection, and may take the answer with it.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
from urllib.parse import parse_qs, urlsplit

from servers.objects import content

END = b"\r\n\r\n"


class Peer:
    """One connection: takes complete requests from it."""

    def __init__(self, sock: socket.socket, counts: dict[str, int]) -> None:
        self.sock = sock
        self.counts = counts
        self.buffer = bytearray()

    def next_request(self, timeout: float = 60.0) -> bytes | None:
        """The target of the next request; None when none comes any more, or not in time."""
        while END not in self.buffer:
            if not select.select([self.sock], [], [], timeout)[0]:
                return None
            received = self.sock.recv(65536)
            if not received:
                return None
            self.buffer += received
        head, _, rest = bytes(self.buffer).partition(END)
        self.buffer[:] = rest
        self.counts["requests"] += 1
        return head.split(b" ", 2)[1]

    def answer(self, target: bytes) -> None:
        url = urlsplit(target.decode("ascii"))
        body = content(int(url.path.strip("/")), int(parse_qs(url.query)["size"][0]))
        self.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def drops(peer: Peer) -> None:
    while (target := peer.next_request()) is not None:
        forgotten = peer.next_request(timeout=0.005)
        if forgotten is not None:
            peer.counts["dropped"] += 1
        peer.answer(target)


def closes(peer: Peer) -> None:
    target = peer.next_request()
    if target is not None:
        peer.answer(target)
        peer.sock.shutdown(socket.SHUT_WR)
        while peer.next_request() is not None:
            peer.counts["dropped"] += 1


def resets(peer: Peer) -> None:
    target = peer.next_request()
    if target is not None:
        peer.answer(target)


MODES = {"drops": drops, "closes": closes, "resets": resets}


def serve(listener: socket.socket, mode: str, counts: dict[str, int]) -> None:
    def one(sock: socket.socket) -> None:
        with sock:
            try:
                MODES[mode](Peer(sock, counts))
            except OSError:
                counts["lost"] += 1

    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        counts["connections"] += 1
        threading.Thread(target=one, args=(sock,), daemon=True).start()


def main(arguments: list[str]) -> None:
    counts = {"connections": 0, "requests": 0, "dropped": 0, "lost": 0}
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        print(listener.getsockname()[1], flush=True)
        threading.Thread(target=serve, args=(listener, arguments[0], counts), daemon=True).start()
        sys.stdin.read()
        print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
