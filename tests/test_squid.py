"""Through Squid: requests that it passes on, and tunnels; in plain text and in TLS; with and without a password."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from conformance.faces import FACES, Face
from conftest import Authority, ServeSquid
from httpio import HTTPConnection, Proxy, ProxyError, environment_proxy, is_temp_network_error
from proxied import BODY, TARGETS, Origin, ask, collect, converse, run
from servers.program import held_port
from servers.scripted import Peer
from servers.squid import DENIED_PORT, Asked, Squid

LOGIN = ("us er", "w\u00f6rd:@/%")
USERINFO = f"{quote(LOGIN[0], '')}:{quote(LOGIN[1], '')}@"

WAYS = {
    "plain": (False, False),
    "tunnel": (False, True),
    "plain in TLS": (True, False),
    "tunnel in TLS": (True, True),
}
"""Whether there is TLS to the proxy, and to the origin; a tunnel is for the latter."""

BLOCKING_AND_ASYNCIO = ["blocking", "asyncio"]
FETCHES = ["fetch", "afetch"]
COUNT = 200


class Road(NamedTuple):
    """A way through Squid to an origin."""

    squid: Squid
    origin: Origin
    url: str
    """The proxy's, with the user name and password that it wants."""
    context: ssl.SSLContext | None
    tunnelled: bool

    @property
    def proxy(self) -> Proxy:
        return Proxy(self.url, ssl_context=self.context)

    def expected(self, *targets: str, status: int = 200) -> list[tuple[str, int]]:
        """What Squid is asked for by requests on one connection, and how that ends."""
        if self.tunnelled:
            return [(f"CONNECT {self.origin.authority}", status)]
        methods = {"/put": "PUT", "/head": "HEAD"}
        return [(f"{methods.get(target, 'GET')} {self.origin.base}{target}", status) for target in targets]


Build = Callable[..., Road]


@pytest.fixture
def build(authority: Authority, serve_squid: ServeSquid) -> Iterator[Build]:
    """A function that builds the road for one of the WAYS. *userinfo*: what stands in the proxy's URL."""
    with contextlib.ExitStack() as started:

        def start(way: str, login: tuple[str, str] | None = None, userinfo: str | None = None, **options: Any) -> Road:
            secured, tunnelled = WAYS[way]
            squid = serve_squid(login, (authority.chain, authority.key) if secured else None)
            origin = started.enter_context(Origin(authority, tunnelled, **options))
            if userinfo is None:
                userinfo = USERINFO if login else ""
            url = (squid.tls_url if secured else squid.url).replace("://", "://" + userinfo)
            context = ssl.create_default_context(cafile=authority.ca) if secured else None
            return Road(squid, origin, url, context, tunnelled)

        yield start


def shown(asked: list[Asked]) -> list[tuple[str, int]]:
    return [(f"{line.method} {line.target}", line.status) for line in asked]


# -- each face --


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("way", WAYS)
def test_exchanges_with_a_password(way: str, face: str, build: Build) -> None:
    road = build(way, LOGIN)
    run(face, road.origin, road.proxy, converse)
    expected = road.expected(*TARGETS)
    asked = road.squid.asked(len(expected))
    assert shown(asked) == expected
    assert {line.user for line in asked} == {LOGIN[0]}
    assert {line.host for line in asked} == {road.origin.authority}
    assert road.origin.targets() == TARGETS
    assert {seen.field("Host") for seen in road.origin.seen} == {road.origin.authority}
    assert {seen.field("Via") is None for seen in road.origin.seen} == {road.tunnelled}
    road.origin.saw_no_secret()


@pytest.mark.parametrize("way", WAYS)
def test_exchanges_without_a_password(way: str, build: Build) -> None:
    road = build(way)
    run("blocking", road.origin, road.proxy, converse)
    expected = road.expected(*TARGETS)
    asked = road.squid.asked(len(expected))
    assert shown(asked) == expected
    assert {line.user for line in asked} == {"-"}
    assert road.origin.targets() == TARGETS


@pytest.mark.parametrize("way", ["plain", "tunnel"])
def test_a_pair_of_host_and_port(way: str, build: Build) -> None:
    road = build(way)
    run("blocking", road.origin, ("127.0.0.1", road.squid.port), converse)
    assert shown(road.squid.asked(len(road.expected(*TARGETS)))) == road.expected(*TARGETS)


@pytest.mark.parametrize("way", ["plain", "tunnel"])
def test_the_proxy_is_told_names_as_they_are(way: str, build: Build) -> None:
    road = build(way)
    run("blocking", road.origin, road.proxy, converse, "LocalHost")
    name = f"localhost:{road.origin.port}"
    asked = road.squid.asked(len(road.expected(*TARGETS)))
    assert {line.host for line in asked} == {name}
    assert asked[0].target == (name if road.tunnelled else f"http://{name}{TARGETS[0]}")
    assert {seen.field("Host") for seen in road.origin.seen} == {name}


@pytest.mark.parametrize("way", ["plain", "tunnel"])
def test_an_address_of_ip_version_6(way: str, build: Build) -> None:
    road = build(way, six=True)
    run("blocking", road.origin, road.proxy, converse)
    asked = road.squid.asked(len(road.expected(*TARGETS)))
    assert shown(asked) == road.expected(*TARGETS)
    assert {line.host for line in asked} == {road.origin.authority} == {f"[::1]:{road.origin.port}"}


@pytest.mark.parametrize("way", ["plain", "tunnel"])
def test_what_is_known_of_the_ends(way: str, build: Build, authority: Authority) -> None:
    """The peer is the proxy, and the certificate that of the origin."""
    road = build(way)
    with HTTPConnection("localhost", road.origin.port, road.origin.context, road.url, timeout=20) as conn:
        assert conn.proxy == road.url
        conn.connect()
        assert conn.peername == ("127.0.0.1", road.squid.port)
        certificate = conn.get_ssl_peercert()
        assert (certificate is not None) == road.tunnelled
        if isinstance(certificate, dict):
            assert ("DNS", "localhost") in certificate["subjectAltName"]


# -- bodies --

LARGE = BODY * 8


def continues(peer: Peer) -> None:
    """Each body is asked for where that is wanted, and sent back."""
    while (seen := peer.head()) is not None:
        if seen.field("Expect") is not None:
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        peer.answer(peer.take(int(seen.field("Content-Length") or 0)))


@pytest.mark.parametrize("face", BLOCKING_AND_ASYNCIO)
@pytest.mark.parametrize("way", WAYS)
def test_large_bodies_there_and_back(way: str, face: str, build: Build) -> None:
    road = build(way, LOGIN, script=continues)

    async def program(face: Face, conn: Any) -> None:
        for expecting in (False, True):
            await face.call(conn, "send_request", "PUT", "/put", None, LARGE, expecting)
            assert (await face.call(conn, "read_response")).status == 200
            assert await face.call(conn, "readall") == LARGE

    run(face, road.origin, road.proxy, program)
    expected = road.expected("/put", "/put")
    assert shown(road.squid.asked(len(expected))) == expected


@pytest.mark.parametrize("face", BLOCKING_AND_ASYNCIO)
def test_a_body_that_the_proxy_refuses(face: str, build: Build) -> None:
    """Its answer comes while the body is going out, and is the answer."""
    road = build("plain", LOGIN, "us%20er:wrong@")

    async def program(face: Face, conn: Any) -> None:
        await face.call(conn, "send_request", "PUT", "/put", None, LARGE)
        response = await face.call(conn, "read_response")
        assert response.status == 407
        assert b"ERR_CACHE_ACCESS_DENIED" in await face.call(conn, "readall")

    run(face, road.origin, road.proxy, program)
    assert road.origin.connections == 0


# -- many requests --


@pytest.mark.parametrize("face", BLOCKING_AND_ASYNCIO)
@pytest.mark.parametrize("way", WAYS)
def test_pipeline(way: str, face: str, build: Build) -> None:
    road = build(way, LOGIN)
    targets = [f"/{number}" for number in range(COUNT)]

    async def program(face: Face, conn: Any) -> list[tuple[int, str, bytes]]:
        return [(response.status, response.path, response.body) async for response in face.pipeline(conn, targets)]

    found = run(face, road.origin, road.proxy, program)
    assert found == [(200, target, target.encode()) for target in targets]
    assert road.origin.targets() == targets
    expected = road.expected(*targets)
    assert shown(road.squid.asked(len(expected))) == expected
    road.origin.saw_no_secret()


@pytest.mark.parametrize("kind", FETCHES)
@pytest.mark.parametrize("way", WAYS)
def test_fetch(way: str, kind: str, build: Build) -> None:
    road = build(way, LOGIN)
    urls = [f"{road.origin.base}/{number}" for number in range(COUNT)]
    found = collect(kind, urls, proxy=road.proxy, ssl_context=road.origin.context, timeout=20)
    assert list(found) == urls
    assert [(result.status, result.content) for result in found.values()] == [
        (200, f"/{number}".encode()) for number in range(COUNT)
    ]
    expected = road.expected(*road.origin.targets())
    assert shown(road.squid.asked(len(expected))) == expected
    assert len(road.origin.seen) == COUNT
    road.origin.saw_no_secret()


@pytest.mark.parametrize("kind", FETCHES)
def test_fetch_by_the_environment(
    kind: str, build: Build, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each origin by what the variables say of it; the environment is not looked at unasked."""
    road = build("plain", LOGIN)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", road.url)
    with Origin(authority, False) as direct, Origin(authority, True) as secured:
        monkeypatch.setenv("NO_PROXY", f"localhost, {direct.authority}")
        urls = [f"{road.origin.base}/a", f"{direct.base}/b", f"{secured.base}/c"]
        found = collect(kind, urls, proxy=environment_proxy, ssl_context=secured.context, timeout=20)
        assert [(found[url].status, found[url].content) for url in urls] == [(200, b"/a"), (200, b"/b"), (200, b"/c")]
        assert shown(road.squid.asked(1)) == road.expected("/a")
        found = collect(kind, urls, ssl_context=secured.context, timeout=20)
        assert {result.status for result in found.values()} == {200}
        assert [seen.field("Via") is None for seen in road.origin.seen] == [False, True]
        assert len(road.squid.asked(1)) == 1


def closes_each_tenth(peer: Peer) -> None:
    """Nine answers, and one that says that it is the last."""
    for number in range(10):
        seen = peer.request()
        if seen is None:
            return
        peer.answer(seen.target.encode(), fields="Connection: close\r\n" if number == 9 else "")


@pytest.mark.parametrize("kind", ["pipeline", *FETCHES])
@pytest.mark.parametrize("way", ["plain", "tunnel"])
def test_an_origin_that_closes(way: str, kind: str, build: Build) -> None:
    """To go on takes a new tunnel, and where there is none the connection to the proxy stays."""
    road = build(way, LOGIN, script=closes_each_tenth)
    targets = [f"/{number}" for number in range(50)]
    if kind == "pipeline":
        with HTTPConnection("127.0.0.1", road.origin.port, road.origin.context, road.proxy, timeout=20) as conn:
            bodies = [response.body for response in conn.pipeline(targets)]
    else:
        urls = [road.origin.base + target for target in targets]
        found = collect(kind, urls, proxy=road.proxy, ssl_context=road.origin.context, timeout=20)
        bodies = [result.content for result in found.values()]
    assert bodies == [target.encode() for target in targets]
    if way == "tunnel":
        assert shown(road.squid.asked(5))[:5] == road.expected() * 5
    else:
        assert {status for _, status in shown(road.squid.asked(50))} == {200}


# -- the command --


@pytest.mark.parametrize("way", WAYS)
def test_the_command(
    way: str, build: Build, get: Callable[..., CompletedProcess[str]], authority: Authority, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    road = build(way, LOGIN)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))  # what the proxy's certificate is verified against
    done = get([f"{road.origin.base}/{number}" for number in range(20)], tmp_path / "got", "--proxy", road.url)
    assert done.returncode == 0, done.stderr
    assert {path.read_text() for path in (tmp_path / "got").rglob("*") if path.is_file()} == {
        f"/{number}" for number in range(20)
    }
    expected = road.expected(*road.origin.targets())
    assert shown(road.squid.asked(len(expected))) == expected
    road.origin.saw_no_secret()


@pytest.mark.parametrize("way", ["plain", "tunnel"])
def test_the_command_by_the_environment(
    way: str, build: Build, get: Callable[..., CompletedProcess[str]], authority: Authority, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    road = build(way, LOGIN)
    for name in ("http_proxy", "https_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, road.url)
    options = ["--cacert", str(authority.ca)]
    done = get([f"{road.origin.base}/unasked"], tmp_path / "direct", *options)
    assert done.returncode == 0, done.stderr
    done = get([f"{road.origin.base}/asked"], tmp_path / "got", "--proxy-from-environment", *options)
    assert done.returncode == 0, done.stderr
    assert shown(road.squid.asked(1)) == road.expected("/asked")
    assert road.origin.targets() == ["/unasked", "/asked"]


# -- refusals --


async def refused(face: Face, conn: Any) -> tuple[ProxyError, str]:
    """The error of a connection that does not come about, and what the proxy says in its body."""
    with pytest.raises(ProxyError) as caught:
        await face.call(conn, "connect")
    error = caught.value
    assert error.where == "connecting"
    assert error.response.body is not None
    with pytest.raises(ProxyError):  # and so the next time
        await face.call(conn, "send_request", "GET", "/")
    return error, error.response.body.decode()


async def answered(face: Face, conn: Any) -> tuple[HTTPConnection, str]:
    response, body = await ask(face, conn, "/")
    again, _ = await ask(face, conn, "/")
    assert again.status == response.status
    return response, body.decode()


def refusal(road: Road, face: str, proxy: Proxy | None = None) -> tuple[Any, str]:
    """The response by which Squid refuses a request or a tunnel, and its body."""
    if not road.tunnelled:
        found, body = run(face, road.origin, proxy or road.proxy, answered)
        return found, body
    error, body = run(face, road.origin, proxy or road.proxy, refused)
    assert f"{error.response.status}" in str(error)
    assert str(proxy or road.proxy) in str(error)
    assert is_temp_network_error(error) == (error.response.status in (502, 503, 504))
    return error.response, body


@pytest.mark.parametrize("face", BLOCKING_AND_ASYNCIO)
@pytest.mark.parametrize("userinfo", ["", "us%20er:wrong@", "us%20er@"])
@pytest.mark.parametrize("way", ["plain", "tunnel", "tunnel in TLS"])
def test_no_or_a_wrong_password(way: str, userinfo: str, face: str, build: Build) -> None:
    road = build(way, LOGIN, userinfo)
    response, body = refusal(road, face)
    assert response.status == 407
    assert response.headers["Proxy-Authenticate"] == 'Basic realm="tests"'
    assert "ERR_CACHE_ACCESS_DENIED" in body
    assert road.origin.connections == 0


@pytest.mark.parametrize("kind", FETCHES)
@pytest.mark.parametrize("way", ["plain", "tunnel"])
def test_fetch_with_a_wrong_password(way: str, kind: str, build: Build) -> None:
    road = build(way, LOGIN, "us%20er:wrong@")
    urls = [f"{road.origin.base}/{number}" for number in range(20)]
    found = collect(kind, urls, proxy=road.proxy, ssl_context=road.origin.context, timeout=20)
    assert len(found) == 20
    for result in found.values():
        if way == "plain":
            assert (result.status, result.error) == (407, None)
        else:
            assert isinstance(result.error, ProxyError)
            assert result.error.response.status == 407
            assert result.status is None
    assert road.origin.connections == 0
    if way == "tunnel":
        with pytest.raises(ProxyError):
            HTTPConnection("127.0.0.1", 1, road.origin.context, road.proxy, timeout=20).connect()
        first, second = (asked.target for asked in road.squid.asked(2))
        assert first.endswith(f":{road.origin.port}")
        assert second == "127.0.0.1:1"  # a password that was refused was not sent again


@pytest.mark.parametrize("face", BLOCKING_AND_ASYNCIO)
@pytest.mark.parametrize("way", WAYS)
def test_an_origin_that_cannot_be_reached(way: str, face: str, build: Build) -> None:
    road = build(way)
    with held_port() as port:  # nobody listens there
        road.origin.port = port
        response, body = refusal(road, face)
    assert response.status in (502, 503, 504)
    assert "ERR_CONNECT_FAIL" in body


@pytest.mark.parametrize("face", BLOCKING_AND_ASYNCIO)
@pytest.mark.parametrize("way", WAYS)
def test_a_port_to_which_nobody_is_let_through(way: str, face: str, build: Build) -> None:
    road = build(way)
    road.origin.port = DENIED_PORT
    response, body = refusal(road, face)
    assert response.status == 403
    assert "ERR_ACCESS_DENIED" in body
    assert {line.status for line in road.squid.asked(2)} == {403}


@pytest.mark.parametrize("face", BLOCKING_AND_ASYNCIO)
@pytest.mark.parametrize("way", ["plain in TLS", "tunnel in TLS"])
def test_a_proxy_whose_certificate_nobody_vouches_for(way: str, face: str, build: Build) -> None:
    """Without a context of the caller's it is verified, and the origin's context is not the proxy's."""
    road = build(way, LOGIN)

    async def program(face: Face, conn: Any) -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            await face.call(conn, "send_request", "GET", "/")

    run(face, road.origin, road.url, program)
    run("blocking", road.origin, road.proxy, converse)
    expected = road.expected(*TARGETS)
    assert shown(road.squid.asked(len(expected))) == expected
