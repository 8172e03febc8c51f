"""The names of HTTPConnection beside sending and reading: what they give, and that the steps never block."""

from __future__ import annotations

import gc
import inspect
import io
import os
import select
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import httpio
import httpio.dial
import httpio.waiting
from conftest import Authority
from httpio import (
    BodyFollowing,
    ConnectionClosed,
    DNSUnavailable,
    HostnameNotResolvable,
    HTTPConnection,
    InvalidResponse,
    Limits,
    StateError,
    UnsupportedResponse,
)
from httpio.waiting import run
from servers.scripted import Peer, answers
from serving import BIG, DATA, WAYS, Serve, answered, serving

BOTH = ("plain", "tls")


@pytest.fixture
def served(authority: Authority, tmp_path: Path) -> Iterator[Serve]:
    with serving(authority, tmp_path) as serve:
        yield serve


class Wire:
    """A script: after so many requests it sends each of *parts*, all but the first when `next` is called, and then a
    FIN. On the connections behind it, all requests are answered."""

    def __init__(self, *parts: bytes, requests: int = 1) -> None:
        self._parts = parts
        self._requests = requests
        self._turn = threading.Semaphore(1)
        self.next = self._turn.release

    def __call__(self, peer: Peer) -> None:
        if peer.number:
            return answers(peer)
        for _ in range(self._requests):
            assert peer.request() is not None
        for data in self._parts:
            assert self._turn.acquire(timeout=20)
            peer.send(data)
        peer.finish()
        peer.drain()

    def run(self, step: Any) -> Any:
        """The result of a step, which is given the next part when it has taken all that came."""
        try:
            while True:
                need = next(step)
                if not need.poll(0):
                    self.next()
                need.poll()
        except StopIteration as stop:
            return stop.value


def response(body: bytes, fields: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b" % (len(body), fields, body)


# -- the list --

BLOCKING = {
    "connect", "send_request", "write", "sendfile", "end_body", "flush", "read_response", "read", "readinto", "readall",
    "discard", "write_to", "read_raw", "get_ssl_peercert", "get_ssl_cipher",
}  # fmt: skip
OTHERS = {
    "close", "disconnect", "reset", "abort", "detach", "outstanding", "response_pending", "buffered", "fileno", "text",
    "closed", "readable", "writable", "seekable", "timeout", "connect_timeout", "deadline", "expect_timeout",
    "on_informational", "trace_fh", "peername", "local_address", "pipeline", "ssl_context",
}  # fmt: skip
"""What never blocks, and `pipeline`, whose iteration does."""


def test_every_call_that_blocks_has_a_step() -> None:
    names = {name for name in dir(HTTPConnection) if not name.startswith("_")}
    steps = {name for name in names if name.startswith("co_")}
    assert steps == {f"co_{name}" for name in BLOCKING}
    assert names - steps == BLOCKING | OTHERS
    for name in BLOCKING:
        call, step = (inspect.signature(getattr(HTTPConnection, prefix + name)).parameters for prefix in ("", "co_"))
        assert [p for p in call.values() if p.name != "via_cofun"] == list(step.values())


# -- read_raw --


def raw(conn: HTTPConnection, size: int, steps: bool) -> bytes:
    """All that read_raw gives, so many bytes at a time."""
    pieces = []
    while piece := run(conn.co_read_raw(size)) if steps else conn.read_raw(size):
        assert len(piece) <= size
        pieces.append(piece)
    return b"".join(pieces)


BAD = b"HTTP/1.1 200 OK\r\nNo field line\r\n\r\nand what follows\r\n\r\n"
REFUSED: dict[str, tuple[int, tuple[bytes, ...]]] = {
    "whole": (0, (BAD,)),
    "behind two": (2, (BAD,)),
    "in parts": (0, (BAD[:5], BAD[5:])),
    "in parts behind one": (1, (BAD[:20], BAD[20:40], BAD[40:])),
    "long": (0, (BAD + bytes(300_000),)),
    "another protocol": (0, (b"SSH-2.0-x\r\n",)),
}


@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("size", [7, 100_000])
@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("way", BOTH)
def test_raw_bytes_of_a_refused_response(way: str, kind: str, size: int, steps: bool, served: Serve) -> None:
    """From its beginning, however it came; then the connection is broken."""
    before, (first, *others) = REFUSED[kind]
    script = Wire(response(b"good") * before + first, *others, requests=before + 1)
    _, conn = served(script, way)
    for _ in range(before + 1):
        conn.send_request("GET", "/")
    for _ in range(before):
        conn.read_response()
        assert conn.readall() == b"good"
    with pytest.raises(InvalidResponse):
        script.run(conn.co_read_response())
    for _ in others:
        script.next()
    assert raw(conn, size, steps) == b"".join([first, *others])
    for call in (conn.read_response, lambda: conn.send_request("GET", "/never")):
        with pytest.raises((ConnectionClosed, InvalidResponse)):
            call()
    conn.close()
    answered(conn)


@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("size", [3, 1000])
@pytest.mark.parametrize("way", BOTH)
def test_raw_bytes_of_a_body_without_an_end(way: str, size: int, steps: bool, served: Serve) -> None:
    script = Wire(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nthe ", b"content")
    _, conn = served(script, way)
    conn.send_request("GET", "/")
    assert script.run(conn.co_read_response()).headers["Server"] == "x"
    for call in (conn.readall, lambda: conn.read(5), conn.discard):
        with pytest.raises(UnsupportedResponse):
            call()
    script.next()
    assert raw(conn, size, steps) == b"the content"
    conn.close()
    answered(conn)


def test_raw_bytes_that_cannot_be(served: Serve) -> None:
    _, conn = served(answers)
    for call in (conn.read_raw, conn.co_read_raw):
        for size in (0, -1):
            with pytest.raises(ValueError, match="one byte"):
                call(size)
    with pytest.raises((ConnectionClosed, StateError)):
        conn.read_raw(1)
    answered(conn)


# -- text --

TEXTS: dict[str, tuple[dict[str, Any], bytes, str]] = {
    "utf-8": ({}, "größe\r\nzwei\n".encode(), "größe\nzwei\n"),
    "newline": ({"newline": ""}, b"one\r\ntwo\rthree", "one\r\ntwo\rthree"),
    "utf-16": ({"encoding": "utf-16"}, "größe".encode("utf-16"), "größe"),
    "latin-1": ({"encoding": "latin-1"}, b"gr\xf6\xdfe", "größe"),
    "errors": ({"errors": "replace"}, b"a\xffb", "a\ufffdb"),
    "long": ({}, "€\n".encode() * 100_000, "€\n" * 100_000),
    "empty": ({}, b"", ""),
}


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("way", BOTH)
def test_text(way: str, kind: str, chunked: bool, served: Serve) -> None:
    options, content, text = TEXTS[kind]
    one = response(content)
    if chunked:  # the pieces cut through characters
        pieces = [content[at : at + 1001] for at in range(0, len(content), 1001)]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        one = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % chunks
    _, conn = served(Wire(one * 4 + response(b"end"), requests=5), way)
    for _ in range(5):
        conn.send_request("GET", "/")
    conn.read_response()
    with conn.text(**options) as file:
        assert file.read() == text
        assert file.read() == ""
    conn.read_response()
    file = conn.text(**options)
    assert "".join(file) == text
    file.close()
    conn.read_response()
    file = conn.text(**options)
    assert "".join(iter(lambda: file.read(7), "")) == text
    conn.read_response()
    assert conn.text(**options).read(2) == text[:2]
    gc.collect()
    conn.discard()
    conn.read_response()
    assert conn.readall() == b"end"


def test_text_that_fails(served: Serve) -> None:
    """What cannot be decoded is the caller's matter; a body that is cut is never a shorter text."""
    wire = response(b"a\xffb") + b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"
    _, conn = served(Wire(wire, requests=2))
    conn.send_request("GET", "/")
    conn.send_request("GET", "/")
    conn.read_response()
    with pytest.raises(UnicodeDecodeError):
        conn.text().read()
    conn.discard()
    conn.read_response()
    with pytest.raises(ConnectionClosed):
        conn.text().read()
    assert conn.text().readable()


READS: dict[str, Callable[[io.TextIOWrapper], str]] = {
    "read": lambda file: file.read(),
    "read 3": lambda file: "".join(iter(lambda: file.read(3), "")),
    "readline": lambda file: "".join(iter(file.readline, "")),
    "lines": lambda file: "".join(file),
}


@pytest.mark.parametrize("reads", READS)
@pytest.mark.parametrize("way", BOTH)
def test_a_wrapper_around_the_connection(way: str, reads: str, served: Serve) -> None:
    """One for each response: that it is dropped changes nothing."""
    texts = ["one\ntwo\n", "", "thr€e" * 100_000, "four"]
    script = Wire(b"".join(response(text.encode()) for text in texts), requests=4)
    _, conn = served(script, way)
    for _ in texts:
        conn.send_request("GET", "/")
    for text in texts:
        assert conn.read_response().status == 200
        assert READS[reads](io.TextIOWrapper(conn, encoding="utf-8")) == text  # type: ignore[type-var]
        gc.collect()
        assert not conn.buffered or text != texts[-1]
    assert conn.outstanding == ()


def test_a_wrapper_that_is_closed(served: Serve) -> None:
    """It closes the connection, once: what becomes of the wrapper later is not the next exchange's matter."""
    server, conn = served(answers)
    conn.send_request("GET", "/")
    conn.read_response()
    file = io.TextIOWrapper(conn)  # type: ignore[type-var]
    assert file.read(1) == "/"
    file.close()
    with pytest.raises(StateError):
        conn.fileno()
    conn.send_request("GET", "/long")
    assert conn.read_response().path == "/long"
    del file
    gc.collect()
    assert conn.readall() == b"/long"
    conn.close()  # and this one counts
    with pytest.raises(StateError):
        conn.fileno()
    assert server.connections == 2


def test_a_wrapper_that_writes(served: Serve) -> None:
    bodies = []

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            bodies.append(seen.body)
            peer.answer(seen.target.encode())

    _, conn = served(script)
    conn.send_request("PUT", "/", body=BodyFollowing())
    file = io.TextIOWrapper(conn, encoding="utf-8")  # type: ignore[type-var]
    print("größe", file=file)
    file.flush()
    assert file.detach() is conn
    conn.end_body()
    answered(conn, "/")
    assert bodies[0] == "größe\n".encode()


# -- what is known --


def test_a_file_by_its_attributes(served: Serve) -> None:
    """The same, whatever state it is in."""
    _, conn = served(answers)
    for change in (conn.connect, lambda: conn.send_request("GET", "/"), conn.read_response, conn.close, conn.abort):
        assert (conn.closed, conn.readable(), conn.writable(), conn.seekable()) == (False, True, True, False)
        assert conn.flush() is None
        change()


def test_its_descriptor(served: Serve) -> None:
    _, conn = served(answers)
    for _ in range(2):
        assert not conn.buffered
        with pytest.raises(StateError):
            conn.fileno()
        conn.connect()
        assert not os.get_blocking(conn.fileno())
        conn.send_request("GET", "/")
        assert select.select([conn], [], [], 20)[0] == [conn]
        assert not conn.buffered  # nothing that select would not see
        conn.read_response()
        assert conn.buffered
        conn.readall()
        assert not conn.buffered
        conn.close()


@pytest.mark.parametrize("steps", [False, True])
def test_tls_facts(steps: bool, served: Serve, authority: Authority) -> None:
    """They connect where that was not done."""
    leaf = ssl.PEM_cert_to_DER_cert(authority.chain.read_text().split("-----END")[0] + "-----END CERTIFICATE-----\n")
    for first in range(3):
        server, conn = served(answers, "tls")

        def ask(name: str, *args: Any, conn: Any = conn) -> Any:
            return run(getattr(conn, f"co_{name}")(*args)) if steps else getattr(conn, name)(*args)

        asks = [("get_ssl_peercert",), ("get_ssl_peercert", True), ("get_ssl_cipher",)]
        facts = {call: ask(*call) for call in asks[first:] + asks[:first]}
        certificate, binary, cipher = (facts[call] for call in asks)
        assert ("IP Address", "127.0.0.1") in certificate["subjectAltName"]
        assert binary == leaf
        name, version, bits = cipher
        assert isinstance(name, str)
        assert version.startswith("TLSv1")
        assert bits >= 128
        answered(conn)
        assert server.connections == 1


@pytest.mark.parametrize("way", ["plain", "unix"])
def test_no_tls_facts(way: str, served: Serve) -> None:
    server, conn = served(answers, way)
    assert conn.get_ssl_peercert() is conn.get_ssl_peercert(True) is conn.get_ssl_cipher() is None
    assert run(conn.co_get_ssl_peercert()) is run(conn.co_get_ssl_cipher()) is None
    answered(conn)
    assert server.connections == 1


@pytest.mark.parametrize("way", WAYS)
def test_addresses(way: str, served: Serve, tmp_path: Path) -> None:
    server, conn = served(answers, way)
    for end in (conn.close, conn.abort, conn.disconnect):
        assert conn.peername is conn.local_address is None
        answered(conn)
        if way == "unix":
            assert (conn.peername, conn.local_address) == (str(tmp_path / "socket"), "")
        else:
            assert conn.peername == ("127.0.0.1", server.port)
            assert conn.local_address == server.peers[-1].sock.getpeername()
        end()
        conn.close()


def test_addresses_of_ip_version_6() -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("there is no ::1 here")
    with listener, HTTPConnection("::1", listener.getsockname()[1], timeout=20) as conn:
        conn.connect()
        with listener.accept()[0] as sock:
            assert (conn.peername, conn.local_address) == (sock.getsockname(), sock.getpeername())


# -- limits --


@pytest.mark.parametrize("name", ["timeout", "connect_timeout", "deadline", "expect_timeout"])
def test_seconds(name: str) -> None:
    """0 is no limit, but for expect_timeout, where it is no wait."""
    none = 0 if name == "expect_timeout" else None
    default = 1.0 if name == "expect_timeout" else None
    assert getattr(HTTPConnection("h"), name) == default
    for given, kept in ((0, none), (0.0, none), (None, None), (5, 5), (0.25, 0.25), (float("inf"), float("inf"))):
        conn = HTTPConnection("h", **{name: given})
        assert getattr(conn, name) == kept
        conn = HTTPConnection("h")
        setattr(conn, name, given)
        assert getattr(conn, name) == kept
    for bad in (-1, -0.001, float("nan"), float("-inf")):
        with pytest.raises(ValueError, match="limit"):
            HTTPConnection("h", **{name: bad})
        with pytest.raises(ValueError, match="limit"):
            setattr(conn, name, bad)
    with pytest.raises(TypeError):
        setattr(conn, name, "5")
    assert getattr(conn, name) == float("inf")


@pytest.mark.parametrize("seconds", [0, float("inf"), 1e9])
@pytest.mark.parametrize("way", BOTH)
def test_seconds_that_never_pass(way: str, seconds: float, served: Serve) -> None:
    _, conn = served(answers, way, timeout=seconds, connect_timeout=seconds, deadline=seconds, expect_timeout=seconds)
    conn.send_request("PUT", "/", body=[DATA] * 20)
    answered(conn, "/")


def test_the_size_limits_have_names() -> None:
    limits = Limits()
    assert limits.max_line_size == httpio.MAX_LINE_SIZE
    assert limits.max_field_size == httpio.MAX_HEADER_SIZE


# -- interim responses --

INTERIMS = (
    b"HTTP/1.1 103 Early\r\nX-N: 0\r\n\r\nHTTP/1.1 102 Busy\r\nX-N: 1\r\n\r\n" + response(b"zero"),
    response(b"one"),
    b"HTTP/1.1 199 Odd\r\nX-N: 2\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Go\r\nX-N: 3\r\n\r\n" + response(b""),
)
TOLD = ([0, 1], [], [2], [3])


def test_interim_responses_are_shown_once(served: Serve) -> None:
    """In order, and each before its final response is returned, wherever the bytes are cut."""
    whole = b"".join(INTERIMS)
    for cut in range(1, len(whole)):
        script = Wire(whole[:cut], whole[cut:], requests=4)
        seen: list[int] = []
        _, conn = served(script, on_informational=lambda interim, seen=seen: seen.append(int(interim.headers["X-N"])))
        for _ in INTERIMS:
            conn.send_request("GET", "/")
        expected: list[int] = []
        for told in TOLD:
            final = script.run(conn.co_read_response())
            expected += told
            assert final.status == 200
            assert [int(interim.headers["X-N"]) for interim in final.informational] == told
            assert seen[: len(expected)] == expected
            script.run(conn.co_readall())
        assert seen == expected
        conn.close()


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("way", BOTH)
def test_interim_responses_in_calls_that_block(way: str, many: bool, served: Serve) -> None:
    """Low level and in a pipeline; the function may be set and unset."""
    script = Wire(b"".join(INTERIMS), requests=4)
    _, conn = served(script, way)
    assert conn.on_informational is None
    seen: list[str] = []
    conn.on_informational = lambda interim: seen.append(f"{interim.status} to {interim.path}")
    if many:
        for number, answer in enumerate(conn.pipeline(["/0", "/1", "/2", "/3"], 4)):
            assert answer.path == f"/{number}"
    else:
        for number in range(4):
            conn.send_request("GET", f"/{number}")
        for number in range(4):
            assert conn.read_response().path == f"/{number}"
            conn.readall()
    assert seen == ["103 to /0", "102 to /0", "199 to /2", "100 to /3"]
    conn.close()
    conn.on_informational = None
    answered(conn)


class Mine(Exception):
    """What a function of the caller's raises."""


@pytest.mark.parametrize("way", BOTH)
def test_what_is_raised_for_an_interim_response(way: str, served: Serve) -> None:
    """It comes out of the call, and the responses stand."""

    def show(interim: Any) -> None:
        shown.append(interim.status)
        raise Mine

    shown: list[int] = []
    early = b"HTTP/1.1 103 Early\r\n\r\n"
    script = Wire(early + response(b"/1") + early, response(b"/2"), requests=2)
    _, conn = served(script, way, on_informational=show)
    conn.send_request("GET", "/1")
    conn.send_request("GET", "/2")
    script.next()
    for path in ("/1", "/2"):
        for _ in range(2):
            try:
                final = conn.read_response()
                break
            except Mine:
                pass
        assert (final.path, conn.readall(), len(final.informational)) == (path, path.encode(), 1)
    assert shown == [103, 103]


@pytest.mark.parametrize("way", BOTH)
def test_what_is_raised_while_a_body_goes_out(way: str, served: Serve) -> None:
    """It comes out of the call that sends; what that has begun is sent to its end all the same."""

    def show(interim: Any) -> None:
        raise Mine

    lengths = []

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 103 Early\r\n\r\n")
        lengths.append(len(peer.take(BIG)))
        peer.answer(b"/")
        answers(peer)

    _, conn = served(script, way, on_informational=show)
    with pytest.raises(Mine):
        conn.send_request("PUT", "/", body=bytes(BIG))
    answered(conn, "/")
    assert lengths == [BIG]


# -- the facade --


def test_names_to_test_the_name_service_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is assigned to the facade is what counts."""
    asked = []

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        asked.append((host, port))
        if host == "known.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        raise socket.gaierror(socket.EAI_NONAME, "no")

    assert httpio.DNS_TEST_HOSTNAMES == ()
    monkeypatch.setattr(httpio.dial.socket, "getaddrinfo", look_up)
    for names, kind in (
        ([("unknown.example", 80), ("known.example", 443)], HostnameNotResolvable),
        ([("unknown.example", 80)], DNSUnavailable),
        ((), HostnameNotResolvable),
    ):
        monkeypatch.setattr(httpio, "DNS_TEST_HOSTNAMES", names)
        assert httpio.DNS_TEST_HOSTNAMES is names
        asked.clear()
        with pytest.raises(kind):
            HTTPConnection("some.example").connect()
        assert asked == [("some.example", 80), *names]


def test_importing() -> None:
    """All of the names can be had by a star; asyncio is imported when it is asked for."""
    script = (
        "import sys; import httpio; assert 'asyncio' not in sys.modules;"
        "names = {}; exec('from httpio import *', names);"
        "assert set(httpio.__all__) <= set(names) and 'asyncio' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    with pytest.raises(AttributeError):
        httpio.nothing_of_that_name  # noqa: B018
