"""A connection that replaces another goes on with its TLS session (RFC 8446 section 2.2)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bad_certificates import HOST, Certificates
from httpio import ConnectionClosed, Proxy, UnsupportedResponse
from httpio.cli import main as command
from servers.scripted import Peer, Scripted, answers
from servers.tls import Tap, TLSPeer, assert_no_request
from tls_sessions import (
    ENDS,
    KINDS,
    TARGETS,
    Tunnel,
    answers_two,
    ask,
    assert_each_offered_once,
    connected,
    each_version,
    every_kind,
    offered,
    resumed,
    server_side,
    tickets_of,
)
from tls_ways import FIELDS, SECRET, WAIT, Face, every_face, every_name_is_here, faces_that_differ


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    every_name_is_here(monkeypatch)


# -- resumed --


def obliges(peer: Peer) -> None:
    """Answers, unless it is asked to end the connection; after ``/last`` it wants no more, and ``/held`` is not
    answered."""
    while (seen := peer.request()) is not None:
        if seen.target in ENDS:
            ENDS[seen.target](peer)
            return
        last = seen.target == "/last"
        if seen.target != "/held":
            peer.answer(seen.target.encode(), fields="Connection: close\r\n" * last)
        if last:
            peer.drain()


async def closed(conn: Any) -> None:
    conn.close()


async def connected_anew(conn: Any) -> None:
    await conn.connect()


async def told_to_close(conn: Any) -> None:
    await ask(conn, "/last")
    await conn.connect()


async def aborted(conn: Any) -> None:
    await conn.send_request("GET", "/held")
    conn.abort()
    with pytest.raises(ConnectionClosed):
        await conn.read_response()
    await conn.connect()


def ended_by_peer(how: str) -> Callable[[Any], Any]:
    async def ended(conn: Any) -> None:
        await conn.send_request("GET", how)
        with pytest.raises(ConnectionClosed):
            await conn.read_response()
        await conn.connect()

    return ended


REPLACED: dict[str, Callable[[Any], Any]] = {
    "closed": closed,
    "connected anew": connected_anew,
    "told to close": told_to_close,
    "aborted": aborted,
    **{how: ended_by_peer(how) for how in ENDS},
}


@every_face
@every_kind
@pytest.mark.parametrize("how", REPLACED)
def test_by_hand(how: str, kind: str, face: Face, certificates: Certificates) -> None:
    tap = Tap(obliges, server_side(certificates, kind))

    async def main(port: int) -> None:
        async with connected(face, port, certificates.client()) as conn:
            await ask(conn, "/first")
            facts = await conn.get_ssl_peercert(), await conn.get_ssl_cipher()
            assert facts[0]["subjectAltName"] == (("DNS", HOST),)
            for number in range(2):
                await REPLACED[how](conn)
                await ask(conn, f"/{number}")
                assert (await conn.get_ssl_peercert(), await conn.get_ssl_cipher()) == facts

    with Scripted(tap) as server:
        asyncio.run(main(server.port))
        server.settle(3)
        assert server.connections == 3
    # OpenSSL's server forgets a session that did not end as it should, once it has seen that.
    forgotten = how == "aborted" and kind in ("1.3 once", "1.2 id")
    assert forgotten or resumed(tap) == [False, True, True]
    if kind.startswith("1.3"):
        assert_each_offered_once(tap)


every_end = pytest.mark.parametrize("how", ["/last", "/finish", "/notify"])


@faces_that_differ
@each_version
@every_end
def test_by_a_pipeline(how: str, kind: str, face: Face, certificates: Certificates) -> None:
    tap = Tap(answers_two(how), server_side(certificates, kind))

    async def main(port: int) -> None:
        async with connected(face, port, certificates.client()) as conn:
            assert [answer.path async for answer in conn.pipeline(TARGETS)] == TARGETS

    with Scripted(tap) as server:
        asyncio.run(main(server.port))
        server.settle(3)
    assert resumed(tap)[:3] == [False, True, True]
    assert all(resumed(tap)[1:])


@faces_that_differ
@each_version
@every_end
def test_by_fetch(how: str, kind: str, face: Face, certificates: Certificates) -> None:
    tap = Tap(answers_two(how), server_side(certificates, kind))

    async def main(port: int) -> None:
        items = [f"https://{HOST}:{port}{target}" for target in TARGETS]
        results = [result async for result in face.fetch(items, ssl_context=certificates.client(), timeout=WAIT)]
        assert sorted(result.content for result in results) == [target.encode() for target in TARGETS]

    with Scripted(tap) as server:
        asyncio.run(main(server.port))
        server.settle(3)
    assert resumed(tap)[:3] == [False, True, True]
    assert all(resumed(tap)[1:])


def test_by_the_command(certificates: Certificates, tmp_path: Path) -> None:
    tap = Tap(answers_two("/last"), server_side(certificates))
    with Scripted(tap) as server:
        urls = [f"https://{HOST}:{server.port}{target}" for target in TARGETS]
        assert command(["get", "-q", "-d", str(tmp_path), "--cacert", str(certificates.ca), *urls]) == 0
        server.settle(3)
    assert resumed(tap)[:3] == [False, True, True]


@every_face
@each_version
def test_over_a_unix_socket(kind: str, face: Face, certificates: Certificates, tmp_path: Path) -> None:
    tap = Tap(answers, server_side(certificates, kind))

    async def main() -> None:
        async with connected(face, 443, certificates.client(), unix_socket=tmp_path / "socket") as conn:
            for target in TARGETS[:2]:
                await ask(conn, target)
                conn.close()

    with Scripted(tap, path=tmp_path / "socket") as server:
        asyncio.run(main())
        server.settle(2)
    assert resumed(tap) == [False, True]


every_tunnel = pytest.mark.parametrize("scheme", ["http", "https"])


@every_face
@each_version
@every_tunnel
def test_by_hand_through_a_tunnel(scheme: str, kind: str, face: Face, certificates: Certificates) -> None:
    tunnel = Tunnel(scheme, Tap(obliges, server_side(certificates, kind)), server_side(certificates, kind))

    async def main(proxy: Proxy) -> None:
        async with connected(face, 443, certificates.client(), proxy=proxy) as conn:
            await ask(conn, "/1")
            conn.close()
            await ask(conn, "/last")
            await conn.connect()
            await ask(conn, "/3")

    with Scripted(tunnel.script) as server:
        asyncio.run(main(tunnel.proxy(server, certificates.client())))
        server.settle(3)
        assert server.targets().count(f"{HOST}:443") == 3
    assert resumed(tunnel.inside) == [False, True, True]
    if kind == "1.3":
        assert_each_offered_once(tunnel.inside)
    if tunnel.outside is not None:
        assert resumed(tunnel.outside) == [False, True, True]
        assert not set(tickets_of(tunnel.inside)) & set(tickets_of(tunnel.outside))


@every_face
@each_version
def test_with_a_proxy_alone(kind: str, face: Face, certificates: Certificates) -> None:
    """The origin has no TLS, and the proxy has."""
    tap = Tap(answers, server_side(certificates, kind))

    async def main(port: int) -> None:
        proxy = Proxy(f"https://{HOST}:{port}", ssl_context=certificates.client())
        async with face.connection(HOST, 80, timeout=WAIT, proxy=proxy) as conn:
            for _ in range(3):
                await conn.send_request("GET", "/1")
                assert ((await conn.read_response()).status, await conn.readall()) == (200, f"http://{HOST}/1".encode())
                conn.close()

    with Scripted(tap) as server:
        asyncio.run(main(server.port))
        server.settle(3)
    assert resumed(tap) == [False, True, True]


@faces_that_differ
@every_tunnel
@every_end
def test_by_fetch_and_pipeline_through_a_tunnel(how: str, scheme: str, face: Face, certificates: Certificates) -> None:
    async def fetched(proxy: Proxy) -> None:
        items = [f"https://{HOST}{target}" for target in TARGETS]
        results = face.fetch(items, ssl_context=certificates.client(), timeout=WAIT, proxy=proxy)
        assert sorted([result.content async for result in results]) == [target.encode() for target in TARGETS]

    async def piped(proxy: Proxy) -> None:
        async with connected(face, 443, certificates.client(), proxy=proxy) as conn:
            assert [answer.path async for answer in conn.pipeline(TARGETS)] == TARGETS

    for main in (fetched, piped):
        tunnel = Tunnel(scheme, Tap(answers_two(how), server_side(certificates)), server_side(certificates))
        with Scripted(tunnel.script) as server:
            asyncio.run(main(tunnel.proxy(server, certificates.client())))
            server.settle(3)
        assert resumed(tunnel.inside)[:3] == [False, True, True]


# -- tickets --


@every_face
def test_a_ticket_is_offered_once(face: Face, certificates: Certificates) -> None:
    """Where none has come in its place, the next handshake is a full one."""
    context = server_side(certificates)
    tap = Tap(answers, context)

    async def main(port: int) -> None:
        async with connected(face, port, certificates.client()) as conn:
            await ask(conn, "/1")
            context.num_tickets = 0
            for target in ("/2", "/3"):
                conn.close()
                await ask(conn, target)
            context.num_tickets = 1
            for target in ("/4", "/5"):
                conn.close()
                await ask(conn, target)

    with Scripted(tap) as server:
        asyncio.run(main(server.port))
        server.settle(5)
    assert_each_offered_once(tap)
    assert resumed(tap) == [False, True, False, False, True]


@every_face
def test_no_tickets(face: Face, certificates: Certificates) -> None:
    context = server_side(certificates)
    context.num_tickets = 0
    tap = Tap(answers, context)

    async def main(port: int) -> None:
        async with connected(face, port, certificates.client()) as conn:
            for target in TARGETS[:3]:
                await ask(conn, target)
                conn.close()

    with Scripted(tap) as server:
        asyncio.run(main(server.port))
        server.settle(3)
    assert offered(tap) == [[]] * 3
    assert resumed(tap) == [False] * 3


@every_face
@every_kind
def test_closed_before_a_ticket_is_here(kind: str, face: Face, certificates: Certificates) -> None:
    """A ticket of TLS 1.3 comes after the handshake, with the first answer: here that is never read."""
    tap = Tap(answers, server_side(certificates, kind))

    async def main(port: int) -> None:
        async with connected(face, port, certificates.client()) as conn:
            for _ in range(2):
                await conn.connect()
                conn.close()
            await ask(conn, "/3")
            conn.close()
            await ask(conn, "/4")

    with Scripted(tap) as server:
        asyncio.run(main(server.port))
        server.settle(4)
        assert server.targets() == ["/3", "/4"]
    assert resumed(tap)[3] is True


@every_face
@every_kind
@pytest.mark.parametrize("after", [*KINDS, "1.3 without tickets"])
def test_the_server_starts_anew(after: str, kind: str, face: Face, certificates: Certificates) -> None:
    """With other keys, and perhaps another version of TLS: it does not know the session, and says who it is."""
    second = server_side(certificates, after)
    if "without" in after:
        second.num_tickets = 0
    tap = Tap(answers, server_side(certificates, kind), second)

    async def main(port: int) -> None:
        async with connected(face, port, certificates.client()) as conn:
            for target in TARGETS[:4]:
                await ask(conn, target)
                assert await conn.get_ssl_peercert()
                conn.close()

    with Scripted(tap) as server:
        asyncio.run(main(server.port))
        server.settle(4)
        assert server.connections == 4
    assert resumed(tap) == [False, False, *[second.num_tickets > 0] * 2]


@faces_that_differ
@each_version
def test_the_server_starts_anew_under_fetch_and_a_pipeline(kind: str, face: Face, certificates: Certificates) -> None:
    async def fetched(port: int) -> None:
        items = [f"https://{HOST}:{port}{target}" for target in TARGETS]
        results = face.fetch(items, ssl_context=certificates.client(), timeout=WAIT)
        assert sorted([result.content async for result in results]) == [target.encode() for target in TARGETS]

    async def piped(port: int) -> None:
        async with connected(face, port, certificates.client()) as conn:
            assert [answer.path async for answer in conn.pipeline(TARGETS)] == TARGETS

    for main in (fetched, piped):
        tap = Tap(answers_two("/last"), *(server_side(certificates, kind) for _ in range(3)))
        with Scripted(tap) as server:
            asyncio.run(main(server.port))
            server.settle(3)
        assert resumed(tap)[:3] == [False] * 3


@faces_that_differ
def test_a_version_that_is_too_old_now(face: Face, certificates: Certificates) -> None:
    """What was raised in the context since holds, session or not."""
    server_context = certificates.server("plain")
    tap = Tap(answers, server_context)
    context = certificates.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    async def main(port: int) -> None:
        async with connected(face, port, context) as conn:
            await ask(conn, "/1")
            conn.close()
            context.maximum_version = context.minimum_version = ssl.TLSVersion.TLSv1_3
            await ask(conn, "/2")
            assert (await conn.get_ssl_cipher())[1] == "TLSv1.3"

    with Scripted(tap) as server:
        asyncio.run(main(server.port))
        server.settle(2)
    assert resumed(tap) == [False, False]


# -- ends that leave none --


@every_face
@pytest.mark.parametrize("before", ["nothing", "a session"])
def test_a_failed_handshake_leaves_none(before: str, face: Face, certificates: Certificates) -> None:
    good = server_side(certificates)
    tap = Tap(
        answers, *([good] if before == "a session" else []), server_side(certificates, "1.3", "untrusted root"), good
    )

    async def main(port: int) -> None:
        async with connected(face, port, certificates.client()) as conn:
            if before == "a session":
                await ask(conn, "/1")
                conn.close()
            with pytest.raises(ssl.SSLCertVerificationError):
                await conn.connect()
            await ask(conn, "/2")

    with Scripted(tap) as server:
        asyncio.run(main(server.port))
        server.settle(2 + (before == "a session"))
    assert offered(tap)[-1] == []
    assert resumed(tap)[-1] is False


@every_face
def test_a_handshake_given_up_leaves_none(face: Face, certificates: Certificates) -> None:
    """In the middle of it, and after a session."""
    inner = Tap(answers, server_side(certificates))
    conns = []

    def script(peer: Peer) -> None:
        if peer.number == 1:
            peer.receive()
            conns[0].abort()
            peer.drain()
        else:
            inner(peer)

    async def main(port: int) -> None:
        async with connected(face, port, certificates.client()) as conn:
            conns.append(conn)
            await ask(conn, "/1")
            with pytest.raises(ConnectionClosed):
                await conn.connect()
            for target in ("/2", "/3"):
                await ask(conn, target)
                conn.close()

    with Scripted(script) as server:
        asyncio.run(main(server.port))
        server.settle(4)
    assert resumed(inner) == [False, False, True]


@every_face
@each_version
def test_an_alert_ends_the_session(kind: str, face: Face, certificates: Certificates) -> None:
    """A session that ended in a fatal alert MUST NOT be resumed (RFC 5246 section 7.2.2), and a ticket of it SHOULD be
    forgotten (RFC 8446 section 6.2)."""

    def script(peer: Peer) -> None:
        assert isinstance(peer, TLSPeer)
        while (seen := peer.request()) is not None:
            if seen.target == "/alert":
                peer.alert()
                return peer.drain_raw()
            peer.answer(seen.target.encode())
        return None

    tap = Tap(script, server_side(certificates, kind))

    async def main(port: int) -> None:
        async with connected(face, port, certificates.client()) as conn:
            await ask(conn, "/1")
            await conn.send_request("GET", "/alert")
            with pytest.raises(ConnectionClosed):
                await conn.read_response()
            await conn.connect()
            await ask(conn, "/2")

    with Scripted(tap) as server:
        asyncio.run(main(server.port))
        server.settle(2)
    assert offered(tap)[1] == []
    assert resumed(tap) == [False, False]


@every_face
@each_version
def test_the_protocol_of_a_resumed_session(kind: str, face: Face, certificates: Certificates) -> None:
    """It is chosen anew."""
    server_context = server_side(certificates, kind)
    server_context.set_alpn_protocols(["http/1.1"])
    tap = Tap(answers, server_context)
    context = certificates.client()
    context.set_alpn_protocols(["h2", "http/1.1"])

    async def main(port: int) -> None:
        async with connected(face, port, context) as conn:
            await ask(conn, "/1")
            conn.close()
            server_context.set_alpn_protocols(["h2"])
            with pytest.raises(UnsupportedResponse):
                await conn.send_request("GET", SECRET, FIELDS)

    with Scripted(tap) as server:
        asyncio.run(main(server.port))
        server.settle(2)
    assert resumed(tap) == [False, True]
    assert_no_request(tap.peers[1])
