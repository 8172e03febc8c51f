"""The ways that httpio has for one thing: to send many requests and take what comes of them, and to read a body."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

from httpio import ConnectionClosed, HTTPConnection, HTTPError, fetch
from httpio.headers import Headers
from servers.scripted import Scripted


class Got(NamedTuple):
    """What one object got: an answer with all of its body, or an error."""

    status: int | None
    headers: Headers
    body: bytes
    error: Exception | None = None


def failed(error: Exception | None) -> Got:
    return Got(None, Headers(), b"", error)


Face = Callable[..., list[Got]]


def low_level(
    server: Scripted, targets: Sequence[str], context: ssl.SSLContext | None = None, **options: Any
) -> list[Got]:
    """All requests first, then all answers; what stands behind an error has the same error."""
    found: list[Got] = []
    with HTTPConnection("127.0.0.1", server.port, context, **options) as conn:
        conn.connect()
        with suppress(ConnectionClosed):  # what was answered before that is read all the same
            for target in targets:
                conn.send_request("GET", target)
        try:
            for target in targets:
                response = conn.read_response()
                assert response.path == target
                found.append(Got(response.status, response.headers, conn.readall()))
        except HTTPError as error:
            found.extend([failed(error)] * (len(targets) - len(found)))
    return found


def pipelined(
    server: Scripted,
    targets: Sequence[str],
    context: ssl.SSLContext | None = None,
    depth: int | None = None,
    **options: Any,
) -> list[Got]:
    """By `pipeline`; after an error a new one goes on behind the object that has it."""
    found: list[Got] = []
    with HTTPConnection("127.0.0.1", server.port, context, **options) as conn:
        while len(found) < len(targets):
            try:
                for response in conn.pipeline(targets[len(found) :], depth):
                    assert response.path == targets[len(found)]
                    body = conn.readall() if response.body is None else response.body
                    found.append(Got(response.status, response.headers, body))
            except HTTPError as error:
                found.append(failed(error))
    return found


def fetched(
    server: Scripted, targets: Sequence[str], context: ssl.SSLContext | None = None, **options: Any
) -> list[Got]:
    """By `fetch`."""
    base = f"{'https' if context else 'http'}://127.0.0.1:{server.port}"
    found = []
    for result, target in zip(
        fetch([base + target for target in targets], ssl_context=context, **options), targets, strict=True
    ):
        assert result.request == base + target
        if result.error is not None:
            assert result.content is None
            found.append(failed(result.error))
        else:
            assert result.headers is not None
            assert result.content is not None
            found.append(Got(result.status, result.headers, result.content))
    return found


FACES: dict[str, Face] = {"low": low_level, "pipeline": pipelined, "fetch": fetched}


READERS = ["readall", "read", "readinto", "discard", "write_to"]


def read_by(reader: str, conn: HTTPConnection, into: BinaryIO) -> None:
    """Read the whole of a body; what an error comes behind is in *into* but for `readall`."""
    if reader == "write_to":
        conn.write_to(into)
    elif reader == "readinto":
        while count := conn.readinto(buffer := bytearray(20)):
            into.write(buffer[:count])
    elif reader == "read":
        while piece := conn.read(20):
            into.write(piece)
    else:
        into.write(getattr(conn, reader)() or b"")
