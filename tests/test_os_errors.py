"""Every error of the operating system, and of ssl, at every call on an established connection: what the caller gets."""

from __future__ import annotations

import itertools
import os
import select
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from conftest import Authority, Contexts
from exchange import (
    PATHS,
    WIRE,
    Way,
    by_discard,
    by_read,
    by_readall,
    by_readinto,
    by_steps,
    by_write_to,
    check,
    facts,
    paths,
    send_all,
)
from faults import (
    ENDS_OF_STREAM,
    HANDSHAKE,
    NAMES,
    RECEIVE,
    SEND,
    SPLICE,
    TLS_ERRORS,
    Faults,
    kind_of,
    make,
    works_anew,
)
from httpio import BodyFollowing, ConnectionClosed, HTTPConnection, HTTPError, InvalidResponse, Request, fetch
from servers.scripted import WAIT, Peer, Scripted, answers, server_context


def places(*names: str) -> Any:
    """Each error, or those of *names*, on each kind of connection that can raise it."""
    rows = [(False, name) for name in NAMES] + [(True, name) for name in (*NAMES, *TLS_ERRORS)]
    if names:
        rows = [row for row in rows if row[1] in names]
    return pytest.mark.parametrize(
        ("tls", "name"), rows, ids=[f"{'tls' if tls else 'tcp'}-{name}" for tls, name in rows]
    )


few = places("ECONNRESET", "ENOBUFS", "ETIMEDOUT", "bad record")


@pytest.fixture
def contexts(request: pytest.FixtureRequest, authority: Authority) -> Contexts:
    """The server's and the client's, where the test is *tls*."""
    if not request.getfixturevalue("tls"):
        return None, None
    return server_context(authority.chain, authority.key), ssl.create_default_context(cafile=authority.ca)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults(monkeypatch)


def large_answers(peer: Peer) -> None:
    """The number in the target says how large a body is to be."""
    while (seen := peer.request()) is not None:
        digits = seen.target[1:]
        peer.answer(bytes(int(digits)) if digits.isdigit() else seen.target.encode())


# -- receiving --

STEP = 13
"""Bytes of one TLS record."""


def exchanges(peer: Peer) -> None:
    """The answers of the exchange come together, after its last request; any other request has its target for an
    answer. It closes only after the client."""
    while (seen := peer.request()) is not None:
        if seen.target == PATHS[-1]:
            for start in range(0, len(WIRE), STEP):
                peer.send(WIRE[start : start + STEP])
        elif seen.target not in PATHS:
            peer.answer(seen.target.encode())


def fail_receiving(name: str, way: Way, contexts: Contexts, faults: Faults) -> None:
    """The exchange again and again, so that a receive fails when more and more has been received."""
    clean = name == "SSLZeroReturnError"
    with Scripted(exchanges, contexts[0]) as server:
        for cut in (*range(0, len(WIRE), STEP), len(WIRE)):
            with HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=WAIT) as conn:
                send_all(conn)
                error = make(name)
                faults.arm(RECEIVE, cut, error)
                met = check(conn, way, cut, clean, kind_of(error))
                assert faults.struck
                if met is not None and name not in ENDS_OF_STREAM:
                    assert met.__cause__ is error
                works_anew(conn, faults)


@places()
def test_receiving(tls: bool, name: str, contexts: Contexts, faults: Faults) -> None:
    fail_receiving(name, by_readall, contexts, faults)


@pytest.mark.parametrize("way", [by_read, by_readinto, by_write_to, by_steps, by_discard])
@places("ECONNRESET", "bad record")
def test_other_ways_of_receiving(tls: bool, name: str, way: Way, contexts: Contexts, faults: Faults) -> None:
    fail_receiving(name, way, contexts, faults)


@pytest.mark.skipif(not hasattr(os, "splice"), reason="needs splice(2)")
@pytest.mark.parametrize("name", ["ECONNRESET", "ENOBUFS", "ETIMEDOUT"])
def test_receiving_inside_the_kernel(name: str, faults: Faults, tmp_path: Path) -> None:
    size = 1 << 20
    with Scripted(large_answers) as server:
        for number in range(4):
            with (
                HTTPConnection("127.0.0.1", server.port, timeout=WAIT) as conn,
                (tmp_path / "out").open("wb") as file,
            ):
                conn.send_request("GET", f"/{size}")
                conn.read_response()
                error = make(name)
                faults.arm(SPLICE, number, error)
                with pytest.raises(HTTPError) as caught:
                    conn.write_to(file)
                assert faults.struck
                assert type(caught.value) is kind_of(error)
                assert caught.value.__cause__ is error
                assert (caught.value.where, caught.value.expected) == ("in body", size)
                assert caught.value.received == file.tell()
                assert number == 0 or file.tell() > 0
                assert facts(caught.value) == [(f"/{size}", "answering", False)]
                assert paths(conn) == (f"/{size}",)
                for call in (conn.read, conn.read_response, lambda: conn.send_request("GET", "/never")):
                    with pytest.raises(ConnectionClosed):
                        call()
                works_anew(conn, faults)


@pytest.mark.skipif(not hasattr(os, "splice"), reason="needs splice(2)")
def test_no_descriptor_for_a_pipe(faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the content goes another way."""

    def pipe() -> tuple[int, int]:
        raise make("EMFILE")

    monkeypatch.setattr(os, "pipe", pipe)
    monkeypatch.setattr(os, "pipe2", lambda flags: pipe())
    with (
        Scripted(large_answers) as server,
        HTTPConnection("127.0.0.1", server.port, timeout=WAIT) as conn,
        (tmp_path / "out").open("wb") as file,
    ):
        conn.send_request("GET", "/300000")
        conn.read_response()
        assert conn.write_to(file) == 300000
        works_anew(conn, faults)


@few
def test_raw_bytes(tls: bool, name: str, contexts: Contexts, faults: Faults) -> None:
    """What is here comes first, after an error as well."""

    def script(peer: Peer) -> None:
        assert peer.request() is not None
        peer.send(b"nonsense") if peer.number == 0 else peer.answer(b"/anew")
        peer.drain()

    error = make(name)
    with (
        Scripted(script, contexts[0]) as server,
        HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=WAIT) as conn,
    ):
        conn.send_request("GET", "/0")
        with pytest.raises(InvalidResponse):
            conn.read_response()
        faults.arm(RECEIVE, 0, error)
        assert conn.read_raw(5) == b"nonse"
        assert conn.read_raw(5) == b"nse"
        with pytest.raises(HTTPError) as caught:
            conn.read_raw(5)
        assert type(caught.value) is kind_of(error)
        assert caught.value.__cause__ is error
        assert paths(conn) == ("/0",)
        works_anew(conn, faults)


# -- sending --


def part(size: int) -> Iterator[bytes]:
    """A body in pieces."""
    yield from (b"abc", bytes(size - 3))


LONG = 100_000
REQUESTS: dict[str, Callable[[HTTPConnection, Path], None]] = {
    "target": lambda conn, path: conn.send_request("GET", "/1"),
    "fields": lambda conn, path: conn.send_request("DELETE", "/1", {"X-Field": "value"}),
    "bytes": lambda conn, path: conn.send_request("PUT", "/1", body=b"body"),
    "bytes in records": lambda conn, path: conn.send_request("POST", "/1", body=bytes(50_000)),
    "large bytes": lambda conn, path: conn.send_request("PUT", "/1", body=bytes(LONG)),
    "file": lambda conn, path: send_file(conn, path),
    "sendfile": lambda conn, path: send_file(conn, path, ahead=True),
    "iterable": lambda conn, path: conn.send_request("PUT", "/1", body=part(LONG)),
    "written": lambda conn, path: write(conn, BodyFollowing(LONG)),
    "written in chunks": lambda conn, path: write(conn, BodyFollowing()),
    "written in part": lambda conn, path: write_some(conn),
}


def send_file(conn: HTTPConnection, path: Path, ahead: bool = False) -> None:
    with path.open("rb") as file:
        conn.send_request("PUT", "/1", body=BodyFollowing(LONG) if ahead else file)
        if ahead:
            conn.sendfile(file)


def write(conn: HTTPConnection, body: BodyFollowing) -> None:
    conn.send_request("PUT", "/1", body=body)
    for piece in part(LONG):
        conn.write(piece)
    if body.length is None:
        conn.end_body()


def write_some(conn: HTTPConnection) -> None:
    conn.send_request("PUT", "/1", body=BodyFollowing(LONG))
    left = LONG
    while left:
        taken = conn.write(bytes(min(left, 30_000)), partial=True)
        left -= taken
        if not taken:
            conn.flush()


@pytest.mark.parametrize("sends", ["target", "bytes in records"])
@places()
def test_sending(tls: bool, name: str, sends: str, contexts: Contexts, faults: Faults, tmp_path: Path) -> None:
    fail_sending(name, sends, contexts, faults, tmp_path)


@pytest.mark.parametrize("sends", [sends for sends in REQUESTS if sends not in ("target", "bytes in records")])
@few
def test_other_ways_of_sending(
    tls: bool, name: str, sends: str, contexts: Contexts, faults: Faults, tmp_path: Path
) -> None:
    fail_sending(name, sends, contexts, faults, tmp_path)


def fail_sending(name: str, sends: str, contexts: Contexts, faults: Faults, folder: Path) -> None:
    """The second of two requests meets the error, at each of its sends; the answer to the first has been received by
    the system."""
    path = folder / "body"
    path.write_bytes(bytes(LONG))
    with Scripted(answers, contexts[0]) as server:
        for number in itertools.count():
            with HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=WAIT) as conn:
                conn.send_request("GET", "/0")
                assert select.select([conn], [], [], WAIT)[0]
                error = make(name)
                faults.arm(SEND, number, error)
                try:
                    REQUESTS[sends](conn, path)
                except HTTPError as met:
                    check_sending(conn, met, error, faults)
                else:
                    assert not faults.struck
                    assert number > 0
                    break
                works_anew(conn, faults)


def check_sending(conn: HTTPConnection, met: HTTPError, error: OSError, faults: Faults) -> None:
    assert faults.struck
    assert type(met) is kind_of(error)
    assert met.__cause__ is error
    assert met.where == "sending"
    first, second = met.outstanding
    assert (first.request.path, second.request.path) == ("/0", "/1")
    # While it sends the link may have seen the first answer come.
    assert (first.state, first.safe) in (("sent", True), ("answering", False))
    request = second.request
    if faults.sent:
        assert (second.state, second.safe) == ("sent", request.repeatable)
    else:
        assert (second.state, second.safe) == ("unsent", request.replayable)
    assert paths(conn) == ("/0", "/1")
    with pytest.raises(ConnectionClosed):
        conn.send_request("GET", "/never")
    response = conn.read_response()
    assert (response.path, conn.readall()) == ("/0", b"/0")
    # Nothing can come for what was not sent whole, and there is no waiting for it.
    with pytest.raises(HTTPError) as caught:
        conn.read_response()
    assert type(caught.value) is ConnectionClosed or caught.value.__cause__ is error
    assert [fact[0] for fact in facts(caught.value)] == ["/1"]
    assert paths(conn) == ("/1",)


# -- what is no failure --

WOULD_BLOCK: dict[tuple[bool, str], Callable[[], OSError]] = {
    (False, SEND): lambda: make("EAGAIN"),
    (False, RECEIVE): lambda: make("EAGAIN"),
    (False, SPLICE): lambda: make("EAGAIN"),
    (True, SEND): lambda: ssl.SSLWantWriteError(ssl.SSL_ERROR_WANT_WRITE, "would block"),
    (True, RECEIVE): lambda: ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "would block"),
    (True, HANDSHAKE): lambda: ssl.SSLWantWriteError(ssl.SSL_ERROR_WANT_WRITE, "would block"),
}


@pytest.mark.parametrize(("tls", "kind"), [key for key in WOULD_BLOCK if key[1] != SPLICE or hasattr(os, "splice")])
def test_a_call_that_would_block(tls: bool, kind: str, contexts: Contexts, faults: Faults, tmp_path: Path) -> None:
    """It is made again."""
    path = tmp_path / "body"
    path.write_bytes(bytes(LONG))
    with Scripted(large_answers, contexts[0]) as server:
        for number in range(0, 400, 13) if kind == RECEIVE else itertools.count():
            faults.arm(kind, number, WOULD_BLOCK[tls, kind]())
            with HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=WAIT) as conn:
                for sends in REQUESTS.values():
                    sends(conn, path)
                    assert conn.read_response().headers["Content-Length"] == "1"
                    assert conn.readall() == b"\0"
                conn.send_request("GET", "/200000")
                with (tmp_path / "out").open("wb") as file:
                    conn.read_response()
                    assert conn.write_to(file) == 200000
            if not faults.struck:
                break
        assert number > 0


# -- many requests --


def seen_in_time(server: Scripted, begun: float) -> list[str]:
    """The targets of all requests; nobody has waited for what was not sent."""
    assert monotonic() - begun < PATIENCE
    server.settle(server.connections, last=False)
    return server.targets()


PATIENCE = WAIT


@pytest.mark.parametrize("kind", [SEND, RECEIVE])
@few
def test_a_pipeline_goes_on(tls: bool, name: str, kind: str, contexts: Contexts, faults: Faults) -> None:
    """On one more connection, with what was not answered."""
    for number in itertools.count(0, STEP if kind == RECEIVE else 1):
        with Scripted(answers, contexts[0]) as server:
            requests = ["/0", Request("PUT", "/1", body=bytes(50_000)), Request("DELETE", "/2")]
            begun = monotonic()
            with HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=PATIENCE) as conn:
                faults.arm(kind, number, make(name))
                bodies = [(response.path, response.body) for response in conn.pipeline(requests, depth=3)]
                assert bodies == [(path, path.encode()) for path in PATHS]
                struck = faults.struck
                works_anew(conn, faults)
            seen = seen_in_time(server, begun)
        assert server.connections == 2 + struck
        assert all(seen.count(path) <= 1 + struck for path in PATHS)
        if not struck:
            break
    assert number > 0


@pytest.mark.parametrize("kind", [SEND, RECEIVE])
@few
def test_a_pipeline_does_not_repeat_a_post(tls: bool, name: str, kind: str, contexts: Contexts, faults: Faults) -> None:
    """But where nothing of it was sent."""
    failed = 0
    for number in itertools.count(0, STEP if kind == RECEIVE else 1):
        with Scripted(answers, contexts[0]) as server:
            requests = ["/0", Request("POST", "/1", body=bytes(50_000 if tls else LONG)), "/2"]
            error = make(name)
            bodies: list[bytes | None] = []
            begun = monotonic()
            with HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=PATIENCE) as conn:
                faults.arm(kind, number, error)
                try:
                    bodies.extend(response.body for response in conn.pipeline(requests, depth=3))
                except HTTPError as met:
                    failed += 1
                    check_post(met, error, kind)
                    assert bodies == [b"/0"]
                else:
                    assert bodies == [path.encode() for path in PATHS]
                struck = faults.struck
                works_anew(conn, faults)
            assert seen_in_time(server, begun).count("/1") == 1
        if not struck:
            break
    assert failed


def check_post(met: HTTPError, error: OSError, kind: str) -> None:
    assert type(met) is kind_of(error)
    assert met.__cause__ is error
    (fact,) = met.outstanding
    assert fact.request.path == "/1"
    assert fact.state in ("sent", "answering")
    assert not fact.safe
    assert kind == RECEIVE or met.where == "sending"


@pytest.mark.parametrize("kind", [SEND, RECEIVE])
@few
def test_fetch_goes_on(tls: bool, name: str, kind: str, contexts: Contexts, faults: Faults) -> None:
    for number in itertools.count(0, STEP if kind == RECEIVE else 1):
        with Scripted(answers, contexts[0]) as server:
            begun = monotonic()
            faults.arm(kind, number, make(name))
            results = list(fetch(urls(server, tls), ssl_context=contexts[1], timeout=PATIENCE))
            assert [(result.ok, result.content) for result in results] == [(True, path.encode()) for path in PATHS]
            seen_in_time(server, begun)
        assert server.connections == 1 + faults.struck
        if not faults.struck:
            break
    assert number > 0


def urls(server: Scripted, tls: bool) -> list[str]:
    return [f"http{'s' if tls else ''}://127.0.0.1:{server.port}{path}" for path in PATHS]


@pytest.mark.parametrize("kind", [SEND, RECEIVE])
@places()
def test_fetch_says_why(tls: bool, name: str, kind: str, contexts: Contexts, faults: Faults) -> None:
    """Where it fails again and again, the result has the error."""
    error = make(name)
    with Scripted(answers, contexts[0]) as server:
        begun = monotonic()
        faults.arm(kind, 0, error, again=True)
        results = list(fetch(urls(server, tls), ssl_context=contexts[1], timeout=PATIENCE))
        faults.disarm()
        for result in results:
            assert type(result.error) is kind_of(error)
            if kind == SEND or name not in ENDS_OF_STREAM:
                assert result.error.__cause__ is error
            # What TLS sends of its own accord is received before the request goes out.
            assert result.error.where in (("sending",) if kind == SEND else ("awaiting response", "sending"))
            assert (result.status, result.content) == (None, None)
            assert result.attempts <= 2
        seen_in_time(server, begun)
        assert server.connections <= 2 * len(PATHS)
        assert all(result.ok for result in fetch(urls(server, tls), ssl_context=contexts[1], timeout=PATIENCE))
