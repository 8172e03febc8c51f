"""What is given by mistake is refused at once, in words that say what is wanted."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

import httpio
from httpio import AsyncHTTPConnection, ConnectionTimedOut, HTTPConnection, InvalidURL, StateError, afetch, fetch
from servers.scripted import Peer, Scripted


def conn_of(**options: Any) -> HTTPConnection:
    return HTTPConnection("127.0.0.1", 1, **options)


def drain(results: Any) -> None:
    """All of what `fetch` or `afetch` gives."""

    async def go() -> None:
        async for _ in results:
            pass

    if hasattr(results, "__anext__"):
        asyncio.run(go())
    else:
        list(results)


@pytest.mark.parametrize("one", ["http://127.0.0.1:1/", b"/"])
@pytest.mark.parametrize("call", [fetch, afetch, conn_of().pipeline, AsyncHTTPConnection("127.0.0.1", 1).pipeline])
def test_one_item_is_no_list(call: Any, one: Any) -> None:
    with pytest.raises(TypeError, match="put it into a list"):
        call(one)


@pytest.mark.parametrize("name", ["timeout", "connect_timeout", "deadline", "expect_timeout"])
@pytest.mark.parametrize("kind", [HTTPConnection, AsyncHTTPConnection])
def test_seconds_are_a_number(kind: Any, name: str) -> None:
    with pytest.raises(TypeError, match="number of seconds or None, not str"):
        kind("127.0.0.1", 1, **{name: "3"})


@pytest.mark.parametrize("context", [True, False, "certificates.pem", ssl.PROTOCOL_TLS_CLIENT])
def test_what_is_no_context(context: Any) -> None:
    with pytest.raises(TypeError, match=r"must be an ssl\.SSLContext or None"):
        conn_of(ssl_context=context)


@pytest.mark.parametrize("address", ["127.0.0.1", ("127.0.0.1",), (None, 0), 8080])
def test_what_is_no_source_address(address: Any) -> None:
    with pytest.raises(TypeError, match="a pair of an IP address and a port"):
        conn_of(source_address=address)


def test_a_source_address_is_no_name() -> None:
    """To bind it would look it up, in whoever's thread drives the connection."""
    with pytest.raises(ValueError, match="not a name"):
        conn_of(source_address=("localhost", 0))
    for host in ("", "127.0.0.1", "::1", "fe80::1%lo"):
        conn_of(source_address=(host, 0))


def test_the_context_stays() -> None:
    """Another would have no effect on the connection that is there."""
    with pytest.raises(AttributeError):
        conn_of().ssl_context = httpio.default_context()  # type: ignore[misc]


def test_a_host_is_no_url() -> None:
    with pytest.raises(InvalidURL, match="not a URL"):
        HTTPConnection("http://127.0.0.1/")
    with pytest.raises(InvalidURL, match="a port is given by itself"):
        HTTPConnection("localhost:80")


def silence(peer: Peer) -> None:
    peer.request()
    peer.drain()


@pytest.mark.parametrize(
    ("limit", "words"),
    [("timeout", r"nothing has moved for 0\.05 seconds"), ("deadline", r"longer than its deadline, 0\.05 seconds")],
)
def test_a_time_out_says_which_limit_it_was(limit: str, words: str) -> None:
    with Scripted(silence) as server, HTTPConnection("127.0.0.1", server.port) as conn:
        conn.connect()
        setattr(conn, limit, 0.05)
        conn.send_request("GET", "/")
        with pytest.raises(ConnectionTimedOut, match=words):
            conn.read_response()


def test_a_deadline_that_was_taken_back_after_the_request() -> None:
    """It holds for the exchange that has begun."""
    with Scripted(silence) as server, HTTPConnection("127.0.0.1", server.port, deadline=0.05) as conn:
        conn.send_request("GET", "/")
        conn.deadline = None
        with pytest.raises(ConnectionTimedOut, match="longer than its deadline"):
            conn.read_response()


def test_a_write_after_a_time_out_does_not_point_to_an_answer() -> None:
    with Scripted(silence) as server, HTTPConnection("127.0.0.1", server.port) as conn:
        conn.send_request("PUT", "/", body=httpio.BodyFollowing(3))
        conn.timeout = 0.05
        with pytest.raises(ConnectionTimedOut):
            conn.read_response()
        with pytest.raises(httpio.ConnectionClosed, match="the connection has ended"):
            conn.write(b"abc")


def test_a_call_in_another_loop_while_one_waits() -> None:
    """Also where it would not have to wait itself; and nothing of it is sent."""

    def script(peer: Peer) -> None:
        assert peer.request() is not None
        assert peer.request() is None

    with Scripted(script) as server:

        async def wait(conn: AsyncHTTPConnection) -> None:
            await conn.send_request("GET", "/1")
            reading = asyncio.create_task(conn.read_response())
            await asyncio.sleep(0)
            await asyncio.to_thread(asyncio.run, other(conn))
            conn.close()
            with pytest.raises(httpio.ConnectionClosed):
                await reading

        async def other(conn: AsyncHTTPConnection) -> None:
            with pytest.raises(StateError, match="another event loop"):
                await conn.send_request("GET", "/2")

        asyncio.run(wait(AsyncHTTPConnection("127.0.0.1", server.port, timeout=20)))


@pytest.mark.parametrize("call", [fetch, afetch])
@pytest.mark.parametrize("context", [True, "certificates.pem"])
def test_what_is_no_context_for_many(call: Any, context: Any) -> None:
    with pytest.raises(TypeError, match=r"must be an ssl\.SSLContext or None"):
        drain(call(["https://127.0.0.1:1/"], ssl_context=context))


@pytest.mark.parametrize("limits", [5, {"max_ratio": 5}, "5"])
def test_what_are_no_limits(limits: Any) -> None:
    with pytest.raises(TypeError, match="limits must be a Limits or None"):
        conn_of(limits=limits)
    for call in (fetch, afetch):
        with pytest.raises(TypeError, match="limits must be a Limits or None"):
            drain(call(["http://127.0.0.1:1/"], limits=limits))


@pytest.mark.parametrize(("value", "error"), [(None, TypeError), (1.5, TypeError), ("5", TypeError), (-1, ValueError)])
def test_a_limit_is_a_number_that_is_not_negative(value: Any, error: type[Exception]) -> None:
    for name in ("max_headers", "max_ratio", "max_decoded"):
        with pytest.raises(error, match=name):
            httpio.Limits(**{name: value})


def test_a_function_is_no_proxy() -> None:
    with pytest.raises(TypeError, match="a function is called first"):
        conn_of(proxy=httpio.environment_proxy)


def test_a_proxy_that_is_not_there_is_named() -> None:
    """The system's error does not say of whom it speaks."""
    with pytest.raises(ConnectionRefusedError, match=r"the proxy http://127\.0\.0\.1:1: "):
        HTTPConnection("origin.example", proxy="http://127.0.0.1:1").connect()
