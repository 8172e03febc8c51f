"""What is said in a TLS handshake, and what is held to: `default_context`, ALPN, SNI, client certificates, and whom to
trust where nothing is given."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import httpio
from bad_certificates import A_LABEL, ADDRESS, HOST, IDN, NO_ISSUER, Certificates, Served
from httpio import HTTPConnection, UnsupportedResponse, default_context
from httpio.cli import main
from servers.scripted import Scripted, answers
from servers.tls import ClientHello, Tap, assert_no_request, assert_nothing_said
from tls_ways import (
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

V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

every_way = pytest.mark.parametrize("way", WAYS)
some_ways = pytest.mark.parametrize("way", ["blocking by_request", "asyncio by_request", "asyncio by_fetch"])
every_version = pytest.mark.parametrize("version", [V1_2, V1_3], ids=["1.2", "1.3"])

Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    every_name_is_here(monkeypatch)
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """A function that runs `httpio get` in this process: its exit status, and its complaints."""

    def run(*arguments: str | Path) -> tuple[int, str]:
        options = ["get", "-q", "-d", str(tmp_path / "got")]
        return main([*options, *map(str, arguments)]), capsys.readouterr().err

    return run


def url_of(server: Scripted, host: str = HOST) -> str:
    return f"https://{host}:{server.port}{SECRET}"


def greeted(tap: Tap) -> ClientHello:
    """What the only client has said."""
    (peer,) = tap.peers
    return ClientHello.of(peer)


# -- what the default holds --


def test_the_default_context(certificates: Certificates) -> None:
    context = default_context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert not context.hostname_checks_common_name
    assert context.minimum_version >= V1_2
    assert context.maximum_version == ssl.TLSVersion.MAXIMUM_SUPPORTED
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.verify_flags == ssl.create_default_context().verify_flags
    assert default_context() is not context
    (authority,) = default_context(certificates.ca).get_ca_certs()
    assert dict(entry[0] for entry in authority["subject"]) == {"commonName": "the root"}


def test_a_stricter_default_of_the_system_stays(tmp_path: Path) -> None:
    """Where OpenSSL is told to speak nothing older than TLS 1.3."""
    settings = (
        "openssl_conf = all\n[all]\nssl_conf = tls\n[tls]\nsystem_default = here\n[here]\nMinProtocol = TLSv1.3\n"
    )
    (tmp_path / "openssl.cnf").write_text(settings)
    contexts = "(ssl.create_default_context(), httpio.default_context())"
    program = f"import httpio, ssl; print(*(context.minimum_version for context in {contexts}))"
    environment = {**os.environ, "OPENSSL_CONF": str(tmp_path / "openssl.cnf")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    python, ours = done.stdout.split()
    assert ours == python


@every_way
def test_it_offers_http_1_1(way: str, certificates: Certificates) -> None:
    server_context = certificates.server("plain")
    server_context.set_alpn_protocols(["h2", "http/1.1"])
    tap = Tap(answers, server_context)
    with Scripted(tap) as server:
        assert WAYS[way](HOST, server.port, default_context(certificates.ca)) is None
        server.settle(1)
    assert greeted(tap).protocols == ["http/1.1"]
    assert tap.peers[0].tls.selected_alpn_protocol() == "http/1.1"


@faces_that_differ
def test_fetch_offers_it_by_itself(face: Face, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    tap = Tap(answers, certificates.server("plain"))
    with Scripted(tap) as server:
        assert asyncio.run(by_fetch(face, HOST, server.port, None)) is None
        server.settle(1)
    assert greeted(tap).protocols == ["http/1.1"]


@pytest.mark.parametrize("given", ["--cacert", "SSL_CERT_FILE"])
def test_the_command_offers_it(
    given: str, certificates: Certificates, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    if given == "SSL_CERT_FILE":
        monkeypatch.setenv(given, str(certificates.ca))
    tap = Tap(answers, certificates.server("plain"))
    with Scripted(tap) as server:
        options = [given, certificates.ca] if given == "--cacert" else []
        assert command(url_of(server), *options) == (0, "")
        server.settle(1)
    assert greeted(tap).protocols == ["http/1.1"]


@every_way
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=["1.0", "1.1"])
def test_it_speaks_nothing_older_than_1_2(version: ssl.TLSVersion, way: str, certificates: Certificates) -> None:
    """Not even with ciphers for it."""
    context = default_context(certificates.ca)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    tap = Tap(answers, certificates.server("plain", version))
    with Scripted(tap) as server:
        assert type(WAYS[way](HOST, server.port, context)) is ssl.SSLError
        server.settle(tries(way))
    for peer in tap.peers:
        assert_nothing_said(peer, b"secret")
        supported = ClientHello.of(peer).extensions[43][1:]
        assert {supported[:2], supported[2:]} == {b"\3\3", b"\3\4"}


# -- ALPN --


@every_way
@pytest.mark.parametrize("chosen", ["h2", "http/1.0", "spdy/3.1"])
def test_another_protocol(chosen: str, way: str, certificates: Certificates) -> None:
    server_context = certificates.server("plain")
    server_context.set_alpn_protocols([chosen])
    context = certificates.client()
    context.set_alpn_protocols(["h2", "http/1.1", "http/1.0", "spdy/3.1"])
    tap = Tap(answers, server_context)
    with Scripted(tap) as server:
        error = WAYS[way](HOST, server.port, context)
        server.settle(1)
        assert server.connections <= tries(way)
        assert server.seen == []
    assert isinstance(error, UnsupportedResponse)
    assert error.where == "connecting"
    assert chosen in str(error)
    for peer in tap.peers:
        assert peer.tls.selected_alpn_protocol() == chosen
        assert_no_request(peer)


@every_face
def test_after_another_protocol(face: Face, certificates: Certificates) -> None:
    """The connection can be made again, and descriptors are not lost."""
    wrong, right = certificates.server("plain"), certificates.server("plain")
    wrong.set_alpn_protocols(["h2"])
    right.set_alpn_protocols(["http/1.1"])
    context = certificates.client()
    context.set_alpn_protocols(["h2", "http/1.1"])

    async def main(port: int) -> None:
        async with face.connection(HOST, port, context, timeout=WAIT) as conn:
            with pytest.raises(UnsupportedResponse):
                await conn.connect()
            assert conn.peername is None
            await conn.send_request("GET", SECRET)
            assert ((await conn.read_response()).status, await conn.readall()) == (200, SECRET.encode())

    tap = Tap(answers, wrong, right)
    with Scripted(tap) as server:
        asyncio.run(main(server.port))
        server.settle(2)


@every_way
@pytest.mark.parametrize("served", [None, ["http/1.1"], ["h2", "http/1.1"]], ids=str)
@pytest.mark.parametrize("offered", [None, ["http/1.1", "h2"]], ids=str)
def test_a_context_of_ones_own(
    offered: list[str] | None, served: list[str] | None, way: str, certificates: Certificates
) -> None:
    """It offers what it was given."""
    server_context = certificates.server("plain")
    if served is not None:
        server_context.set_alpn_protocols([name for name in served if offered is None or name == "http/1.1"])
    context = certificates.client()
    if offered is not None:
        context.set_alpn_protocols(offered)
    tap = Tap(answers, server_context)
    with Scripted(tap) as server:
        assert WAYS[way](HOST, server.port, context) is None
        server.settle(1)
    assert greeted(tap).protocols == offered


# -- SNI --

ZONE = "fe80::1%lo"
SEEN_AS = {
    HOST: HOST,
    HOST.upper(): HOST,
    HOST + ".": HOST,
    "a.b.example.test.": "a.b.example.test",
    "localhost": "localhost",
    IDN: A_LABEL,
    IDN + ".": A_LABEL,
    A_LABEL: A_LABEL,
    ADDRESS: None,
    ZONE: None,
}
"""The names that a server is told."""


def of_all(certificates: Certificates, folder: Path, *names: str) -> ssl.SSLContext:
    """A server whose certificate is for these names, or for all those above without a final dot."""
    all_of_them = (HOST, "a.b.example.test", "localhost", A_LABEL, f"ip:{ADDRESS}", "ip:fe80::1", "ip:::1")
    served: Served = certificates.house.by_middle(*(names or all_of_them))
    served.write(folder / "server.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


def in_url(host: str) -> str:
    return f"[{host.replace('%', '%25')}]" if ":" in host else host


@pytest.mark.parametrize("way", ["blocking by_connect", "asyncio by_request", "blocking by_fetch", "asyncio by_fetch"])
@pytest.mark.parametrize("host", SEEN_AS)
def test_the_name_that_the_server_is_told(host: str, way: str, certificates: Certificates, tmp_path: Path) -> None:
    """A name without its final dot (RFC 6066 section 3), no address; the certificate is held to the same."""
    tap = Tap(answers, of_all(certificates, tmp_path))
    asked = in_url(host) if "fetch" in way else host
    with Scripted(tap) as server:
        assert WAYS[way](asked, server.port, default_context(certificates.ca)) is None
        server.settle(1)
    assert greeted(tap).server_name == SEEN_AS[host]


def test_an_ipv6_address(certificates: Certificates, tmp_path: Path) -> None:
    tap = Tap(answers, of_all(certificates, tmp_path))
    context = default_context(certificates.ca)
    with (
        Scripted(tap, path=tmp_path / "socket") as server,
        HTTPConnection("[::1]", 443, context, unix_socket=tmp_path / "socket", timeout=WAIT) as conn,
    ):
        conn.connect()
        conn.close()
        server.settle(1)
    assert greeted(tap).server_name is None


@some_ways
@pytest.mark.parametrize("host", [*SEEN_AS, "www.example.test.."])
def test_the_certificate_of_another(host: str, way: str, certificates: Certificates, tmp_path: Path) -> None:
    """Dot or zone: the name is verified."""
    tap = Tap(answers, of_all(certificates, tmp_path, "other.example.test", "ip:127.0.0.2", "ip:fe80::2"))
    asked = in_url(host) if "fetch" in way else host
    with Scripted(tap) as server:
        if host.endswith(".."):
            with pytest.raises(httpio.InvalidURL):
                WAYS["blocking by_connect"](host, server.port, default_context(certificates.ca))
            return
        error = WAYS[way](asked, server.port, default_context(certificates.ca))
        server.settle(tries(way))
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert error.verify_code in (62, 64)
    for peer in tap.peers:
        assert_nothing_said(peer, b"secret")


# -- whom to trust --


def by_command(command: Command) -> Callable[[str, int, None], OSError | None]:
    """The command as a way to ask, which fails with its complaint."""

    def way(host: str, port: int, _: None) -> OSError | None:
        status, complaint = command(f"https://{host}:{port}{SECRET}")
        assert status == (1 if complaint else 0)
        return ssl.SSLCertVerificationError(complaint) if "certificate verify failed" in complaint else None

    return way


@pytest.fixture(params=["blocking by_fetch", "asyncio by_fetch", "default_context", "command"])
def asks(request: pytest.FixtureRequest, command: Command) -> Callable[[str, int, None], Any]:
    """Where no context or authority is given."""
    if request.param == "command":
        return by_command(command)
    if request.param == "default_context":
        return lambda host, port, _: WAYS["blocking by_request"](host, port, default_context())
    return WAYS[request.param]


def hashed(certificates: Certificates, folder: Path) -> Path:
    """A folder with the authority under the name that OpenSSL looks for."""
    done = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", str(certificates.ca)], capture_output=True, text=True, check=True
    )
    (folder / f"{done.stdout.strip()}.0").write_bytes(certificates.ca.read_bytes())
    return folder


@pytest.mark.parametrize("store", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_the_system_s_store(
    store: str, asks: Any, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = certificates.ca if store == "SSL_CERT_FILE" else hashed(certificates, tmp_path)
    monkeypatch.setenv(store, str(found))
    with Scripted(Tap(answers, certificates.server("plain"))) as server:
        assert asks(HOST, server.port, None) is None
        server.settle(1)
        assert set(server.targets()) == {SECRET}


@pytest.mark.parametrize("store", ["the system's own", "missing", "empty"])
def test_who_is_not_in_the_store(
    store: str, asks: Any, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if store != "the system's own":
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / store))
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "no folder"))
    if store == "empty":
        (tmp_path / store).write_bytes(b"")
    tap = Tap(answers, certificates.server("plain"))
    with Scripted(tap) as server:
        error = asks(HOST, server.port, None)
        server.settle(1)
    assert isinstance(error, ssl.SSLCertVerificationError)
    for peer in tap.peers:
        assert_nothing_said(peer, b"secret")


def test_an_authority_given_is_the_only_one(
    certificates: Certificates, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(certificates.house.stranger.pem)
    tap = Tap(answers, certificates.server("plain"))
    with Scripted(tap) as server:
        error = WAYS["blocking by_request"](HOST, server.port, default_context(stranger))
        assert isinstance(error, ssl.SSLCertVerificationError)
        assert error.verify_code in NO_ISSUER
        status, complaint = command(url_of(server), "--cacert", stranger)
        assert status == 1
        assert "certificate verify failed" in complaint
        server.settle(2)
    for peer in tap.peers:
        assert_nothing_said(peer, b"secret")


def test_t_42_what_others_have_loosened(asks: Any, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """The switch that http.client heeds is none of httpio's."""
    monkeypatch.setattr(ssl, "_create_default_https_context", ssl._create_unverified_context)
    monkeypatch.setenv("PYTHONHTTPSVERIFY", "0")
    tap = Tap(answers, certificates.server("plain"))
    with Scripted(tap) as server:
        assert isinstance(asks(HOST, server.port, None), ssl.SSLCertVerificationError)
        server.settle(1)
    for peer in tap.peers:
        assert_nothing_said(peer, b"secret")
