"""What a response may cost: http.client's limits, which are set from outside, and those that it has not."""

from __future__ import annotations

import http.client as standard
import tracemalloc
from typing import Any

import pytest

import httpio
from client_ways import WAYS, Buffered, Dribbling, Held, come
from httpio import client
from httpio.client import HTTPConnection, HTTPResponse
from servers.scripted import Peer, Scripted

OK = b"HTTP/1.1 200 OK\r\n"
SOURCES = pytest.mark.parametrize("source", [Held, Buffered, Dribbling])


def begun(wire: bytes, source: Any = Buffered, **options: Any) -> HTTPResponse:
    with source([wire]) as sock:
        response = HTTPResponse(sock)
        response.begin(**options)
        return response


def refused(wire: bytes, source: Any = Buffered, **options: Any) -> Any:
    with pytest.raises(standard.HTTPException) as caught:
        begun(wire, source, **options)
    assert isinstance(caught.value, httpio.InvalidResponse)
    return caught.value


def fields(count: int) -> bytes:
    return OK + b"X: y\r\n" * count + b"\r\n"


@SOURCES
def test_as_many_fields_as_http_client_allows(source: Any) -> None:
    assert len(begun(fields(100), source).headers) == 100
    assert str(refused(fields(101), source)).startswith("got more than 100 headers")


@SOURCES
def test_max_headers_is_looked_at_in_each_response(source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for allowed in (3, 1000, 5):
        monkeypatch.setattr(client, "_MAXHEADERS", allowed)
        assert len(begun(fields(allowed), source).headers) == allowed
        assert str(refused(fields(allowed + 1), source)).startswith(f"got more than {allowed} headers")


@SOURCES
def test_max_line_is_looked_at_in_each_response(source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (200, 100_000, 300):
        monkeypatch.setattr(client, "_MAXLINE", size)
        assert begun(OK + b"X: " + b"y" * (size - 20) + b"\r\n\r\n", source).status == 200
        assert isinstance(refused(OK + b"X: " + b"y" * size + b"\r\n\r\n", source), standard.LineTooLong)
        assert isinstance(refused(b"HTTP/1.1 200 " + b"y" * size + b"\r\n\r\n", source), standard.LineTooLong)


def test_max_response_headers_of_a_connection() -> None:
    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.answer(fields="X: y\r\n" * 120)

    with Scripted(script) as server:
        for allowed, good in ((121, True), (120, False), (None, False), (500, True)):
            conn = HTTPConnection("127.0.0.1", server.port, timeout=20, max_response_headers=allowed)
            conn.request("GET", "/")
            if good:
                response = conn.getresponse()
                assert len(response.headers) == 121
                response.read()
            else:
                with pytest.raises(standard.HTTPException, match=f"got more than {allowed or 100} headers"):
                    conn.getresponse()
            conn.close()


def test_max_headers_of_one_response() -> None:
    assert len(begun(fields(7), _max_headers=7).headers) == 7
    refused(fields(8), _max_headers=7)


@SOURCES
def test_interim_responses_are_counted(source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for status in (b"100 Continue", b"103 Early Hints", b"150 What"):
        interim = b"HTTP/1.1 " + status + b"\r\nX: y\r\n\r\n"
        assert begun(interim * 100 + fields(0), source).status == 200
        refused(interim * 101 + fields(0), source)
    monkeypatch.setattr(client, "_MAXINTERIMRESPONSES", 2)
    assert begun(interim * 2 + fields(0), source).status == 200
    refused(interim * 3 + fields(0), source)


def endless(unit: bytes, before: bytes = b"") -> Any:
    """A socket on which a megabyte comes, and more does not come to be asked for."""

    class Endless(Dribbling):
        taken = 0

        def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:  # type: ignore[override]
            if not self.pieces:
                assert self.taken < 1 << 20, "it goes on and on"
                self.taken += len(unit) * 64
                self.pieces.append(memoryview(unit * 64))
            return super().recv_into(buffer, nbytes, flags)

    return Endless([before] if before else [])


@pytest.mark.parametrize(
    ("before", "unit"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"HTTP/1.1 103 H\r\nX: %s\r\n\r\n" % (b"y" * 4000)),
        (b"", b"\r\n"),
        (b"HTTP/1.1 200 ", b"reason"),
        (OK, b"X: y\r\n"),
        (OK + b"X: ", b"y"),
        (OK, b"name"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"extension"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"a" * 2000 + b"\r\nx\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"y"),
    ],
)
def test_floods(before: bytes, unit: bytes) -> None:
    """http.client takes most of them to their end, which does not come."""
    with endless(unit, before) as sock:
        response, came = come(sock, "GET")
        assert isinstance(came.error, httpio.InvalidResponse)
        assert isinstance(came.error, standard.HTTPException)
        response.close()


@pytest.mark.parametrize("way", ["read()", "read(4)", "read1()", "readinto(9999)", "readline()", "peek"])
@pytest.mark.parametrize("length", [1 << 40, (1 << 63) - 1])
def test_memory_follows_what_comes_and_not_what_is_announced(way: str, length: int) -> None:
    wire = OK + b"Content-Length: %d\r\n\r\n" % length + b"x" * 1000
    for source in (Buffered, Dribbling):
        with source([wire]) as sock:
            response = HTTPResponse(sock)
            response.begin()
            tracemalloc.start()
            with pytest.raises(standard.IncompleteRead):
                list(WAYS[way](response))
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < (72 << 20 if way == "read()" else 8 << 20)


def test_a_read_of_too_much_is_a_read_of_all() -> None:
    for size in (1 << 40, (1 << 63) - 1):
        response = begun(OK + b"Content-Length: 5\r\n\r\nhello")
        assert response.read(size) == b"hello"
        response = begun(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        assert response.read(size) == b"hello"


def test_parse_headers_has_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """For servers, which read requests by it."""
    monkeypatch.setattr(client, "_MAXHEADERS", 3)
    file = Held([b"X: y\r\n" * 9 + b"\r\n"]).file
    with pytest.raises(standard.HTTPException, match="got more than 3 headers"):
        client.parse_headers(file)
    file.seek(0)
    assert len(client.parse_headers(file, _max_headers=20)) == 9
    monkeypatch.setattr(client, "_MAXLINE", 30)
    with pytest.raises(standard.LineTooLong):
        client.parse_headers(Held([b"X: " + b"y" * 30 + b"\r\n\r\n"]).file)
