"""A name server (RFC 1035) for A and AAAA over UDP and TCP, at port 53 of 127.0.0.1: for a test's own namespace."""

from __future__ import annotations

import ipaddress
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

NO_ERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5
SILENT = -1
"""No answer at all."""

_TYPES = {1: 4, 28: 6}  # A, AAAA: versions of addresses
_UDP_LIMIT = 512


class NameServer:
    """`with NameServer(zone) as server:` answers with the addresses that *zone* has for a name, or with that code;
    NXDOMAIN for other names. *zone* may be changed; `asked` has the names, in the order in which they were asked for.

    *silent_types*: versions of addresses, 4 or 6, that are not answered for.
    """

    def __init__(self, zone: Mapping[str, Sequence[str] | int], silent_types: Sequence[int] = ()) -> None:
        self.zone = zone
        self.asked: list[str] = []
        self._silent_types = silent_types
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 53))
        self._tcp = socket.create_server(("127.0.0.1", 53))
        self._threads = [threading.Thread(target=serve, daemon=True) for serve in (self._serve_udp, self._serve_tcp)]

    def _serve_udp(self) -> None:
        with suppress(OSError):  # it is closed
            while True:
                query, client = self._udp.recvfrom(_UDP_LIMIT)
                if not query:
                    return  # it is shut down
                answer = self.answer(query)
                if len(answer) > _UDP_LIMIT:
                    end = len(_question(query)[0])
                    answer = query[:2] + struct.pack(">HHHHH", 0x8780, 1, 0, 0, 0) + query[12:end]  # TC: ask by TCP
                if answer:
                    self._udp.sendto(answer, client)

    def _serve_tcp(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._tcp.accept()
                with sock, sock.makefile("rwb") as stream, suppress(OSError):
                    while size := stream.read(2):
                        answer = self.answer(stream.read(int.from_bytes(size, "big")))
                        stream.write(len(answer).to_bytes(2, "big") + answer)
                        stream.flush()

    def answer(self, query: bytes) -> bytes:
        """The whole answer to a query; b"": none."""
        asked, name, kind = _question(query)
        self.asked.append(name)
        found = self.zone.get(name, NXDOMAIN)
        version = _TYPES.get(kind)
        if found == SILENT or version in self._silent_types:
            return b""
        code, addresses = (found, ()) if isinstance(found, int) else (NO_ERROR, found)
        packed = [ipaddress.ip_address(address).packed for address in addresses if (":" in address) == (version == 6)]
        if version is None:
            packed = []
        # Recursion was desired and is available; each record names what was asked for by a pointer to it.
        head = query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(packed), 0, 0)
        records = [struct.pack(">HHHIH", 0xC00C, kind, 1, 0, len(data)) + data for data in packed]
        return head + asked[12:] + b"".join(records)

    def __enter__(self) -> NameServer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._udp, self._tcp):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(20)


def _question(query: bytes) -> tuple[bytes, str, int]:
    """The query to the end of its question, the name, and the type."""
    labels, position = [], 12
    while size := query[position]:
        labels.append(query[position + 1 : position + 1 + size].decode())
        position += 1 + size
    return query[: position + 5], ".".join(labels).lower(), int.from_bytes(query[position + 1 : position + 3], "big")
