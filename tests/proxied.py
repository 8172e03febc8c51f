"""Talking through a proxy: the origin's script, and what a client asks of it by each face."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterable
from contextlib import aclosing
from typing import Any

import pytest
import trustme

from conformance.faces import FACES, Face
from conftest import Authority
from httpio import HTTPResponse, Result, afetch, fetch
from httpio.proxies import ProxyLike
from servers.scripted import Peer, Script, Scripted, server_context

LIMIT = 20.0
"""Seconds that anything may take."""

Program = Callable[[Face, Any], Coroutine[Any, Any, Any]]

BODY = bytes(range(256)) * 2048


def echo(peer: Peer) -> None:
    """Each request is answered with its own body, or with its target where it has none."""
    while (seen := peer.request()) is not None:
        peer.answer(b"" if seen.method == "HEAD" else seen.body or seen.target.encode())


class Origin(Scripted):
    """A server with or without TLS, and what a client has to know of it. *six*: it is at ::1."""

    def __init__(self, authority: Authority, tls: bool, script: Script = echo, six: bool = False) -> None:
        super().__init__(script, server_context(authority.chain, authority.key) if tls else None)
        self.context = ssl.create_default_context(cafile=authority.ca) if tls else None
        self.host = "127.0.0.1"
        if six:
            self._listen_at_one()
        host = f"[{self.host}]" if six else self.host
        self.authority = f"{host}:{self.port}"
        self.base = f"{'https' if tls else 'http'}://{self.authority}"

    def _listen_at_one(self) -> None:
        self._listener.close()
        try:
            self._listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        except OSError:
            pytest.skip("there is no ::1 here")
        self.host, self.port = "::1", self._listener.getsockname()[1]
        if self.context is not None:
            certified = trustme.CA()
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certified.issue_cert("::1").configure_cert(self._context)
            certified.configure_trust(self.context)

    def saw_no_secret(self) -> None:
        """No request held a field that is a proxy's matter."""
        for seen in self.seen:
            assert b"proxy-" not in seen.head.lower()


async def ask(
    face: Face, conn: Any, target: str, method: str = "GET", body: bytes | None = None
) -> tuple[HTTPResponse, bytes]:
    await face.call(conn, "send_request", method, target, None, body)
    response = await face.call(conn, "read_response")
    return response, await face.call(conn, "readall")


async def converse(face: Face, conn: Any) -> None:
    """A few requests of several kinds, each of which is answered as `echo` does."""
    for target in ("/one?a=b&c", "/two"):
        response, body = await ask(face, conn, target)
        assert (response.status, body) == (200, target.encode())
    response, body = await ask(face, conn, "/put", "PUT", BODY)
    assert (response.status, body) == (200, BODY)
    response, body = await ask(face, conn, "/head", "HEAD")
    assert (response.status, body) == (200, b"")
    conn.close()


TARGETS = ["/one?a=b&c", "/two", "/put", "/head"]
"""Those of `converse`."""


def run(name: str, origin: Origin, proxy: ProxyLike, program: Program, host: str | None = None) -> Any:
    """Run a program, such as `converse`, with a face and a connection through the proxy. *host*: instead of the
    origin's address."""
    face = FACES[name]()
    conn = face.connection(host or origin.host, origin.port, origin.context, proxy, timeout=LIMIT)
    try:
        return face.run(program(face, conn), LIMIT)
    finally:
        conn.close()


def collect(kind: str, urls: Iterable[str], **options: Any) -> dict[str, Result]:
    """The results of `fetch`, or of `afetch`."""

    async def gather() -> list[Result]:
        async with aclosing(afetch(urls, **options)) as results:
            return [result async for result in results]

    found = list(fetch(urls, **options)) if kind == "fetch" else asyncio.run(gather())
    assert len(found) == len({result.request for result in found})
    return {result.request: result for result in found}
