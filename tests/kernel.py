"""What Linux's kernel says of a connection."""

from __future__ import annotations

import os
import select
import socket
import struct

from httpio import HTTPConnection


def sent(conn: HTTPConnection) -> int:
    """Bytes that were sent on this connection, each counted once, those included that are still on their way."""
    with socket.socket(fileno=os.dup(conn.fileno())) as sock:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 216)
    # tcpi_notsent_bytes, tcpi_bytes_sent and tcpi_bytes_retrans of linux/tcp.h.
    waiting, gone, again = struct.unpack_from("=I52xQQ", info, 144)
    return int(waiting + gone - again)


def arrived(conn: HTTPConnection) -> None:
    """Wait until something is here that was not received: bytes, an end, a reset. What a peer has sent may still be on
    its way when its call has returned."""
    assert select.select([conn.fileno()], [], [], 20)[0]


def reset(conn: HTTPConnection) -> None:
    """Wait until the peer's reset is here."""
    poll = select.poll()
    poll.register(conn.fileno(), 0)  # an error is always told
    assert poll.poll(20_000)
