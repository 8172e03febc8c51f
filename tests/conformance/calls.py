"""Calls at the wrong time, and the ends of a connection: each is refused by one sentence, and changes nothing."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from conformance.responses import BIG
from conformance.scenario import (
    ANEW,
    CLOSED,
    USABLE,
    answer,
    collects,
    drain,
    failure,
    reply,
    scenario,
    sends,
)
from httpio import BodyFollowing
from servers.scripted import Peer, answers


async def kinds(*calls: Any) -> list[str]:
    """The names of what some calls raise, one after the other."""
    try:
        return [(await failure(call)).kind for call in calls]
    finally:
        for call in calls:
            call.close()


# -- nothing is outstanding --


@scenario(answers, ["StateError"] * 4 + [b"", b"", 0, None], seen=[])
async def nothing_was_asked_for(conn: Any) -> Any:
    await conn.connect()
    found: list[Any] = await kinds(
        conn.read_response(), conn.write(b"x"), conn.end_body(), conn.sendfile(conn.file(b"x"))
    )
    found += [await conn.readall(), await conn.read(5), await conn.readinto(bytearray(5)), await conn.discard()]
    return found


@scenario(answers, ["StateError"] * 2, seen=[], connections=0, then=ANEW)
async def nothing_was_connected(conn: Any) -> Any:
    await conn.flush()
    assert (conn.raw.peername, conn.raw.local_address, conn.raw.response_pending()) == (None, None, False)
    return await kinds(conn.read_response(), conn.write(b"x"))


@scenario(answers, ((200, b"/a"), ["StateError"], b""), seen=["GET /a"])
async def each_answer_is_read_once(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    return await answer(conn), await kinds(conn.read_response()), await conn.readall()


# -- something is under way --


@scenario(answers, (["StateError"] * 2, b"/a", (200, b"/b")), seen=["GET /a", "GET /b"])
async def a_body_is_read_before_the_next_answer(conn: Any) -> Any:
    for path in ("/a", "/b"):
        await conn.send_request("GET", path)
    await conn.read_response()
    refused = await kinds(conn.read_response(), conn.read_response())
    return refused, await conn.readall(), await answer(conn)


@scenario(collects, (["StateError"], "ExcessBodyData", (200, b"<body>")), seen=["POST /a"])
async def no_request_goes_out_inside_a_body(conn: Any) -> Any:
    await conn.send_request("POST", "/a", body=BodyFollowing(4))
    await conn.write(b"bo")
    refused = await kinds(conn.send_request("GET", "/never"))
    excess = (await failure(conn.write(b"dy."))).kind
    await conn.write(b"dy")
    return refused, excess, await answer(conn)


@scenario(collects, (["StateError"], (200, b"<body>")), seen=["POST /a"])
async def a_body_with_a_length_has_no_end_to_tell(conn: Any) -> Any:
    await conn.send_request("POST", "/a", body=BodyFollowing(4))
    refused = await kinds(conn.end_body())
    await conn.write(b"body")
    return refused, await answer(conn)


@scenario(collects, (["ValueError", "TypeError", "TypeError"], (200, b"<body>|X-Sum: 4")), seen=["POST /a"])
async def wrong_pieces_and_trailers_are_refused(conn: Any) -> Any:
    await conn.send_request("POST", "/a", body=BodyFollowing())
    await conn.write(b"body")
    refused = await kinds(conn.end_body({"Content-Length": "4"}), conn.write("text"), conn.sendfile("text"))
    await conn.end_body({"X-Sum": "4"})
    return refused, await answer(conn)


@scenario(answers, (["ValueError"] * 2, (200, b"/a")), seen=["GET /a"])
async def read_raw_wants_a_size(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    return await kinds(conn.read_raw(0), conn.read_raw(-1)), await answer(conn)


@scenario(answers, ("StateError", (200, b"/a"), "StateError"), seen=["GET /a"])
async def nothing_to_detach(conn: Any) -> Any:
    async def detach() -> None:
        conn.raw.detach()

    await conn.send_request("GET", "/a")
    before = (await failure(detach())).kind
    return before, await answer(conn), (await failure(detach())).kind


# -- close --


@scenario(sends(reply(BIG)), (["ConnectionClosed"] * 3, ()), seen=["GET /a"], then=ANEW)
async def close_inside_a_body(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    await conn.read_response()
    await conn.read(10)
    conn.raw.close()
    return await kinds(conn.readall(), conn.read(10), conn.discard()), conn.outstanding


@scenario(drain, ["ConnectionClosed"] * 2, seen=[], then=ANEW)
async def close_with_requests_outstanding(conn: Any) -> Any:
    for path in ("/a", "/b"):
        await conn.send_request("GET", path)
    conn.raw.close()
    return await kinds(conn.read_response(), conn.read_response())


@scenario(drain, ["ConnectionClosed"] * 3, seen=[], then=ANEW)
async def close_inside_a_request(conn: Any) -> Any:
    await conn.send_request("PUT", "/a", body=BodyFollowing(4))
    await conn.write(b"bo")
    conn.raw.close()
    return await kinds(conn.write(b"dy"), conn.read_response(), conn.readall())


@scenario(answers, [(200, b"/a"), (200, b"/b"), (200, b"/c")], seen=["GET /a", "GET /b", "GET /c"], connections=3)
async def close_between_two_requests(conn: Any) -> Any:
    found = []
    for path in ("/a", "/b", "/c"):
        conn.raw.close()
        await conn.send_request("GET", path)
        found.append(await answer(conn))
    return found


@scenario(answers, ([(200, b"/a")], ()), seen=["GET /a"], connections=2)
async def connect_gives_up_what_was_outstanding(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    found = [await answer(conn)]
    await conn.connect()
    return found, conn.outstanding


# -- detach --


def switches(status: bytes) -> Any:
    """A script that switches to another protocol, in which it sends back what comes, in capitals."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 " + status + b"hello")
        while peer.receive():
            peer.send(bytes(peer.buffer).upper())
            peer.buffer.clear()

    return script


async def talk(conn: Any, method: str, target: str, headers: dict[str, str]) -> Any:
    """Switch, and talk over the socket: the status, what came behind the head, and what comes back."""
    await conn.send_request(method, target, headers=headers)
    response = await conn.read_response()
    sock: socket.socket
    sock, data = conn.raw.detach()
    with sock, contextlib.suppress(OSError):
        sock.settimeout(20)
        while len(data) < 5:
            data += sock.recv(5 - len(data))
        sock.sendall(b"shout")
        back = b""
        while len(back) < 5:
            back += sock.recv(5 - len(back))
    return response.status, data, back, conn.outstanding, conn.raw.peername


UPGRADE = {"Connection": "upgrade", "Upgrade": "x"}


@scenario(
    switches(b"101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
    (101, b"hello", b"SHOUT", (), None),
    seen=["GET /a"],
    then=ANEW,
)
async def detach_behind_101(conn: Any) -> Any:
    return await talk(conn, "GET", "/a", UPGRADE)


@scenario(switches(b"200 OK\r\n\r\n"), (200, b"hello", b"SHOUT", (), None), seen=["CONNECT host:1"], then=ANEW)
async def detach_behind_CONNECT(conn: Any) -> Any:
    return await talk(conn, "CONNECT", "host:1", {})


@scenario(answers, (["StateError"], (200, b"/a"), (200, b"/b")), seen=["GET /a", "GET /b"])
async def an_upgrade_that_is_not_taken(conn: Any) -> Any:
    """Nothing may follow it before its answer; then HTTP goes on."""
    await conn.send_request("GET", "/a", headers=UPGRADE)
    refused = await kinds(conn.send_request("GET", "/b"))
    first = await answer(conn)
    await conn.send_request("GET", "/b")
    return refused, first, await answer(conn)


@scenario(
    sends(reply(b"no", "407 No"), b"HTTP/1.1 204 No Content\r\n\r\n"),
    ((407, b"no"), (204, b"")),
    seen=["CONNECT host:1", "GET /a"],
)
async def a_CONNECT_that_is_refused(conn: Any) -> Any:
    await conn.send_request("CONNECT", "host:1")
    first = await answer(conn)
    await conn.send_request("GET", "/a")
    return first, await answer(conn)


@scenario(
    switches(b"101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
    "ConnectionClosed",
    seen=["GET /a"],
    then=CLOSED,
)
async def no_request_follows_a_switch(conn: Any) -> Any:
    await conn.send_request("GET", "/a", headers=UPGRADE)
    await conn.read_response()
    return (await failure(conn.send_request("GET", "/never"))).kind


@scenario(answers, True, seen=["GET /a"], then=USABLE)
async def what_is_known_of_the_ends(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    pending = conn.raw.response_pending()
    await answer(conn)
    raw = conn.raw
    with socket.socket(fileno=raw.fileno()) as same:
        ends = same.getpeername(), same.getsockname()
        same.detach()
    return pending and not raw.response_pending() and ends == (raw.peername, raw.local_address)
