"""A server that does no more than count: a process of its own, started by `servers.canned`.

    python canned.py WIRE

WIRE names a response in `wires.WIRES`. Each end of a request's head (CRLF CRLF, also when split between two
receives) is answered with that response; small ones are sent many at a time from one prepared blob. After
the first line of input it prints its port; it serves each connection in a thread, and ends when its input
does.
"""

from __future__ import annotations

import socket
import sys
import threading

from wires import END_OF_HEAD, WIRES, Wire

BLOB_BYTES = 1 << 20
RECEIVE_BYTES = 1 << 18


def serve(connection: socket.socket, wire: Wire, blob: memoryview) -> None:
    """Answer requests on `connection` until the peer closes it."""
    received = bytearray(RECEIVE_BYTES)
    view = memoryview(received)
    kept = b""
    most = len(blob) // wire.size
    try:
        with connection:
            while count := connection.recv_into(received):
                data = kept + view[:count]
                kept = data[1 - len(END_OF_HEAD):]
                requests = data.count(END_OF_HEAD)
                if not most:
                    for _ in range(requests):
                        send_large(connection, wire)
                while requests and most:
                    answered = min(requests, most)
                    connection.sendall(blob[:answered * wire.size])
                    requests -= answered
    except ConnectionError:
        pass


def send_large(connection: socket.socket, wire: Wire) -> None:
    """Send one response piece by piece."""
    connection.sendall(wire.head)
    for _ in range(wire.repeats):
        connection.sendall(wire.piece)
    connection.sendall(wire.tail)


def accept(listener: socket.socket, wire: Wire) -> None:
    """Serve every connection that comes."""
    fits = BLOB_BYTES // wire.size
    blob = memoryview(wire.whole * fits if fits else b"")
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(connection, wire, blob), daemon=True).start()


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    sys.stdin.readline()
    threading.Thread(target=accept, args=(listener, WIRES[sys.argv[1]]()), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
