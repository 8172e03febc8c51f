"""A pipeline over TLS whose last record does not fit, though all of it counts as sent."""

from __future__ import annotations

import queue
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import Authority
from httpio import HTTPConnection, Request, StateError, fetch
from httpio.transport import TLSTransport
from servers.scripted import WAIT, Peer, Scripted, server_context

BODY = bytes(range(256)) * 200


class Full:
    """An `SSLSocket` that has no room for what comes behind `most` bytes, until that is let through."""

    def __init__(self, real: ssl.SSLSocket) -> None:
        self._real = real
        self.most = len(BODY)  # and the head is behind that, in the last of four records
        self.held = False
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def send(self, data: bytes) -> int:
        if self._count + len(data) > self.most:
            self.held = True
            raise ssl.SSLWantWriteError
        self._count += len(data)
        return self._real.send(data)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[Full]:
    made: list[Full] = []
    begin = TLSTransport.__init__

    def init(self: TLSTransport, sock: ssl.SSLSocket) -> None:
        begin(self, sock)
        made.append(Full(sock))
        self._ssl = made[-1]  # type: ignore[assignment]

    monkeypatch.setattr(TLSTransport, "__init__", init)
    return made


@pytest.fixture
def bodies() -> queue.Queue[bytes]:
    return queue.Queue()


@pytest.fixture
def server(bodies: queue.Queue[bytes], authority: Authority) -> Iterator[Scripted]:
    """It answers each request before it reads the body."""

    def script(peer: Peer) -> None:
        while (seen := peer.head()) is not None:
            peer.answer(b"early")
            bodies.put(peer.take(int(seen.field("Content-Length") or 0)))

    with Scripted(script, server_context(authority.chain, authority.key)) as server:
        yield server


def test_the_last_record_of_a_body(
    full: list[Full], server: Scripted, bodies: queue.Queue[bytes], authority: Authority
) -> None:
    """Its answer has come before it could be sent. The pipeline does not end before it is."""
    context = ssl.create_default_context(cafile=authority.ca)
    with HTTPConnection("127.0.0.1", server.port, context, timeout=WAIT) as conn:
        responses = conn.pipeline([Request("PUT", "/a", body=BODY)])
        assert next(responses).body == b"early"
        assert full[0].held
        full[0].most = 1 << 30
        assert list(responses) == []
        assert bodies.get(timeout=WAIT) == BODY
        conn.send_request("GET", "/next")
        assert conn.read_response().status == 200
        conn.discard()


def test_left_before_all_was_sent(full: list[Full], server: Scripted, authority: Authority) -> None:
    """As with anything else that is left to send, the connection is closed."""
    context = ssl.create_default_context(cafile=authority.ca)
    with HTTPConnection("127.0.0.1", server.port, context, timeout=WAIT) as conn:
        responses = conn.pipeline([Request("PUT", "/a", body=BODY)])
        assert next(responses).body == b"early"
        responses.close()  # type: ignore[attr-defined]
        with pytest.raises(StateError):
            conn.fileno()


def test_a_fetch_sends_all(
    full: list[Full], server: Scripted, bodies: queue.Queue[bytes], authority: Authority
) -> None:
    context = ssl.create_default_context(cafile=authority.ca)
    for result in fetch(
        [Request("PUT", f"https://127.0.0.1:{server.port}/a", body=BODY)], ssl_context=context, timeout=WAIT
    ):
        assert result.ok
        assert full[0].held
        full[0].most = 1 << 30
    assert bodies.get(timeout=WAIT) == BODY
