"""Many requests in one run: `pipeline`, and `fetch` or `afetch`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from typing import Any

from conformance.calls import kinds
from conformance.responses import BIG, in_chunks
from conformance.scenario import (
    ANEW,
    USABLE,
    add,
    answer,
    cleanly,
    collects,
    drain,
    failure,
    fin,
    reply,
    reset,
    scenario,
    sends,
)
from httpio import Request
from servers.scripted import Peer, Script, answers

MANY = [f"/{number}" for number in range(60)]
GETS = [f"GET {path}" for path in MANY]
EACH = [(path, 200, path.encode()) for path in MANY]
PIPELINE: dict[str, Any] = {"needs": "pipeline"}
FETCH: dict[str, Any] = {"needs": "fetch"}
SHORT = 0.05


async def run(conn: Any, requests: Any, **options: Any) -> list[Any]:
    """The path, status and body of each response of a pipeline; in place of one, what was raised."""
    found: list[Any] = []
    try:
        async for response in conn.pipeline(requests, **options):
            found.append((response.path, response.status, response.body))
    except Exception as exc:
        found.append(type(exc).__name__)
    return found


# -- pipeline --

for _depth in (None, 1, 7, 500):

    async def _all(conn: Any, depth: int | None = _depth) -> Any:
        return await run(conn, iter(MANY), depth=depth)

    add(f"a pipeline of depth {_depth}", answers, _all, EACH, seen=GETS, **PIPELINE)


@scenario(answers, [], seen=[], connections=0, then=ANEW, **PIPELINE)
async def an_empty_pipeline(conn: Any) -> Any:
    return await run(conn, [])


@scenario(
    collects,
    [
        ("/a", 200, b"/a"),
        ("/b", 200, b"<body>"),
        ("/c", 200, b""),
        ("/d", 200, b"<xy>|X-Sum: 2"),
        ("/e", 200, b"<once>"),
    ],
    seen=["GET /a", "PUT /b", "HEAD /c", "PUT /d", "POST /e"],
    **PIPELINE,
)
async def a_pipeline_of_all_kinds(conn: Any) -> Any:
    return await run(
        conn,
        [
            "/a",
            Request("PUT", "/b", body=b"body"),
            Request("HEAD", "/c", tag=7),
            Request("PUT", "/d", body=[b"x", b"y"], trailers={"X-Sum": "2"}),
            Request("POST", "/e", body=conn.file(b"once")),
        ],
    )


def lists(count: int, end: Script) -> Script:
    """A script that answers so many requests, and then ends the connection so; the last one goes on."""

    def script(peer: Peer) -> None:
        for _ in range(count):
            if (seen := peer.request()) is None:
                return
            peer.answer(seen.target.encode())
        end(peer)

    return script


def large(peer: Peer) -> None:
    """/large has a large body."""
    while (seen := peer.request()) is not None:
        peer.send(in_chunks(BIG, 5000) if "large" in seen.target else reply(seen.target.encode()))


@scenario(
    large,
    [("/0", b"/0"), ("/large", BIG), ("/1", b"/1"), ("/large/2", BIG), ("/2", b"/2")],
    seen=["GET /0", "GET /large", "GET /1", "GET /large/2", "GET /2"],
    **PIPELINE,
)
async def bodies_over_the_limit_are_read_inside(conn: Any) -> Any:
    found = []
    async for response in conn.pipeline(["/0", "/large", "/1", "/large/2", "/2"], body_limit=1000):
        body = response.body
        if body is None:
            body = await conn.read(10)
            body += await conn.readall()
        found.append((response.path, body))
    return found


@scenario(
    large,
    [("/0", b"/0"), ("/large", None), ("/1", b"/1")],
    seen=["GET /0", "GET /large", "GET /1"],
    connections=2,
    **PIPELINE,
)
async def a_body_over_the_limit_that_is_not_read(conn: Any) -> Any:
    """Its rest is long, and costs the connection."""
    return [
        (response.path, response.body)
        async for response in conn.pipeline(["/0", "/large", "/1"], depth=1, body_limit=1000)
    ]


@scenario(sends(reply(b"x" * 2000)), [("/a", None), ("/b", b"/b")], seen=["GET /a", "GET /b"], **PIPELINE)
async def a_short_rest_of_a_body_is_dropped(conn: Any) -> Any:
    return [(response.path, response.body) async for response in conn.pipeline(["/a", "/b"], body_limit=1000)]


for _name, _end in (("FIN", fin), ("RST", reset), ("close_notify", cleanly)):

    def _lossy(peer: Peer, end: Script = _end) -> None:
        lists(25, end)(peer)

    async def _one_by_one(conn: Any) -> Any:
        return await run(conn, MANY, depth=1)

    add(
        f"connections that end by {_name} behind some answers",
        _lossy,
        _one_by_one,
        EACH,
        seen=GETS,
        connections=3,
        **PIPELINE,
    )


def closes_each(peer: Peer) -> None:
    seen = peer.request()
    assert seen is not None
    peer.answer(seen.target.encode(), fields="Connection: close\r\n")


@scenario(closes_each, EACH[:5], seen=GETS[:5], connections=5, then=ANEW, **PIPELINE)
async def a_server_that_closes_behind_each_answer(conn: Any) -> Any:
    return await run(conn, MANY[:5], depth=1)


async def asynchronous(items: Iterable[Any]) -> AsyncIterator[Any]:
    """The same items, for `async for`, each behind a turn of the loop."""
    for item in items:
        await asyncio.sleep(0)
        yield item


@scenario(answers, EACH, seen=GETS, needs="pipeline asynchronous")
async def a_pipeline_of_an_asynchronous_iterable(conn: Any) -> Any:
    return await run(conn, asynchronous(MANY))


def answers_at_once(peer: Peer) -> None:
    for _ in range(3):
        peer.request()
    peer.send(b"".join(reply(path.encode()) for path in MANY[:3]))
    answers(peer)


@scenario(answers_at_once, EACH[:3], seen=GETS[:3], **PIPELINE)
async def three_answers_at_once_in_a_pipeline(conn: Any) -> Any:
    return await run(conn, MANY[:3], depth=3)


def loses_some(peer: Peer) -> None:
    """Of three requests that came it answers the first, and is gone; the second connection answers all."""
    if peer.number:
        return answers(peer)
    for _ in range(3):
        peer.request()
    peer.answer(b"/0")
    reset(peer)


@scenario(loses_some, EACH[:3], seen=[*GETS[:3], *GETS[1:3]], connections=2, **PIPELINE)
async def what_was_lost_is_asked_for_again(conn: Any) -> Any:
    return await run(conn, MANY[:3], depth=3)


def loses_POST(peer: Peer) -> None:
    """It reads a POST, and is gone."""
    while (seen := peer.request()) is not None:
        if seen.method == "POST":
            return reset(peer)
        peer.answer(seen.target.encode())


@scenario(loses_POST, [("/0", 200, b"/0"), "ConnectionClosed"], seen=["GET /0", "POST /1"], then=ANEW, **PIPELINE)
async def a_POST_is_not_repeated(conn: Any) -> Any:
    return await run(conn, ["/0", Request("POST", "/1", body=b"once"), "/2"])


def takes_and_resets(peer: Peer) -> None:
    peer.request()
    reset(peer)


@scenario(takes_and_resets, ["ConnectionClosed"], seen=GETS[:1] * 2, connections=2, then=ANEW, **PIPELINE)
async def a_server_that_resets_each_connection(conn: Any) -> Any:
    return await run(conn, ["/0"])


@scenario(answers, [*EACH[:3], "InvalidURL"], seen=GETS[:3], then=USABLE, **PIPELINE)
async def a_bad_target_is_raised_behind_all_before_it(conn: Any) -> Any:
    return await run(conn, [*MANY[:3], "bad target", "/never"])


@scenario(answers, [*EACH[:3], "ZeroDivisionError"], seen=GETS[:3], then=USABLE, **PIPELINE)
async def what_an_iterable_raises_is_raised_behind_all_before_it(conn: Any) -> Any:
    def items() -> Iterator[str]:
        yield from MANY[:3]
        raise ZeroDivisionError

    return await run(conn, items())


@scenario(answers, (EACH[:3], ()), seen=None, then=ANEW, **PIPELINE)
async def leaving_early_closes_what_is_under_way(conn: Any) -> Any:
    found = []
    async with aclosing(conn.pipeline(MANY, depth=3)) as responses:
        async for response in responses:
            found.append((response.path, response.status, response.body))
            if len(found) == 3:
                break
    return found, conn.outstanding


@scenario(answers, (EACH[:3], ()), seen=GETS[:3], then=USABLE, **PIPELINE)
async def leaving_where_nothing_is_under_way_keeps_the_connection(conn: Any) -> Any:
    found = []
    async with aclosing(conn.pipeline(MANY[:3], depth=1)) as responses:
        async for response in responses:
            found.append((response.path, response.status, response.body))
            if len(found) == 3:
                break
    return found, conn.outstanding


@scenario(answers, [["StateError"] * 4] * 2, seen=GETS[:2], **PIPELINE)
async def nothing_else_is_sent_inside(conn: Any) -> Any:
    found = []
    async for _ in conn.pipeline(MANY[:2], depth=1):
        calls = conn.send_request("GET", "/never"), conn.write(b"x"), conn.read_response(), conn.connect()
        found.append(await kinds(*calls))
    return found


@scenario(answers, ([EACH[0]], "ConnectionClosed"), seen=None, then=ANEW, **PIPELINE)
async def close_inside_ends_the_run(conn: Any) -> Any:
    found = []

    async def run_and_close() -> None:
        async for response in conn.pipeline(MANY, depth=1):
            found.append((response.path, response.status, response.body))
            conn.raw.close()

    return found, (await failure(run_and_close())).kind


@scenario(answers, ("StateError", (200, b"/a")), seen=["GET /a"], **PIPELINE)
async def a_pipeline_begins_when_nothing_is_outstanding(conn: Any) -> Any:
    async def begin() -> None:
        async for _ in conn.pipeline(MANY):
            pass

    await conn.send_request("GET", "/a")
    return (await failure(begin())).kind, await answer(conn)


@scenario(
    sends(reply(b"/0"), then=drain),
    [("/0", 200, b"/0"), "ConnectionTimedOut"],
    seen=GETS[:1],
    connections=1,
    then=ANEW,
    timeout=SHORT,
    **PIPELINE,
)
async def silence_inside_a_pipeline(conn: Any) -> Any:
    return await run(conn, ["/0", Request("POST", "/1", body=b"")])


def expects(peer: Peer) -> None:
    """It does not know what Expect asks for."""
    while (seen := peer.head()) is not None:
        if seen.field("Expect"):
            peer.answer(b"no", "417 No")
            continue
        length = seen.field("Content-Length")
        peer.answer(seen.target.encode() if length is None else b"<" + peer.take(int(length)) + b">")


@scenario(
    expects,
    [("/a", 200, b"<body>"), ("/b", 200, b"<more>")],
    seen=["PUT /a", "PUT /a", "PUT /b"],
    connections=2,
    expect_timeout=None,
    **PIPELINE,
)
async def a_417_is_asked_again_without_Expect(conn: Any) -> Any:
    expect = {"Expect": "100-continue"}
    return await run(conn, [Request("PUT", "/a", expect, b"body"), Request("PUT", "/b", expect, b"more")], depth=1)


@scenario(
    sends(reply(b"/0"), b"HTTP/1.1 2 no\r\n\r\n", then=drain),
    [("/0", 200, b"/0"), "InvalidResponse"],
    seen=["GET /0", "POST /1"],
    then=ANEW,
    **PIPELINE,
)
async def an_invalid_answer_inside_a_pipeline(conn: Any) -> Any:
    return await run(conn, ["/0", Request("POST", "/1", body=b"")])


@scenario(answers, [EACH, EACH], seen=GETS * 2, **PIPELINE)
async def two_pipelines_on_one_connection(conn: Any) -> Any:
    return [await run(conn, MANY, depth=9), await run(conn, MANY)]


@scenario(answers, ["ConnectionRefusedError", [EACH[0]]], seen=GETS[:1], lookups=["refused"], **PIPELINE)
async def a_pipeline_that_cannot_connect(conn: Any) -> Any:
    first = await run(conn, MANY[:1])
    return [*first, await run(conn, MANY[:1])]


# -- fetch --


async def fetched(conn: Any, items: Any, **options: Any) -> list[Any]:
    """Of each result the target, status, content, error and number of attempts."""
    found = []
    async for result in conn.fetch(items, **options):
        request = result.request
        url = request if isinstance(request, str) else request.path
        error = None if result.error is None else type(result.error).__name__
        found.append((url[url.index("/", 8) :], result.status, result.content, error, result.attempts))
    return found


def by_fetch(name: str, script: Script, items: Any, outcome: Any, seen: Any, **rest: Any) -> None:
    """A scenario of the connection of `fetch` alone."""
    options = rest.pop("options", {})

    async def program(conn: Any) -> Any:
        return await fetched(conn, items(), **options)

    add(name, script, program, outcome, seen=seen, then=ANEW, **{**FETCH, **rest})


by_fetch("fetch", answers, lambda: iter(MANY), [(path, status, body, None, 1) for path, status, body in EACH], GETS)
by_fetch(
    "fetch of an asynchronous iterable",
    answers,
    lambda: asynchronous(MANY),
    [(path, status, body, None, 1) for path, status, body in EACH],
    GETS,
    needs="fetch asynchronous",
)
by_fetch("fetch of nothing", answers, list, [], [], connections=0)
by_fetch(
    "fetch of all kinds",
    collects,
    lambda: [Request("PUT", "/a", body=b"body"), "/b", Request("HEAD", "/c"), Request("POST", "/d", body=b"once")],
    [
        ("/a", 200, b"<body>", None, 1),
        ("/b", 200, b"/b", None, 1),
        ("/c", 200, b"", None, 1),
        ("/d", 200, b"<once>", None, 1),
    ],
    ["PUT /a", "GET /b", "HEAD /c", "POST /d"],
)
by_fetch(
    "a status is a result of fetch",
    sends(reply(b"no", "404 No"), reply(b"yes")),
    lambda: ["/a", "/b"],
    [("/a", 404, b"no", None, 1), ("/b", 200, b"yes", None, 1)],
    ["GET /a", "GET /b"],
)
by_fetch(
    "fetch asks again for what was lost",
    lambda peer: (answers if peer.number else lists(2, reset))(peer),
    lambda: MANY[:3],
    [("/0", 200, b"/0", None, 1), ("/1", 200, b"/1", None, 1), ("/2", 200, b"/2", None, 2)],
    GETS[:3],
    connections=2,
)
by_fetch(
    "fetch does not repeat a POST",
    loses_POST,
    lambda: [Request("POST", "/1", body=b"once"), "/2"],
    [("/1", None, None, "ConnectionClosed", 1), ("/2", 200, b"/2", None, 1)],
    ["POST /1", "GET /2"],
    connections=2,
)
by_fetch(
    "a body over the limit of fetch",
    large,
    lambda: ["/0", "/large"],
    [("/0", 200, b"/0", None, 1), ("/large", 200, None, "UnsupportedResponse", 1)],
    ["GET /0", "GET /large"],
    options={"body_limit": 1000},
)
by_fetch(
    "silence is an error of fetch",
    drain,
    lambda: [Request("POST", "/0", body=b"")],
    [("/0", None, None, "ConnectionTimedOut", 1)],
    [],
    options={"timeout": SHORT},
)


@scenario(answers, [("bad", "InvalidURL", 0), ("/0", None, 1)], seen=GETS[:1], then=ANEW, **FETCH)
async def a_bad_URL_is_an_error_of_fetch(conn: Any) -> Any:
    """The other one is fetched."""
    found = {}
    async for result in conn.fetch(["/0 bad", "/0"]):
        name = "bad" if "bad" in result.request else "/0"
        found[name] = (name, None if result.error is None else type(result.error).__name__, result.attempts)
    return [found["bad"], found["/0"]]
