"""Bodies that are cut short under urllib3 and requests raise, over TLS those without a length too."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from conftest import Authority
from servers.scripted import Peer, Scripted, server_context

if os.environ.get("CI") != "true":
    pytest.importorskip("requests")

import requests
import urllib3

import httpio.contrib.requests
from httpio.contrib.urllib3 import extract_from_urllib3, inject_into_urllib3, pool_class

HEAD = b"HTTP/1.1 200 OK\r\n"
WIRES = {
    "a length": HEAD + b"Content-Length: 10\r\n\r\nhello",
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "in a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nA\r\nhello",
    "until close": HEAD + b"Connection: close\r\n\r\nhello",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nhello",
}
UNTIL_CLOSE = ("until close", "HTTP/1.0")
ERRORS = (urllib3.exceptions.ProtocolError, requests.exceptions.ChunkedEncodingError)
Read = Callable[[int], bytes]


def with_urllib3(pool: Any, size: int) -> bytes:
    response = pool.request("GET", "/", preload_content=False, retries=False)
    return b"".join(response.stream(size))


def with_requests(session: requests.Session, url: str, size: int) -> bytes:
    with session.get(url, stream=True) as response:
        return b"".join(response.iter_content(size))


@pytest.fixture(params=["http", "https"])
def secure(request: pytest.FixtureRequest) -> bool:
    return str(request.param) == "https"


@pytest.fixture
def reader(request: pytest.FixtureRequest, authority: Authority, secure: bool) -> Iterator[Callable[[int], Read]]:
    """A function from a port to one that gets, and reads in pieces; by the way that `request.param` names."""
    way: str = request.param
    options: dict[str, Any] = {"ca_certs": str(authority.ca)} if secure else {}
    pool: Any = urllib3.HTTPSConnectionPool if secure else urllib3.HTTPConnectionPool
    scheme = "https" if secure else "http"
    with ExitStack() as stack:
        if "injected" in way:
            inject_into_urllib3()
            stack.callback(extract_from_urllib3)
        if way in ("urllib3 injected", "urllib3"):
            yield lambda port: lambda size: with_urllib3(pool("127.0.0.1", port, **options), size)
        elif way == "urllib3's pools":
            yield lambda port: lambda size: with_urllib3(pool_class(pool)("127.0.0.1", port, **options), size)
        else:
            session = stack.enter_context(requests.Session())
            session.trust_env = False
            session.verify = str(authority.ca)
            if way == "the adapter":
                session.mount(f"{scheme}://", httpio.contrib.requests.HTTPAdapter())
            yield lambda port: lambda size: with_requests(session, f"{scheme}://127.0.0.1:{port}/", size)


every_way = pytest.mark.parametrize(
    "reader", ["urllib3 injected", "urllib3's pools", "requests injected", "the adapter"], indirect=True
)
without = pytest.mark.parametrize("reader", ["urllib3", "requests"], indirect=True)
every_wire = pytest.mark.parametrize("wire", WIRES)
SIZES = (2, 1 << 16)


def serving(wire: str, end: Callable[[Peer], None], authority: Authority, secure: bool) -> Scripted:
    def script(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(WIRES[wire])
            end(peer)

    return Scripted(script, server_context(authority.chain, authority.key) if secure else None)


@every_way
@every_wire
def test_cut(wire: str, reader: Callable[[int], Read], authority: Authority, secure: bool) -> None:
    """The connection ends with no word of TLS's: nobody can know whether that was the peer."""
    with serving(wire, Peer.finish, authority, secure) as server:
        for size in SIZES:
            if wire in UNTIL_CLOSE and not secure:
                assert reader(server.port)(size) == b"hello"
            else:
                with pytest.raises(ERRORS):
                    reader(server.port)(size)


@every_way
@every_wire
@pytest.mark.parametrize("secure", [True])
def test_ended_by_close_notify(wire: str, reader: Callable[[int], Read], authority: Authority, secure: bool) -> None:
    """It ends a body that ends with the connection, and no other."""
    with serving(wire, Peer.notify, authority, secure) as server:
        for size in SIZES:
            if wire in UNTIL_CLOSE:
                assert reader(server.port)(size) == b"hello"
            else:
                with pytest.raises(ERRORS):
                    reader(server.port)(size)


@without
@pytest.mark.parametrize("wire", UNTIL_CLOSE)
@pytest.mark.parametrize("secure", [True])
def test_what_passes_without(wire: str, reader: Callable[[int], Read], authority: Authority, secure: bool) -> None:
    with serving(wire, Peer.finish, authority, secure) as server:
        assert [reader(server.port)(size) for size in SIZES] == [b"hello"] * 2
