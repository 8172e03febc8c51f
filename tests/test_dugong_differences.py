"""Where dugong 3.8 was wrong: each as it is to be. All else that differs is in `docs/from-dugong.md`."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import httpio as dugong
from servers.scripted import Peer, Script, Scripted, answers


@contextmanager
def meet(script: Script) -> Iterator[tuple[Scripted, dugong.HTTPConnection]]:
    with Scripted(script) as server, dugong.HTTPConnection("127.0.0.1", server.port) as conn:
        conn.timeout = 20
        conn.expect_timeout = 20
        yield server, conn


def says(data: bytes, end: bool = False) -> Script:
    """A script: *data* for the head of a request; then nothing more comes, or with *end* the connection ends."""

    def script(peer: Peer) -> None:
        assert peer.head() is not None
        peer.send(data)
        if end:
            peer.finish()
        peer.drain()

    return script


LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ncontent"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ncont\r\n3\r\nent\r\n0\r\nX: y\r\n\r\n"


@pytest.mark.parametrize("data", [LENGTH, CHUNKED], ids=["length", "chunked"])
@pytest.mark.parametrize("into", [False, True], ids=["read", "readinto"])
def test_a_response_ends_with_its_last_byte(into: bool, data: bytes) -> None:
    with meet(says(data + LENGTH)) as (_, conn):
        conn.send_request("GET", "/")
        conn.send_request("GET", "/")
        for pending in (True, False):
            conn.read_response()
            left = 7
            while left:
                left -= conn.readinto(bytearray(left)) if into else len(conn.read(left))
            assert conn.response_pending() == pending
        assert conn.read(1) == b""  # as those ask who know dugong
        assert conn.readinto(bytearray(1)) == 0


@pytest.mark.parametrize("kind", [dict, dugong.CaseInsensitiveDict])
@pytest.mark.parametrize("body", [None, b"abc", dugong.BodyFollowing(3)], ids=["none", "bytes", "following"])
def test_the_callers_headers_are_not_changed(body: Any, kind: type[Any]) -> None:
    with meet(says(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")) as (server, conn):
        headers = kind({"X-Name": "value", "host": "another", "content-type": "text/plain"})
        conn.send_request("PUT", "/", headers, body, expect100=body is not None)
        assert list(headers.items()) == [("X-Name", "value"), ("host", "another"), ("content-type", "text/plain")]
        assert conn.read_response().status == 403
        fields = [server.seen[0].field(name) for name in ("X-Name", "Host", "Content-Type")]
        assert fields == ["value", "another", "text/plain"]


@pytest.mark.parametrize("bad", ["\r\nX-Evil: 1", "\n", "\r", "\0"])
def test_line_ends_are_refused(bad: str) -> None:
    with meet(answers) as (server, conn):
        for connected in (False, True):
            for method, path, headers in [
                (f"GET{bad}", "/never", None),
                ("GET", f"/{bad}", None),
                ("GET", "/never", {"X": f"a{bad}b"}),
                ("GET", "/never", dugong.CaseInsensitiveDict({f"X{bad}": "a"})),
            ]:
                with pytest.raises(ValueError):  # noqa: PT011 - InvalidURL is one
                    conn.send_request(method, path, headers)
            assert (conn.peername is not None) == connected
            conn.send_request("GET", "/")
            assert conn.read_response().status == 200
            conn.discard()
        assert [(seen.method, seen.target, seen.field("X-Evil")) for seen in server.seen] == [("GET", "/", None)] * 2


def test_101_does_not_hang() -> None:
    with meet(says(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")) as (_, conn):
        conn.send_request("GET", "/")
        with pytest.raises(dugong.UnsupportedResponse):
            conn.read_response()


def test_endless_interim_responses_do_not_hang() -> None:
    def script(peer: Peer) -> None:
        assert peer.request() is not None
        while True:
            peer.send(b"HTTP/1.1 102 Processing\r\n\r\n")

    with meet(script) as (_, conn):
        conn.send_request("GET", "/")
        with pytest.raises(dugong.InvalidResponse):
            conn.read_response()


@pytest.mark.parametrize("value", [b"close", b"x, close", b"Close , x", b"keep-alive,\tCLOSE"])
def test_connection_is_a_list(value: bytes) -> None:
    with meet(says(b"HTTP/1.1 200 OK\r\nConnection: " + value + b"\r\n\r\nto the end", end=True)) as (server, conn):
        conn.send_request("GET", "/")
        assert conn.read_response().length is None
        assert conn.readall() == b"to the end"
        with pytest.raises(dugong.ConnectionClosed):
            conn.send_request("GET", "/never")
        conn.reset()
        conn.send_request("GET", "/anew")
        assert conn.read_response().status == 200
        assert server.targets() == ["/", "/anew"]


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5, 6",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    ],
)
def test_conflicting_lengths_are_refused(fields: bytes) -> None:
    with meet(says(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n\r\nhello!")) as (_, conn):
        conn.send_request("GET", "/")
        with pytest.raises(dugong.InvalidResponse):
            conn.read_response()


def test_no_md5_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def md5(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(hashlib, "md5", md5)
    with meet(answers) as (server, conn):
        for headers in (None, {"Content-MD5": "the caller's"}):
            conn.send_request("PUT", "/", headers, b"content")
            assert conn.read_response().status == 200
            conn.discard()
        assert [seen.field("Content-MD5") for seen in server.seen] == [None, "the caller's"]


@pytest.mark.parametrize(
    ("names", "error", "others"),
    [
        ((), dugong.HostnameNotResolvable, []),
        ([("localhost", 80)], dugong.HostnameNotResolvable, ["localhost"]),
        ((("other.invalid", 80),), dugong.DNSUnavailable, ["other.invalid"]),
        ((("other.invalid", 80), ("localhost", 53)), dugong.HostnameNotResolvable, ["other.invalid", "localhost"]),
    ],
)
def test_nobody_is_asked_about_a_name_unless_told_to(
    names: Any, error: type[Exception], others: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    look_up = socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(host)
        if host.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    if names:
        monkeypatch.setattr(dugong, "DNS_TEST_HOSTNAMES", names)
    assert dugong.DNS_TEST_HOSTNAMES is names or not dugong.DNS_TEST_HOSTNAMES
    conn = dugong.HTTPConnection("foobar.invalid")
    with pytest.raises(error) as caught:
        conn.connect()
    assert caught.value.name == "foobar.invalid"  # type: ignore[attr-defined]
    assert asked == ["foobar.invalid", *others]
    assert dugong.is_temp_network_error(caught.value) == (error is dugong.DNSUnavailable)
