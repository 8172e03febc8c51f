"""What goes out: bodies of each kind, bodies that are not what was declared, answers that come before their end."""

from __future__ import annotations

import io
import ssl
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from conformance.responses import BIG
from conformance.scenario import (
    CLOSED,
    Failed,
    add,
    answer,
    collects,
    failure,
    reply,
    reset,
    scenario,
)
from httpio import BodyFollowing, ConnectionClosed
from servers.scripted import Peer, Script

HUGE = 16 << 20
"""More than the sockets of two ends hold."""

DATA = BIG[:40_000]


def posted(body: Any, expected: bytes, name: str, **arguments: Any) -> None:
    """A scenario: a body of a kind, and what the server has of it. *body*: a function of the connection."""

    async def program(conn: Any) -> Any:
        await conn.send_request("POST", "/a", body=body(conn), **arguments)
        return await answer(conn)

    add(name, collects, program, (200, expected), seen=["POST /a"])


def pieces(data: bytes = DATA, size: int = 7000) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


FIELDS = {"X-Sum": "7"}

posted(lambda conn: DATA, b"<" + DATA + b">", "a body of bytes")
posted(lambda conn: b"", b"<>", "a body of no bytes goes out")
posted(lambda conn: bytearray(DATA), b"<" + DATA + b">", "a bytearray")
posted(lambda conn: memoryview(DATA)[:300], b"<" + DATA[:300] + b">", "a memoryview")
posted(lambda conn: BIG, b"<" + BIG + b">", "a body of one MiB")
posted(lambda conn: conn.file(BIG), b"<" + BIG + b">", "a file")
posted(lambda conn: io.BytesIO(DATA), b"<" + DATA + b">", "a file in memory")
posted(lambda conn: pieces(), b"<" + DATA + b">", "an iterable")
posted(lambda conn: [b"", b"a", b"", b"b"], b"<ab>", "an iterable with empty pieces")
posted(lambda conn: [], b"<>", "an iterable of nothing")
posted(lambda conn: pieces(), b"<" + DATA + b">|X-Sum: 7", "trailers behind an iterable", trailers=FIELDS)
posted(lambda conn: pieces(), b"<" + DATA + b">|X-Sum: 7", "trailers that a function gives", trailers=lambda: FIELDS)
posted(
    lambda conn: pieces(),
    b"<" + DATA + b">",
    "an iterable whose length is declared",
    headers={"Content-Length": str(len(DATA))},
)


@scenario(collects, ([4, 0, 5], (200, b"<body-body>")), seen=["POST /a"])
async def a_body_that_follows(conn: Any) -> Any:
    await conn.send_request("POST", "/a", body=BodyFollowing(9))
    counts = [await conn.write(b"body"), await conn.write(b""), await conn.write(bytearray(b"-body"))]
    return counts, await answer(conn)


@scenario(collects, ((200, b"<>"), "StateError"), seen=["POST /a"])
async def a_body_of_length_0_that_follows(conn: Any) -> Any:
    await conn.send_request("POST", "/a", body=BodyFollowing(0))
    return await answer(conn), (await failure(conn.write(b"x"))).kind


@scenario(collects, (200, b"<first, second>|X-Sum: 7"), seen=["POST /a"])
async def a_body_of_unknown_length_that_follows(conn: Any) -> Any:
    await conn.send_request("POST", "/a", body=BodyFollowing())
    await conn.write(b"first, ")
    await conn.write(b"")
    await conn.write(b"second")
    await conn.end_body(trailers=FIELDS)
    return await answer(conn)


async def write_partially(conn: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        taken = await conn.write(view, partial=True)
        assert 0 <= taken <= len(view)
        view = view[taken:]
        if not taken:
            await conn.flush()
    await conn.flush()


@scenario(collects, (200, b"<" + BIG * 4 + b">"), seen=["POST /a"])
async def partial_writes(conn: Any) -> Any:
    await conn.send_request("POST", "/a", body=BodyFollowing(4 * len(BIG)))
    await write_partially(conn, BIG * 4)
    return await answer(conn)


@scenario(collects, (200, b"<" + BIG + b">"), seen=["POST /a"])
async def partial_writes_of_chunks(conn: Any) -> Any:
    await conn.send_request("POST", "/a", body=BodyFollowing())
    await write_partially(conn, BIG)
    await conn.end_body()
    return await answer(conn)


@scenario(collects, ([len(BIG) - 5, 4], (200, b"<head" + BIG[5:] + b"tail>")), seen=["PUT /a"])
async def a_file_inside_a_body(conn: Any) -> Any:
    await conn.send_request("PUT", "/a", body=BodyFollowing(len(BIG) + 3))
    await conn.write(b"head")
    file = conn.file(BIG)
    file.seek(5)
    counts = [await conn.sendfile(file), await conn.write(b"tail")]
    return counts, await answer(conn)


@scenario(collects, [(200, b"<%d>" % number) for number in range(9)], seen=[f"PUT /{n}" for n in range(9)])
async def uploads_before_the_first_answer_is_read(conn: Any) -> Any:
    for number in range(9):
        await conn.send_request("PUT", f"/{number}", body=b"%d" % number)
    return [await answer(conn) for _ in range(9)]


# -- bodies that are not what was declared --


@scenario(collects, (["ExcessBodyData", "ExcessBodyData"], (200, b"<abcdef>")), seen=["POST /a"])
async def more_than_was_announced_is_refused_and_nothing_of_it_sent(conn: Any) -> Any:
    await conn.send_request("POST", "/a", body=BodyFollowing(6))
    await conn.write(b"abc")
    kinds = [(await failure(conn.write(b"defg"))).kind, (await failure(conn.sendfile(conn.file(b"defgh")))).kind]
    await conn.write(b"def")
    return kinds, await answer(conn)


def keeps_prefix(peer: Peer) -> None:
    """Notes whether what came of a body is the beginning of DATA, and no whole body."""
    seen = peer.head()
    assert seen is not None
    with suppress(OSError):
        peer.drain()
    length = seen.field("Content-Length")
    if length is None:
        peer.server.notes.append(b"\r\n0\r\n" in peer.buffer)
    else:
        peer.server.notes.append(len(peer.buffer) >= int(length))


def fails(name: str, body: Any, kind: str, **arguments: Any) -> None:
    """A scenario: a body that fails while it goes out. What the server has of it is not whole."""

    async def program(conn: Any) -> Any:
        failed = await failure(conn.send_request("POST", "/a", body=body(conn), **arguments))
        return failed.kind, (await failure(conn.read_response())).kind

    add(
        name,
        keeps_prefix,
        program,
        (kind, "ConnectionClosed"),
        seen=["POST /a"],
        notes=[False],
        then=CLOSED,
        outstanding=["/a"],
    )


class Broken(Exception):
    """What an iterable raises."""


def breaking() -> Iterator[bytes]:
    yield DATA
    raise Broken


def declared(size: int) -> dict[str, dict[str, str]]:
    return {"headers": {"Content-Length": str(size)}}


fails("an iterable that raises", lambda conn: breaking(), "Broken")
fails("an iterable that raises within its length", lambda conn: breaking(), "Broken", **declared(len(DATA) + 1))
fails("an iterable that is too short", lambda conn: pieces(), "StateError", **declared(len(DATA) + 1))
fails("an iterable that is too long", lambda conn: [b"abc", b"def"], "ExcessBodyData", **declared(5))
fails("an iterable of text", lambda conn: [DATA, "text"], "TypeError")
fails("a file that is too short", lambda conn: conn.file(DATA), "StateError", **declared(len(DATA) + 1))


@scenario(
    keeps_prefix, ("StateError", "ConnectionClosed"), seen=["POST /a"], notes=[False], then=CLOSED, outstanding=["/a"]
)
async def a_file_that_shrinks(conn: Any) -> Any:
    class Shrinking(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(100)
            self.truncate(self.tell())
            return data

    failed = await failure(conn.send_request("POST", "/a", body=Shrinking(DATA)))
    return failed.kind, (await failure(conn.read_response())).kind


BAD = (
    (("GET\r\n", "/a"), {}),
    (("GET", "/a b"), {}),
    (("GET", "/\u20ac"), {}),
    (("GET", "/a"), {"headers": {"X\r\n": "1"}}),
    (("GET", "/a"), {"headers": {"X": "1\n"}}),
    (("GET", "/a"), {"headers": {"Content-Length": "-1"}, "body": b""}),
    (("GET", "/a"), {"headers": {"Content-Length": "3"}, "body": b"four"}),
    (("GET", "/a"), {"body": "text"}),
    (("GET", "/a"), {"body": 7}),
    (("POST", "/a"), {"body": [b"x"], "trailers": {"Content-Length": "1"}}),
)


@scenario(
    collects,
    ["ValueError", "InvalidURL", "InvalidURL", *["ValueError"] * 4, "TypeError", "TypeError", "ValueError"],
    seen=[],
)
async def bad_arguments_are_refused_before_anything_is_sent(conn: Any) -> Any:
    await conn.connect()
    return [(await failure(conn.send_request(*args, **options))).kind for args, options in BAD]


# -- answers before the end of the body --


def answers_early(wire: bytes, then: Script) -> Script:
    """It answers when half of HUGE is here, and goes on by *then*."""

    def script(peer: Peer) -> None:
        peer.head()
        peer.take(HUGE // 2)
        peer.send(wire)
        then(peer)

    return script


def silently(peer: Peer) -> None:
    """It neither reads on nor closes, before the client does."""
    peer.server.go.wait()


def with_FIN(peer: Peer) -> None:
    """It says that nothing more comes, and reads no more."""
    peer.finish()
    silently(peer)


def with_close_notify(peer: Peer) -> None:
    """The same, and under TLS close_notify before it."""
    if isinstance(peer.sock, ssl.SSLSocket):
        peer.notify()
    else:
        peer.finish()
    silently(peer)


REFUSAL = reply(b"no", "413 No", "Connection: close\r\n")

for _name, _body in (
    ("bytes", lambda: bytes(HUGE)),
    ("an iterable", lambda: (bytes(1 << 16) for _ in range(HUGE >> 16))),
):

    async def _refused(conn: Any, body: Any = _body) -> Any:
        with suppress(ConnectionClosed):  # as the peer's close may come while it sends, or behind that
            await conn.send_request("PUT", "/a", body=body(), headers={"Content-Length": str(HUGE)})
        response = await conn.read_response()
        found = response.status, response.request_complete, await conn.readall()
        conn.server.go.set()
        return found

    _seen: Any = {"seen": ["PUT /a"], "then": CLOSED}
    add(
        f"413 stops a body of {_name}",
        answers_early(reply(b"no", "413 No"), with_FIN),
        _refused,
        (413, False, b"no"),
        **_seen,
    )
    add(
        f"413 and close stops a body of {_name}",
        answers_early(REFUSAL, with_close_notify),
        _refused,
        (413, False, b"no"),
        **_seen,
    )
    add(
        f"413 stops a body of {_name} that is not read",
        answers_early(reply(b"no", "413 No"), silently),
        _refused,
        (413, False, b"no"),
        **_seen,
    )
    add(f"a RST behind 413 to a body of {_name}", answers_early(REFUSAL, reset), _refused, (413, False, b"no"), **_seen)


def reads_on(peer: Peer) -> None:
    """It takes the rest of the body, and goes on."""
    peer.take(HUGE - HUGE // 2)
    collects(peer)


@scenario(answers_early(reply(b"fine"), reads_on), (200, True, b"fine"), seen=["PUT /a"])
async def an_early_200_lets_the_body_go_on(conn: Any) -> Any:
    await conn.send_request("PUT", "/a", body=bytes(HUGE))
    response = await conn.read_response()
    return response.status, response.request_complete, await conn.readall()


def refuses_at_once(peer: Peer) -> None:
    peer.head()
    peer.send(REFUSAL)
    peer.server.go.set()
    peer.drain()


@scenario(
    refuses_at_once,
    (Failed("ConnectionClosed", "sending", 2, 2, (("/a", "answering", False),)), 413, b"no"),
    seen=["PUT /a"],
    then=CLOSED,
)
async def a_write_behind_an_early_413_is_refused(conn: Any) -> Any:
    await conn.send_request("PUT", "/a", body=BodyFollowing(2 * len(DATA)))
    await conn.until(conn.server.go)
    failed = await failure(conn.write(DATA))
    status, body = await answer(conn)
    return failed, status, body


def hangs_up(end: Script) -> Script:
    def script(peer: Peer) -> None:
        peer.head()
        peer.take(100_000)
        end(peer)

    return script


for _sign, _end in (("FIN", with_FIN), ("RST", reset)):

    async def _lost(conn: Any) -> Any:
        failed = await failure(conn.send_request("POST", "/a", body=bytes(HUGE)))
        conn.server.go.set()
        return failed

    add(
        f"{_sign} inside a request's body",
        hangs_up(_end),
        _lost,
        Failed("ConnectionClosed", "sending", None, None, (("/a", "sent", False),)),
        seen=["POST /a"],
        then=CLOSED,
        outstanding=["/a"],
    )
