"""One part of a program sends while another reads."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from conformance.continues import GO_ON
from conformance.responses import BIG
from conformance.scenario import ANEW, CLOSED, add, answer, collects, failure, reply, reset, scenario
from httpio import ConnectionClosed
from servers.scripted import Peer, answers

TOGETHER: dict[str, Any] = {"needs": "together"}
HUGE = bytes(16 << 20)
"""More than the sockets of two ends hold."""
MANY = [f"/{number}" for number in range(200)]


async def read(conn: Any, count: int) -> list[Any]:
    """So many answers."""
    return [await answer(conn) for _ in range(count)]


def answers_at_last(peer: Peer) -> None:
    """It reads all requests before it answers the first."""
    for _ in MANY:
        peer.request()
    for path in MANY:
        peer.answer(path.encode())
    answers(peer)


@scenario(answers_at_last, [(200, path.encode()) for path in MANY], seen=[f"GET {path}" for path in MANY], **TOGETHER)
async def two_hundred_are_sent_while_the_first_is_awaited(conn: Any) -> Any:
    async def send() -> None:
        for path in MANY[1:]:
            await conn.send_request("GET", path)

    await conn.send_request("GET", MANY[0])
    return (await conn.both(send(), read(conn, len(MANY))))[1]


def both_ways(peer: Peer) -> None:
    """It takes a body no faster than its answer to the request before is read."""
    peer.request()
    peer.head()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(HUGE))
    step = 1 << 16
    for _ in range(len(HUGE) // step):
        peer.send(bytes(step))
        peer.take(step)
    peer.send(reply(b"stored"))
    answers(peer)


@scenario(both_ways, ([len(HUGE)], [(200, b"stored")]), seen=["GET /a", "PUT /b"], **TOGETHER)
async def a_large_body_each_way(conn: Any) -> Any:
    async def take() -> Any:
        await conn.read_response()
        count, buffer = 0, bytearray(100_000)
        while piece := await conn.readinto(buffer):
            count += piece
        return [count], await read(conn, 1)

    await conn.send_request("GET", "/a")
    return (await conn.both(conn.send_request("PUT", "/b", body=HUGE), take()))[1]


def refuses_the_second(peer: Peer) -> None:
    """It answers the first request when the second's body has begun, refuses the second, and reads no more."""
    peer.request()
    peer.head()
    peer.take(100_000)
    peer.send(reply(BIG) + reply(b"no", "413 No"))
    peer.server.go.wait()


for _name, _body in (
    ("bytes", lambda: HUGE),
    ("an iterable", lambda: (HUGE[:65536] for _ in range(len(HUGE) // 65536))),
):

    async def _stopped(conn: Any, body: Any = _body) -> Any:
        async def send() -> None:
            with suppress(ConnectionClosed):
                await conn.send_request("PUT", "/b", body=body())

        await conn.send_request("GET", "/a")
        found, _ = await conn.both(read(conn, 2), send())
        conn.server.go.set()
        return found

    add(
        f"the answer that another reads stops a body of {_name}",
        refuses_the_second,
        _stopped,
        [(200, BIG), (413, b"no")],
        seen=["GET /a", "PUT /b"],
        then=CLOSED,
        **TOGETHER,
    )


def goes_on_late(peer: Peer) -> None:
    """It answers the first request, and then says that the body of the second may come."""
    peer.request()
    seen = peer.head()
    assert seen is not None
    peer.send(reply(BIG))
    peer.send(GO_ON)
    peer.answer(b"%d" % len(peer.take(int(seen.field("Content-Length") or 0))))
    answers(peer)


@scenario(goes_on_late, [(200, BIG), (200, b"300000")], seen=["GET /a", "PUT /b"], expect_timeout=None, **TOGETHER)
async def the_100_that_another_reads_lets_a_body_go(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    sending = conn.send_request("PUT", "/b", body=bytes(300_000), expect100=True)
    return (await conn.both(read(conn, 2), sending))[0]  # in this order: the sender leaves the listening to the other


def answers_when_told(peer: Peer) -> None:
    peer.request()
    peer.server.go.wait()
    peer.answer(b"only one")
    answers(peer)


@scenario(answers_when_told, [(200, b"only one"), "StateError"], seen=["GET /a"], **TOGETHER)
async def a_second_reader_is_refused(conn: Any) -> Any:
    async def read_or_fail() -> Any:
        try:
            return await answer(conn)
        except Exception as exc:
            conn.server.go.set()
            return type(exc).__name__

    await conn.send_request("GET", "/a")
    return sorted(await conn.both(read_or_fail(), read_or_fail()), key=str)


def takes_when_told(peer: Peer) -> None:
    seen = peer.head()
    assert seen is not None
    peer.server.begun.set()
    peer.server.go.wait()
    peer.answer(b"%d" % len(peer.take(int(seen.field("Content-Length") or 0))))
    collects(peer)


@scenario(takes_when_told, ("StateError", (200, b"%d" % len(HUGE))), seen=["PUT /a"], **TOGETHER)
async def a_second_sender_is_refused(conn: Any) -> Any:
    async def interfere() -> str:
        await conn.until(conn.server.begun)
        kind = (await failure(conn.send_request("GET", "/never"))).kind
        conn.server.go.set()
        return kind

    _, kind = await conn.both(conn.send_request("PUT", "/a", body=HUGE), interfere())
    return kind, await answer(conn)


@scenario(answers, (200, b"/a"), seen=["GET /a"], lookups=["slow"], **TOGETHER)
async def a_reader_waits_for_a_request_that_is_on_its_way(conn: Any) -> Any:
    async def read_first() -> Any:
        await conn.until(conn.server.begun)
        return await answer(conn)

    return (await conn.both(conn.send_request("GET", "/a"), read_first()))[1]


def loses_both(peer: Peer) -> None:
    peer.request()
    peer.head()
    peer.take(100_000)
    reset(peer)


@scenario(
    loses_both, ["ConnectionClosed"] * 2, seen=["GET /a", "PUT /b"], then=CLOSED, outstanding=["/a", "/b"], **TOGETHER
)
async def a_RST_ends_both(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    sending = failure(conn.send_request("PUT", "/b", body=HUGE))
    return [failed.kind for failed in await conn.both(sending, failure(conn.read_response()))]


def silent(peer: Peer) -> None:
    peer.request()
    peer.head()
    peer.take(100_000)
    peer.server.begun.set()
    peer.server.go.wait()


@scenario(
    silent, ["ConnectionClosed"] * 2, seen=["GET /a", "PUT /b"], then=CLOSED, outstanding=["/a", "/b"], **TOGETHER
)
async def abort_ends_both(conn: Any) -> Any:
    async def read_and_abort() -> Any:
        await conn.until(conn.server.begun)
        conn.raw.abort()
        return await failure(conn.read_response())

    await conn.send_request("GET", "/a")
    sending = failure(conn.send_request("PUT", "/b", body=HUGE))
    found = [failed.kind for failed in await conn.both(sending, read_and_abort())]
    conn.server.go.set()
    return found


def silent_at_once(peer: Peer) -> None:
    peer.request()
    peer.server.begun.set()
    peer.drain()


@scenario(silent_at_once, ["ConnectionClosed", None], seen=["GET /a"], then=ANEW, needs="together close")
async def close_ends_a_read_that_waits(conn: Any) -> Any:
    async def close() -> None:
        await conn.until(conn.server.begun)
        conn.raw.close()

    await conn.send_request("GET", "/a")
    failed, result = await conn.both(failure(conn.read_response()), close())
    return [failed.kind, result]
