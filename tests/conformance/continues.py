"""100 (Continue): in time, late, twice, never, and a final answer in its place (RFC 9110 section 10.1.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.scenario import (
    ANEW,
    CLOSED,
    USABLE,
    Failed,
    add,
    answer,
    cleanly,
    collects,
    drain,
    failure,
    fin,
    reply,
    scenario,
)
from httpio import BodyFollowing
from servers.scripted import Peer, Script

GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\n\r\n"
BODY = b"the body " * 3000
SHORT = 0.02
"""Seconds that are waited for a 100 which does not come before the body."""

Way = Callable[[Peer, Callable[[], bytes]], None]
"""How a server treats an upload; it is given what takes the body."""


def serves(way: Way) -> Script:
    """A script that treats one upload in that way, notes its body, and goes on."""

    def script(peer: Peer) -> None:
        seen = peer.head()
        assert seen is not None
        assert seen.field("Expect") == "100-continue"

        def take() -> bytes:
            body = peer.take(len(BODY))
            peer.server.notes.append(body == BODY)
            return body

        way(peer, take)
        if peer.server.notes:
            collects(peer)
        else:
            peer.drain()
            peer.server.notes.append(f"{len(peer.buffer)} bytes unasked")

    return script


STORED = reply(b"stored")


def in_time(peer: Peer, take: Callable[[], bytes]) -> None:
    peer.send(GO_ON)
    take()
    peer.send(STORED)


def with_hints(peer: Peer, take: Callable[[], bytes]) -> None:
    peer.send(HINTS + GO_ON + HINTS)
    take()
    peer.send(HINTS + STORED)


def twice(peer: Peer, take: Callable[[], bytes]) -> None:
    peer.send(GO_ON * 2)
    take()
    peer.send(STORED)


def late(peer: Peer, take: Callable[[], bytes]) -> None:
    while not peer.buffer:
        assert peer.receive()
    peer.send(GO_ON)
    take()
    peer.send(STORED)


def behind_the_body(peer: Peer, take: Callable[[], bytes]) -> None:
    take()
    peer.send(GO_ON + STORED)


def never(peer: Peer, take: Callable[[], bytes]) -> None:
    take()
    peer.send(STORED)


async def in_two_steps(conn: Any) -> Any:
    """The body is written once 100 has been returned: its reason, what follows, and all interim statuses."""
    await conn.send_request("PUT", "/a", body=BodyFollowing(len(BODY)), expect100=True)
    before = await failure(conn.write(BODY))
    interim = await conn.read_response()
    await conn.write(BODY[:100])
    await conn.write(BODY[100:])
    response = await conn.read_response()
    statuses = [interim.status for interim in response.informational]
    return before.kind, interim.status, interim.reason, response.status, await conn.readall(), statuses


async def inside(conn: Any) -> Any:
    """The waiting happens in the call that sends."""
    await conn.send_request("PUT", "/a", body=BODY, expect100=True)
    response = await conn.read_response()
    return response.status, await conn.readall(), [interim.status for interim in response.informational]


for _name, _way, _reason, _statuses in (
    ("in time", in_time, "Continue", [100]),
    ("among hints", with_hints, "Continue", [103, 100, 103, 103]),
    ("twice", twice, "Continue", [100, 100]),
    ("late", late, "assumed", [100]),
    ("behind the body", behind_the_body, "assumed", [100]),
    ("never", never, "assumed", []),
):
    _rest: Any = {
        "seen": ["PUT /a"],
        "notes": [True],
        "expect_timeout": SHORT if _reason == "assumed" else None,
    }
    _outcome = ("StateError", 100, _reason, 200, b"stored", _statuses)
    add(f"100 {_name}, in two steps", serves(_way), in_two_steps, _outcome, **_rest)
    add(f"100 {_name}, inside the call", serves(_way), inside, (200, b"stored", _statuses), **_rest)


def refuses(wire: bytes) -> Script:
    return serves(lambda peer, take: peer.send(wire))


async def refused_in_two_steps(conn: Any) -> Any:
    await conn.send_request("PUT", "/a", body=BodyFollowing(len(BODY)), expect100=True)
    response = await conn.read_response()
    content = await conn.readall()
    return response.status, response.request_complete, content, (await failure(conn.write(BODY))).kind


async def refused_inside(conn: Any) -> Any:
    await conn.send_request("PUT", "/a", body=BODY, expect100=True)
    response = await conn.read_response()
    return response.status, response.request_complete, await conn.readall()


CLOSE = "Connection: close\r\n"
for _status, _wire, _then in (
    (200, STORED, ANEW),
    (413, reply(b"no", "413 No"), ANEW),
    (413, reply(b"no", "413 No", CLOSE), CLOSED),
    (417, reply(b"no", "417 No"), ANEW),
    (417, reply(b"no", "417 No", CLOSE), CLOSED),
    (401, HINTS + reply(b"no", "401 No"), ANEW),
):
    _name = f"{_status}{' and close' if _then == CLOSED else ''} in place of 100"
    _body = b"stored" if _status == 200 else b"no"
    _rest = {"seen": ["PUT /a"], "notes": ["0 bytes unasked"], "then": _then, "expect_timeout": None}
    add(f"{_name}, in two steps", refuses(_wire), refused_in_two_steps, (_status, False, _body, "StateError"), **_rest)
    add(f"{_name}, inside the call", refuses(_wire), refused_inside, (_status, False, _body), **_rest)


def ends(end: Script, before: bytes = b"") -> Script:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(before)
        end(peer)

    return script


@scenario(
    ends(cleanly, HINTS),
    Failed("ConnectionClosed", "in head", None, None, (("/a", "answering", False),)),
    seen=["PUT /a"],
    then=CLOSED,
    outstanding=["/a"],
    expect_timeout=None,
)
async def the_end_in_place_of_100(conn: Any) -> Any:
    await conn.send_request("PUT", "/a", body=BodyFollowing(len(BODY)), expect100=True)
    return await failure(conn.read_response())


@scenario(
    ends(fin),
    Failed("ConnectionClosed", "awaiting response", None, None, (("/a", "sent", True),)),
    seen=["PUT /a"],
    then=CLOSED,
    outstanding=["/a"],
    expect_timeout=None,
)
async def the_end_in_place_of_100_inside_the_call(conn: Any) -> Any:
    return await failure(conn.send_request("PUT", "/a", body=BODY, expect100=True))


@scenario(
    ends(drain),
    ("ConnectionTimedOut", "ConnectionClosed"),
    seen=["PUT /a"],
    then=CLOSED,
    outstanding=["/a"],
    expect_timeout=None,
    timeout=SHORT,
)
async def no_100_within_the_timeout(conn: Any) -> Any:
    await conn.send_request("PUT", "/a", body=BodyFollowing(len(BODY)), expect100=True)
    return (await failure(conn.read_response())).kind, (await failure(conn.write(BODY))).kind


def second_expects(peer: Peer) -> None:
    peer.request()
    peer.send(reply(b"first"))
    serves(in_time)(peer)


@scenario(second_expects, ((200, b"first"), 100, (200, b"stored")), seen=["GET /0", "PUT /a"], notes=[True])
async def expecting_behind_another_request(conn: Any) -> Any:
    await conn.send_request("GET", "/0")
    await conn.send_request("PUT", "/a", body=BodyFollowing(len(BODY)), expect100=True)
    first = await answer(conn)
    interim = await conn.read_response()
    await conn.write(BODY)
    return first, interim.status, await answer(conn)


@scenario(serves(in_time), (200, b"stored"), seen=["PUT /a"], notes=[True], expect_timeout=None)
async def a_field_of_the_callers_expects_too(conn: Any) -> Any:
    await conn.send_request("PUT", "/a", headers={"Expect": "100-continue"}, body=BODY)
    return await answer(conn)


@scenario(collects, (200, b"<>", None), seen=["PUT /a"], then=USABLE)
async def nothing_is_expected_for_no_body(conn: Any) -> Any:
    await conn.send_request("PUT", "/a", body=b"", expect100=True)
    return (*await answer(conn), conn.server.seen[0].field("Expect"))
