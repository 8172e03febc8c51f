"""Bodies that are meant to use up the memory or the time of a client: they get an error, and neither of the two."""

from __future__ import annotations

import gc
import gzip
import json
import re
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time
from typing import Any

import pytest

import corpus
import httpio.content
from bombs import BOMBS
from bombs_client import WAYS
from conftest import need
from httpio import HTTPConnection, InvalidResponse, Limits, accept_encoding
from httpio.messages import Lenient
from httpio.receiving import ReceivingHalf
from servers.scripted import Peer, Scripted

CLIENT = Path(__file__).with_name("bombs_client.py")
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
EMPTY = b"Content-Length: 0\r\n\r\n"
GROUPS = ["limits", "interim", "content-coding"]


def zeros(peer: Peer) -> None:
    """`/gzip/1000000000`: so many zeros in this coding."""
    while (seen := peer.request()) is not None:
        _, coding, count = seen.target.split("/")
        bomb = BOMBS[coding](int(count))
        peer.send(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (coding.encode(), bomb.size)
        )
        for piece in bomb.pieces():
            peer.send(piece)


def client(server: Scripted, job: str, timeout: float = 60, **rest: Any) -> dict[str, Any]:
    """What the client's process found. It dies where it needs more memory than it may have."""
    done = subprocess.run(
        [sys.executable, str(CLIENT)],
        input=json.dumps({"job": job, "port": server.port, **rest}),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["grown"] < 64 << 20
    return found


def need_library(coding: str) -> None:
    need(coding in accept_encoding(), f"The Python package for {coding}")


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("coding", "count", "ways"),
    [
        ("gzip", 10**10, ["readinto"]),
        ("gzip", 10**9, ["read", "write_to"]),
        ("br", 10**10, ["read"]),
        ("br", 10**9, ["readinto", "write_to"]),
        ("zstd", 10**10, ["readinto", "read", "write_to", "asyncio"]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_zeros_by_the_billion_to_their_end(coding: str, count: int, ways: list[str]) -> None:
    need_library(coding)
    with Scripted(zeros) as server:
        job = {"targets": [f"/{coding}/{count}"], "ways": ways, "limits": {"max_ratio": 1 << 40}}
        found = client(server, "bombs", timeout=280, **job)["found"]
    assert [(one["way"], one.get("got")) for one in found] == [(way, count) for way in ways], found


@pytest.mark.parametrize(("coding", "count"), [("gzip", 10**8), ("br", 10**9), ("zstd", 10**9)])
def test_the_limits_refuse_them(coding: str, count: int) -> None:
    """By what is collected, or by how much has come: no more than a thousand times that is given out."""
    need_library(coding)
    with Scripted(zeros) as server:
        job = {"targets": [f"/{coding}/{count}"], "ways": list(WAYS), "limits": {"max_decoded": 16 << 20}}
        found = client(server, "bombs", **job)["found"]
    assert len(found) == len(WAYS)
    for one in found:
        if one.get("error") == "UnsupportedResponse":  # all of it was received, and this was reached before the ratio
            assert one["way"] in ("fetch", "afetch")
            assert "body_limit" in one["why"]
        else:
            assert one.get("error") == "InvalidResponse", one
            assert re.search("max_ratio|max_decoded", one["why"]), one
        assert one["cpu"] < 2, one


@pytest.mark.parametrize("way", ["readall", "text"])
def test_max_decoded_is_for_what_is_collected(way: str) -> None:
    with Scripted(zeros) as server:
        limits = {"max_ratio": 1 << 40, "max_decoded": 16 << 20}
        (one,) = client(server, "bombs", targets=["/gzip/100000000"], ways=[way], limits=limits)["found"]
    if way == "text":  # a file, which is read in pieces
        assert one["got"] == 10**8
    else:
        assert (one.get("error"), "max_decoded" in one["why"]) == ("InvalidResponse", True)
        assert one["cpu"] < 2


def test_the_rows_under_a_ceiling() -> None:
    """Limits, interim responses and codings: 64 MiB for all, and 2 s of CPU for each."""
    chosen = {row["id"]: row for row in (*corpus.responses(), *corpus.coded()) if row["group"] in GROUPS}
    assert {row["group"] for row in chosen.values()} == set(GROUPS)

    def script(peer: Peer) -> None:
        seen = peer.head()
        assert seen is not None
        peer.send(corpus.wire(chosen[seen.target[1:]]))
        peer.finish()
        peer.drain()

    with Scripted(script) as server:
        found = client(server, "rows", groups=GROUPS)["found"]
    assert len(found) == len(chosen)
    verdicts = {"InvalidResponse": "invalid", "UnsupportedResponse": "unsupported", "ConnectionClosed": "closed"}
    for one in found:
        row = chosen[one["id"]]
        verdict = verdicts[one["error"]] if "error" in one else "ok"
        assert verdict in (row["expect"], *row["also"]), one
        assert verdict == "ok" or row.get("limit", "") in one["why"], one
        assert one["cpu"] < 2, one


def test_what_is_only_announced_costs_nothing() -> None:
    """A Content-Length of 1 TiB, and 2 bytes."""

    def script(peer: Peer) -> None:
        seen = peer.head()
        assert seen is not None
        length = 1 << 40 if seen.target == "/large" else 300_000
        peer.send(HEAD + b"Content-Length: %d\r\n\r\nab" % length)
        peer.finish()
        peer.drain()

    with Scripted(script) as server:
        found = client(server, "announced")["found"]
    assert [one["way"] for one in found] == list(WAYS)
    for one in found:
        bounded = one["way"] in ("fetch", "afetch")  # body_limit
        assert one["error"] == ("UnsupportedResponse" if bounded else "ConnectionClosed"), one
        assert bounded or one["received"] == 2, one
        assert one["grown"] < 1 << 20, one


def test_results_with_errors_hold_no_content() -> None:
    """Whoever keeps the results of a fetch keeps no bodies with the errors."""
    wire = gzip.compress(bytes(4 << 20))[:-8] + bytes(8)

    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.answer(wire, fields="Content-Encoding: gzip\r\n")

    with Scripted(script) as server:
        urls = [f"{server.url}/{number}" for number in range(20)]
        list(httpio.fetch(urls[:1], decode=True))
        gc.collect()
        tracemalloc.start()
        try:
            results = list(httpio.fetch(urls, decode=True))
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
    assert [type(result.error) for result in results] == [InvalidResponse] * 20
    assert held < 4 << 20


def fields(name: bytes) -> Callable[[int], bytes]:
    return lambda count: b"".join(b"%b: %d\r\n" % (name, number) for number in range(count))


# So many of something.
WIRES: dict[str, Callable[[int], bytes]] = {
    "chunks": lambda count: CHUNKED + b"1\r\nx\r\n" * count + b"0\r\n\r\n",
    "chunk extensions": lambda count: CHUNKED + b"1;a=b\r\nx\r\n" * count + b"0\r\n\r\n",
    "fields of one name": lambda count: HEAD + fields(b"X")(count) + EMPTY,
    "cookies": lambda count: HEAD + fields(b"Set-Cookie")(count) + EMPTY,
    "trailers": lambda count: CHUNKED + b"0\r\n" + fields(b"X")(count) + b"\r\n",
    "interim responses": lambda count: b"HTTP/1.1 103 Hints\r\n\r\n" * count + HEAD + EMPTY,
    "codings": lambda count: HEAD + b"Content-Encoding: gzip, identity\r\n" * count + EMPTY,
}
MANY = 1_000_000
LIMITS = Limits(
    max_headers=MANY, max_trailers=MANY, max_interim=MANY, max_field_size=100 * MANY, max_chunk_ext=100 * MANY
)


class TestLinear:
    """Twice as much takes twice the time, and not four times."""

    @pytest.fixture(autouse=True)
    def no_collector(self) -> Iterator[None]:
        """What the collector costs is not the parser's."""
        gc.disable()
        yield
        gc.enable()

    def cost(self, wire: bytes) -> float:
        began = process_time()
        half = ReceivingHalf(LIMITS, Lenient(0), 1 << 30)
        half.expect(None)
        found = []
        for at in range(0, len(wire), 1000):  # in fragments
            piece = wire[at : at + 1000]
            while piece:
                piece = piece[half.feed(piece) :]
                found += half.take()
        (response,) = found
        for fields in (response.headers, response.trailers):
            for name in ("x", "set-cookie", "content-encoding"):
                fields.get(name)
                httpio.content.codings_of(fields.get_all(name) or ())
        return process_time() - began

    @pytest.mark.parametrize("what", WIRES)
    def test_time(self, what: str) -> None:
        wires = [WIRES[what](count) for count in (10_000, 20_000, 40_000, 80_000)]
        costs = [min(self.cost(wire) for _ in range(4)) for wire in wires]
        assert costs[3] / costs[0] < 2.6**3, costs


class TestDropped:
    """What is dropped is not decoded."""

    CONTENT = bytes(range(256)) * 200
    WIRE = gzip.compress(CONTENT)

    @pytest.fixture
    def decoded(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """A number for each call of zlib."""
        calls: list[int] = []
        make = zlib.decompressobj

        class Counting:
            def __init__(self, *arguments: int) -> None:
                self._real = make(*arguments)

            def decompress(self, data: bytes, size: int) -> bytes:
                calls.append(len(data))
                return self._real.decompress(data, size)

            def __getattr__(self, name: str) -> Any:
                return getattr(self._real, name)

        monkeypatch.setattr(zlib, "decompressobj", Counting)
        return calls

    @pytest.fixture
    def served(self) -> Iterator[tuple[Scripted, HTTPConnection]]:
        def script(peer: Peer) -> None:
            while (seen := peer.request()) is not None:
                if seen.target == "/bomb":
                    bomb = BOMBS["gzip"](10**9)
                    peer.send(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % bomb.size)
                    for piece in bomb.pieces():
                        peer.send(piece)
                else:
                    peer.answer(self.WIRE, fields="Content-Encoding: gzip\r\n")

        with Scripted(script) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
            yield server, conn

    @pytest.mark.parametrize("begun", [0, 10])
    def test_discard(self, begun: int, served: tuple[Scripted, HTTPConnection], decoded: list[int]) -> None:
        server, conn = served
        for target in ("/bomb", "/small", "/bomb"):
            conn.send_request("GET", target)
            conn.read_response(decode=True)
            assert len(conn.read(begun)) == begun
            calls = len(decoded)
            conn.discard()
            assert len(decoded) == calls
        conn.send_request("GET", "/small")
        conn.read_response(decode=True)
        assert conn.readall() == self.CONTENT
        assert server.connections == 1

    @pytest.mark.parametrize("begun", [0, 10])
    def test_a_pipeline(self, begun: int, served: tuple[Scripted, HTTPConnection], decoded: list[int]) -> None:
        """The rest of a body is read where it is short, else the connection is replaced."""
        server, conn = served
        targets = ["/small", "/bomb", "/small", "/bomb", "/small"]
        calls = 0
        for response in conn.pipeline(targets, 1, body_limit=100, decode=True):
            assert response.body is None
            assert len(decoded) == calls
            assert len(conn.read(begun)) == begun
            calls = len(decoded)
        assert len(decoded) == calls
        assert (calls > 0) == (begun > 0)
        assert server.connections == 3
        assert server.targets() == targets
