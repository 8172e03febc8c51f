"""A peer that cannot be verified hears nothing of a request: T-40, T-41 and T-42."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bad_certificates import ADDRESS, BAD, GOOD, HOST, Certificates
from httpio import ConnectionClosed, HTTPConnection, Request
from httpio.cli import main
from servers.scripted import Peer, Scripted, answers
from servers.tls import Tap, TLSPeer, assert_nothing_said, record_kinds
from tls_ways import (
    FIELDS,
    SECRET,
    WAIT,
    WAYS,
    Face,
    by_fetch,
    every_face,
    every_name_is_here,
    faces_that_differ,
    tries,
)

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

OF_THE_OLD_VERSION = ("blocking by_request", "asyncio by_request")
SHORT_OF_ALL = (*OF_THE_OLD_VERSION, "blocking by_fetch", "asyncio by_fetch", "blocking by_pipeline")

every_way = pytest.mark.parametrize(
    ("way", "version"), [(way, "1.3") for way in WAYS] + [(way, "1.2") for way in OF_THE_OLD_VERSION]
)
enough_ways = pytest.mark.parametrize(
    ("way", "version"), [(way, version) for way in OF_THE_OLD_VERSION for version in VERSIONS]
)
some_ways = pytest.mark.parametrize("way", SHORT_OF_ALL)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    every_name_is_here(monkeypatch)


def refused(way: str, script: Callable[[Peer], None], host: str, context: ssl.SSLContext) -> OSError:
    """The error with which a way ends; the server sees one connection for each time that it may be tried."""
    with Scripted(script) as server:
        error = WAYS[way](host, server.port, context)
        server.settle(tries(way))
        assert server.connections == tries(way)
        assert server.seen == []
    assert error is not None
    return error


# -- T-40: certificates --


@every_way
@pytest.mark.parametrize("kind", BAD)
def test_t_40_a_bad_certificate(kind: str, way: str, version: str, certificates: Certificates) -> None:
    bad = BAD[kind]
    tap = Tap(answers, certificates.server(kind, bad.version or VERSIONS[version]))
    error = refused(way, tap, certificates.served(kind).host, certificates.client(kind))
    if bad.codes:
        assert isinstance(error, ssl.SSLCertVerificationError)
        assert error.verify_code in bad.codes
    else:
        assert type(error) is ssl.SSLError
    for peer in tap.peers:
        assert_nothing_said(peer, b"secret")


@enough_ways
@pytest.mark.parametrize("kind", GOOD)
def test_a_good_certificate(kind: str, way: str, version: str, certificates: Certificates) -> None:
    tap = Tap(answers, certificates.server(kind, VERSIONS[version]))
    with Scripted(tap) as server:
        assert WAYS[way](certificates.served(kind).host, server.port, certificates.client(kind)) is None
        server.settle(1)
        assert server.connections == 1
    (peer,) = tap.peers
    assert peer.received
    assert b"secret" not in peer.raw
    assert record_kinds(peer) <= {20, 21, 22, 23}


# -- T-40: protocols and ciphers --

WEAK: dict[str, tuple[ssl.TLSVersion, str]] = {
    "TLS 1.0": (ssl.TLSVersion.TLSv1, "DEFAULT"),
    "TLS 1.1": (ssl.TLSVersion.TLSv1_1, "DEFAULT"),
    "NULL": (ssl.TLSVersion.TLSv1_2, "eNULL:!aNULL"),
    "anonymous": (ssl.TLSVersion.TLSv1_2, "aNULL:!eNULL"),
    "anonymous NULL": (ssl.TLSVersion.TLSv1_2, "aNULL+eNULL"),
}
"""What OpenSSL's server can be made to speak."""


@some_ways
@pytest.mark.parametrize("kind", WEAK)
def test_t_40_a_server_that_speaks_nothing_better(kind: str, way: str, certificates: Certificates) -> None:
    version, ciphers = WEAK[kind]
    context = certificates.server("plain", version, ciphers)
    assert {cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"}
    tap = Tap(answers, context)
    error = refused(way, tap, HOST, certificates.client())
    assert type(error) is ssl.SSLError
    for peer in tap.peers:
        assert_nothing_said(peer, b"secret")


SUITES = {
    "RC4": (0x0005, 0xC011, 0xC007),
    "3DES": (0x000A, 0x0016, 0xC012, 0xC008),
    "DES": (0x0009,),
    "export": (0x0003, 0x0008),
    "NULL": (0x0000, 0x0001, 0x003B, 0xC010),
    "anonymous": (0x0018, 0x001B, 0x0034, 0x006C, 0xC018),
}
"""By number, from the registry of TLS: what no OpenSSL serves any more, too."""

TLS_1_2 = b"\3\3"
SOUND_SUITE = 0xC02B
"""TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"""

HELLOS = {
    **{f"{name} {suite:04x}": (TLS_1_2, suite, b"") for name, suites in SUITES.items() for suite in suites},
    "SSL 3": (b"\3\0", 0xC009, b""),
    "TLS 1.0": (b"\3\1", 0xC009, b""),
    "TLS 1.1": (b"\3\2", 0xC009, b""),
    "no such version": (b"\3\5", SOUND_SUITE, b""),
    "TLS 1.2 of one who had 1.3": (TLS_1_2, SOUND_SUITE, b"DOWNGRD\1"),
    "TLS 1.1 of one who had 1.2": (TLS_1_2, SOUND_SUITE, b"DOWNGRD\0"),
}


def server_hello(version: bytes, suite: int, end_of_random: bytes) -> bytes:
    """A ServerHello (RFC 5246 section 7.4.1.3) in its record, whatever the client has offered."""
    random = bytes(range(32 - len(end_of_random))) + end_of_random
    renegotiation_info = bytes.fromhex("0005ff01000100")
    body = version + random + b"\0" + suite.to_bytes(2, "big") + b"\0" + renegotiation_info
    message = b"\2" + len(body).to_bytes(3, "big") + body
    return b"\x16" + version + len(message).to_bytes(2, "big") + message


@some_ways
@pytest.mark.parametrize("kind", [*HELLOS, "sound"])
def test_t_40_a_server_that_chooses_what_was_not_offered(kind: str, way: str, certificates: Certificates) -> None:
    hello = server_hello(*HELLOS.get(kind, (TLS_1_2, SOUND_SUITE, b"")))
    context = certificates.server("plain")
    peers = []

    def script(peer: Peer) -> None:
        tls = TLSPeer(peer, context)
        peers.append(tls)
        tls.raw += tls.sock.recv(65536)
        tls.sock.sendall(hello)
        tls.finish()
        tls.drain_raw()

    error = refused(way, script, HOST, certificates.client())
    # The sound one is not refused: the client waits for the certificate.
    assert type(error) is (ConnectionClosed if kind == "sound" else ssl.SSLError)
    for peer in peers:
        assert_nothing_said(peer, b"secret")


def test_over_a_unix_socket(certificates: Certificates, tmp_path: Path) -> None:
    """The host's name is verified there, too."""
    for kind in ("plain", "wrong host"):
        tap = Tap(answers, certificates.server(kind))
        path = tmp_path / kind
        with (
            Scripted(tap, path=path) as server,
            HTTPConnection(HOST, 443, certificates.client(), unix_socket=path, timeout=WAIT) as conn,
        ):
            if kind == "plain":
                conn.send_request("GET", SECRET)
                assert conn.read_response().status == 200
                conn.discard()
            else:
                with pytest.raises(ssl.SSLCertVerificationError):
                    conn.send_request("GET", SECRET, FIELDS)
                server.settle(1)
                assert_nothing_said(tap.peers[0], b"secret")


# -- T-42: what is verified once is verified each time --

SECOND = ("wrong host", "untrusted root", "expired")


def facts_of(context: ssl.SSLContext) -> tuple[object, ...]:
    """What a context verifies."""
    return (
        context.check_hostname,
        context.verify_mode,
        context.verify_flags,
        context.options,
        context.minimum_version,
        context.hostname_checks_common_name,
    )


@pytest.fixture
def context(certificates: Certificates) -> Iterator[ssl.SSLContext]:
    """The client's; nobody changes it."""
    made = certificates.client()
    before = facts_of(made)
    assert before[:2] == (True, ssl.CERT_REQUIRED)
    yield made
    assert facts_of(made) == before


async def ask(conn: Any, target: str) -> None:
    await conn.send_request("GET", target, FIELDS)
    assert ((await conn.read_response()).status, await conn.readall()) == (200, target.encode())


@every_face
@pytest.mark.parametrize("kind", SECOND)
@pytest.mark.parametrize("how", ["close", "disconnect", "reset", "connect"])
def test_t_42_connected_anew_by_hand(
    how: str, kind: str, face: Face, certificates: Certificates, context: ssl.SSLContext
) -> None:
    good = certificates.server("plain")
    tap = Tap(answers, good, certificates.server(kind), good)

    async def main(port: int) -> None:
        async with face.connection(HOST, port, context, timeout=WAIT) as conn:
            await ask(conn, "/1")
            if how != "connect":
                getattr(conn, how)()
            with pytest.raises(ssl.SSLCertVerificationError):
                await (conn.connect() if how == "connect" else conn.send_request("GET", SECRET, FIELDS))
            assert conn.outstanding == ()
            await ask(conn, "/2")

    with Scripted(tap) as server:
        asyncio.run(main(server.port))
        server.settle(3)
        assert server.targets() == ["/1", "/2"]
    assert_nothing_said(tap.peers[1], b"secret")


def answers_once_with_close(peer: Peer) -> None:
    assert peer.request() is not None
    peer.answer(b"/1", fields="Connection: close\r\n")
    peer.drain()


def answers_once(peer: Peer) -> None:
    assert peer.request() is not None
    peer.answer(b"/1")
    peer.finish()


def answers_once_and_notifies(peer: Peer) -> None:
    assert peer.request() is not None
    peer.answer(b"/1")
    peer.notify()


def answers_once_and_a_half(peer: Peer) -> None:
    assert peer.request() is not None
    peer.answer(b"/1")
    assert peer.request() is not None
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    peer.finish()


def answers_once_and_resets(peer: Peer) -> None:
    assert peer.request() is not None
    peer.answer(b"/1")
    assert peer.request() is not None
    peer.reset()


LOSSES = [
    answers_once, answers_once_with_close, answers_once_and_notifies, answers_once_and_a_half, answers_once_and_resets,
]  # fmt: skip
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda script: script.__name__)


class Losing:
    """The first connection ends as *loss* has it; those behind it behave, but for their certificates."""

    def __init__(self, loss: Callable[[Peer], None], certificates: Certificates, kind: str) -> None:
        self._loss = loss
        self.tap = Tap(self._run, certificates.server("plain"), certificates.server(kind))

    def _run(self, peer: Peer) -> None:
        (answers if peer.number else self._loss)(peer)

    def assert_only_the_first_heard(self, server: Scripted, tried: int) -> None:
        server.settle(1 + tried)
        assert server.connections == 1 + tried
        assert server.targets()[0] == "/1"
        assert server.targets().count(SECRET) == len(server.seen) - 1 <= 2
        for peer in self.tap.peers[1:]:
            assert_nothing_said(peer, b"secret")


@faces_that_differ
@pytest.mark.parametrize("kind", SECOND)
@every_loss
def test_t_42_connected_anew_by_a_pipeline(
    loss: Callable[[Peer], None], kind: str, face: Face, certificates: Certificates, context: ssl.SSLContext
) -> None:
    losing = Losing(loss, certificates, kind)

    async def main(port: int) -> None:
        async with face.connection(HOST, port, context, timeout=WAIT) as conn:
            responses = conn.pipeline([Request("GET", path, FIELDS) for path in ("/1", SECRET, SECRET)])
            assert (await anext(responses)).body == b"/1"
            with pytest.raises(ssl.SSLCertVerificationError):
                await anext(responses)
            assert conn.outstanding == ()

    with Scripted(losing.tap) as server:
        asyncio.run(main(server.port))
        losing.assert_only_the_first_heard(server, 1)


@faces_that_differ
@pytest.mark.parametrize("kind", SECOND)
@every_loss
def test_t_42_connected_anew_by_fetch(
    loss: Callable[[Peer], None], kind: str, face: Face, certificates: Certificates, context: ssl.SSLContext
) -> None:
    losing = Losing(loss, certificates, kind)

    async def main(port: int) -> None:
        items = [Request("GET", f"https://{HOST}:{port}{path}", FIELDS) for path in ("/1", SECRET, SECRET)]
        results = [result async for result in face.fetch(items, ssl_context=context, timeout=WAIT)]
        assert [result.content for result in results] == [b"/1", None, None]
        for result in results[1:]:
            assert isinstance(result.error, ssl.SSLCertVerificationError)

    with Scripted(losing.tap) as server:
        asyncio.run(main(server.port))
        losing.assert_only_the_first_heard(server, 2)


# -- T-42: contexts that httpio makes --

NEED_A_LIST = {kind for kind in BAD if "revo" in kind}
"""A list of revocations is a matter of the caller's context."""
FOR_ALL = [kind for kind in BAD if kind not in NEED_A_LIST]
FOR_ALL_GOOD = [kind for kind in GOOD if "revo" not in kind]


@faces_that_differ
@pytest.mark.parametrize("kind", FOR_ALL)
def test_t_42_the_context_of_fetch(
    kind: str, face: Face, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where none is given: RFC 9110 section 4.3.4 has no use for a common name, either."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    tap = Tap(answers, certificates.server(kind, BAD[kind].version))
    with Scripted(tap) as server:
        error = asyncio.run(by_fetch(face, certificates.served(kind).host, server.port, None))
        server.settle(2)
    assert isinstance(error, ssl.SSLError)
    for peer in tap.peers:
        assert_nothing_said(peer, b"secret")


@faces_that_differ
@pytest.mark.parametrize("kind", FOR_ALL_GOOD)
def test_the_context_of_fetch_is_of_use(
    kind: str, face: Face, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    with Scripted(Tap(answers, certificates.server(kind))) as server:
        assert asyncio.run(by_fetch(face, certificates.served(kind).host, server.port, None)) is None


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, dict[str, bytes]]]:
    """A function that runs `httpio get` in this process: its exit status, its complaints, and the files it left."""

    def run(*arguments: str) -> tuple[int, str, dict[str, bytes]]:
        folder = tmp_path / "got"
        status = main(["get", "--no-progress", "-d", str(folder), "-H", "Authorization: the-secret", *arguments])
        found = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return status, capsys.readouterr().err, found

    return run


@pytest.mark.parametrize("given", ["--cacert", "SSL_CERT_FILE"])
@pytest.mark.parametrize("kind", [*FOR_ALL, "plain"])
def test_t_42_the_command(
    kind: str, given: str, certificates: Certificates, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [given, str(certificates.ca)] if given == "--cacert" else []
    if not options:
        monkeypatch.setenv(given, str(certificates.ca))
    bad = BAD.get(kind)
    tap = Tap(answers, certificates.server(kind, bad and bad.version))
    with Scripted(tap) as server:
        status, complaint, files = command(f"https://{certificates.served(kind).host}:{server.port}{SECRET}", *options)
        server.settle(1 if bad is None else 2)
        if bad is None:
            assert (status, complaint, files) == (0, "", {SECRET[1:]: SECRET.encode()})
            return
        assert server.connections <= 2
    assert (status, files) == (1, {})
    assert len(complaint.splitlines()) == 1
    assert ("certificate verify failed" if bad.codes else "excessive message size") in complaint
    for peer in tap.peers:
        assert_nothing_said(peer, b"secret")


@every_loss
def test_t_42_the_command_connects_anew(loss: Callable[[Peer], None], certificates: Certificates, command: Any) -> None:
    losing = Losing(loss, certificates, "wrong host")
    with Scripted(losing.tap) as server:
        base = f"https://{HOST}:{server.port}"
        status, complaint, files = command(
            base + "/1", base + SECRET, base + SECRET + "-2", "--cacert", str(certificates.ca)
        )
        losing.assert_only_the_first_heard(server, 2)
    assert (status, files) == (1, {"1": b"/1"})
    assert complaint.count("certificate verify failed") == len(complaint.splitlines()) == 2


@pytest.mark.parametrize("option", ["-k", "--insecure", "--no-check-certificate", "--no-verify"])
def test_t_42_the_command_has_no_way_round(option: str, command: Any) -> None:
    status, complaint, files = command("https://127.0.0.1:9/", option)
    assert (status, files) == (2, {})
    assert "unrecognized arguments" in complaint


def test_t_42_the_command_in_a_process_of_its_own(certificates: Certificates, tmp_path: Path) -> None:
    """With nothing but its defaults, and a switch in the environment that is http.client's."""
    tap = Tap(answers, certificates.server("address"))
    environment = {**os.environ, "PYTHONHTTPSVERIFY": "0"}
    environment.pop("SSL_CERT_FILE", None)
    with Scripted(tap) as server:
        url = f"https://{ADDRESS}:{server.port}{SECRET}"
        command = [sys.executable, "-m", "httpio", "get", "-d", str(tmp_path), url]
        refused = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        server.settle(2)
        assert "certificate verify failed" in refused.stderr
        assert refused.returncode == 1
        for peer in tap.peers:
            assert_nothing_said(peer, b"secret")
        environment["SSL_CERT_FILE"] = str(certificates.ca)
        assert subprocess.run(command, env=environment, capture_output=True, timeout=60).returncode == 0
    assert (tmp_path / SECRET[1:]).read_bytes() == SECRET.encode()


# -- T-41: no connection of one context, host or scheme is another's --


@faces_that_differ
def test_t_41_each_run_has_its_own_connections(face: Face, certificates: Certificates, context: ssl.SSLContext) -> None:
    """One that trusts the server is in the midst of it when one comes that does not."""
    tap = Tap(answers, certificates.server("plain"))
    stranger = ssl.create_default_context()

    async def main(port: int) -> None:
        urls = [f"https://{HOST}:{port}/{number}" for number in range(3)]
        trusting = face.fetch(iter(urls), ssl_context=context, timeout=WAIT)
        assert (await anext(trusting)).content == b"/0"
        distrusting = [result.error async for result in face.fetch(urls, ssl_context=stranger, timeout=WAIT)]
        assert [type(error) for error in distrusting] == [ssl.SSLCertVerificationError] * 3
        assert [result.content async for result in trusting] == [b"/1", b"/2"]

    with Scripted(tap) as server:
        asyncio.run(main(server.port))
        server.settle(3)
        assert server.connections == 3
        assert server.targets() == ["/0", "/1", "/2"]
    assert [peer.received > 0 for peer in tap.peers] == [True, False, False]


@faces_that_differ
def test_t_41_each_host_is_verified(face: Face, certificates: Certificates, context: ssl.SSLContext) -> None:
    """Hosts with one address and port: a host is told to the server and verified as it was asked for."""
    asked: list[str | None] = []
    server_side = certificates.server("plain")
    server_side.sni_callback = lambda sock, name, context: asked.append(name)
    tap = Tap(answers, server_side)
    hosts = [HOST, "mail.example.test", HOST.upper(), "example.test"]

    async def main(port: int) -> list[Any]:
        urls = [f"https://{host}:{port}/{host}" for host in hosts]
        results = face.fetch(urls, ssl_context=context, timeout=WAIT)
        return sorted([result async for result in results], key=lambda result: urls.index(result.request))

    with Scripted(tap) as server:
        results = asyncio.run(main(server.port))
        server.settle(5)
        assert sorted(server.targets()) == sorted(f"/{host}" for host in (HOST, HOST.upper()))
    assert [result.ok for result in results] == [True, False, True, False]
    assert {name: asked.count(name) for name in asked} == {HOST: 1, "mail.example.test": 2, "example.test": 2}


@faces_that_differ
def test_t_41_https_never_goes_over_http(face: Face, certificates: Certificates, context: ssl.SSLContext) -> None:
    """Both schemes at one port."""
    server_side = certificates.server("plain")
    plain: list[str] = []

    def script(peer: Peer) -> None:
        if peer.sock.recv(1, socket.MSG_PEEK) == b"\x16":
            return Tap(answers, server_side)(peer)
        while (seen := peer.request()) is not None:
            plain.append(seen.target)
            peer.answer(seen.target.encode())

    async def main(port: int) -> None:
        urls = [f"http{'s' * (number % 2)}://{HOST}:{port}/{number}" for number in range(6)]
        results = [result async for result in face.fetch(urls, ssl_context=context, timeout=WAIT)]
        assert all(result.ok for result in results)
        assert len(results) == len(urls)

    with Scripted(script) as server:
        asyncio.run(main(server.port))
        server.settle(2)
        assert server.connections == 2
        assert len(server.targets()) == 6
    assert plain == ["/0", "/2", "/4"]
