"""T-42: both ends are verified, that of a proxy and the one behind it, and neither is told anything before."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

import httpio
from bad_certificates import HOST, Certificates
from conftest import Authority
from httpio.cli import main as command
from servers.proxy import Proxy, in_turn
from servers.scripted import WAIT, Peer, Script, Scripted, answers, server_context
from servers.tls import Tap, assert_nothing_said
from through import (
    KINDS,
    PASSWORD,
    USER,
    Kind,
    Network,
    ask,
    both,
    each_scheme,
    every_tunnel,
    kinds,
    shown,
    until,
    url_of,
    use_network,
)
from tls_ways import (
    SECRET,
    Face,
    by_connect,
    by_fetch,
    by_pipeline,
    by_request,
    every_name_is_here,
    faces_that_differ,
)


@pytest.fixture
def network(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    yield from use_network(authority, tmp_path_factory)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def every_name(monkeypatch: pytest.MonkeyPatch) -> None:
    every_name_is_here(monkeypatch)


def through(face: Face, proxy: Any) -> Face:
    """The face with that proxy."""
    return Face(partial(face.connection, proxy=proxy), partial(face.fetch, proxy=proxy))


CALLS = (by_connect, by_request, by_pipeline, by_fetch)
each_call = pytest.mark.parametrize("call", CALLS)
BAD_ONES = ("wrong host", "untrusted root")


@pytest.mark.usefixtures("every_name")
@faces_that_differ
@every_tunnel
@each_call
@pytest.mark.parametrize("bad", BAD_ONES)
def test_a_bad_origin_in_a_tunnel(
    bad: str, call: Any, kind: Kind, face: Face, network: Network, certificates: Certificates
) -> None:
    tap = Tap(answers, certificates.server(bad))
    with Scripted(tap) as origin, network.proxy(kind) as proxy:
        way = network.way(kind, proxy.port)
        error = until(lambda: call(through(face, way), HOST, origin.port, certificates.client()))
        assert type(error) is ssl.SSLCertVerificationError
        origin.settle(1)
        assert origin.seen == []
        assert proxy.connections == origin.connections == (2 if call is by_fetch else 1)
    for peer in tap.peers:
        assert_nothing_said(peer, b"secret")
    shown(error)


@pytest.mark.usefixtures("every_name")
@faces_that_differ
@kinds("plain through https", "tunnel through https")
@each_call
@pytest.mark.parametrize("bad", BAD_ONES)
def test_a_bad_proxy(bad: str, call: Any, kind: Kind, face: Face, certificates: Certificates) -> None:
    """It is not even told where to; whatever the context of the origin says."""
    tap = Tap(kind.good(), certificates.server(bad))
    careless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    careless.check_hostname = False
    careless.verify_mode = ssl.CERT_NONE
    with Proxy(tap) as proxy:
        url = f"https://{USER}:{PASSWORD}@{HOST}:{proxy.port}"
        way = httpio.Proxy(url, ssl_context=certificates.client())
        error = until(lambda: meets(call, through(face, way), careless if kind.tls else None))
        assert type(error) is ssl.SSLCertVerificationError
        proxy.settle(1)
        assert proxy.seen == []
    for peer in tap.peers:
        assert_nothing_said(peer, b"CONNECT")
    shown(error)


async def meets(call: Any, face: Face, context: ssl.SSLContext | None) -> Any:
    """The error; by_fetch has URLs of https only."""
    if context is None and call is by_fetch:
        (result,) = [result async for result in face.fetch(["http://localhost:1/"])]
        return result.error
    return await call(face, "localhost", 1, context)


@faces_that_differ
@each_call
def test_a_proxy_is_verified_by_default(
    call: Any, face: Face, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The origin's context says nothing of it; the system's authorities do."""
    kind = KINDS["tunnel through https"]
    for trusted in (False, True):
        with both(network, kind) as (origin, proxy):
            if trusted:
                monkeypatch.setenv("SSL_CERT_FILE", os.fspath(network.proxy_authority.ca))
            way = f"https://127.0.0.1:{proxy.port}"
            error = until(lambda port=origin.port, way=way: call(through(face, way), "localhost", port, network.client))
            assert (error is None) == trusted
            assert trusted or type(error) is ssl.SSLCertVerificationError
            assert trusted or proxy.seen == []


@faces_that_differ
@each_call
def test_contexts_are_not_exchanged(call: Any, face: Face, network: Network) -> None:
    """What one trusts the other does not."""
    kind = KINDS["tunnel through https"]
    with both(network, kind) as (origin, proxy):
        for mine, theirs in ((network.client, network.client), (network.proxy_client, network.proxy_client)):
            way = httpio.Proxy(f"https://127.0.0.1:{proxy.port}", ssl_context=theirs)
            error = until(lambda way=way, mine=mine: call(through(face, way), "localhost", origin.port, mine))
            assert type(error) is ssl.SSLCertVerificationError
        assert origin.seen == []
        assert proxy.seen != []


@faces_that_differ
@each_scheme
@pytest.mark.usefixtures("every_name")
@pytest.mark.parametrize("how", ["close", "pipeline", "fetch"])
def test_the_next_connection_is_verified_too(
    how: str, kind: Kind, face: Face, network: Network, certificates: Certificates
) -> None:
    """After a tunnel that ended in the middle of a response."""

    def script(peer: Peer) -> None:
        assert peer.request() is not None
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")

    tap = Tap(in_turn(script, answers), certificates.server("plain"), certificates.server("wrong host"))
    with Scripted(tap) as origin, network.proxy(kind) as proxy:
        way = network.way(kind, proxy.port)

        async def main() -> Any:
            if how == "fetch":
                items = [f"https://{HOST}:{origin.port}{SECRET}"]
                options = {"ssl_context": certificates.client(), "proxy": way, "timeout": WAIT}
                (result,) = [result async for result in face.fetch(items, **options)]
                return result.error
            async with face.connection(HOST, origin.port, certificates.client(), way, timeout=WAIT) as conn:
                if how == "close":
                    await conn.send_request("GET", SECRET)
                    await conn.read_response()
                    conn.close()
                with pytest.raises(ssl.SSLCertVerificationError) as caught:
                    await (conn.send_request("GET", SECRET) if how == "close" else anext(conn.pipeline([SECRET])))
            return caught.value

        assert type(until(main)) is ssl.SSLCertVerificationError
        origin.settle(2)
        assert origin.targets() == [SECRET]
        for peer in tap.peers[1:]:
            assert_nothing_said(peer, b"secret")


@faces_that_differ
@pytest.mark.usefixtures("every_name")
def test_the_next_proxy_is_verified_too(face: Face, certificates: Certificates) -> None:
    kind = KINDS["plain through https"]
    tap = Tap(kind.good(), certificates.server("plain"), certificates.server("wrong host"))
    with Scripted(answers) as origin, Proxy(tap) as proxy:
        way = httpio.Proxy(f"https://{HOST}:{proxy.port}", ssl_context=certificates.client())

        async def main() -> None:
            async with face.connection("localhost", origin.port, None, way, timeout=WAIT) as conn:
                await ask(conn, "/1")
                conn.close()
                with pytest.raises(ssl.SSLCertVerificationError):
                    await ask(conn, "/2")

        until(main)
        proxy.settle(2)
        assert origin.targets() == ["/1"]
        assert_nothing_said(tap.peers[1], b"GET")


@pytest.mark.parametrize(
    ("bad", "name"),
    [("proxy", "tunnel through https"), *(("origin", name) for name in ("tunnel", "tunnel through https", "socks5h"))],
)
def test_the_command_verifies(
    bad: str, name: str, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = KINDS[name]
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(network.proxy_authority.ca) if bad == "origin" else os.devnull)
    with both(network, kind) as (origin, proxy):
        words = ["-d", str(tmp_path), "--proxy", f"{kind.scheme}://{USER}:{PASSWORD}@127.0.0.1:{proxy.port}"]
        words += [] if bad == "origin" else ["--cacert", str(network.origin_authority.ca)]
        assert command(["get", *words, url_of(kind, origin.port, SECRET)]) == 1
        assert origin.seen == []
        assert bad == "origin" or proxy.seen == []


class Identity:
    """An authority for clients, and certificates of theirs by name."""

    def __init__(self) -> None:
        self._authority = trustme.CA()
        self._issued = {name: self._authority.issue_cert(f"{name}.test") for name in ("origin", "proxy")}

    def asks(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """A server's, which asks for a certificate, but does not insist."""
        context.verify_mode = ssl.CERT_OPTIONAL
        self._authority.configure_trust(context)
        return context

    def shows(self, context: ssl.SSLContext, name: str) -> ssl.SSLContext:
        """A client's, which has that certificate to show."""
        self._issued[name].configure_cert(context)
        return context


@faces_that_differ
@pytest.mark.parametrize(
    ("name", "mine", "theirs"),
    [("tunnel", True, False), ("socks5h", True, False)]
    + [("tunnel through https", mine, theirs) for mine in (False, True) for theirs in (False, True)],
)
def test_certificates_of_clients(name: str, mine: bool, theirs: bool, face: Face, network: Network) -> None:
    """Each is shown to the one that it is for."""
    kind = KINDS[name]
    identity = Identity()
    seen: dict[str, list[str]] = {"origin": [], "proxy": []}

    def noting(name: str, script: Script) -> Script:
        def noted(peer: Peer) -> None:
            if isinstance(peer.sock, ssl.SSLSocket):
                shown = peer.sock.getpeercert()
                seen[name].append(shown["subjectAltName"][0][1] if shown else "nobody")
            script(peer)

        return noted

    contexts = {name: identity.asks(server_context(one.chain, one.key)) for name, one in network.authorities.items()}
    clients = {name: ssl.create_default_context(cafile=one.ca) for name, one in network.authorities.items()}
    for name in [name for name, wanted in (("origin", mine), ("proxy", theirs)) if wanted]:
        identity.shows(clients[name], name)
    with (
        Scripted(noting("origin", answers), contexts["origin"]) as origin,
        Proxy(noting("proxy", kind.good()), contexts["proxy"] if kind.scheme == "https" else None) as proxy,
    ):
        url = f"{kind.scheme}://127.0.0.1:{proxy.port}"
        way = httpio.Proxy(url, ssl_context=clients["proxy"] if kind.scheme == "https" else None)

        async def main() -> None:
            async with face.connection("localhost", origin.port, clients["origin"], way, timeout=WAIT) as conn:
                await ask(conn, "/1")
            items = [url_of(kind, origin.port, "/2")]
            options = {"ssl_context": clients["origin"], "proxy": way, "timeout": WAIT}
            assert [result.content async for result in face.fetch(items, **options)] == [b"/2"]

        until(main)
    assert seen["origin"] == ["origin.test" if mine else "nobody"] * 2
    assert seen["proxy"] == ["proxy.test" if theirs else "nobody"] * (2 if kind.scheme == "https" else 0)
