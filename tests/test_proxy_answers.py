"""Fault F41: what a proxy may answer to CONNECT, and in SOCKS5: refusals, nonsense, answers without an end."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

import httpio
from conftest import Authority
from httpio import (
    ConnectionClosed,
    HTTPConnection,
    HTTPError,
    InvalidResponse,
    ProxyError,
    UnsupportedResponse,
    is_temp_network_error,
)
from httpio.waiting import run
from servers.proxy import GRANTED, OK, After, pour, says, socks_says
from servers.scripted import WAIT, Peer, Script, Scripted
from through import (
    KINDS,
    Kind,
    Network,
    ask,
    both,
    by_connect,
    check_told,
    connects,
    each_scheme,
    fails,
    fetched,
    finish,
    pipelines,
    until,
    url_of,
    use_network,
    with_and_without_http,
    without_tunnel,
)
from tls_ways import FACES, Face, every_face, faces_that_differ

SOON = 0.05
"""Seconds that a proxy is given which does not answer at all."""

MOST_BODY = 64 * 1024
"""Bytes of a refusal's body that are kept."""

MOST_READ = 24 << 20
"""Bytes that a proxy may get rid of: what is read, and what the sockets of both ends hold."""


@pytest.fixture
def network(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    yield from use_network(authority, tmp_path_factory)


# -- proxies that refuse --

CHALLENGE = b'Proxy-Authenticate: Basic realm="x"\r\n'
REFUSALS: dict[str, tuple[bytes, int, bytes]] = {
    "407": (b"HTTP/1.1 407 No\r\n" + CHALLENGE + b"Content-Length: 6\r\n\r\nno way", 407, b"no way"),
    "407 in chunks": (
        b"HTTP/1.1 407 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n4;x\r\n way\r\n0\r\nX: y\r\n\r\n",
        407,
        b"no way",
    ),
    "407 to the end": (b"HTTP/1.1 407 No\r\nConnection: close\r\n\r\nno way", 407, b"no way"),
    "502": (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nbad", 502, b"bad"),
    "502 of HTTP/1.0": (b"HTTP/1.0 502 Bad Gateway\r\n\r\nbad", 502, b"bad"),
    "503": (b"HTTP/1.1 503 Wait\r\nContent-Length: 0\r\n\r\n", 503, b""),
    "504": (b"HTTP/1.1 504 Late\r\nContent-Length: 0\r\n\r\n", 504, b""),
    "403": (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", 403, b""),
    "302": (b"HTTP/1.1 302 Found\r\nLocation: http://other.test/\r\nContent-Length: 2\r\n\r\nhi", 302, b"hi"),
    "304": (b"HTTP/1.1 304 Not Modified\r\n\r\n", 304, b""),
    "behind interim responses": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\nLink: x\r\n\r\nHTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n",
        400,
        b"",
    ),
    "as much as is kept": (
        b"HTTP/1.1 407 No\r\nContent-Length: %d\r\n\r\n" % MOST_BODY + b"x" * MOST_BODY,
        407,
        b"x" * MOST_BODY,
    ),
    "gzip": (
        b"HTTP/1.1 407 No\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\0\0",
        407,
        b"\x1f\x8b\0\0",
    ),
}


def check_refusal(error: Any, status: int) -> None:
    assert type(error) is ProxyError
    assert error.response.status == status
    assert str(status) in str(error)
    assert is_temp_network_error(error) == (status in (502, 503, 504))


@every_face
@by_connect
@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal(name: str, kind: Kind, face: Face, network: Network) -> None:
    answer, status, body = REFUSALS[name]
    error = fails(network, face, kind, says(answer, finish))
    check_refusal(error, status)
    assert error.response.body == body
    assert error.response.headers["Proxy-Authenticate"] == ('Basic realm="x"' if name == "407" else None)


@by_connect
@pytest.mark.parametrize("name", [name for name in REFUSALS if name != "as much as is kept"])
def test_a_refusal_byte_by_byte(name: str, kind: Kind, network: Network) -> None:
    answer, status, body = REFUSALS[name]
    error = fails(network, FACES["blocking"], kind, says(answer, finish, piece=1))
    check_refusal(error, status)
    assert error.response.body == body


@faces_that_differ
@by_connect
@pytest.mark.parametrize("use", [connects, pipelines])
def test_a_refusal_whatever_connects(use: Any, kind: Kind, face: Face, network: Network) -> None:
    check_refusal(fails(network, face, kind, says(REFUSALS["407"][0]), use), 407)


@faces_that_differ
@by_connect
@pytest.mark.parametrize("name", ["407", "407 in chunks", "503", "302", "304"])
def test_a_refusal_is_not_waited_behind(name: str, kind: Kind, face: Face, network: Network) -> None:
    """The proxy does not close."""
    check_refusal(fails(network, face, kind, says(REFUSALS[name][0])), REFUSALS[name][1])


ENDLESS = {
    "a byte too much": (b"Content-Length: %d\r\n" % (MOST_BODY + 1), b"x" * 8192),
    "with a length": (b"Content-Length: 1000000000000\r\n", b"x" * 8192),
    "in chunks": (b"Transfer-Encoding: chunked\r\n", b"2000\r\n" + b"x" * 8192 + b"\r\n"),
    "to the end": (b"Connection: close\r\n", b"x" * 8192),
    "without framing": (b"", b"x" * 8192),
}


@faces_that_differ
@by_connect
@pytest.mark.parametrize("framing", ENDLESS)
def test_a_refusal_without_an_end(framing: str, kind: Kind, face: Face, network: Network) -> None:
    """Of its body nothing is kept, and little is read."""
    fields, piece = ENDLESS[framing]
    script = pour(b"HTTP/1.1 407 No\r\n" + fields + b"\r\n", piece)
    error = fails(network, face, kind, script, small=True)
    check_refusal(error, 407)
    assert error.response.body is None
    assert error.sent < MOST_READ


@faces_that_differ
@by_connect
@pytest.mark.parametrize("after", [Peer.drain, finish, Peer.reset], ids=["hangs", "FIN", "RST"])
def test_a_refusal_of_which_half_comes(after: After, kind: Kind, face: Face, network: Network) -> None:
    """The status is what matters."""
    script = says(b"HTTP/1.1 502 No\r\nContent-Length: 1000\r\n\r\nhalf", after)
    error = fails(network, face, kind, script, connect_timeout=SOON if after is Peer.drain else WAIT)
    check_refusal(error, 502)
    assert error.response.body is None


@faces_that_differ
@without_tunnel
@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_of_a_request(name: str, kind: Kind, face: Face, network: Network) -> None:
    """It is the response."""
    answer, status, body = REFUSALS[name]
    with network.proxy(kind, says(answer, finish)) as proxy:

        async def main() -> None:
            async with network.connection(face, kind, 80, proxy.port) as conn:
                await conn.send_request("GET", "/")
                response = await conn.read_response()
                assert (response.status, await conn.readall()) == (status, body)

        until(main)
        assert proxy.targets() == ["http://localhost/"]


@faces_that_differ
@by_connect
@pytest.mark.parametrize("scripts", ["once", "always"])
def test_fetch_through_a_proxy_that_refuses(scripts: str, kind: Kind, face: Face, network: Network) -> None:
    refuses = says(REFUSALS["502"][0])
    with both(network, kind, refuses, *([kind.good()] if scripts == "once" else [])) as (origin, proxy):
        urls = [url_of(kind, origin.port, f"/{number}") for number in range(3)]
        results = fetched(face, urls, network.options(kind, proxy.port))
        assert proxy.tunnels() == 2
        for number, result in enumerate(results):
            if scripts == "once":
                assert result.content == f"/{number}".encode()
            else:
                check_refusal(result.error, 502)
                check_told(result.error, proxy.port)
                assert result.attempts == 0
        assert len(results) == 3


# -- proxies that talk nonsense --

NONSENSE = {
    "another protocol": b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "an alert of TLS": b"\x15\3\3\0\2\2\x28",
    "text": b"<html>hello</html>\r\n\r\n",
    "a status with letters": b"HTTP/1.1 2x0 OK\r\n\r\n",
    "NUL": b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
    "a space before a colon": b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
    "a folded line": b"HTTP/1.1 200 OK\r\n folded\r\n\r\n",
    "101 fields": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n",
    "101 fields of a refusal": b"HTTP/1.1 407 No\r\n" + b"X: y\r\n" * 101 + b"\r\n",
    "a long field": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000 + b"\r\n\r\n",
    "101 interim responses": b"HTTP/1.1 103 X\r\n\r\n" * 101 + OK,
    "a byte behind its answer": OK + b"x",
    "a response behind its answer": OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    "TLS behind its answer": OK + b"\x16\3\3\0\1\0",
    "a body behind its answer": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
}


@faces_that_differ
@by_connect
@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense(name: str, kind: Kind, face: Face, network: Network) -> None:
    """T-44, too: what stands behind the answer is neither taken for TLS nor for a response."""
    assert type(fails(network, face, kind, says(NONSENSE[name]))) is InvalidResponse


UNKNOWN = {
    "HTTP/2": b"HTTP/2.0 200 OK\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "101 to another": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
}


@faces_that_differ
@by_connect
@pytest.mark.parametrize("name", UNKNOWN)
def test_what_nobody_asked_for(name: str, kind: Kind, face: Face, network: Network) -> None:
    assert type(fails(network, face, kind, says(UNKNOWN[name]))) is UnsupportedResponse


STREAMS = {
    "bytes": (b"", b"x" * 1000),
    "empty lines": (b"", b"\r\n" * 500),
    "a status line": (b"HTTP/1.1 200 ", b"x" * 1000),
    "fields": (b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 1000 + b"\r\n"),
    "a field": (b"HTTP/1.1 502 No\r\nX: ", b"y" * 1000),
    "interim responses": (b"", b"HTTP/1.1 103 X\r\nX: y\r\n\r\n" * 50),
}


@faces_that_differ
@by_connect
@pytest.mark.parametrize("name", STREAMS)
def test_an_answer_without_an_end(name: str, kind: Kind, face: Face, network: Network) -> None:
    error = fails(network, face, kind, pour(*STREAMS[name]), small=True)
    assert type(error) is InvalidResponse
    assert error.sent < MOST_READ


GOOD = {
    "with a length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "both": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.0": b"HTTP/1.0 200 Connection established\r\n\r\n",
    "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    "Proxy-Connection": b"HTTP/1.1 200 OK\r\nProxy-Connection: close\r\n\r\n",
    "100 fields": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100 + b"\r\n",
    "interim responses": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\nContent-Length: 5\r\n\r\n" + OK,
    "another of the 200s": b"HTTP/1.1 299 Fine\r\n\r\n",
    "204": b"HTTP/1.1 204 Nothing\r\n\r\n",
    "no reason": b"HTTP/1.1 200 \r\n\r\n",
}


@faces_that_differ
@by_connect
@pytest.mark.parametrize("name", GOOD)
def test_an_answer_that_is_good(name: str, kind: Kind, face: Face, network: Network) -> None:
    """What it says of a body counts for nothing (RFC 9110 section 9.3.6)."""
    goes_well(network, face, kind, kind.good(answer=GOOD[name]))


@faces_that_differ
@each_scheme
def test_an_answer_byte_by_byte(kind: Kind, face: Face, network: Network) -> None:
    goes_well(network, face, kind, kind.good(piece=1))


def goes_well(network: Network, face: Face, kind: Kind, script: Script) -> None:
    """Two requests through one tunnel."""
    with both(network, kind, script) as (origin, proxy):

        async def main() -> None:
            async with network.connection(face, kind, origin.port, proxy.port) as conn:
                await ask(conn, "/1")
                await ask(conn, "/2")

        until(main)
        assert proxy.tunnels() == origin.connections == 1


# -- SOCKS5 --

BY_NAME = b"\5\0\0\3\xff" + b"n" * 255 + b"\0\x50"
BY_IPV6 = b"\5\0\0\4" + bytes(18)


@faces_that_differ
@pytest.mark.parametrize("answer", [BY_NAME, BY_IPV6, b"\5\0\0\3\0\0\0"], ids=["name", "IPv6", "empty name"])
@pytest.mark.parametrize("piece", [0, 1])
def test_replies_of_all_kinds(answer: bytes, piece: int, face: Face, network: Network) -> None:
    goes_well(network, face, KINDS["socks5h"], KINDS["socks5h"].good(answer=answer, piece=piece))


SOCKS_NONSENSE: dict[str, tuple[int, bytes]] = {
    "SOCKS4": (0, b"\4\0"),
    "HTTP": (0, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "no method": (0, b"\5\x80"),
    "another version of the password's answer": (1, b"\5\0"),
    "SOCKS4 in the end": (2, b"\4" + GRANTED[1:]),
    "HTTP in the end": (2, b"HTTP/1.1 200 OK\r\n\r\n"),
    "no kind of address": (2, b"\5\0\0\2\x7f\0\0\1\0\x50"),
}


@faces_that_differ
@pytest.mark.parametrize("name", SOCKS_NONSENSE)
def test_nonsense_in_socks(name: str, face: Face, network: Network) -> None:
    assert type(fails(network, face, KINDS["socks5h"], socks_says(*SOCKS_NONSENSE[name]))) is InvalidResponse


@faces_that_differ
def test_a_response_behind_a_reply(face: Face, network: Network) -> None:
    """Nothing was asked yet: it is no answer."""
    kind = KINDS["socks5"]
    evil = GRANTED + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    with network.proxy(kind, socks_says(2, evil)) as proxy:

        async def main() -> None:
            async with network.connection(face, kind, 80, proxy.port) as conn:
                with pytest.raises(HTTPError):
                    await ask(conn, "/")
                conn.close()
                with pytest.raises(HTTPError):
                    await anext(conn.pipeline(["/"]))

        until(main)
        (result,) = fetched(face, ["http://localhost/"], network.options(kind, proxy.port))
        assert isinstance(result.error, HTTPError)
        assert result.content is None
        proxy.settle()
        assert all(b"GET" not in peer.buffer for peer in proxy.peers)


SOCKS_REFUSALS: dict[str, tuple[int, bytes]] = {
    "no method": (0, b"\5\xff"),
    "another method": (0, b"\5\1"),
    "wrong password": (1, b"\1\1"),
    "wrong password, 255": (1, b"\1\xff"),
    **{f"code {code}": (2, bytes((5, code)) + GRANTED[2:]) for code in (*range(1, 9), 9, 255)},
    "code 5 with a name": (2, b"\5\5" + BY_NAME[2:]),
}


@faces_that_differ
@pytest.mark.parametrize("after", [Peer.drain, finish], ids=["stays", "FIN"])
@pytest.mark.parametrize("name", SOCKS_REFUSALS)
def test_a_refusal_in_socks(name: str, after: After, face: Face, network: Network) -> None:
    error = fails(network, face, KINDS["socks5h"], socks_says(*SOCKS_REFUSALS[name], after))
    assert type(error) is ProxyError
    assert error.response is None
    assert not is_temp_network_error(error)


@faces_that_differ
@pytest.mark.parametrize("name", ["code 5", "wrong password", "no method"])
def test_addresses_that_a_proxy_refuses(
    name: str, face: Face, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one is tried where it is about the address."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (f"192.0.2.{number}", 80)) for number in range(3)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)
    kind = KINDS["socks5"]
    with network.proxy(kind, socks_says(*SOCKS_REFUSALS[name])) as proxy:

        async def main() -> None:
            async with network.connection(face, kind, 80, proxy.port) as conn:
                with pytest.raises(ProxyError):
                    await conn.connect()

        until(main)
        assert [wish.host for wish in proxy.wishes] == [f"192.0.2.{number}" for number in range(3) if name == "code 5"]
        assert proxy.connections == (3 if name == "code 5" else 1)


def test_each_refusal_in_socks_is_told_apart(network: Network) -> None:
    told = set()
    for code in range(1, 9):
        error = fails(network, FACES["blocking"], KINDS["socks5h"], socks_says(*SOCKS_REFUSALS[f"code {code}"]))
        told.add(re.sub(r"[0-9]{4,}", "", str(error)))  # of the ports
    assert len(told) == 8


@with_and_without_http
def test_no_tls_in_a_tunnel(kind: Kind, network: Network) -> None:
    """What the proxy says later goes to TLS, whose error passes through as it is."""

    def use(peer: Peer) -> None:
        peer.receive()
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.drain()

    script = says(OK, use) if kind.is_http else socks_says(2, GRANTED, use)
    error = fails(network, FACES["blocking"], kind, script, named=False)
    assert isinstance(error, ssl.SSLError)


def test_an_abort_in_a_refusal() -> None:
    """While the rest of what the proxy says is awaited: the connection was aborted, which is no word of the proxy's."""

    def refuses(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 407 No\r\nContent-Length: 10\r\n\r\nhal")
        peer.drain()

    with Scripted(refuses) as proxy:
        conn = HTTPConnection("origin.example", 443, httpio.default_context(), ("127.0.0.1", proxy.port))
        step = conn.co_connect()
        need = next(step)
        while need.poll(0.3):
            need = next(step)
        conn.abort()
        with pytest.raises(ConnectionClosed, match="aborted"):
            run(step)
