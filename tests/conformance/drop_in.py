"""The scenarios through `httpio.client`: the words of `httpio.HTTPConnection` that http.client has a word for."""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path
from typing import Any, BinaryIO

import httpio
import httpio.client.errors
from conformance.faces import finish
from conformance.scenario import ANEW, CLOSED, Failed, Scenario, answer
from conformance.stage import Stage
from conftest import Contexts
from httpio.client import HTTPConnection, HTTPResponse, HTTPSConnection

FAMILY = (
    httpio.ConnectionClosed,
    httpio.ConnectionTimedOut,
    httpio.InvalidResponse,
    httpio.UnsupportedResponse,
    httpio.ExcessBodyData,
    httpio.StateError,
)


class Answer:
    """A response, and what httpio's own would say of it."""

    def __init__(self, response: HTTPResponse, method: str, path: str) -> None:
        self._response = response
        self.status, self.reason, self.headers = response.status, response.reason, response.headers
        self.method, self.path = method, path
        bodiless = method == "HEAD" or response.status in (204, 304)
        self.length = 0 if bodiless else response.length
        self._end = "no body" if bodiless else "last chunk" if response.chunked else "length"
        if response.length is None and not response.chunked:
            self._end = "close"

        self.failed = False

    @property
    def complete_by(self) -> str | None:
        return self._end if self._response.isclosed() and not self.failed else None


class Talk:
    """The connection of a program."""

    def __init__(self, server: Stage, context: ssl.SSLContext | None, folder: Path, timeout: float) -> None:
        self.server = server
        self.tls = context is not None
        self._folder = folder
        self._files: list[BinaryIO] = []
        self._asked = ("", "")
        self._response: Any = None
        self.http: HTTPConnection = (
            HTTPConnection("127.0.0.1", server.port, timeout)
            if context is None
            else HTTPSConnection("127.0.0.1", server.port, timeout=timeout, context=context)
        )

    def file(self, content: bytes = b"") -> BinaryIO:
        """A new file of the file system with that content, at its beginning."""
        file = (self._folder / f"file-{len(self._files)}").open("w+b")
        self._files.append(file)
        file.write(content)
        file.seek(0)
        return file

    async def send_request(self, method: str, path: str, headers: Any = None, body: Any = None) -> None:
        self._asked = method, path
        self.http.request(method, path, body, headers or {})

    async def read_response(self) -> Answer:
        self._response = self.http.getresponse()
        self._answer = Answer(self._response, *self._asked)
        return self._answer

    async def read(self, size: int | None = None) -> bytes:
        try:
            found: bytes = self._response.read(size)
        except httpio.HTTPError:
            self._answer.failed = True
            raise
        return found

    async def readall(self) -> bytes:
        return await self.read()

    async def readinto(self, buffer: Any) -> int:
        count: int = self._response.readinto(buffer)
        return count

    async def discard(self) -> None:
        while self._response.read(65536):
            pass

    async def write_to(self, file: Any) -> int:
        at: int = file.tell()
        shutil.copyfileobj(self._response, file)
        count: int = file.tell() - at
        return count

    def close(self) -> None:
        self.http.close()
        for file in self._files:
            file.close()


def plain(value: Any) -> Any:
    """An outcome in which an error is its family's name."""
    if isinstance(value, Failed):
        return plain(value.kind)
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    return family(value) if isinstance(value, str) else value


def family(name: str) -> str:
    """Of the name of a class of httpio.client's errors."""
    kind = getattr(httpio.client.errors, name, None)
    return next((base.__name__ for base in FAMILY if isinstance(kind, type) and issubclass(kind, base)), name)


def play(scenario: Scenario, contexts: Contexts, folder: Path, timeout: float = 20.0) -> None:
    """Play it, and see that it comes to what it must. Where another face's connection is closed, this makes another."""
    with Stage(scenario, contexts[0]) as server:
        try:
            conn = Talk(server, contexts[1], folder, timeout)
            outcome = finish(scenario.program(conn))
            before = server.connections
            if scenario.outstanding:
                conn.http.close()

            async def then() -> Any:
                await conn.send_request("GET", "/then")
                return await answer(conn)

            assert plain(outcome) == plain(scenario.outcome)
            assert finish(then()) == (200, b"/then")
            anew = scenario.then in (ANEW, CLOSED)
            assert server.connections == before + anew
            conn.close()
            server.ended(scenario.connections + anew, timeout)
            heads = [f"{seen.method} {seen.target}" for seen in server.seen]
            if scenario.seen is not None:
                assert heads == [*scenario.seen, "GET /then"]
        finally:
            server.go.close()
            server.begun.close()
