"""T-31: who gets to see which credentials where there is a proxy, and who does not."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import httpio
from conftest import Authority
from httpio import HTTPConnection, InvalidURL, Request, environment_proxy
from httpio.cli import main as command
from servers.proxy import OK, Proxy, says, socks_says
from servers.scripted import WAIT, Peer, Scripted
from through import (
    BASIC,
    KINDS,
    PASSWORD,
    SECRETS,
    USER,
    Kind,
    Network,
    ask,
    both,
    every_kind,
    every_tunnel,
    fetched,
    hidden,
    kinds,
    shown,
    until,
    url_of,
    use_network,
    without_tunnel,
)
from tls_ways import (
    FACES,
    Face,
    every_face,
    faces_that_differ,
)

OWN = {"Authorization": "own-secret", "Cookie": "own-secret", "X-Key": "own-secret"}
"""The origin's; of these the proxy sees what it passes on, and no more."""

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture
def network(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    yield from use_network(authority, tmp_path_factory)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "no_proxy", "NO_PROXY", "REQUEST_METHOD", "HTTPIO_TRACEFILE"):
        monkeypatch.delenv(name, raising=False)


# -- who sees what --


async def one_by_one(face: Face, kind: Kind, network: Network, origin: int, proxy: int) -> None:
    async with network.connection(face, kind, origin, proxy) as conn:
        await ask(conn, "/1", **OWN)
        conn.close()
        await ask(conn, "/2", **OWN)
        await conn.send_request("POST", "/3", OWN, b"body")
        assert ((await conn.read_response()).status, await conn.readall()) == (200, b"/3")


async def pipelined(face: Face, kind: Kind, network: Network, origin: int, proxy: int) -> None:
    async with network.connection(face, kind, origin, proxy) as conn:
        wanted = [Request("GET", f"/{number}", OWN) for number in range(20)]
        assert [response.path async for response in conn.pipeline(wanted)] == [request.path for request in wanted]


async def in_bulk(face: Face, kind: Kind, network: Network, origin: int, proxy: int) -> None:
    urls = [url_of(kind, origin, f"/{number}") for number in range(5)]
    items = [*urls, Request("POST", url_of(kind, origin, "/5"), body=b"body")]
    results = [result async for result in face.fetch(items, headers=OWN, **network.options(kind, proxy))]
    assert [result.content for result in results] == [f"/{number}".encode() for number in range(6)]


def names_of(head: bytes) -> list[bytes]:
    """Of its fields."""
    return sorted(line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:-2])


def assert_each_has_its_own(kind: Kind, origin: Scripted, proxy: Proxy) -> None:
    place = f"localhost:{origin.port}"
    for seen in origin.seen:
        assert b"proxy" not in seen.head.lower()
        assert (seen.target[0], seen.field("Host")) == ("/", place)
        assert [seen.field(name) for name in OWN] == list(OWN.values())
    for secret in SECRETS:
        assert all(secret.encode() not in seen.head for seen in origin.seen)
        assert secret.encode() not in proxy.passed
    assert proxy.connections == (len(proxy.wishes) if not kind.is_http else proxy.connections)
    for seen in proxy.seen:
        assert names_of(seen.head).count(b"proxy-authorization") == 1
        assert seen.field("Proxy-Authorization") == f"Basic {BASIC}"
        assert seen.field("Host") == place
        if kind.tls:
            assert (seen.method, seen.target) == ("CONNECT", place)
            assert names_of(seen.head) == [b"host", b"proxy-authorization"]
        else:
            assert seen.target.startswith(f"http://{place}/")
            assert len(set(names_of(seen.head))) == len(names_of(seen.head))
    for wish in proxy.wishes:
        assert wish.credentials == (USER.encode(), PASSWORD.encode())
        assert wish.port == origin.port
    if kind.tls:
        assert b"own-secret" not in proxy.passed
    elif not kind.is_http:
        assert proxy.passed.count(b"own-secret") == len(OWN) * len(origin.seen)


@every_face
@every_kind
@pytest.mark.parametrize("talk", [one_by_one, pipelined, in_bulk])
def test_credentials_go_where_they_belong(talk: Any, kind: Kind, face: Face, network: Network) -> None:
    with both(network, kind) as (origin, proxy):
        until(lambda: talk(face, kind, network, origin.port, proxy.port))
        proxy.settle()
        assert_each_has_its_own(kind, origin, proxy)
        assert len(proxy.seen) + len(proxy.wishes) > 0


@every_kind
def test_credentials_of_the_command(
    kind: Kind, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(network.proxy_authority.ca))
    options = [word for name, value in OWN.items() for word in ("-H", f"{name}: {value}")]
    with both(network, kind) as (origin, proxy):
        options += ["--proxy", f"{kind.scheme}://{USER}:{PASSWORD}@127.0.0.1:{proxy.port}", "-d", str(tmp_path)]
        options += ["--cacert", str(network.origin_authority.ca)]
        assert command(["get", *options, url_of(kind, origin.port, "/1"), url_of(kind, origin.port, "/2")]) == 0
        proxy.settle()
        assert_each_has_its_own(kind, origin, proxy)
        assert origin.targets() == ["/1", "/2"]
    assert (tmp_path / "2").read_bytes() == b"/2"
    hidden("".join(capfd.readouterr()))


@without_tunnel
def test_a_callers_own_field_for_a_proxy(kind: Kind, network: Network) -> None:
    """Once, and for the proxy alone."""
    with both(network, kind) as (origin, proxy):

        async def main() -> None:
            async with network.connection(FACES["blocking"], kind, origin.port, proxy.port) as conn:
                await conn.send_request("GET", "/", {"proxy-authorization": "own"})
                assert (await conn.read_response()).status == 200

        until(main)
        assert [value for line in proxy.seen[0].head.split(b"\r\n") if b"authorization" in (value := line.lower())] == [
            b"proxy-authorization: own"
        ]
        assert b"authorization" not in origin.seen[0].head.lower()


@kinds("plain", "tunnel")
def test_more_fields_for_a_proxy(kind: Kind, network: Network) -> None:
    """With CONNECT, or with each request."""
    with both(network, kind) as (origin, proxy):
        way = httpio.Proxy(
            f"http://127.0.0.1:{proxy.port}", headers={"X-Key": "the-key", "Proxy-Authorization": "Bearer x"}
        )

        async def main() -> None:
            async with network.connection(FACES["blocking"], kind, origin.port, proxy.port, proxy=way) as conn:
                await ask(conn, "/1")
                await ask(conn, "/2")

        until(main)
        assert [seen.field("Proxy-Authorization") for seen in proxy.seen] == ["Bearer x"] * (1 if kind.tls else 2)
        assert [seen.field("X-Key") for seen in proxy.seen] == ["the-key"] * (1 if kind.tls else 2)
        assert all(seen.field("Proxy-Authorization") is None for seen in origin.seen)
        if kind.tls:
            assert all(seen.field("X-Key") is None for seen in origin.seen)


# -- RQ-069 --

FOR_PROXIES: list[tuple[Any, Any]] = [
    ("Proxy-Authorization", "Basic x"),
    ("PROXY-authorization", "Basic x"),
    (b"Proxy-Authorization", b"Basic x"),
    ("Proxy-Connection", "keep-alive"),
    (b"proxy-connection", "keep-alive"),
]
each_field = pytest.mark.parametrize("field", FOR_PROXIES, ids=str)


@faces_that_differ
@every_tunnel
@each_field
def test_no_field_for_a_proxy_goes_through_a_tunnel(
    field: tuple[Any, Any], kind: Kind, face: Face, network: Network
) -> None:
    """Before a byte, and before a connection."""
    with both(network, kind) as (origin, proxy):

        async def main() -> None:
            async with network.connection(face, kind, origin.port, proxy.port) as conn:
                for headers in ([field], [("X", "y"), field], {field[0]: field[1]}):
                    with pytest.raises(ValueError, match="proxy"):
                        await conn.send_request("GET", "/never", headers)
                assert proxy.connections == 0
                await conn.send_request("GET", "/1")
                with pytest.raises(ValueError, match="proxy"):
                    await conn.send_request("POST", "/never", [field], b"body")
                assert [request.path for request in conn.outstanding] == ["/1"]
                assert ((await conn.read_response()).status, await conn.readall()) == (200, b"/1")
                pipeline = conn.pipeline(["/2", Request("GET", "/never", [field]), "/never"])
                assert (await anext(pipeline)).path == "/2"
                with pytest.raises(ValueError, match="proxy"):
                    await anext(pipeline)
                await ask(conn, "/3")

        until(main)
        origin.settle()
        assert origin.targets() == ["/1", "/2", "/3"]
        assert all(b"proxy" not in seen.head.lower() for seen in origin.seen)


@faces_that_differ
@every_tunnel
@each_field
def test_fetch_refuses_fields_for_a_proxy(field: tuple[Any, Any], kind: Kind, face: Face, network: Network) -> None:
    """It is that request's error; of the fields of all requests it is the call's, or each request's."""
    with both(network, kind) as (origin, proxy):
        base = url_of(kind, origin.port, "")
        items = [f"{base}/1", Request("GET", f"{base}/never", [field]), f"{base}/2"]
        options = network.options(kind, proxy.port)
        good, bad, last = fetched(face, items, options)
        assert (good.content, type(bad.error), last.content) == (b"/1", ValueError, b"/2")
        try:
            results = fetched(face, [f"{base}/never"], {**options, "headers": [field]})
        except ValueError:
            pass
        else:
            assert [type(result.error) for result in results] == [ValueError]
        origin.settle()
        assert origin.targets() == ["/1", "/2"]


@every_tunnel
def test_the_command_refuses_fields_for_a_proxy(
    kind: Kind, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(network.proxy_authority.ca))
    with both(network, kind) as (origin, proxy):
        options = ["-H", "Proxy-authorization: Basic x", "--cacert", str(network.origin_authority.ca)]
        options += ["--proxy", f"{kind.scheme}://127.0.0.1:{proxy.port}", "-d", str(tmp_path)]
        assert command(["get", *options, url_of(kind, origin.port, "/never")]) != 0
        assert origin.seen == []


@faces_that_differ
def test_trailers_for_a_proxy(face: Face, network: Network) -> None:
    kind = KINDS["tunnel"]
    with both(network, kind) as (origin, proxy):

        async def main() -> None:
            async with network.connection(face, kind, origin.port, proxy.port) as conn:
                with pytest.raises(ValueError):  # noqa: PT011 - that it is refused is what counts
                    await conn.send_request("POST", "/never", None, [b"body"], trailers={"Proxy-Authorization": "x"})

        until(main)
        assert origin.seen == []


# -- what is shown --


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """All is logged, and no secret is in it."""
    caplog.set_level(logging.DEBUG, "httpio")
    yield
    records = caplog.get_records("call")
    assert records
    formatter = logging.Formatter("%(name)s %(levelname)s %(message)s")
    for record in records:
        hidden(f"{formatter.format(record)} {record.args!r} {record.msg}")


def misfortunes(kind: Kind) -> dict[str, Any]:
    """Scripts, and what else can go wrong."""
    found = {
        "hangs": Peer.drain,
        "closes": lambda peer: None,
        "resets": Peer.reset,
        "dies": kind.good(100),
        "good": kind.good(),
    }
    if kind.is_http:
        return found | {
            "refuses": says(b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno"),
            "fails": says(b"HTTP/1.0 502 No\r\n\r\nno", Peer.finish),
            "nonsense": says(b"nonsense\r\n\r\n"),
            "surplus": says(OK + b"surplus"),
        }
    return found | {
        "refuses": socks_says(1, b"\1\1"),
        "fails": socks_says(2, b"\5\5\0\1" + bytes(6)),
        "nonsense": socks_says(1, b"no"),
        "other": socks_says(0, b"\5\xff"),
    }


@faces_that_differ
@every_kind
def test_nothing_shows_credentials(kind: Kind, face: Face, network: Network, logged: None) -> None:
    """Neither objects, nor errors of any kind, nor a log of everything."""
    for script in misfortunes(kind).values():
        with network.origin(kind) as origin, network.proxy(kind, script) as proxy:
            way = network.way(kind, proxy.port)
            hidden(f"{way} {way!r} {way.__class__.__repr__(way)}")

            async def main(origin: Scripted = origin, proxy: Proxy = proxy) -> None:
                options = {"timeout": 0.03, "connect_timeout": 0.03}
                async with network.connection(face, kind, origin.port, proxy.port, **options) as conn:
                    hidden(f"{conn!r} {conn.proxy} {conn.proxy!r}")
                    for use in (talk(conn), anext(conn.pipeline(["/"]))):
                        try:
                            await use
                        except Exception as exc:
                            shown(exc)
                        conn.close()
                items = [url_of(kind, origin.port, "/")]
                options = network.options(kind, proxy.port, **options)
                async for result in face.fetch(items, **options):
                    hidden(repr(result))
                    if result.error is not None:
                        shown(result.error)

            asyncio.run(main())


async def talk(conn: Any) -> None:
    await conn.send_request("GET", "/")
    await conn.read_response()
    await conn.readall()


BAD_URLS = (
    "ftp://the-user:hunter2@proxy", "the-user:hunter2@proxy:1", "http://the-user:hunter2@", "http://the-user:hunter2@:1",
    "http://the-user:hunter2@proxy:x", "http://the-user:hunter2@proxy:99999", "http://the-user:hunter2@a b",
    "http://the-user:hunter2@proxy/path", "http://the-user:hunter2@proxy?a", "http://the-user:hunter2@proxy#a",
    "http://the-user:hunter2@[::1", "http://the-user:hunter2@[1", "http://the-user:hunter2%@proxy",
    "http://the-user:hunter2%00@proxy", "http://the-user:hunter2@proxy@proxy", "http://the-user/hunter2@proxy",
    "http://the-user:hunter2?@proxy", "http://the-user:hunter2#@proxy", "http://proxy:hunter2", "http://hunter2@x:y",
    "socks5://hunter2@proxy", "socks5://the-user:hunter2" + 250 * "2" + "@proxy",
    "http://the-user:hunter2@proxy\r\nX: y",
)  # fmt: skip


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_bad_url_of_a_proxy_is_not_shown(
    url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for use in (
        lambda: httpio.Proxy(url),
        lambda: HTTPConnection("localhost", proxy=url),
        lambda: httpio.AsyncHTTPConnection("localhost", proxy=url),
        lambda: list(httpio.fetch(["http://localhost/"], proxy=url)),
    ):
        with pytest.raises(InvalidURL) as caught:
            use()
        shown(caught.value)
    assert command(["get", "-d", str(tmp_path), "--proxy", url, "http://localhost:1/"]) == 2
    for name in VARIABLES[:3]:
        monkeypatch.setenv(name, url)
    if "://" in url:  # else it is another URL
        with pytest.raises(InvalidURL, match="http_proxy") as caught:
            environment_proxy("http://localhost/")
        shown(caught.value)
        assert command(["get", "-d", str(tmp_path), "--proxy-from-environment", "http://localhost:1/"]) != 0
    text = "".join(capfd.readouterr())
    hidden(text)
    assert "Traceback" not in text


@every_kind
def test_what_a_trace_holds(kind: Kind, network: Network) -> None:
    """It begins behind the talk with a proxy that is only the way; of another it holds what each request held."""
    trace = io.BytesIO()
    with both(network, kind) as (origin, proxy):

        async def main() -> None:
            async with network.connection(FACES["blocking"], kind, origin.port, proxy.port, trace=trace) as conn:
                await ask(conn, "/", **OWN)

        until(main)
    assert b"own-secret" in trace.getvalue()
    assert (BASIC.encode() in trace.getvalue()) == (not kind.tunnels)
    assert b"CONNECT" not in trace.getvalue()
    assert PASSWORD.encode() not in trace.getvalue()


# -- the environment --


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """All variables name this proxy."""
    with Proxy(lambda peer: (KINDS["plain"].good() if peek(peer) == b"G" else KINDS["tunnel"].good())(peer)) as proxy:
        for name in VARIABLES:
            monkeypatch.setenv(name, f"http://{USER}:{PASSWORD}@127.0.0.1:{proxy.port}")
        yield proxy


def peek(peer: Peer) -> bytes:
    """The first byte that comes; it stays."""
    peer.receive()
    return bytes(peer.buffer[:1])


@faces_that_differ
@kinds("plain", "tunnel")
def test_the_environment_is_not_asked(kind: Kind, face: Face, network: Network, named: Proxy, tmp_path: Path) -> None:
    with network.origin(kind) as origin:

        async def main() -> None:
            context = network.client if kind.tls else None
            async with face.connection("localhost", origin.port, context) as conn:
                assert conn.proxy is None
                await ask(conn, "/1")
                assert [response.path async for response in conn.pipeline(["/2"])] == ["/2"]
            items = [url_of(kind, origin.port, "/3")]
            assert [result.content async for result in face.fetch(items, ssl_context=network.client)] == [b"/3"]

        until(main)
        options = ["--cacert", str(network.origin_authority.ca), "-d", str(tmp_path)]
        assert command(["get", *options, url_of(kind, origin.port, "/4")]) == 0
        assert origin.targets() == ["/1", "/2", "/3", "/4"]
        assert named.connections == 0


@faces_that_differ
@kinds("plain", "tunnel")
def test_the_environment_is_asked(
    kind: Kind, face: Face, network: Network, named: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By fetch and the command; NO_PROXY counts for each origin by itself."""
    with network.origin(kind) as origin, network.origin(kind) as other:
        monkeypatch.setenv("no_proxy", f"other.test, localhost:{other.port}")
        items = [url_of(kind, server.port, f"/{number}") for number in range(2) for server in (origin, other)]
        options = {"proxy": environment_proxy, "ssl_context": network.client, "timeout": WAIT}
        assert len([result.content for result in fetched(face, items, options)]) == 4
        assert named.connections == named.tunnels() + (0 if kind.tls else 1) == 1
        told = {seen.target.removeprefix("http://").partition("/")[0] for seen in named.seen}
        assert told == {f"localhost:{origin.port}"}
        assert origin.targets() == other.targets() == ["/0", "/1"]
        words = ["--cacert", str(network.origin_authority.ca), "-d", str(tmp_path), "--proxy-from-environment"]
        assert command(["get", *words, *items]) == 0
        assert named.connections == 2
        assert origin.targets() == other.targets() == ["/0", "/1"] * 2
        monkeypatch.setenv("no_proxy", "*")
        fetched(face, items, options)
        assert command(["get", *words, *items]) == 0
        assert named.connections == 2


def test_a_bad_value_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the error of what needs it."""
    monkeypatch.setenv("http_proxy", "ftp://the-user:hunter2@proxy")
    (result,) = httpio.fetch(["http://localhost:1/"], proxy=environment_proxy)
    assert isinstance(result.error, InvalidURL)
    assert "http_proxy" in str(result.error)
    shown(result.error)
