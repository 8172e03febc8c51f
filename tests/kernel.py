"""What Linux's kernel says of a connection."""

from __future__ import annotations

import os
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
