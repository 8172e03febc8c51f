"""What goes wrong: connections that cannot be had, that end anywhere, that say nothing, or what is not HTTP."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from conformance.responses import BIG, in_chunks
from conformance.scenario import (
    ANEW,
    CLOSED,
    PLAIN,
    TLS,
    Failed,
    add,
    answer,
    cleanly,
    drain,
    failure,
    fin,
    reply,
    reset,
    scenario,
    sends,
)
from httpio import Lenient, Limits
from servers.scripted import Peer, Script, answers

SHORT = 0.05
"""Seconds after which a call gives up, where nothing comes at all."""

# -- connections that end --

HEAD = b"HTTP/1.1 200 OK\r\n"
LENGTH = HEAD + b"Content-Length: 10\r\n\r\n"
CHUNKS = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = reply(b"whole")


def cut(wire: bytes, end: Script) -> Script:
    """It reads two requests, and sends this for both, and then the end."""

    def script(peer: Peer) -> None:
        for _ in range(2):
            peer.request()
        peer.send(wire)
        end(peer)

    return script


async def ask_twice(conn: Any) -> Any:
    """GET /a and POST /b, and all that can be read of the answers, twice where that fails."""
    await conn.send_request("GET", "/a")
    await conn.send_request("POST", "/b", body=b"body")
    conn.server.settle(1)
    found: list[Any] = []
    while True:
        try:
            found.append(await answer(conn))
        except Exception as exc:
            found.append(type(exc).__name__)
            found.append(await failure(conn.read_response()))
            return found


def fin_and_gone(peer: Peer) -> None:
    peer.finish()


def cleanly_and_gone(peer: Peer) -> None:
    peer.notify()


def cut_at(name: str, wire: bytes, answered: Sequence[Any], *facts: Any) -> None:
    """Scenarios: the answers end behind *wire*, in each way. *facts*: those of the error."""
    kind = "ConnectionClosed"
    left = ["/a", "/b"][len(answered) :]
    for sign, end in (("FIN", fin_and_gone), ("RST", reset), ("close_notify", cleanly_and_gone)):
        add(
            f"{sign} {name}",
            cut(wire, end),
            ask_twice,
            [*answered, kind, Failed(kind, *facts)],
            seen=["GET /a", "POST /b"],
            then=CLOSED,
            outstanding=left,
            over=(TLS,) if sign == "close_notify" else (PLAIN, TLS),
        )


AHEAD = (("/a", "answering", False), ("/b", "sent", False))
BEHIND = (("/b", "answering", False),)

cut_at(
    "before the first answer", b"", [], "awaiting response", None, None, (("/a", "sent", True), ("/b", "sent", False))
)
cut_at("in a status line", HEAD[:5], [], "in head", None, None, AHEAD)
cut_at("behind a status line", HEAD, [], "in head", None, None, AHEAD)
cut_at("in a field line", LENGTH[:25], [], "in head", None, None, AHEAD)
cut_at("in a head's last CRLF", LENGTH[:-1], [], "in head", None, None, AHEAD)
cut_at("behind a head", LENGTH, [], "in body", 0, 10, AHEAD)
cut_at("in a body", LENGTH + b"123456789", [], "in body", 9, 10, AHEAD)
cut_at("in a chunk's size", CHUNKS + b"3\r\nabc\r\n1", [], "in body", 3, None, AHEAD)
cut_at("in a chunk", CHUNKS + b"3\r\nab", [], "in body", 2, None, AHEAD)
cut_at("behind a chunk", CHUNKS + b"3\r\nabc\r\n", [], "in body", 3, None, AHEAD)
cut_at("behind the last chunk", CHUNKS + b"3\r\nabc\r\n0\r\n", [], "in body", 3, None, AHEAD)
cut_at("in a trailer section", CHUNKS + b"3\r\nabc\r\n0\r\nX: 1\r\n", [], "in body", 3, None, AHEAD)
cut_at("behind an interim response", HEAD.replace(b"200", b"103") + b"\r\n", [], "in head", None, None, AHEAD)
cut_at("between two answers", WHOLE, [(200, b"whole")], "awaiting response", None, None, (("/b", "sent", False),))
cut_at("in the second head", WHOLE + HEAD, [(200, b"whole")], "in head", None, None, BEHIND)
cut_at("in the second body", WHOLE + LENGTH + b"1", [(200, b"whole")], "in body", 1, 10, BEHIND)


@scenario(
    sends(reply(b"last", fields="Connection: close\r\n"), then=drain),
    ((200, b"last"), Failed("ConnectionClosed", "awaiting response", None, None, (("/b", "unsent", True),))),
    seen=["GET /a"],
    then=CLOSED,
    outstanding=["/b"],
)
async def what_is_behind_a_Connection_close_counts_as_unsent(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    await conn.send_request("POST", "/b", body=b"")
    return await answer(conn), await failure(conn.read_response())


# -- silence --


@scenario(
    drain,
    (Failed("ConnectionTimedOut", "awaiting response", None, None, (("/a", "sent", True),)), "ConnectionClosed"),
    seen=[],
    then=CLOSED,
    outstanding=["/a"],
    timeout=SHORT,
)
async def silence_in_place_of_an_answer(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    return await failure(conn.read_response()), (await failure(conn.read_response())).kind


@scenario(
    sends(LENGTH + b"1234", then=drain),
    Failed("ConnectionTimedOut", "in body", 4, 10, (("/a", "answering", False),)),
    seen=["GET /a"],
    then=CLOSED,
    outstanding=["/a"],
)
async def silence_inside_a_body(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    await conn.read_response()
    conn.raw.timeout = SHORT
    return await failure(conn.readall())


def drips(peer: Peer) -> None:
    """A body that always goes on, and never ends."""
    peer.request()
    peer.send(CHUNKS)
    while not peer.server.go.wait(0.002):
        peer.send(b"1\r\nx\r\n")


@scenario(
    drips, ("ConnectionTimedOut", "in body", True), seen=["GET /a"], then=CLOSED, outstanding=["/a"], deadline=2 * SHORT
)
async def the_deadline_ends_what_drips(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    began = time.monotonic()
    failed = await failure(_read_it(conn))
    conn.server.go.set()
    return failed.kind, failed.where, time.monotonic() - began >= SHORT


async def _read_it(conn: Any) -> None:
    await answer(conn)


def reads_nothing(peer: Peer) -> None:
    peer.head()
    peer.server.go.wait()


@scenario(
    reads_nothing,
    Failed("ConnectionTimedOut", "sending", None, None, (("/a", "sent", True),)),
    seen=["PUT /a"],
    then=CLOSED,
    outstanding=["/a"],
)
async def a_server_that_reads_nothing(conn: Any) -> Any:
    await conn.connect()
    conn.raw.timeout = SHORT
    failed = await failure(conn.send_request("PUT", "/a", body=bytes(32 << 20)))
    conn.server.go.set()
    return failed


# -- connecting --


def no_connection(name: str, fates: Sequence[str], kind: str, where: str | None, **rest: Any) -> None:
    """A scenario: the first look-ups end so; then all is well. The failed ones cost the server nothing."""

    async def program(conn: Any) -> Any:
        failed = [await failure(conn.send_request("GET", "/a")) for _ in fates[:1]]
        failed += [await failure(conn.connect()) for _ in fates[1:]]
        return failed, conn.outstanding

    add(
        name,
        answers,
        program,
        ([Failed(kind, where)] * len(fates), ()),
        seen=[],
        connections=0,
        then=ANEW,
        lookups=fates,
        **rest,
    )


no_connection("a name that does not exist", ["missing"] * 2, "HostnameNotResolvable", "connecting")
no_connection("no name service", ["unavailable"] * 2, "DNSUnavailable", "connecting")
no_connection("a name service that is silent", ["silent"], "ConnectionTimedOut", "connecting", connect_timeout=SHORT)
no_connection("a refused connect", ["refused"] * 2, "ConnectionRefusedError", None)
no_connection(
    "a handshake that is not answered", ["mute"], "ConnectionTimedOut", "connecting", connect_timeout=SHORT, over=[TLS]
)


@scenario(
    answers,
    ("StateError", "ConnectionRefusedError", "ConnectionRefusedError"),
    seen=[],
    connections=0,
    then=ANEW,
    lookups=["refused"] * 2,
)
async def nothing_is_outstanding_where_nothing_was_connected(conn: Any) -> Any:
    first = (await failure(conn.read_response())).kind
    kinds = [(await failure(conn.send_request("GET", "/a"))).kind for _ in range(2)]
    return (first, *kinds)


# -- what is not HTTP --


def wrong(name: str, wire: bytes, outcome: Any, **rest: Any) -> None:
    """A scenario: what comes is refused, the connection is broken, and nothing was read of the answer behind it."""

    async def program(conn: Any) -> Any:
        await conn.send_request("GET", "/a")
        found: list[Any] = []
        try:
            response = await conn.read_response()
            found.append(response.status)
            found.append(await conn.readall())
        except Exception as exc:
            found.append(type(exc).__name__)
            found.append(exc.where)  # type: ignore[attr-defined]
        return found

    rest = {"seen": ["GET /a"], "then": CLOSED, "outstanding": ["/a"], **rest}
    add(name, sends(wire, then=drain), program, outcome, **rest)


INVALID = "InvalidResponse"
wrong("no status line", b"SSH-2.0-OpenSSH\r\n", [INVALID, "in head"])
wrong("HTTP 2", b"HTTP/2 200 OK\r\n\r\n", [INVALID, "in head"])
wrong("a bare CR", HEAD + b"X: 1\rY: 2\r\n\r\n", [INVALID, "in head"])
wrong("two lengths", HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", [INVALID, "in head"])
wrong("a length and chunks", CHUNKS[:-2] + b"Content-Length: 1\r\n\r\n0\r\n\r\n", [INVALID, "in head"])
wrong("a negative length", HEAD + b"Content-Length: -1\r\n\r\n", [INVALID, "in head"])
wrong("a fold", HEAD + b"X: 1\r\n 2\r\nContent-Length: 0\r\n\r\n", [INVALID, "in head"])
wrong("a chunk of no size", CHUNKS + b"\r\nabc\r\n", [200, INVALID, "in body"])
wrong("a chunk that is too long", CHUNKS + b"3\r\nabcd\r\n0\r\n\r\n", [200, INVALID, "in body"])
wrong(
    "a field section over the limit",
    HEAD + b"X: 1\r\n" * 4 + b"\r\n",
    [INVALID, "in head"],
    limits=Limits(max_headers=3),
)
UNSUPPORTED = "UnsupportedResponse"
wrong("101 that nobody asked for", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", [UNSUPPORTED, "in head"])
wrong("a coding that nobody knows", HEAD + b"Transfer-Encoding: x, chunked\r\n\r\n", [UNSUPPORTED, "in head"])
wrong("no framing", HEAD + b"\r\nbody", [200, UNSUPPORTED, "in body"])


@scenario(
    sends(HEAD + b"\r\nto the end", then=cleanly),
    (200, b"to the end"),
    seen=["GET /a"],
    then=CLOSED,
    lenient=Lenient.UNTIL_CLOSE,
)
async def no_framing_is_read_to_the_close_where_that_is_allowed(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    return await answer(conn)


@scenario(
    sends(b"SSH-2.0-OpenSSH\r\n" + BIG[:99], then=cleanly),
    (INVALID, b"SSH-2.0-OpenSSH\r\n" + BIG[:99]),
    seen=["GET /a"],
    then=CLOSED,
    outstanding=["/a"],
)
async def what_was_refused_can_be_read_raw(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    kind = (await failure(conn.read_response())).kind
    found = b""
    while data := await conn.read_raw(10):
        assert len(data) <= 10
        found += data
    return kind, found


@scenario(
    sends(HEAD + b"\r\nraw", then=cleanly), (UNSUPPORTED, b"raw"), seen=["GET /a"], then=CLOSED, outstanding=["/a"]
)
async def what_has_no_framing_can_be_read_raw(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    await conn.read_response()
    kind = (await failure(conn.readall())).kind
    found = b""
    while data := await conn.read_raw(100):
        found += data
    return kind, found


# -- starting over --


def first_goes_wrong(script: Script) -> Script:
    return lambda peer: (answers if peer.number else script)(peer)


for _name, _script, _kind in (
    ("a FIN", cut(HEAD, fin), "ConnectionClosed"),
    ("a RST", cut(LENGTH, reset), "ConnectionClosed"),
    ("an invalid answer", cut(b"HTTP/1.1 2 OK\r\n\r\n", drain), INVALID),
):

    async def _over_again(conn: Any) -> Any:
        await conn.send_request("GET", "/a")
        await conn.send_request("GET", "/b")
        kind = (await failure(_read_it(conn))).kind
        refused = (await failure(conn.send_request("GET", "/never"))).kind
        await conn.connect()
        await conn.send_request("GET", "/c")
        return kind, refused, await answer(conn)

    add(
        f"connect starts over behind {_name}",
        first_goes_wrong(_script),
        _over_again,
        (_kind, "ConnectionClosed", (200, b"/c")),
        seen=["GET /a", "GET /b", "GET /c"],
        connections=2,
    )


# -- between two exchanges --


def idle(end: Script, ahead: bytes = b"") -> Script:
    """It ends when its answer is out, and before the next request comes."""
    return sends(reply(b"one") + ahead, then=end)


for _name, _script in (
    ("FIN", idle(fin_and_gone)),
    ("RST", idle(reset)),
    ("a 408 and FIN", idle(fin_and_gone, reply(b"", "408 Request Timeout", "Connection: close\r\n"))),
):

    async def _idle(conn: Any) -> Any:
        await conn.send_request("GET", "/a")
        conn.server.settle(1)
        first = await answer(conn)
        return first, await failure(conn.send_request("POST", "/b", body=b"once")), conn.outstanding

    add(
        f"{_name} while idle",
        _script,
        _idle,
        ((200, b"one"), Failed("ConnectionClosed", "sending"), ()),
        seen=["GET /a"],
        then=CLOSED,
    )


@scenario(
    sends(reply(b"one", fields="Keep-Alive: timeout=5\r\n")),
    ((200, b"one"), (200, b"/b"), "ConnectionClosed"),
    seen=["GET /a", "GET /b"],
    then=CLOSED,
)
async def idle_for_longer_than_the_peer_keeps_it(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    first = await answer(conn)
    conn.passes(2)
    await conn.send_request("GET", "/b")
    second = await answer(conn)
    conn.passes(5)
    return first, second, (await failure(conn.send_request("GET", "/c"))).kind


@scenario(sends(in_chunks(BIG, 1000)), "ConnectionClosed", seen=["GET /a"], then=CLOSED, outstanding=["/a"])
async def abort_inside_a_body(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    await conn.read_response()
    conn.raw.abort()
    return (await failure(conn.readall())).kind


def aborted_by_another(peer: Peer) -> None:
    peer.request()
    peer.server.client.abort()
    peer.drain()


@scenario(
    aborted_by_another,
    Failed("ConnectionClosed", "awaiting response", None, None, (("/a", "sent", True),)),
    seen=["GET /a"],
    then=CLOSED,
    outstanding=["/a"],
)
async def abort_by_another_thread_while_it_reads(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    return await failure(conn.read_response())


def aborted_in_an_upload(peer: Peer) -> None:
    peer.head()
    peer.take(100_000)
    peer.server.client.abort()
    peer.drain()


@scenario(aborted_in_an_upload, ("ConnectionClosed", "sending"), seen=["PUT /a"], then=CLOSED, outstanding=["/a"])
async def abort_by_another_thread_while_it_sends(conn: Any) -> Any:
    return (await failure(conn.send_request("PUT", "/a", body=bytes(32 << 20))))[:2]
