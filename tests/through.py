"""Connections through proxies: the kinds that there are, an origin behind each, and what must hold when one fails."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, NamedTuple

import pytest

import httpio
from cancelling import descriptors
from conftest import Authority
from httpio import HTTPError, ProxyError, Request
from servers.proxy import Proxy, in_turn, relays, socks, tunnels
from servers.scripted import WAIT, Peer, Script, Scripted, answers, server_context
from tls_ways import Face

USER, PASSWORD = "the-user", "hunter2"
BASIC = "dGhlLXVzZXI6aHVudGVyMg=="
"""Both in Base64 (RFC 7617)."""
SECRETS = (PASSWORD, BASIC, USER)


class Kind(NamedTuple):
    """*scheme*: of the proxy's URL. *tls*: whether the origin is spoken to in TLS. *good*: a script for a proxy of that
    kind with which nothing is wrong."""

    scheme: str
    tls: bool
    good: Callable[..., Script]

    @property
    def is_http(self) -> bool:
        return self.scheme in ("http", "https")

    @property
    def tunnels(self) -> bool:
        return self.tls or not self.is_http


KINDS = {
    "plain": Kind("http", False, relays),
    "plain through https": Kind("https", False, relays),
    "tunnel": Kind("http", True, tunnels),
    "tunnel through https": Kind("https", True, tunnels),
    "socks5": Kind("socks5", False, socks),
    "socks5h": Kind("socks5h", True, socks),
}


def kinds(*names: str) -> Any:
    """The tests with this are run for these kinds; without names for all."""
    chosen = names or tuple(KINDS)
    return pytest.mark.parametrize("kind", [KINDS[name] for name in chosen], ids=chosen)


every_kind = kinds()
every_tunnel = kinds("tunnel", "tunnel through https", "socks5", "socks5h")
each_scheme = kinds("tunnel", "tunnel through https", "socks5h")
by_connect = kinds("tunnel", "tunnel through https")
without_tunnel = kinds("plain", "plain through https")
with_and_without_http = kinds("tunnel", "socks5h")


class Network:
    """The origin's authority and the proxy's, of which each knows nothing of the other, and what is made with them."""

    def __init__(self, origin: Authority, proxy: Authority) -> None:
        self.authorities = {"origin": origin, "proxy": proxy}
        self.origin_authority, self.proxy_authority = origin, proxy
        self.client = ssl.create_default_context(cafile=origin.ca)
        """Trusts origins."""
        self.proxy_client = ssl.create_default_context(cafile=proxy.ca)
        """Trusts proxies."""

    def origin(self, kind: Kind, script: Script = answers) -> Scripted:
        authority = self.origin_authority
        return Scripted(script, server_context(authority.chain, authority.key) if kind.tls else None)

    def proxy(self, kind: Kind, *scripts: Script, small: bool = False) -> Proxy:
        """Connections get the scripts in turn, the later ones the last; without scripts one that is good."""
        authority = self.proxy_authority
        context = server_context(authority.chain, authority.key) if kind.scheme == "https" else None
        return Proxy(in_turn(*scripts or (kind.good(),)), context, small)

    def way(self, kind: Kind, port: int, host: str = "127.0.0.1") -> httpio.Proxy:
        """What a connection is told of the proxy."""
        url = f"{kind.scheme}://{USER}:{PASSWORD}@{host}:{port}"
        return httpio.Proxy(url, ssl_context=self.proxy_client if kind.scheme == "https" else None)

    def connection(self, face: Face, kind: Kind, origin_port: int, proxy_port: int, **options: Any) -> Any:
        given = {"timeout": WAIT, "connect_timeout": WAIT, "proxy": self.way(kind, proxy_port), **options}
        return face.connection("localhost", origin_port, self.client if kind.tls else None, **given)

    def options(self, kind: Kind, proxy_port: int, **options: Any) -> dict[str, Any]:
        """For `fetch` and its twin."""
        return {"proxy": self.way(kind, proxy_port), "ssl_context": self.client, "timeout": WAIT, **options}


_networks: dict[Authority, Network] = {}


def use_network(authority: Authority, folders: pytest.TempPathFactory) -> Iterator[Network]:
    """What a fixture yields to a test: the one network of the session. The test leaves no descriptor open."""
    if authority not in _networks:
        _networks[authority] = Network(authority, Authority(folders.mktemp("proxy")))
    start = descriptors()
    yield _networks[authority]
    assert descriptors() == start


def url_of(kind: Kind, port: int, target: str) -> str:
    """Of the origin at that port."""
    return f"{'https' if kind.tls else 'http'}://localhost:{port}{target}"


def fetched(face: Face, items: Iterable[str | Request], options: dict[str, Any]) -> list[Any]:
    """What `fetch` or `afetch` makes of it."""

    async def main() -> list[Any]:
        return [result async for result in face.fetch(items, **options)]

    found: list[Any] = until(main)
    return found


def finish(peer: Peer) -> None:
    """End what is sent, by the word of TLS where that is spoken, and wait for the other end."""
    if isinstance(peer.sock, ssl.SSLSocket):
        return peer.notify()
    peer.finish()
    peer.drain()


async def ask(conn: Any, target: str, **headers: str) -> None:
    """A request, and its answer."""
    await conn.send_request("GET", target, headers)
    assert ((await conn.read_response()).status, await conn.readall()) == (200, target.encode())


def until(main: Callable[[], Awaitable[Any]]) -> Any:
    """What a program comes to."""
    return asyncio.run(asyncio.wait_for(main(), WAIT))


def real(conn: Any) -> Any:
    """The connection, whatever a face has put around it."""
    return getattr(conn, "conn", conn)


Use = Callable[[Any], Awaitable[Any]]


async def connects(conn: Any) -> None:
    await conn.connect()


async def requests(conn: Any) -> None:
    await conn.send_request("GET", "/never", {"Authorization": "the origin's"})


async def pipelines(conn: Any) -> None:
    async for _ in conn.pipeline(["/never", "/never"]):
        raise AssertionError("there is an answer")


def fails(
    network: Network,
    face: Face,
    kind: Kind,
    script: Script,
    use: Use = requests,
    named: bool = True,
    small: bool = False,
    **options: Any,
) -> Any:
    """The error with which *use* of a connection ends, to whose proxy the first connection runs *script*. It has been
    closed, nothing is outstanding, and the next one is good. *named*: the error says which proxy it was. *small*: the
    proxy has small buffers. *options*: of the HTTPConnection."""
    with network.origin(kind) as origin, network.proxy(kind, script, kind.good(), small=small) as proxy:

        async def main() -> Any:
            async with network.connection(face, kind, origin.port, proxy.port, **options) as conn:
                with pytest.raises((HTTPError, OSError)) as caught:
                    await use(conn)
                proxy.settle(1)
                assert proxy.connections == 1
                assert conn.outstanding == ()
                assert not conn.response_pending()
                real(conn).connect_timeout = WAIT
                await ask(conn, "/anew")
            return caught.value

        error = until(main)
        origin.settle()
        assert "/never" not in origin.targets()
        assert proxy.connections == 2
        error.sent = proxy.sent
        check_told(error, proxy.port if named else None)
    return error


def check_told(error: Any, port: int | None) -> None:
    """It says which proxy it was, that at this port of this machine, and to nobody how one gets in there."""
    text = f"{error} {error!r}"
    assert port is None or re.search(rf"127\.0\.0\.1(:| port ){port}\b", text), text
    hidden(text)
    if isinstance(error, HTTPError):
        assert error.where == "connecting"
        assert error.outstanding == ()
        assert error.received is None
    if isinstance(error, ProxyError) and error.response is not None:
        assert error.response.method == "CONNECT"


def hidden(text: str) -> None:
    """No secret of the proxy's is in it."""
    for secret in SECRETS:
        assert secret not in text, text


def shown(error: BaseException) -> None:
    """What anybody may print of it holds no secret."""
    hidden("".join(traceback.format_exception(error)))
    cause: BaseException | None = error
    while cause is not None:
        hidden(f"{cause} {cause!r} {cause.args!r}")
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, ProxyError):
        hidden(repr(error.response))


@contextlib.contextmanager
def both(network: Network, kind: Kind, *scripts: Script, origin: Script = answers) -> Iterator[tuple[Scripted, Proxy]]:
    """An origin and a proxy."""
    with network.origin(kind, origin) as behind, network.proxy(kind, *scripts) as proxy:
        yield behind, proxy
