"""The faces of httpio with one set of calls, and the ways that a request can go out over TLS on each of them."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import pytest

import httpio
from httpio import HTTPConnection, Request, eval_coroutine, fetch

WAIT = 20.0

Failure: TypeAlias = OSError | httpio.HTTPError
"""What a connection can fail with: the system's, ssl's or httpio's own."""

_AWAITED = frozenset(
    [
        "connect", "send_request", "write", "flush", "read_response", "read", "readall", "discard", "get_ssl_cipher",
        "get_ssl_peercert",
    ]
)  # fmt: skip


class _Blocking:
    """An HTTPConnection with the calls of an AsyncHTTPConnection; none of them ever lets go of the loop."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.conn = HTTPConnection(*args, **options)

    def _call(self, name: str) -> Callable[..., Any]:
        call: Callable[..., Any] = getattr(self.conn, name)
        return call

    def __getattr__(self, name: str) -> Any:
        if name not in _AWAITED:
            return getattr(self.conn, name)

        async def awaited(*args: Any, **options: Any) -> Any:
            return self._call(name)(*args, **options)

        return awaited

    async def pipeline(self, *args: Any, **options: Any) -> AsyncIterator[httpio.HTTPResponse]:
        for response in self.conn.pipeline(*args, **options):
            yield response

    async def __aenter__(self) -> _Blocking:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.conn.close()


class _Steps(_Blocking):
    """The same by its steps, each driven to its end."""

    def _call(self, name: str) -> Callable[..., Any]:
        step = getattr(self.conn, "co_" + name)
        return lambda *args, **options: eval_coroutine(step(*args, **options))


async def _fetch(items: Iterable[str | Request], **options: Any) -> AsyncIterator[Any]:
    for result in fetch(items, **options):
        yield result


class Face(NamedTuple):
    """*connection* makes one; *fetch* is as `afetch`."""

    connection: Callable[..., Any]
    fetch: Callable[..., AsyncIterator[Any]]


FACES: dict[str, Face] = {
    "blocking": Face(_Blocking, _fetch),
    "steps": Face(_Steps, _fetch),
    "asyncio": Face(httpio.AsyncHTTPConnection, httpio.afetch),
}
every_face = pytest.mark.parametrize("face", FACES.values(), ids=FACES)
faces_that_differ = pytest.mark.parametrize("face", [FACES["blocking"], FACES["asyncio"]], ids=["blocking", "asyncio"])
"""Where no single step is called."""


# -- one request --

SECRET = "/the-secret"
FIELDS = {"Authorization": "the-secret"}
"""In the head of each request, and `SECRET` in its body where it has one: a stranger is told no byte of these."""


async def by_connect(face: Face, host: str, port: int, context: ssl.SSLContext) -> Failure | None:
    async with face.connection(host, port, context, timeout=WAIT, connect_timeout=WAIT) as conn:
        try:
            await conn.connect()
        except (OSError, httpio.HTTPError) as error:
            return _checked(conn, error)
        await conn.send_request("GET", SECRET, FIELDS)
        assert ((await conn.read_response()).status, await conn.readall()) == (200, SECRET.encode())
    return None


async def by_request(face: Face, host: str, port: int, context: ssl.SSLContext) -> Failure | None:
    async with face.connection(host, port, context, timeout=WAIT, connect_timeout=WAIT) as conn:
        try:
            await conn.send_request("POST", SECRET, FIELDS, SECRET.encode())
        except (OSError, httpio.HTTPError) as error:
            return _checked(conn, error)
        assert ((await conn.read_response()).status, await conn.readall()) == (200, SECRET.encode())
    return None


async def by_pipeline(face: Face, host: str, port: int, context: ssl.SSLContext) -> Failure | None:
    async with face.connection(host, port, context, timeout=WAIT, connect_timeout=WAIT) as conn:
        try:
            bodies = [answer.body async for answer in conn.pipeline([Request("GET", SECRET, FIELDS)] * 3)]
        except (OSError, httpio.HTTPError) as error:
            return _checked(conn, error)
        assert bodies == [SECRET.encode()] * 3
    return None


def _checked(conn: Any, error: Failure) -> Failure:
    """Nothing was sent, so that nothing is outstanding."""
    assert conn.outstanding == ()
    assert not conn.response_pending()
    return error


async def by_fetch(face: Face, host: str, port: int, context: ssl.SSLContext | None) -> Failure | None:
    items = [Request("GET", f"https://{host}:{port}{SECRET}", FIELDS)] * 3
    found = [result async for result in face.fetch(items, ssl_context=context, timeout=WAIT)]
    assert len(found) == 3
    error = found[0].error
    for result in found:
        assert result.error is error
        assert result.content == (SECRET.encode() if error is None else None)
    assert error is None or isinstance(error, Failure)
    return error


Way = Callable[[str, int, "ssl.SSLContext | None"], "Failure | None"]
"""`way(host, port, context)` asks for SECRET, whose answer has it for its body; gives the error that it ended with."""


def _ways() -> Iterator[tuple[str, Way]]:
    calls: tuple[Callable[..., Awaitable[Failure | None]], ...] = (by_connect, by_request, by_pipeline, by_fetch)
    for name, face in FACES.items():
        for call in [by_request] if name == "steps" else calls:

            def way(
                host: str, port: int, context: ssl.SSLContext | None, face: Face = face, call: Any = call
            ) -> Failure | None:
                error: Failure | None = asyncio.run(call(face, host, port, context))
                return error

            yield f"{name} {call.__name__}", way


WAYS: dict[str, Way] = dict(_ways())


def tries(way: str) -> int:
    """How often a way tries to connect where that fails."""
    return 2 if way.endswith("fetch") else 1


def every_name_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every host name lead to this machine."""
    look_up = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, **options: look_up("127.0.0.1", port, **options))
