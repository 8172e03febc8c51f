"""Bodies over TLS: what ends without close_notify is cut, and who reads it is told."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

import httpio
from client_ways import WAYS
from conftest import Contexts
from httpio import client
from httpio.client import HTTPResponse, HTTPSConnection, IncompleteRead
from servers.scripted import Peer, Scripted, server_context

if os.environ.get("CI") != "true":
    pytest.importorskip("urllib3")

import urllib3

from httpio.contrib.urllib3 import extract_from_urllib3, inject_into_urllib3

UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the\nend"
OLD = b"HTTP/1.0 200 OK\r\n\r\nto the\nend"
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nto the\nend"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\nto the\nend\r\n"
CONTENT = b"to the\nend"


@pytest.fixture
def contexts(authority: Any) -> Contexts:
    return server_context(authority.chain, authority.key), ssl.create_default_context(cafile=authority.ca)


def ends(wire: bytes, how: str) -> Any:
    """A script that answers once, and then ends in that way."""

    def script(peer: Peer) -> None:
        if peer.request() is None:
            return
        peer.send(wire)
        if how == "cleanly":
            peer.notify()
        else:
            peer.finish()
        peer.drain()

    return script


def asked(server: Scripted, context: ssl.SSLContext | None) -> tuple[HTTPSConnection, HTTPResponse]:
    conn = HTTPSConnection("127.0.0.1", server.port, timeout=20, context=context)
    conn.request("GET", "/")
    return conn, conn.getresponse()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wire", [UNTIL_CLOSE, OLD])
def test_a_body_until_the_close(wire: bytes, way: str, contexts: Contexts) -> None:
    """With close_notify it is whole; without it may be cut, by anybody on the way (RFC 9112 section 9.8)."""
    for how in ("cleanly", "cut"):
        with Scripted(ends(wire, how), contexts[0]) as server:
            conn, response = asked(server, contexts[1])
            pieces = []
            if how == "cleanly":
                pieces += WAYS[way](response)
                assert b"".join(pieces) == CONTENT
            else:
                with pytest.raises(IncompleteRead, match="IncompleteRead") as caught:
                    pieces.extend(WAYS[way](response))
                error: Any = caught.value
                assert isinstance(error, httpio.ConnectionClosed)
                assert "close_notify" in error.message
                assert error.expected is None
                assert response.isclosed()
            response.close()
            conn.close()


@pytest.mark.parametrize("way", ["read()", "read(4)", "readinto(3)", "read1()", "readline()", "peek", "iteration"])
@pytest.mark.parametrize("wire", [LENGTH, CHUNKED])
@pytest.mark.parametrize("how", ["cleanly", "cut"])
def test_a_body_with_an_end_of_its_own(wire: bytes, way: str, how: str, contexts: Contexts) -> None:
    """close_notify does not make it whole."""
    with Scripted(ends(wire, how), contexts[0]) as server:
        conn, response = asked(server, contexts[1])
        with pytest.raises(IncompleteRead) as caught:
            list(WAYS[way](response))
        assert isinstance(caught.value, httpio.ConnectionClosed)
        conn.close()


@pytest.mark.parametrize("wire", [b"", b"HTTP/1.1 200 OK\r\nX: "])
@pytest.mark.parametrize("how", ["cleanly", "cut"])
def test_a_head(wire: bytes, how: str, contexts: Contexts) -> None:
    with Scripted(ends(wire, how), contexts[0]) as server:
        conn = HTTPSConnection("127.0.0.1", server.port, timeout=20, context=contexts[1])
        conn.request("GET", "/")
        with pytest.raises(httpio.ConnectionClosed) as caught:
            conn.getresponse()
        assert isinstance(caught.value, client.HTTPException)
        assert conn.sock is None


def test_a_whole_body_stands_whatever_comes_behind_it(contexts: Contexts) -> None:
    wire = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole"
    with Scripted(ends(wire, "cut"), contexts[0]) as server:
        conn, response = asked(server, contexts[1])
        assert response.read() == b"whole"
        conn.request("GET", "/")  # on a connection that is made anew
        assert conn.getresponse().read() == b"whole"
        conn.close()
        server.settle(2)
        assert server.connections == 2


def test_the_switch_forgives_it(contexts: Contexts) -> None:
    class Forgiving(HTTPResponse):
        legacy_short_reads = True

    with Scripted(ends(UNTIL_CLOSE, "cut"), contexts[0]) as server:
        conn = HTTPSConnection("127.0.0.1", server.port, timeout=20, context=contexts[1])
        conn.response_class = Forgiving
        for _ in range(2):
            conn.request("GET", "/")
            assert conn.getresponse().read() == CONTENT
        conn.close()


def test_a_socket_of_the_callers_own(contexts: Contexts) -> None:
    """HTTPResponse(sock) on an SSLSocket that somebody has made, with the setting that hides the cut."""
    with Scripted(ends(UNTIL_CLOSE, "cut"), contexts[0]) as server:
        plain = socket.create_connection(("127.0.0.1", server.port), 20)
        with contexts[1].wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=True) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            response = HTTPResponse(sock)
            response.begin()
            with pytest.raises(IncompleteRead):
                response.read()


def test_a_certificate_that_nobody_trusts(contexts: Contexts) -> None:
    with Scripted(ends(LENGTH, "cut"), contexts[0]) as server:
        conn = HTTPSConnection("127.0.0.1", server.port, timeout=20)
        with pytest.raises(ssl.SSLCertVerificationError):
            conn.request("GET", "/")
        conn.close()
        server.settle(1)
        assert server.seen == []


# -- under urllib3 --


@pytest.fixture
def injected() -> Iterator[None]:
    inject_into_urllib3()
    yield
    extract_from_urllib3()


READS: dict[str, Any] = {
    "data": lambda response: response.data,
    "read": lambda response: response.read(),
    "read(4)": lambda response: b"".join(iter(lambda: response.read(4), b"")),
    "stream": lambda response: b"".join(response.stream(4)),
    "readinto": lambda response: (response.readinto(bytearray(9)), response.readinto(bytearray(9))),
    "read1": lambda response: b"".join(iter(lambda: response.read1(4), b"")),
}


def pool_of(server: Scripted, contexts: Contexts) -> urllib3.HTTPSConnectionPool:
    return urllib3.HTTPSConnectionPool("127.0.0.1", server.port, ssl_context=contexts[1], timeout=20)


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("wire", [UNTIL_CLOSE, OLD, LENGTH, CHUNKED])
def test_urllib3_is_told(wire: bytes, read: str, contexts: Contexts, injected: None) -> None:
    """By itself it takes the first two for whole."""
    with Scripted(ends(wire, "cut"), contexts[0]) as server, pool_of(server, contexts) as pool:
        response = pool.request("GET", "/", retries=False, preload_content=False)
        with pytest.raises(urllib3.exceptions.ProtocolError):
            READS[read](response)
        response.close()


@pytest.mark.parametrize("wire", [UNTIL_CLOSE, OLD])
def test_urllib3_reads_what_is_whole(wire: bytes, contexts: Contexts, injected: None) -> None:
    with Scripted(ends(wire, "cleanly"), contexts[0]) as server, pool_of(server, contexts) as pool:
        for read in ("data", "read(4)", "stream"):
            response = pool.request("GET", "/", retries=False, preload_content=False)
            assert READS[read](response) == CONTENT
            response.close()
