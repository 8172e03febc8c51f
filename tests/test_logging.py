"""What is logged: the tree of loggers, its records, what must never be in them, and that it costs nothing when off."""

from __future__ import annotations

import io
import logging
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import httpio
from conftest import Authority
from httpio import BodyFollowing, ConnectionClosed, HTTPConnection, HTTPError, InvalidResponse, Request, fetch
from servers.scripted import Peer, Scripted, answers, server_context

CONNECTION, PIPELINE, DIAL, TRACE = "httpio.connection", "httpio.pipeline", "httpio.dial", "httpio.trace"
EXPECT = {"Expect": "100-continue"}
BIG = 24 << 20
"""More than the sockets of two ends can hold."""

Log = Callable[..., list[str]]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Log:
    """All is logged; a function that gives the lines of one logger, of one level, so far."""
    caplog.set_level(logging.DEBUG, "httpio")

    def lines(name: str, level: int = logging.DEBUG) -> list[str]:
        return [one.getMessage() for one in caplog.records if (one.name, one.levelno) == (name, level)]

    return lines


def connect(server: Scripted, context: ssl.SSLContext | None = None, **options: Any) -> HTTPConnection:
    return HTTPConnection("127.0.0.1", server.port, context, **{"timeout": 20, **options})


# -- the tree --


def test_the_tree() -> None:
    assert httpio.log is logging.getLogger("httpio")
    assert any(isinstance(handler, logging.NullHandler) for handler in httpio.log.handlers)
    for name in (CONNECTION, PIPELINE, DIAL, TRACE):
        logger = logging.getLogger(name)
        assert logger.parent is httpio.log
        assert (logger.level, logger.propagate, logger.handlers) == (logging.NOTSET, True, [])
    assert (httpio.log.level, httpio.log.propagate) == (logging.NOTSET, True)


def plain_run(server: Scripted, context: ssl.SSLContext | None) -> None:
    """Nothing unusual."""
    with connect(server, context) as conn:
        for number in range(3):
            conn.send_request("GET", f"/{number}")
            assert conn.read_response().status == 200
            conn.discard()
        conn.send_request("PUT", "/", body=[b"abc"], trailers={"X": "1"})
        conn.send_request("PUT", "/", body=BodyFollowing(3))
        conn.write(b"abc")
        for _ in range(2):
            conn.read_response()
            conn.discard()
        assert len(list(conn.pipeline(f"/{number}" for number in range(100)))) == 100
    if context is None:
        assert len(list(fetch(f"{server.url}/{number}" for number in range(100)))) == 100


@pytest.mark.parametrize("tls", [False, True])
def test_a_plain_run_is_worth_no_more_than_debug(
    tls: bool, authority: Authority, caplog: pytest.LogCaptureFixture, log: Log
) -> None:
    server_side = server_context(authority.chain, authority.key) if tls else None
    context = ssl.create_default_context(cafile=authority.ca) if tls else None
    with Scripted(answers, server_side) as server:
        plain_run(server, context)
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}
    assert {record.name for record in caplog.records} == {CONNECTION, PIPELINE, DIAL}
    assert len(caplog.records) < 60  # no record for each request


# -- records --


def test_connecting_and_closing(log: Log) -> None:
    with Scripted(answers) as server:
        conn = connect(server)
        assert log(CONNECTION) == []
        for connections in (1, 2):
            conn.connect()
            conn.close()
            conn.close()
            lines = log(CONNECTION)
            assert len(lines) == 2 * connections
            opened, closed = lines[-2:]
            number = int(opened.split()[1].rstrip(":"))
            place = f"127.0.0.1 port {server.port}"
            assert opened == f"connection {number}: connected to {place} at ('127.0.0.1', {server.port})"
            assert closed == f"connection {number}: closed"
        numbers = [line.split()[1] for line in log(CONNECTION)]
        assert numbers[0] == numbers[1] != numbers[2] == numbers[3]
        assert any(f"127.0.0.1 port {server.port}" in line for line in log(DIAL))
    assert log(CONNECTION, logging.INFO) == []


def test_what_dial_says(log: Log, monkeypatch: pytest.MonkeyPatch, authority: Authority) -> None:
    with Scripted(answers, server_context(authority.chain, authority.key)) as server:
        address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", server.port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [address])
        context = ssl.create_default_context(cafile=authority.ca)
        with HTTPConnection("localhost", server.port, context, timeout=20) as conn:
            conn.connect()
    text = "\n".join(log(DIAL))
    for word in ("looking up 'localhost'", "'localhost' has 1 addresses", f"127.0.0.1 port {server.port}", "TLS"):
        assert word in text
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            HTTPConnection("127.0.0.1", closed.getsockname()[1]).connect()
        assert f"no connection to 127.0.0.1 port {closed.getsockname()[1]}" in log(DIAL)[-1]


@pytest.mark.parametrize("end", ["finish", "reset"])
def test_a_loss(end: str, log: Log) -> None:
    def script(peer: Peer) -> None:
        assert peer.request() is not None
        assert peer.request() is not None
        getattr(peer, end)()

    with Scripted(script) as server, connect(server) as conn:
        conn.send_request("GET", "/1")
        conn.send_request("GET", "/2")
        with pytest.raises(ConnectionClosed):
            conn.read_response()
        [line] = log(CONNECTION, logging.INFO)
        assert line.startswith("connection ")
        assert f"127.0.0.1 port {server.port}" in line
        assert "2 requests outstanding" in line
        with pytest.raises(ConnectionClosed):
            conn.read_response()
        assert len(log(CONNECTION, logging.INFO)) == 1  # once for each connection


@pytest.mark.parametrize("body", [b"abc", BodyFollowing(3)], ids=["bytes", "following"])
def test_an_assumed_100(body: Any, log: Log) -> None:
    with Scripted(answers) as server, connect(server, expect_timeout=0) as conn:
        conn.send_request("PUT", "/", body=body, expect100=True)
        if isinstance(body, BodyFollowing):
            assert conn.read_response().reason == "assumed"
            conn.write(b"abc")
        assert conn.read_response().status == 200
        lines = [line for line in log(CONNECTION) if "100 (Continue)" in line]  # a port may have a 100, too
        assert len(lines) == 1
        assert lines[0].startswith("connection ")


def test_a_100_that_came_is_not_worth_a_line(log: Log) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert peer.take(3) == b"abc"
        peer.answer()

    with Scripted(script) as server, connect(server, expect_timeout=None) as conn:
        conn.send_request("PUT", "/", body=b"abc", expect100=True)
        assert conn.read_response().status == 200
        assert [line for line in log(CONNECTION) if "connected" not in line] == []


def test_an_early_answer(log: Log) -> None:
    over = threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        peer.answer(status="413 Too Large")
        assert over.wait(20)  # and nothing more is read

    with Scripted(script, small=True) as server, connect(server) as conn:
        conn.send_request("PUT", "/", body=bytes(BIG))
        assert conn.read_response().request_complete is False
        [line] = [line for line in log(CONNECTION) if "connected" not in line]
        assert "413" in line
        assert log(CONNECTION, logging.INFO) == []
        over.set()


def test_an_early_answer_that_changes_nothing_is_not_worth_a_line(log: Log) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.answer()
        assert peer.take(3) == b"abc"

    with Scripted(script) as server, connect(server) as conn:
        conn.send_request("PUT", "/", body=BodyFollowing(3))
        assert conn.read_response().request_complete
        conn.write(b"abc")
        assert [line for line in log(CONNECTION) if "connected" not in line] == []


def test_a_refused_expect(log: Log) -> None:
    """It is news of the peer: said once."""

    def script(peer: Peer) -> None:
        while (seen := peer.head()) is not None:
            if seen.field("Expect") is not None:
                peer.answer(status="417 No")
                return peer.drain()
            assert peer.take(3) == b"abc"
            peer.answer()

    with Scripted(script) as server, connect(server) as conn:
        statuses = [one.status for one in conn.pipeline(Request("PUT", "/", EXPECT, b"abc") for _ in range(3))]
        assert statuses == [200] * 3
        [line] = log(PIPELINE, logging.INFO)
        assert "417" in line
        assert f"127.0.0.1 port {server.port}" in line


def test_the_depth_of_a_pipeline(log: Log) -> None:
    """A line for each change."""
    with Scripted(answers) as server, connect(server) as conn:
        assert len(list(conn.pipeline([f"/{number}" for number in range(40)]))) == 40
        lines = log(PIPELINE)
        assert [str(depth) in line for depth, line in zip((2, 4, 8, 16, 32), lines, strict=True)] == [True] * 5
        list(conn.pipeline([f"/{number}" for number in range(40)], 8))
        assert len(log(PIPELINE)) == 5


@pytest.mark.parametrize("end", ["unsaid", "said"])
def test_a_replaced_connection(end: str, log: Log) -> None:
    """With the number of the requests that are sent again."""

    def script(peer: Peer) -> None:
        seen = peer.request()
        if seen is None:
            return
        if peer.number == 0:  # the others have come, too: their answers will not
            while peer.server.targets() != ["/0", "/1", "/2", "/3"] and peer.head() is not None:
                pass
            peer.answer(fields="Connection: close\r\n" if end == "said" else "")
            return peer.finish()
        peer.answer()
        answers(peer)

    with Scripted(script) as server, connect(server) as conn:
        assert [response.status for response in conn.pipeline(["/0", "/1", "/2", "/3"], 4)] == [200] * 4
        [line] = log(PIPELINE, logging.INFO)
        assert f"127.0.0.1 port {server.port}" in line
        assert "3 requests" in line
        assert len(log(CONNECTION, logging.INFO)) == (1 if end == "unsaid" else 0)


def test_a_connection_that_says_that_it_ends_is_no_news(log: Log) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.answer(fields="Connection: close\r\n")

    with Scripted(script) as server, connect(server) as conn:
        assert [response.status for response in conn.pipeline(["/0", "/1", "/2"], 1)] == [200] * 3
        assert server.connections == 3
    assert log(PIPELINE, logging.INFO) == log(CONNECTION, logging.INFO) == []


# -- secrets --

SECRET = "hunter2"


def leaking(peer: Peer) -> None:
    """Answers as the target says; and every answer is full of secrets."""
    fields = f"Set-Cookie: {SECRET}\r\nX-{SECRET}: 1\r\nKeep-Alive: timeout=100\r\n"
    content = SECRET.encode() * 100
    while (seen := peer.head()) is not None:
        kind = seen.target.partition("?")[0].rpartition("/")[2]
        asks = seen.field("Expect") is not None
        if (kind == "417" and asks) or (kind == "413" and seen.method == "POST"):
            peer.answer(content, f"{kind} {SECRET}", fields + ("Connection: close\r\n" if kind == "413" else ""))
            return peer.drain()
        if asks and kind != "assumed":
            peer.send(f"HTTP/1.1 100 Continue\r\nX: {SECRET}\r\n\r\n".encode())
        if seen.field("Transfer-Encoding") is not None:
            peer.chunks()
        else:
            peer.take(int(seen.field("Content-Length") or 0))
        if kind == "cut":
            peer.send(f"HTTP/1.1 200 OK\r\n{fields}Content-Length: 1000\r\n\r\n".encode() + content[:50])
            return peer.reset()
        if kind == "lost":
            return peer.finish()
        if kind == "invalid":
            peer.send(f"HTTP/1.1 200 OK\r\nCookie {SECRET}\r\n\r\n".encode())
        elif kind == "unframed":
            peer.send(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {SECRET}\r\n\r\n".encode())
        elif kind == "unasked":
            peer.answer(content, fields=fields)
            peer.answer(content, fields=fields)
        elif kind == "closes":
            peer.answer(content, fields=fields + "Connection: close\r\n")
            return
        else:
            peer.send(f"HTTP/1.1 103 {SECRET}\r\nLink: {SECRET}\r\n\r\n".encode())
            peer.answer(content, f"200 {SECRET}", fields)


def low_level(server: Scripted, kind: str, context: ssl.SSLContext | None) -> None:
    """Every way to bring a body."""
    headers = {"Authorization": SECRET, f"X-{SECRET}": SECRET}
    content = SECRET.encode() * 1000
    path = f"/{kind}?key={SECRET}"
    large = bytes(BIG) if kind == "413" else content
    for body in (None, large, io.BytesIO(content), iter([content]), BodyFollowing(len(content))):
        written = isinstance(body, BodyFollowing)
        expect = kind in ASKING and not written
        trailers = {"X": SECRET} if written else None
        with connect(server, context, expect_timeout=0 if kind == "assumed" else 20) as conn, suppress(HTTPError):
            conn.send_request("POST", path, headers, body, expect100=expect, trailers=trailers)
            if written:
                conn.write(content)
                conn.end_body()
            conn.read_response()
            conn.readall()
            conn.send_request("GET", path, headers)
            conn.read_response()


def in_pipelines(server: Scripted, kind: str, context: ssl.SSLContext | None) -> None:
    def requests(base: str) -> list[str | Request]:
        plain = [f"{base}/{number}/200?key={SECRET}" for number in range(8)]
        headers = {"Cookie": SECRET, **(EXPECT if kind in ASKING else {})}
        path = f"{base}/{kind}?key={SECRET}"
        return [*plain, path, *plain, Request("POST", path, headers, SECRET.encode(), tag=SECRET), *plain]

    with connect(server, context, expect_timeout=0 if kind == "assumed" else 20) as conn, suppress(HTTPError):
        list(conn.pipeline(requests(""), body_limit=100))
    if context is None and kind != "assumed":
        list(fetch(requests(server.url)))


ASKING = ("100", "417", "assumed")
KINDS = ["200", "100", "417", "assumed", "413", "cut", "lost", "invalid", "unframed", "unasked", "closes"]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("run", [low_level, in_pipelines])
def test_no_secret_is_ever_logged(
    run: Callable[[Scripted, str, ssl.SSLContext | None], None],
    tls: bool,
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
    log: Log,
) -> None:
    """Neither fields, nor content, nor queries, whatever happens."""
    server_side = server_context(authority.chain, authority.key) if tls else None
    context = ssl.create_default_context(cafile=authority.ca) if tls else None
    with Scripted(leaking, server_side) as server:
        for kind in KINDS:
            run(server, kind, context)
        assert any(SECRET in seen.target for seen in server.seen)
    assert log(CONNECTION, logging.INFO)
    formatter = logging.Formatter("%(name)s %(levelname)s %(message)s")
    for record in caplog.records:
        assert record.name in (CONNECTION, PIPELINE, DIAL)
        for text in (formatter.format(record), repr(record.args), record.msg):
            assert SECRET not in text
            assert "key=" not in text


# -- what it costs --


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls that log something while all of it is off."""
    made: list[str] = []
    for name in ("debug", "info", "warning", "error", "exception", "critical", "log", "_log"):

        def call(self: logging.Logger, *args: Any, name: str = name, **kwargs: Any) -> None:
            made.append(f"{self.name}.{name}")

        monkeypatch.setattr(logging.Logger, name, call)
    return made


@pytest.mark.parametrize("way", ["calls", "pipelined", "pipeline", "fetch"])
def test_nothing_is_called_when_it_is_off(
    way: str, calls: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = 0
    real = logging.Logger.isEnabledFor

    def is_enabled_for(self: logging.Logger, level: int) -> bool:
        nonlocal asked
        asked += 1
        return real(self, level)

    monkeypatch.setattr(logging.Logger, "isEnabledFor", is_enabled_for)
    caplog.set_level(logging.WARNING, "httpio")
    paths = [f"/{number}" for number in range(1000)]
    with Scripted(answers) as server, connect(server) as conn:
        if way == "pipeline":
            assert len(list(conn.pipeline(paths))) == 1000
        elif way == "fetch":
            assert len(list(fetch(server.url + path for path in paths))) == 1000
        elif way == "calls":
            for path in paths:
                conn.send_request("GET", path)
                assert conn.read_response().status == 200
                conn.readall()
        else:
            for some in range(0, 1000, 100):
                for path in paths[some : some + 100]:
                    conn.send_request("GET", path)
                for path in paths[some : some + 100]:
                    assert conn.read_response().path == path
                    conn.discard()
        conn.close()
    assert calls == []
    assert asked < 50  # when it connects and closes, and as the depth grows


def test_it_is_off_unless_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    """And nothing is written anywhere."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 2x0 OK\r\n\r\n")

    assert not any(logging.getLogger(name).isEnabledFor(logging.INFO) for name in (CONNECTION, PIPELINE, DIAL))
    with Scripted(script) as server, connect(server) as conn, pytest.raises(InvalidResponse):
        list(conn.pipeline(["/"]))
    assert capfd.readouterr() == ("", "")
