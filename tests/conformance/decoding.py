"""Bodies that are decoded: read in each way, ended in each way, and what stands before and behind them."""

from __future__ import annotations

import io
import zlib
from typing import Any

from codings import TEXT, bomb, coded, coded_chunks, gzipped, raw_deflate
from conformance.calls import kinds
from conformance.responses import by_read
from conformance.runs import EACH, GETS, MANY, PIPELINE, by_fetch, run
from conformance.scenario import (
    ANEW,
    CLOSED,
    PLAIN,
    add,
    answer,
    cleanly,
    failure,
    reply,
    reset,
    scenario,
    sends,
)
from conformance.together import TOGETHER
from httpio import Limits, Request
from servers.scripted import Peer, Script, Seen, answers

GZIP = gzipped(TEXT)
HEAD, HALF = coded(GZIP)[: -len(GZIP)], GZIP[: len(GZIP) // 2]
HELLO = gzipped(b"hello")
BOMB = bomb(4)
"""4 MiB of zeros, which is more than a thousand times its size."""
UNFRAMED = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"


async def decoded(conn: Any) -> tuple[int, bytes]:
    """The status and the decoded body of the next response."""
    response = await conn.read_response(decode=True)
    return response.status, await conn.readall()


async def get(conn: Any, method: str = "GET") -> tuple[Any, ...]:
    """Ask for /a; what came: status, body, the length told, the coding told, and what ended the body."""
    await conn.send_request(method, "/a")
    response = await conn.read_response(decode=True)
    body = await conn.readall()
    return response.status, body, response.length, response.headers["Content-Encoding"], response.complete_by


# -- codings, and framing --

for _name, _coding, _body in (
    ("gzip", "gzip", GZIP),
    ("gzip by its other name", "X-GZip", GZIP),
    ("gzip of three members", "gzip", gzipped(TEXT[:5000]) + gzipped(b"") + gzipped(TEXT[5000:])),
    ("deflate", "deflate", zlib.compress(TEXT)),
    ("deflate without zlib's header", "deflate", raw_deflate(TEXT)),
    ("deflate in gzip", "deflate, gzip", gzipped(zlib.compress(TEXT))),
    ("no coding", "identity", TEXT),
):
    add(f"decoded: {_name}", sends(coded(_body, _coding)), get, (200, TEXT, len(_body), _coding, "length"),
        seen=["GET /a"],
        over=(PLAIN,))  # fmt: skip

add("decoded: nothing at all", sends(coded(b"")), get, (200, b"", 0, "gzip", "length"), seen=["GET /a"])
add("decoded: gzip of nothing", sends(coded(gzipped(b""))), get, (200, b"", 20, "gzip", "length"), seen=["GET /a"])
add("decoded: no label", answers, get, (200, b"/a", 2, None, "length"), seen=["GET /a"])
add(
    "decoded: one chunk for each byte",
    sends(coded_chunks(HELLO, 1)),
    get,
    (200, b"hello", None, "gzip", "last chunk"),
    seen=["GET /a"],
)
add(
    "decoded: to the close",
    sends(UNFRAMED + GZIP, then=cleanly),
    get,
    (200, TEXT, None, "gzip", "close"),
    seen=["GET /a"],
    then=CLOSED,
)
for _status in ("204 No Content", "304 Not Modified"):
    for _coding in ("gzip", "unknown"):
        add(
            f"decoded: {_status} has no body, in {_coding} neither",
            sends(f"HTTP/1.1 {_status}\r\nContent-Encoding: {_coding}\r\n\r\n".encode()),
            get,
            (int(_status[:3]), b"", 0, _coding, "no body"),
            seen=["GET /a"],
            over=(PLAIN,),
        )


@scenario(sends(HEAD, coded(b"", "unknown")), [(200, b"")] * 2, seen=["HEAD /a", "HEAD /b"])
async def decoded_answers_to_HEAD(conn: Any) -> Any:
    found = []
    for path in ("/a", "/b"):
        await conn.send_request("HEAD", path)
        found.append(await decoded(conn))
    return found


def byte_by_byte(peer: Peer) -> None:
    while (seen := peer.request()) is not None:
        wire = coded_chunks(HELLO, 7) if seen.target == "/a" else reply(seen.target.encode())
        for index in range(len(wire)):
            peer.send(wire[index : index + 1])


add("decoded: byte by byte", byte_by_byte, get, (200, b"hello", None, "gzip", "last chunk"), seen=["GET /a"])


@scenario(
    sends(coded_chunks(GZIP, 100, trailers=b"X-Sum: 1\r\nContent-Encoding: br\r\n")),
    ([], TEXT, [("X-Sum", "1"), ("Content-Encoding", "br")], ("gzip", None)),
    seen=["GET /a"],
)
async def trailers_behind_a_decoded_body(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    response = await conn.read_response(decode=True)
    before = response.trailers.items()
    first = b"".join([await conn.read(10) for _ in range(5)])
    body = first + await conn.readall()
    return before, body, response.trailers.items(), (response.headers["Content-Encoding"], response.length)


# -- ways of reading --

for _size in (1, 10, 1000, 65_536, 1 << 20):
    _content = TEXT if _size > 1 else TEXT[:500]

    async def _by_read(conn: Any, size: int = _size) -> Any:
        await conn.send_request("GET", "/a")
        await conn.read_response(decode=True)
        pieces = await by_read(conn, size)
        return max(map(len, pieces)) <= size, b"".join(pieces), await conn.read(size), await conn.read()

    async def _by_readinto(conn: Any, size: int = _size) -> Any:
        await conn.send_request("GET", "/a")
        await conn.read_response(decode=True)
        content, buffer = bytearray(), bytearray(size)
        while count := await conn.readinto(buffer):
            content += buffer[:count]
        return bytes(content), await conn.readinto(buffer)

    _script = sends(coded_chunks(gzipped(_content), 90))
    add(f"decoded: read({_size})", _script, _by_read, (True, _content, b"", b""), seen=["GET /a"], over=(PLAIN,))
    add(f"decoded: readinto of {_size}", _script, _by_readinto, (_content, 0), seen=["GET /a"], over=(PLAIN,))


@scenario(sends(coded(GZIP)), (b"", 0, TEXT[:10], TEXT[10:], b"", b"", 0), seen=["GET /a"])
async def decoded_reads_of_nothing_of_some_and_of_all(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    await conn.read_response(decode=True)
    nothing = await conn.read(0), await conn.readinto(bytearray())
    some = b""
    while len(some) < 10:
        some += await conn.read(10 - len(some))
    return *nothing, some, await conn.read(), await conn.read(), await conn.readall(), await conn.readinto(bytearray(9))


@scenario(sends(coded(GZIP), coded_chunks(GZIP, 333)), [(TEXT[4:], len(TEXT) - 4), (TEXT, len(TEXT))],
          seen=["GET /a", "GET /b"])  # fmt: skip
async def decoded_into_a_file(conn: Any) -> Any:
    """It is a file that bytes could go to without entering Python."""
    found: list[Any] = []
    for path, ahead in (("/a", 4), ("/b", 0)):
        await conn.send_request("GET", path)
        await conn.read_response(decode=True)
        while ahead:
            ahead -= len(await conn.read(ahead))
        file = conn.file()
        count = await conn.write_to(file)
        file.seek(0)
        found.append((file.read(), count))
    return found


@scenario(sends(coded(GZIP)), (TEXT, len(TEXT)), seen=["GET /a"])
async def decoded_into_memory(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    await conn.read_response(decode=True)
    file = io.BytesIO()
    count = await conn.write_to(file)
    return file.getvalue(), count


@scenario(sends(coded(gzipped("h\xe9, \u20ac".encode()))), "h\xe9, \u20ac", seen=["GET /a"], needs="text")
async def decoded_text(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    await conn.read_response(decode=True)
    return await conn.text()


# -- what is left of a body, and what is behind it --


@scenario(
    sends(coded(GZIP), coded(HELLO), coded(zlib.compress(TEXT), "deflate"), coded(HELLO), reply(b"plain")),
    [(200, TEXT), (200, b"hello"), (200, TEXT), (200, HELLO), (200, b"plain")],
    seen=[f"GET /{name}" for name in "abcde"],
)
async def decoded_answers_one_after_the_other(conn: Any) -> Any:
    """The last but one is read as it came."""
    found = []
    for path in ("/a", "/b", "/c", "/d", "/e"):
        await conn.send_request("GET", path)
        found.append(await (answer if path == "/d" else decoded)(conn))
    return found


def all_at_once(*wires: bytes) -> Script:
    """A script that reads as many requests before it sends all of the answers in one piece."""

    def script(peer: Peer) -> None:
        for _ in wires:
            peer.request()
        peer.send(b"".join(wires))
        answers(peer)

    return script


FIVE = [f"/{number}" for number in range(5)]


@scenario(
    all_at_once(coded(GZIP), reply(b"one"), coded_chunks(HELLO, 3), coded(HELLO), reply(b"four")),
    [(200, TEXT), (200, b"one"), (200, b"hello"), (200, HELLO), (200, b"four")],
    seen=[f"GET {path}" for path in FIVE],
)
async def answers_behind_a_decoded_one(conn: Any) -> Any:
    """Each is read as its own call says."""
    for path in FIVE:
        await conn.send_request("GET", path)
    return [await (answer if path == "/3" else decoded)(conn) for path in FIVE]


@scenario(
    all_at_once(coded(GZIP), coded(GZIP), coded(HELLO)),
    [None, b"", None, b"", (200, b"hello")],
    seen=["GET /0", "GET /1", "GET /2"],
)
async def discard_what_would_be_decoded(conn: Any) -> Any:
    found: list[Any] = []
    for path in FIVE[:3]:
        await conn.send_request("GET", path)
    for ahead in (0, 10):
        await conn.read_response(decode=True)
        assert len(await conn.read(ahead)) <= ahead
        found += [await conn.discard(), await conn.read(10)]
    return [*found, await decoded(conn)]


@scenario(sends(coded(b"no gzip at all"), coded(BOMB)), [None, None], seen=["GET /a", "GET /b"])
async def discard_decodes_nothing(conn: Any) -> Any:
    """What could not be decoded, or not be kept, is no error of it."""
    found = []
    for path in ("/a", "/b"):
        await conn.send_request("GET", path)
        await conn.read_response(decode=True)
        found.append(await conn.discard())
    return found


@scenario(
    all_at_once(coded(gzipped(bytes(50_000))), reply(b"one")),
    (True, "StateError", bytes(50_000), (200, b"one")),
    seen=["GET /0", "GET /1"],
)
async def a_decoded_body_is_read_before_the_next_answer(conn: Any) -> Any:
    """All bytes of it are here, but not all of its content has been read."""
    for path in FIVE[:2]:
        await conn.send_request("GET", path)
    await conn.read_response(decode=True)
    content = await conn.read(10)
    pending = conn.raw.response_pending()
    refused = (await failure(conn.read_response())).kind
    content += await conn.readall()
    return pending, refused, content, await decoded(conn)


ZEROS = bytes(3 << 20)
"""More than is decoded without giving others a turn."""


@scenario(sends(coded(gzipped(ZEROS)), then=reset), ZEROS, seen=["GET /a"], then=CLOSED, limits=Limits(max_ratio=2000))
async def a_whole_coded_body_stands_whatever_follows_it(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    await conn.read_response(decode=True)
    conn.server.settle(1)
    return b"".join(await by_read(conn, 30_000))


@scenario(sends(coded(GZIP)), ["ConnectionClosed"] * 4, seen=["GET /a"], then=ANEW)
async def close_inside_a_decoded_body(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    await conn.read_response(decode=True)
    await conn.read(10)
    conn.raw.close()
    return await kinds(conn.readall(), conn.read(10), conn.readinto(bytearray(9)), conn.discard())


@scenario(sends(coded(GZIP)), [10, (200, TEXT)], seen=["GET /a", "GET /b"], connections=2)
async def a_decoded_body_that_is_given_up_leaves_nothing(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    await conn.read_response(decode=True)
    some = await conn.read(10)
    await conn.connect()
    await conn.send_request("GET", "/b")
    return [len(some), await decoded(conn)]


# -- side by side --


def code(peer: Peer, seen: Seen) -> None:
    """Answer a request with its target, encoded."""
    if seen.target.startswith(("/then", "/anew")):
        peer.answer(seen.target.encode())
    elif seen.method == "HEAD":
        peer.send(HEAD)
    elif seen.target == "/large":
        peer.send(coded(GZIP))
    elif seen.target == "/unknown":
        peer.send(coded(b"hello", "x-own"))
    elif seen.target == "/wrong":
        peer.send(coded(GZIP[:-1]))
    else:
        peer.send(coded(gzipped(seen.target.encode())))


def codes(peer: Peer) -> None:
    while (seen := peer.request()) is not None:
        code(peer, seen)


def codes_at_last(peer: Peer) -> None:
    """It reads all requests before it answers the first: who reads is not to overtake who sends."""
    asked = [peer.request() for _ in MANY]
    for seen in asked:
        if seen is not None:
            code(peer, seen)
    codes(peer)


@scenario(codes_at_last, [(200, body) for _, _, body in EACH], seen=GETS, **TOGETHER)
async def one_sends_while_another_decodes(conn: Any) -> Any:
    async def send() -> None:
        for path in MANY[1:]:
            await conn.send_request("GET", path)

    async def read() -> list[Any]:
        return [await decoded(conn) for _ in MANY]

    await conn.send_request("GET", MANY[0])
    return (await conn.both(send(), read()))[1]


# -- many --

for _depth in (None, 1, 7):

    async def _all(conn: Any, depth: int | None = _depth) -> Any:
        return await run(conn, iter(MANY), depth=depth, decode=True)

    add(f"a decoded pipeline of depth {_depth}", codes, _all, EACH, seen=GETS, **PIPELINE)


@scenario(answers, EACH, seen=GETS, **PIPELINE)
async def a_pipeline_that_would_decode_what_is_not_encoded(conn: Any) -> Any:
    return await run(conn, MANY, decode=True)


@scenario(
    codes,
    [("/0", b"/0"), ("/large", TEXT), ("/1", b"/1"), ("/large", None), ("/2", b"/2")],
    seen=["GET /0", "GET /large", "GET /1", "GET /large", "GET /2"],
    **PIPELINE,
)
async def decoded_bodies_over_the_limit_are_read_inside(conn: Any) -> Any:
    """What counts is the size of the content; what is not read is dropped."""
    found: list[Any] = []
    async for response in conn.pipeline(["/0", "/large", "/1", "/large", "/2"], body_limit=len(TEXT) - 1, decode=True):
        body = response.body
        if body is None and len(found) == 1:
            body = await conn.read(10)
            body += await conn.readall()
        found.append((response.path, body))
    return found


@scenario(codes, [("/large", 200, TEXT), ("/1", 200, b"/1")], seen=["GET /large", "GET /1"], **PIPELINE)
async def a_decoded_body_at_the_limit_of_a_pipeline(conn: Any) -> Any:
    return await run(conn, ["/large", "/1"], body_limit=len(TEXT), decode=True)


for _path, _kind in (("/unknown", "UnsupportedResponse"), ("/wrong", "InvalidResponse")):

    async def _in_its_place(conn: Any, path: str = _path) -> Any:
        return await run(conn, [*MANY[:3], path], depth=1, decode=True)

    add(
        f"a pipeline with {_path[1:]} coding",
        codes,
        _in_its_place,
        [*EACH[:3], _kind],
        seen=[*GETS[:3], f"GET {_path}"],
        **PIPELINE,
    )


@scenario(codes, [EACH[:3], [(200, GZIP), (200, TEXT)]], seen=[*GETS[:3], *["GET /large"] * 2], **PIPELINE)
async def a_pipeline_decodes_for_itself_alone(conn: Any) -> Any:
    found = [await run(conn, MANY[:3], decode=True), []]
    for read in (answer, decoded):
        await conn.send_request("GET", "/large")
        found[1].append(await read(conn))
    return found


@scenario(
    all_at_once(*[coded(gzipped(bytes(50_000))), coded(HELLO)] * 2),
    [("/0", None, b""), ("/1", b"hello", b""), ("/2", None, bytes(10)), ("/3", b"hello", b"")],
    seen=[f"GET {path}" for path in FIVE[:4]],
    **PIPELINE,
)
async def what_is_left_of_a_decoded_body_is_not_behind_the_next(conn: Any) -> Any:
    """All are here at once."""
    found: list[Any] = []
    async for response in conn.pipeline(FIVE[:4], depth=4, body_limit=1000, decode=True):
        found.append((response.path, response.body, b"" if response.path == "/0" else await conn.read(10)))
    return found


def closes_behind_each(peer: Peer) -> None:
    seen = peer.request()
    assert seen is not None
    body = gzipped(TEXT * 30) if seen.target == "/large" else gzipped(seen.target.encode())
    peer.send(coded(body, fields="Connection: close\r\n"))


@scenario(
    closes_behind_each,
    [("/0", b"/0"), ("/large", TEXT * 30), ("/1", b"/1"), ("/large", None), ("/2", b"/2")],
    seen=["GET /0", "GET /large", "GET /1", "GET /large", "GET /2"],
    connections=5,
    then=ANEW,
    **PIPELINE,
)
async def decoded_bodies_over_the_limit_behind_which_the_connection_ends(conn: Any) -> Any:
    found: list[Any] = []
    requests = ["/0", "/large", "/1", "/large", "/2"]
    async for response in conn.pipeline(requests, depth=1, body_limit=100_000, decode=True):
        body = response.body
        if body is None and len(found) == 1:
            body = await conn.read(10)
            body += await conn.readall()
        found.append((response.path, body))
    return found


def bodiless(peer: Peer) -> None:
    """What it answers has no body, in whatever coding."""
    wires = {"/204": b"HTTP/1.1 204 No\r\n", "/304": b"HTTP/1.1 304 No\r\n", "/empty": UNFRAMED[:17]}
    while (seen := peer.request()) is not None:
        if seen.target in ("/then", "/anew"):
            peer.answer(seen.target.encode())
        else:
            length = b"Content-Length: 0\r\n" if seen.target == "/empty" else b""
            wire = b"HTTP/1.1 206 Part\r\nContent-Length: 9\r\n" if seen.method == "HEAD" else wires[seen.target]
            peer.send(wire + length + b"Content-Encoding: x-own\r\n\r\n")


BODILESS = ["/204", "/304", "/empty"]
SEEN_BODILESS = [*(f"GET {path}" for path in BODILESS), "HEAD /a"]


@scenario(bodiless, [(*found, b"") for found in (("/204", 204), ("/304", 304), ("/empty", 200), ("/a", 206))],
          seen=SEEN_BODILESS, **PIPELINE)  # fmt: skip
async def what_has_no_body_needs_no_coding_in_a_pipeline(conn: Any) -> Any:
    return await run(conn, [*BODILESS, Request("HEAD", "/a")], decode=True)


by_fetch(
    "what has no body needs no coding in fetch",
    bodiless,
    lambda: [*BODILESS, Request("HEAD", "/a")],
    [
        ("/204", 204, b"", None, 1),
        ("/304", 304, b"", None, 1),
        ("/empty", 200, b"", None, 1),
        ("/a", 206, b"", None, 1),
    ],
    SEEN_BODILESS,
    options={"decode": True},
)

FETCHED = [(path, status, body, None, 1) for path, status, body in EACH]
DECODED: dict[str, Any] = {"decode": True}

by_fetch("decoded fetch", codes, lambda: iter(MANY), FETCHED, GETS, options=DECODED)
by_fetch(
    "fetch of what cannot be decoded here",
    codes,
    lambda: ["/0", "/unknown", *MANY[1:9]],
    [FETCHED[0], ("/unknown", 200, None, "UnsupportedResponse", 1), *FETCHED[1:9]],
    None,
    options=DECODED,
)
by_fetch(
    "a decoded body over the limit of fetch",
    codes,
    lambda: ["/0", "/large", "/1"],
    [FETCHED[0], ("/large", 200, None, "UnsupportedResponse", 1), FETCHED[1]],
    None,
    options={**DECODED, "body_limit": len(TEXT) - 1},
)
by_fetch(
    "a decoded body at the limit of fetch",
    codes,
    lambda: ["/0", "/large", "/1"],
    [FETCHED[0], ("/large", 200, TEXT, None, 1), FETCHED[1]],
    ["GET /0", "GET /large", "GET /1"],
    options={**DECODED, "body_limit": len(TEXT)},
)


by_fetch(
    "fetch of what is encoded wrongly",
    codes,
    lambda: ["/0", "/wrong", *MANY[1:9]],
    [FETCHED[0], ("/wrong", 200, None, "InvalidResponse", 1), *FETCHED[1:9]],
    None,
    options=DECODED,
)
