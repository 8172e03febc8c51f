"""What comes back: responses of each framing, read in each way."""

from __future__ import annotations

import io
from typing import Any

from conformance.scenario import (
    CLOSED,
    PLAIN,
    TLS,
    Failed,
    add,
    answer,
    cleanly,
    failure,
    fin,
    reply,
    reset,
    scenario,
    sends,
)
from servers.scripted import Peer, answers

BIG = b"".join(b"%07d\n" % number for number in range(131_072))
"""1 MiB, each part of which is another."""

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;a=b\r\nhello\r\n1\r\n \r\n005\r\nworld\r\n0;last\r\nX-Sum: 11\r\nX-Sum: eleven\r\n\r\n"
)
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end"


def in_chunks(body: bytes, size: int) -> bytes:
    """A whole response whose body goes out in chunks of that size."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


async def get(conn: Any, method: str = "GET") -> tuple[Any, ...]:
    """Ask for /a; what came: status, reason, body, the length told, and what ended the body."""
    await conn.send_request(method, "/a")
    response = await conn.read_response()
    body = await conn.readall()
    return response.status, response.reason, body, response.length, response.complete_by


# -- framing --

add("a plain exchange", answers, get, (200, "OK", b"/a", 2, "length"), seen=["GET /a"])
add("a body of no bytes", sends(reply()), get, (200, "OK", b"", 0, "length"), seen=["GET /a"])
add(
    "204 has no body",
    sends(b"HTTP/1.1 204 No Content\r\n\r\n"),
    get,
    (204, "No Content", b"", 0, "no body"),
    seen=["GET /a"],
)
add(
    "304 has no body whatever length it tells",
    sends(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
    get,
    (304, "Not Modified", b"", 0, "no body"),
    seen=["GET /a"],
)
add("a reason may be missing", sends(reply(b"x", "200 ")), get, (200, "", b"x", 1, "length"), seen=["GET /a"])
add("chunks", sends(CHUNKED), get, (200, "OK", b"hello world", None, "last chunk"), seen=["GET /a"])
add("no chunks but the last", sends(in_chunks(b"", 1)), get, (200, "OK", b"", None, "last chunk"), seen=["GET /a"])
add("a large body", sends(reply(BIG)), get, (200, "OK", BIG, len(BIG), "length"), seen=["GET /a"])
add(
    "a large body in small chunks",
    sends(in_chunks(BIG[:200_000], 100)),
    get,
    (200, "OK", BIG[:200_000], None, "last chunk"),
    seen=["GET /a"],
)
add(
    "a body that the close ends",
    sends(UNTIL_CLOSE, then=cleanly),
    get,
    (200, "OK", b"to the end", None, "close"),
    seen=["GET /a"],
    then=CLOSED,
)
add(
    "HTTP 1.0 is read to the close",
    sends(b"HTTP/1.0 200 OK\r\n\r\nold", then=cleanly),
    get,
    (200, "OK", b"old", None, "close"),
    seen=["GET /a"],
    then=CLOSED,
)
add(
    "HTTP 1.0 with a length",
    sends(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold"),
    get,
    (200, "OK", b"old", 3, "length"),
    seen=["GET /a"],
    then=CLOSED,
)
add(
    "Connection close behind a whole body",
    sends(reply(b"last", fields="Connection: close\r\n")),
    get,
    (200, "OK", b"last", 4, "length"),
    seen=["GET /a"],
    then=CLOSED,
)


@scenario(sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"), (200, b"", "1000"), seen=["HEAD /a"])
async def HEAD_tells_a_length_and_has_no_body(conn: Any) -> Any:
    await conn.send_request("HEAD", "/a")
    response = await conn.read_response()
    return response.status, await conn.readall(), response.headers["Content-Length"]


for _name, _end, _way, _sign in (
    ("a FIN without close_notify ends no body", fin, TLS, "FIN"),
    ("a RST ends no body", reset, PLAIN, "RST"),
    ("a RST ends no body over TLS", reset, TLS, "RST"),
):

    async def _cut(conn: Any) -> Any:
        await conn.send_request("GET", "/a")
        response = await conn.read_response()
        return response.status, await failure(conn.readall()), response.complete_by

    add(
        _name,
        sends(UNTIL_CLOSE, then=_end),
        _cut,
        (200, Failed("ConnectionClosed", "in body", 10, None, (("/a", "answering", False),)), None),
        seen=["GET /a"],
        then=CLOSED,
        outstanding=["/a"],
        over=[_way],
    )


def byte_by_byte(peer: Peer) -> None:
    while (seen := peer.request()) is not None:
        wire = CHUNKED if seen.target == "/a" else reply(seen.target.encode())
        for index in range(len(wire)):
            peer.send(wire[index : index + 1])


add("byte by byte", byte_by_byte, get, (200, "OK", b"hello world", None, "last chunk"), seen=["GET /a"])


# -- heads --


@scenario(sends(CHUNKED), ([], [("X-Sum", "11"), ("X-Sum", "eleven")]), seen=["GET /a"])
async def trailers_are_known_when_the_body_has_ended(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    response = await conn.read_response()
    before = response.trailers.items() if response.complete_by is None else []
    await conn.discard()
    return before, response.trailers.items()


FIELDS = "Set-Cookie: a=1\r\nX-Empty:\r\nset-cookie: b=2\r\nX-Odd: \t caf\xe9 \r\n"


@scenario(
    sends(reply(b"x", fields=FIELDS)),
    ("a=1", ["a=1", "b=2"], "", "caf\xe9", None, "1"),
    seen=["GET /a"],
)
async def repeated_and_odd_fields(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    headers = (await conn.read_response()).headers
    await conn.discard()
    many = headers.get_all("Set-Cookie")
    return headers["set-cookie"], many, headers["X-Empty"], headers["x-odd"], headers["X-No"], headers["content-length"]


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </%d>\r\n\r\n"


@scenario(
    sends(HINTS % 1 + b"HTTP/1.1 102 Processing\r\n\r\n" + HINTS % 2 + reply(b"x"), HINTS % 3 + reply(b"y")),
    ([(103, "</1>"), (102, None), (103, "</2>")], b"x", [(103, "</3>")], b"y", [103, 102, 103, 103]),
    seen=["GET /a", "GET /b"],
)
async def interim_responses_are_kept_and_shown(conn: Any) -> Any:
    shown: list[int] = []
    conn.raw.on_informational = lambda response: shown.append(response.status)
    found: list[Any] = []
    for path in ("/a", "/b"):
        await conn.send_request("GET", path)
        response = await conn.read_response()
        found.append([(interim.status, interim.headers["Link"]) for interim in response.informational])
        found.append(await conn.readall())
    return (*found, shown)


@scenario(
    sends(b"HTTP/1.1 104 X\r\nContent-Length: 5\r\nConnection: close\r\n\r\n" + reply(b"x")),
    (200, b"x", [104]),
    seen=["GET /a"],
)
async def an_interim_response_has_no_body_and_ends_nothing(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    response = await conn.read_response()
    return response.status, await conn.readall(), [interim.status for interim in response.informational]


# -- ways of reading --


async def by_read(conn: Any, size: int) -> list[bytes]:
    """The pieces that `read` gives."""
    pieces = []
    while piece := await conn.read(size):
        pieces.append(piece)
    return pieces


@scenario(sends(in_chunks(BIG[:5000], 700)), (True, BIG[:5000], b""), seen=["GET /a"])
async def read_gives_no_more_than_asked_for(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    await conn.read_response()
    pieces = await by_read(conn, 300)
    return max(map(len, pieces)) <= 300, b"".join(pieces), await conn.read(300)


@scenario(sends(reply(BIG)), (b"", BIG[:10], BIG[10:], b""), seen=["GET /a"])
async def read_of_nothing_of_some_and_of_all(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    await conn.read_response()
    nothing = await conn.read(0)
    some = b""
    while len(some) < 10:
        some += await conn.read(10 - len(some))
    return nothing, some, await conn.read(), await conn.read()


@scenario(sends(reply(BIG)), BIG, seen=["GET /a"])
async def readinto(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    await conn.read_response()
    content, buffer = bytearray(), bytearray(50_000)
    while count := await conn.readinto(buffer):
        content += buffer[:count]
    return bytes(content)


@scenario(sends(reply(BIG), in_chunks(BIG, 40_000)), (None, b"", None, b""), seen=["GET /a", "GET /b"])
async def discard(conn: Any) -> Any:
    found: list[Any] = []
    for path in ("/a", "/b"):
        await conn.send_request("GET", path)
        await conn.read_response()
        found += [await conn.discard(), await conn.read(10)]
    return tuple(found)


@scenario(sends(reply(BIG), in_chunks(BIG, 40_000)), (BIG[4:], len(BIG) - 4, BIG, len(BIG)), seen=["GET /a", "GET /b"])
async def write_to_a_file(conn: Any) -> Any:
    found: list[Any] = []
    for path, ahead in (("/a", 4), ("/b", 0)):
        await conn.send_request("GET", path)
        await conn.read_response()
        while ahead:
            ahead -= len(await conn.read(ahead))
        file = conn.file()
        count = await conn.write_to(file)
        file.seek(0)
        found += [file.read(), count]
    return tuple(found)


@scenario(sends(in_chunks(BIG, 3000)), (BIG, len(BIG)), seen=["GET /a"])
async def write_to_memory(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    await conn.read_response()
    file = io.BytesIO()
    count = await conn.write_to(file)
    return file.getvalue(), count


@scenario(sends(reply(b"abcd")), ("OSError", b""), seen=["GET /a"])
async def write_to_what_takes_nothing(conn: Any) -> Any:
    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            return 0

    await conn.send_request("GET", "/a")
    await conn.read_response()
    return (await failure(conn.write_to(Full()))).kind, await conn.readall()


@scenario(sends(reply("h\xe9, \u20ac".encode())), "h\xe9, \u20ac", seen=["GET /a"], needs="text")
async def text(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    await conn.read_response()
    return await conn.text()


# -- many on one connection --

MANY = [f"/{number}" for number in range(50)]


@scenario(answers, [(200, path, path.encode()) for path in MANY], seen=[f"GET {path}" for path in MANY])
async def fifty_sent_before_the_first_is_read(conn: Any) -> Any:
    for path in MANY:
        await conn.send_request("GET", path)
    found = []
    for _ in MANY:
        response = await conn.read_response()
        found.append((response.status, response.path, await conn.readall()))
    return found


@scenario(
    sends(
        reply(BIG), b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", in_chunks(BIG[:9], 2), b"HTTP/1.1 204 No\r\n\r\n"
    ),
    [("GET", BIG), ("HEAD", b""), ("GET", BIG[:9]), ("DELETE", b"")],
    seen=["GET /a", "HEAD /b", "GET /c", "DELETE /d"],
)
async def each_answer_is_framed_by_its_own_request(conn: Any) -> Any:
    for method, path in (("GET", "/a"), ("HEAD", "/b"), ("GET", "/c"), ("DELETE", "/d")):
        await conn.send_request(method, path)
    found = []
    for _ in range(4):
        response = await conn.read_response()
        found.append((response.method, await conn.readall()))
    return found


@scenario(sends(reply(BIG)), (("/a", "/b"), BIG, ("/b",), (200, b"/b")), seen=["GET /a", "GET /b"])
async def a_request_is_sent_inside_the_body_before(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    await conn.read_response()
    content = await conn.read(100)
    await conn.send_request("GET", "/b")
    before = tuple(request.path for request in conn.outstanding)
    content += await conn.readall()
    after = tuple(request.path for request in conn.outstanding)
    return before, content, after, await answer(conn)


@scenario(sends(reply(b"one") + reply(b"two")), ((200, b"one"), "ConnectionClosed"), seen=["GET /a"], then=CLOSED)
async def two_answers_to_one_request(conn: Any) -> Any:
    """The second was here before anybody asked: it answers nothing."""
    await conn.send_request("GET", "/a")
    return await answer(conn), (await failure(conn.send_request("GET", "/b"))).kind


@scenario(sends(reply(b"whole"), then=reset), (200, b"whole"), seen=["GET /a"], then=CLOSED)
async def a_whole_body_stands_whatever_follows_it(conn: Any) -> Any:
    await conn.send_request("GET", "/a")
    conn.server.settle(1)
    return await answer(conn)


def both_at_once(peer: Peer) -> None:
    for _ in range(2):
        peer.request()
    peer.send(reply(b"one") + reply(b"two"))
    answers(peer)


@scenario(both_at_once, [(200, b"one"), (200, b"two")], seen=["GET /a", "GET /b"])
async def two_answers_in_one_segment(conn: Any) -> Any:
    for path in ("/a", "/b"):
        await conn.send_request("GET", path)
    return [await answer(conn), await answer(conn)]


# -- the connection itself --


@scenario(answers, (True, True, (200, b"/a")), seen=["GET /a"])
async def the_certificate_and_the_cipher(conn: Any) -> Any:
    certificate = await conn.get_ssl_peercert()
    cipher = await conn.get_ssl_cipher()
    names = [name for _, name in certificate["subjectAltName"]] if conn.tls else None
    await conn.send_request("GET", "/a")
    good = (names == ["localhost", "127.0.0.1"]) if conn.tls else certificate is None
    return good, (cipher is not None) == conn.tls, await answer(conn)


@scenario(answers, "identity, Agent, 127.0.0.1, other", seen=["GET /a", "GET /b"])
async def fields_of_the_callers_win(conn: Any) -> Any:
    await conn.send_request("GET", "/a", headers={"User-Agent": "Agent"})
    await answer(conn)
    await conn.send_request("GET", "/b", headers={"host": "other"})
    await answer(conn)
    one, two = conn.server.seen
    port = conn.server.port
    host = (one.field("Host") or "").replace(f":{port}", "")
    return ", ".join([one.field("Accept-Encoding") or "", one.field("User-Agent") or "", host, two.field("Host") or ""])
