"""Decoding where a connection ends behind the content, breaks, or meets another call."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from codings import TEXT, gzipped
from httpio import ConnectionClosed, HTTPConnection, StateError, accept_encoding
from httpio.bulk.engine import Job, transfer
from httpio.bulk.sinks import FolderSink
from httpio.decoding import Decoding
from httpio.urls import split_url
from httpio.waiting import PollNeeded, Step, run
from servers.scripted import Peer, Scripted, answers

ENCODED = gzipped(TEXT)
ANSWERS = 10
"""On a connection."""


def closes(peer: Peer) -> None:
    """Announces its close with one answer of ten, while more requests are here."""
    for number in range(1, ANSWERS + 1):
        if peer.request() is None:
            return
        last = "Connection: close\r\n" if number == ANSWERS else ""
        peer.answer(ENCODED, fields="Content-Encoding: gzip\r\n" + last)


@pytest.mark.parametrize("body_limit", [len(TEXT), len(ENCODED)])
def test_a_close_that_is_announced(body_limit: int) -> None:
    """All of the content is here, whatever was closed behind it."""
    with Scripted(closes) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        bodies = []
        for response in conn.pipeline([f"/{number}" for number in range(95)], body_limit=body_limit, decode=True):
            bodies.append(conn.readall() if response.body is None else response.body)
    assert bodies == [TEXT] * 95


def test_a_close_that_is_announced_to_who_stores(tmp_path: Path) -> None:
    with Scripted(closes) as server, closing(FolderSink(str(tmp_path))) as sink:
        jobs = [Job(*split_url(f"{server.url}/{number}"), f"{number}") for number in range(95)]
        for result in transfer(jobs, sink=sink, decode=True):
            assert result.ok
            assert result.path is not None
            assert result.path.read_bytes() == TEXT


def test_the_next_answer_on_a_broken_connection() -> None:
    """What was left of the content before is not given for it."""
    sent = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.request()
        peer.answer(ENCODED, fields="Content-Encoding: gzip\r\n")
        peer.head()
        peer.answer(b"two!!")
        sent.set()
        peer.drain()

    def failing() -> Iterator[bytes]:
        yield b"some"
        sent.wait(20)
        raise OSError("of the disk")

    with Scripted(script) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        conn.send_request("GET", "/one")
        conn.send_request("GET", "/two")
        conn.read_response(decode=True)
        assert conn.read(10) == TEXT[:10]
        with pytest.raises(OSError, match="of the disk"):
            conn.send_request("PUT", "/three", body=failing())
        assert conn.read_response(decode=True).path == "/two"
        assert conn.readall() == b"two!!"


def wait_within(step: Step[bytes], sent: threading.Event, rest: threading.Event) -> bytes:
    """Run a step that waits for content until it has met a second call."""
    need: PollNeeded = next(step)
    sent.wait(20)
    while need.poll(0):
        need = next(step)
    rest.set()
    return run(step)


@pytest.mark.parametrize("second", ["discard", "read", "readall"])
def test_a_second_call(second: str) -> None:
    """It is refused, and takes nothing from the first."""
    sent, rest = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(ENCODED)}\r\n\r\n"
        peer.send(head.encode() + ENCODED[: len(ENCODED) // 2])
        sent.set()
        rest.wait(20)
        peer.send(ENCODED[len(ENCODED) // 2 :])
        peer.drain()

    def first(conn: HTTPConnection) -> Step[bytes]:
        content = b""
        step = conn.co_readall()
        while True:
            try:
                need = step.send(None)
            except StopIteration as stop:
                return content + stop.value
            with pytest.raises(StateError, match="another call is reading"):
                getattr(conn, second)(*([10] if second == "read" else []))
            yield need

    with Scripted(script) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        conn.send_request("GET", "/")
        sent.wait(20)
        conn.read_response(decode=True)
        assert wait_within(first(conn), sent, rest) == TEXT


def test_a_call_that_is_left_in_the_middle() -> None:
    """What it had read is lost, and the rest does not pass for the whole."""
    content = TEXT * 80  # more than is decoded at a time
    encoded = gzipped(content)

    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.answer(encoded, fields="Content-Encoding: gzip\r\n")

    left, whole = 0, b""
    with Scripted(script) as server:
        for turns in range(1, 100):
            with HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
                conn.send_request("GET", "/")
                conn.read_response(decode=True)
                step = conn.co_readall()
                try:
                    for _ in range(turns):
                        next(step).poll()
                except StopIteration as stop:
                    whole = stop.value
                    break
                step.close()
                left += 1
                with pytest.raises(ConnectionClosed):
                    conn.readall()
    assert whole == content
    assert left > len(content) >> 21


def test_what_a_pipeline_asks_for_ends_with_it() -> None:
    """Also where the connection is closed inside it, and the next pipeline has begun."""
    with Scripted(answers) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        first = conn.pipeline(["/1", "/2"], decode=True)
        next(first)
        conn.close()
        conn.send_request("GET", "/plain")
        assert conn.read_response().status == 200
        conn.discard()
        second = conn.pipeline(["/3", "/4", "/5"], depth=1, decode=True)
        next(second)
        first.close()  # type: ignore[attr-defined]
        assert len(list(second)) == 2
        conn.send_request("GET", "/plain/again")
    asked = {seen.target: seen.field("Accept-Encoding") for seen in server.seen}
    assert asked["/plain"] == "identity"
    assert {asked[target] for target in ("/1", "/3", "/4", "/5")} == {accept_encoding()}


def test_another_connection_while_the_library_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries let other threads run meanwhile. The call takes nothing of what is the new connection's."""

    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.answer(ENCODED, fields="Content-Encoding: gzip\r\n")

    with Scripted(script) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        conn.send_request("GET", "/old")
        conn.read_response(decode=True)
        decode = Decoding.read

        def read(decoding: Decoding, size: int) -> bytes:
            monkeypatch.setattr(Decoding, "read", decode)
            conn.close()
            conn.send_request("GET", "/new")
            assert conn.read_response(decode=True).path == "/new"
            return decode(decoding, size)

        monkeypatch.setattr(Decoding, "read", read)
        with pytest.raises(ConnectionClosed):
            conn.read(10)
        assert conn.readall() == TEXT
