"""Bodies that are to be decoded and cannot be: codings that are not known, codes that are wrong, and what is lost."""

from __future__ import annotations

import zlib
from typing import Any

from codings import TEXT, coded, coded_chunks, gzipped, raw_deflate
from conformance.decoding import BOMB, GZIP, HALF, HEAD, HELLO, UNFRAMED, decoded, get
from conformance.responses import by_read
from conformance.runs import SHORT
from conformance.scenario import (
    CLOSED,
    PLAIN,
    TLS,
    Failed,
    add,
    cleanly,
    drain,
    failure,
    fin,
    reply,
    reset,
    scenario,
    sends,
)
from httpio import Limits
from servers.scripted import Peer

# -- what cannot be decoded here --


async def failures(*calls: Any) -> list[Failed]:
    """What some calls raise, one after the other."""
    try:
        return [await failure(call) for call in calls]
    finally:
        for call in calls:
            call.close()


async def refused(conn: Any) -> Any:
    """What three reads of an undecodable body raise; then it is dropped, and the next answer read."""
    await conn.send_request("GET", "/a")
    response = await conn.read_response(decode=True)
    errors = await failures(conn.read(10), conn.readall(), conn.readinto(bytearray(9)))
    await conn.discard()
    await conn.send_request("GET", "/b")
    return response.status, [error.kind for error in errors], await decoded(conn)


REFUSED = ["UnsupportedResponse"] * 3
for _name, _wire, _status in (
    ("an unknown coding", coded(b"hello", "x-own"), 200),
    ("an unknown coding in gzip", coded(HELLO, "x-own, gzip"), 200),
    ("an unknown coding in chunks", coded_chunks(b"hello", 2, "x-own"), 200),
    ("six codings", coded(HELLO, ", ".join(["gzip"] * 6)), 200),
    ("a part of an encoded body", coded(HELLO[3:], status="206 Part", fields="Content-Range: bytes 3-24/25\r\n"), 206),
):
    add(
        f"decoded: {_name}",
        sends(_wire, coded(GZIP)),
        refused,
        (_status, REFUSED, (200, TEXT)),
        seen=["GET /a", "GET /b"],
        over=(PLAIN,),
    )

add(
    "decoded: a part of a body without coding",
    sends(reply(b"part", "206 Part", "Content-Range: bytes 0-3/9\r\n")),
    get,
    (206, b"part", 4, None, "length"),
    seen=["GET /a"],
)


async def invalid(conn: Any) -> Any:
    """What three reads of a body that is wrong raise; then it is dropped, and the next answer read."""
    await conn.send_request("GET", "/a")
    await conn.read_response(decode=True)
    errors = await failures(conn.readall(), conn.read(10), conn.readinto(bytearray(9)))
    await conn.discard()
    return [(error.kind, error.where) for error in errors], await conn.readall()


async def invalid_in_pieces(conn: Any) -> Any:
    """The same, where some of it is read before."""
    await conn.send_request("GET", "/a")
    await conn.read_response(decode=True)
    errors = await failures(by_read(conn, 10_000), conn.write_to(conn.file()), conn.readall())
    await conn.discard()
    return [(error.kind, error.where) for error in errors], await conn.readall()


INVALID = ([("InvalidResponse", "in body")] * 3, b"")
for _name, _wire in (
    ("gzip cut short", coded(GZIP[:-1])),
    ("gzip cut short in chunks", coded_chunks(HALF, 100)),
    ("gzip without its check sum", coded(GZIP[:-8])),
    ("gzip whose check sum is wrong", coded(GZIP[:-8] + bytes(8))),
    ("bytes behind gzip", coded(GZIP + b"behind")),
    ("bytes behind deflate", coded(zlib.compress(TEXT) + b"behind", "deflate")),
    ("deflate cut short", coded(raw_deflate(TEXT)[:-1], "deflate")),
    ("a text by the name of gzip", coded(TEXT[:100])),
    ("deflate by the name of gzip", coded(zlib.compress(TEXT))),
    ("gzip by the name of deflate", coded(GZIP, "deflate")),
    ("gzip in which there is no deflate", coded(GZIP, "deflate, gzip")),
    ("gzip that grows too much", coded(BOMB)),
    ("gzip in gzip that grows too much", coded(gzipped(BOMB), "gzip, gzip")),
):
    add(f"{_name}, read whole", sends(_wire), invalid, INVALID, seen=["GET /a"], over=(PLAIN,))
    add(f"{_name}, read in pieces", sends(_wire), invalid_in_pieces, INVALID, seen=["GET /a"], over=(PLAIN,))

add(
    "a decoded body over the limit, read whole",
    sends(coded(GZIP)),
    invalid,
    INVALID,
    seen=["GET /a"],
    limits=Limits(max_decoded=len(TEXT) - 1),
)
add(
    "a decoded body at the limit",
    sends(coded(GZIP)),
    get,
    (200, TEXT, len(GZIP), "gzip", "length"),
    seen=["GET /a"],
    limits=Limits(max_decoded=len(TEXT)),
)


@scenario(sends(coded(GZIP)), TEXT, seen=["GET /a"], limits=Limits(max_decoded=10))
async def a_decoded_body_over_the_limit_in_pieces(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    await conn.read_response(decode=True)
    return b"".join(await by_read(conn, 10_000))


@scenario(sends(coded(BOMB)), True, seen=["GET /a"], limits=Limits(max_ratio=2000))
async def a_body_may_grow_as_much_as_is_allowed(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    return await decoded(conn) == (200, bytes(4 << 20))


# -- connections that end, and silence --


async def lost(conn: Any) -> Any:
    """The error of a body that is read whole, and whether there is one behind it."""
    await conn.send_request("GET", "/a")
    await conn.read_response(decode=True)
    first = await failure(conn.readall())
    await failure(conn.read(10))
    return first


async def lost_in_pieces(conn: Any) -> Any:
    """The same, read in pieces: some of the content is given before."""
    await conn.send_request("GET", "/a")
    await conn.read_response(decode=True)
    assert TEXT.startswith(await conn.read(10))
    return await failure(by_read(conn, 1000))


ANSWERING = (("/a", "answering", False),)
for _sign, _end, _over in (
    ("FIN", fin, (PLAIN, TLS)),
    ("RST", reset, (PLAIN, TLS)),
    ("close_notify", cleanly, (TLS,)),
):
    for _how, _program in (("whole", lost), ("in pieces", lost_in_pieces)):
        add(
            f"{_sign} in a coded body, read {_how}",
            sends(HEAD + HALF, then=_end),
            _program,
            Failed("ConnectionClosed", "in body", len(HALF), len(GZIP), ANSWERING),
            seen=["GET /a"],
            then=CLOSED,
            outstanding=["/a"],
            over=_over,
        )
    if _sign != "close_notify":
        add(
            f"{_sign} in a coded body to the close",
            sends(UNFRAMED + GZIP, then=_end),
            lost,
            Failed("ConnectionClosed", "in body", len(GZIP), None, ANSWERING),
            seen=["GET /a"],
            then=CLOSED,
            outstanding=["/a"],
            over=(TLS,) if _sign == "FIN" else (PLAIN, TLS),
        )

add(
    "a coded body to the close, cut short",
    sends(UNFRAMED + HALF, then=cleanly),
    invalid,
    INVALID,
    seen=["GET /a"],
    then=CLOSED,
)

for _how, _program in (("whole", lost), ("in pieces", lost_in_pieces)):
    add(
        f"silence in a coded body, read {_how}",
        sends(HEAD + HALF, then=drain),
        _program,
        Failed("ConnectionTimedOut", "in body", len(HALF), len(GZIP), ANSWERING),
        seen=["GET /a"],
        then=CLOSED,
        outstanding=["/a"],
        timeout=SHORT,
    )


def drips(peer: Peer) -> None:
    """A coded body that always goes on, and never ends."""
    peer.request()
    peer.send(coded_chunks(b"", 1)[: -len(b"0\r\n\r\n")])
    packer = zlib.compressobj(wbits=31)
    while not peer.server.go.wait(0.002):
        piece = packer.compress(b"x") + packer.flush(zlib.Z_SYNC_FLUSH)
        peer.send(b"%x\r\n%s\r\n" % (len(piece), piece))


@scenario(
    drips, ("ConnectionTimedOut", "in body"), seen=["GET /a"], then=CLOSED, outstanding=["/a"], deadline=2 * SHORT
)
async def the_deadline_ends_a_coded_body_that_drips(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    await conn.read_response(decode=True)
    failed = await failure(by_read(conn, 10))
    conn.server.go.set()
    return failed.kind, failed.where


def drips_nothing(peer: Peer) -> None:
    """The same, where no piece comes to any content: empty members."""
    peer.request()
    peer.send(coded_chunks(b"", 1)[: -len(b"0\r\n\r\n")])
    while not peer.server.go.wait(0.002):
        peer.send(b"%x\r\n%s\r\n" % (20, gzipped(b"")))


@scenario(
    drips_nothing, ("ConnectionTimedOut", "in body"), seen=["GET /a"], then=CLOSED, outstanding=["/a"],
    deadline=2 * SHORT,
)  # fmt: skip
async def the_deadline_ends_a_coded_body_of_nothing(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    await conn.read_response(decode=True)
    failed = await failure(conn.read(10))
    conn.server.go.set()
    return failed.kind, failed.where
