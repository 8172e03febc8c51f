"""Plays one scenario on one face, and sees that it comes to what it must."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import AsyncIterable, Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from clock import Clock
from conformance.faces import WAITING, Face, Signal
from conformance.scenario import ANEW, CLOSED, USABLE, Scenario, answer
from conftest import Contexts
from httpio import HTTPError, Request
from servers.scripted import Peer, Scripted, answers

__all__ = ["Stage", "play"]

LIMIT = 20.0
"""Seconds that a scenario may take before it counts as stuck: far more than any needs."""

SLOW = 0.03
"""Seconds of a look-up that others have time to wait for; where they come later, the outcome is the same."""


class Stage(Scripted):
    """The server of a scenario: its script for the first connections, plain answers on those that follow."""

    def __init__(self, scenario: Scenario, context: ssl.SSLContext | None) -> None:
        def script(peer: Peer) -> None:
            (scenario.script if peer.number < scenario.connections else answers)(peer)

        super().__init__(script, context)
        self.notes: list[Any] = []
        """Whatever the script wants to be known."""
        self.client: Any = None
        """The connection, for a script that ends it from its own thread."""
        self.go = Signal()
        """For a script that waits for the program."""
        self.begun = Signal()
        """For a program that waits for the script, or for a look-up."""

    def ended(self, connections: int, limit: float) -> None:
        """Wait until so many connections have come, and the scripts of all have ended; or for *limit* seconds."""
        end = time.monotonic() + limit
        with self._changed:
            self._changed.wait_for(lambda: len(self._threads) > connections, limit)
        for thread in self._threads[1:]:
            thread.join(max(0.0, end - time.monotonic()))

    def cut(self) -> None:
        """End all that may be waited for."""
        self.go.set()
        for peer in list(self.peers):
            with suppress(OSError):
                socket.socket.shutdown(peer.sock, socket.SHUT_RDWR)


class Names:
    """A name service. Each look-up has the next of *fates*: "missing", "unavailable", "silent" (as long as the scenario
    lasts), "slow", "refused" (a port where nobody listens), "mute" (one where nobody accepts). Then all is well."""

    def __init__(self, fates: Sequence[str], server: Stage, stack: ExitStack) -> None:
        self._fates = list(fates)
        self._server = server
        self.over = threading.Event()
        self._mute = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._closed = stack.enter_context(socket.socket())
        self._closed.bind(("127.0.0.1", 0))

    def look_up(self, host: str, port: int, **options: Any) -> list[Any]:
        """As `socket.getaddrinfo`."""
        fate = self._fates.pop(0) if self._fates else ""
        if fate in ("missing", "unavailable"):
            raise socket.gaierror(socket.EAI_NONAME if fate == "missing" else socket.EAI_AGAIN, "no")
        self._server.begun.set()
        if fate == "slow":
            time.sleep(SLOW)
        if fate == "silent":
            self.over.wait(LIMIT)
        ports = {"refused": self._closed.getsockname()[1], "mute": self._mute.getsockname()[1]}
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", ports.get(fate, self._server.port)))]


class Client:
    """What a program is given: a connection whose calls are awaited where they may wait, and what belongs to it."""

    def __init__(self, face: Face, raw: Any, server: Stage, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._face = face
        self._monkeypatch = monkeypatch
        self._folder = folder
        self._files: list[BinaryIO] = []
        self._clock: Clock | None = None
        self.raw = raw
        self.server = server
        self.tls = raw.ssl_context is not None
        self.both = face.both
        self.until = face.until

    def __getattr__(self, name: str) -> Any:
        if name in WAITING:
            return partial(self._face.call, self.raw, name)
        return getattr(self.raw, name)

    def pipeline(self, requests: Iterable[str | Request], **options: Any) -> Any:
        """To be iterated with `async for`."""
        return self._face.pipeline(self.raw, requests, **options)

    def fetch(self, items: Iterable[str | Request] | AsyncIterable[str | Request], **options: Any) -> Any:
        """The same; the items have targets in place of URLs."""
        base = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.server.port}"

        def absolute(item: str | Request) -> str | Request:
            return base + item if isinstance(item, str) else item.with_path(base + item.path)

        urls = map(absolute, items) if isinstance(items, Iterable) else (absolute(item) async for item in items)
        return self._face.fetch(urls, ssl_context=self.raw.ssl_context, **options)

    def passes(self, seconds: float) -> None:
        """Let so many seconds pass at once."""
        if self._clock is None:
            self._clock = Clock(self._monkeypatch)
        self._clock(seconds)

    def file(self, content: bytes = b"") -> BinaryIO:
        """A new file of the file system with that content, at its beginning."""
        file = (self._folder / f"file-{len(self._files)}").open("w+b")
        self._files.append(file)
        file.write(content)
        file.seek(0)
        return file

    def close_files(self) -> None:
        for file in self._files:
            file.close()

    async def standing(self) -> str:
        """How the connection stands: what becomes of a further request."""
        raw = self.raw
        raw.timeout, raw.deadline, raw.connect_timeout = None, None, None
        before = raw.local_address
        try:
            await self.send_request("GET", "/then")
        except HTTPError as exc:
            return type(exc).__name__
        assert await answer(self) == (200, b"/then")
        return USABLE if raw.local_address == before else ANEW


def shorten(value: Any) -> str:
    """How it is shown."""
    text = repr(value)
    return text if len(text) < 2000 else f"{text[:1000]} ... {text[-1000:]}"


def play(
    scenario: Scenario,
    face: Face,
    contexts: Contexts,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: float = LIMIT,
) -> None:
    """Play it, and see that it comes to what it must; behind it the connection is closed, and works anew."""
    with ExitStack() as stack:
        server = stack.enter_context(Stage(scenario, contexts[0]))
        host = "localhost" if scenario.lookups else "127.0.0.1"
        stack.callback(server.go.close)
        stack.callback(server.begun.close)
        names = Names(scenario.lookups, server, stack)
        monkeypatch.setattr(socket, "getaddrinfo", names.look_up)
        raw = face.connection(host, server.port, contexts[1], **scenario.options)
        stack.callback(raw.close)
        server.client = raw
        client = Client(face, raw, server, folder, monkeypatch)
        stack.callback(client.close_files)
        stack.callback(names.over.set)
        found: dict[str, Any] = {}
        connections = scenario.connections + (scenario.then == ANEW) + 1

        async def main() -> None:
            found["outcome"] = await scenario.program(client)
            found["outstanding"] = [request.path for request in raw.outstanding]
            found["then"] = await client.standing()
            raw.close()
            server.ended(connections - 1, limit)
            await client.send_request("GET", "/anew")
            found["anew"] = await answer(client)
            raw.close()

        def cut() -> None:
            names.over.set()
            server.cut()
            raw.abort()  # what waits for room only does not see the server's end

        watchdog = threading.Timer(limit, cut)
        watchdog.start()
        try:
            face.run(main(), limit)
        finally:
            stuck = not watchdog.is_alive()
            watchdog.cancel()
        assert not stuck
        server.ended(connections, limit)
        heads = [f"{seen.method} {seen.target}" for seen in server.seen]
        found["seen"] = None if scenario.seen is None else heads
        found["notes"] = server.notes
        found["connections"] = server.connections
    then = ["GET /then"] if scenario.then != CLOSED else []
    wanted = {
        "outcome": scenario.outcome,
        "outstanding": list(scenario.outstanding),
        "then": scenario.then,
        "anew": (200, b"/anew"),
        "seen": None if scenario.seen is None else [*scenario.seen, *then, "GET /anew"],
        "notes": list(scenario.notes),
        "connections": connections,
    }
    for key, value in wanted.items():
        assert found[key] == value, f"{key}: {shorten(found[key])} in place of {shorten(value)}"
