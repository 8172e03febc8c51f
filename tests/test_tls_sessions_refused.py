"""Where a session is not to be resumed: it shows no certificate again, and so what a context verifies now would be got
round; and it is one connection's."""

from __future__ import annotations

import asyncio
import datetime
import os
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from bad_certificates import HOST, NO_ISSUER, Certificates, Entity
from client_certificates import Identities, client_of
from httpio import HTTPConnection, PollNeeded, Proxy, Request
from servers.scripted import Peer, Scripted, answers
from servers.tls import ClientHello, Tap, assert_nothing_said
from tls_sessions import (
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
)
from tls_ways import FIELDS, SECRET, WAIT, Face, every_face, every_name_is_here, faces_that_differ


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    every_name_is_here(monkeypatch)


# -- verified --


class Change:
    """What a context verifies, before and after. *certificate*: what the server shows, which passes only before."""

    def __init__(self, certificate: str, codes: tuple[int, ...], **facts: tuple[Any, Any]) -> None:
        self.certificate = certificate
        self.codes = codes
        self._facts = facts

    def loosen(self, context: ssl.SSLContext) -> None:
        for name, (before, _) in self._facts.items():
            setattr(context, name, before)

    def tighten(self, context: ssl.SSLContext) -> None:
        for name, (_, after) in reversed(self._facts.items()):
            setattr(context, name, after)


FLAGS = ssl.create_default_context().verify_flags

CHANGES = {
    "verify_mode": Change("untrusted root", NO_ISSUER, check_hostname=(False, False),
                          verify_mode=(ssl.CERT_NONE, ssl.CERT_REQUIRED)),
    "verify_mode and check_hostname": Change("untrusted root", (*NO_ISSUER, 62), check_hostname=(False, True),
                                             verify_mode=(ssl.CERT_NONE, ssl.CERT_REQUIRED)),
    "check_hostname": Change("wrong host", (62,), check_hostname=(False, True)),
    "verify_flags": Change("plain", (3,), verify_flags=(FLAGS, FLAGS | ssl.VERIFY_CRL_CHECK_LEAF)),
    "hostname_checks_common_name": Change("common name only", (62,), hostname_checks_common_name=(True, False)),
}  # fmt: skip
every_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


@faces_that_differ
@each_version
@pytest.mark.parametrize("when", ["closed", "open"])
@every_change
def test_what_is_verified_since_is_verified(
    change: Change, when: str, kind: str, face: Face, certificates: Certificates
) -> None:
    tap = Tap(answers, server_side(certificates, kind, change.certificate))
    context = certificates.client()
    change.loosen(context)

    async def main(port: int) -> None:
        async with connected(face, port, context) as conn:
            await ask(conn, "/1")
            conn.close()
            await ask(conn, "/2")
            if when == "closed":
                conn.close()
            change.tighten(context)
            for _ in range(2):
                with pytest.raises(ssl.SSLCertVerificationError) as caught:
                    await conn.connect()
                assert caught.value.verify_code in change.codes
            change.loosen(context)
            await ask(conn, "/3")

    with Scripted(tap) as server:
        asyncio.run(main(server.port))
        server.settle(5)
        assert server.targets() == ["/1", "/2", "/3"]
    assert resumed(tap)[:2] == [False, True]
    assert [len(tickets) for tickets in offered(tap)] == [0, 1, 0, 0, 0]
    for peer in tap.peers[2:4]:
        assert_nothing_said(peer, b"secret")


@faces_that_differ
@every_change
def test_what_is_verified_since_is_verified_by_fetch_and_a_pipeline(
    change: Change, face: Face, certificates: Certificates
) -> None:
    """They connect anew by themselves."""

    async def fetched(port: int, context: ssl.SSLContext) -> Exception:
        items = [f"https://{HOST}:{port}/1", *[Request("GET", f"https://{HOST}:{port}{SECRET}", FIELDS)] * 3]
        results = face.fetch(items, ssl_context=context, timeout=WAIT)
        assert (await anext(results)).content == b"/1"
        change.tighten(context)
        go_on.set()
        (error,) = {result.error async for result in results}
        return error

    async def piped(port: int, context: ssl.SSLContext) -> Exception:
        async with connected(face, port, context) as conn:
            responses = conn.pipeline(["/1", *[Request("GET", SECRET, FIELDS)] * 3], depth=1)
            assert (await anext(responses)).body == b"/1"
            change.tighten(context)
            go_on.set()
            with pytest.raises(ssl.SSLCertVerificationError) as caught:
                await anext(responses)
            return caught.value

    def ends_when_told(peer: Peer) -> None:
        assert peer.request() is not None
        peer.answer(b"/1")
        assert go_on.wait(WAIT)
        peer.finish()
        peer.drain()

    for main in (fetched, piped):
        go_on = threading.Event()
        tap = Tap(ends_when_told, server_side(certificates, "1.3", change.certificate))
        context = certificates.client()
        change.loosen(context)
        with Scripted(tap) as server:
            error = asyncio.run(main(server.port, context))
            server.settle(2)
        assert isinstance(error, ssl.SSLCertVerificationError)
        assert error.verify_code in change.codes
        for peer in tap.peers[1:]:
            assert ClientHello.of(peer).tickets == []
            assert_nothing_said(peer, b"secret")


@each_version
@every_change
def test_changed_in_the_handshake(change: Change, kind: str, certificates: Certificates) -> None:
    """The session is of what was verified in it."""
    seen, go_on = threading.Event(), threading.Event()
    inner = Tap(answers, server_side(certificates, kind, change.certificate))

    def script(peer: Peer) -> None:
        if peer.number == 0:
            peer.sock.recv(1, 2)  # the first byte of the ClientHello, which stays there
            seen.set()
            assert go_on.wait(WAIT)
        inner(peer)

    context = certificates.client()
    change.loosen(context)
    with (
        Scripted(script) as server,
        HTTPConnection(HOST, server.port, context, timeout=WAIT, connect_timeout=WAIT) as conn,
    ):
        step = conn.co_connect()
        need: PollNeeded | None = next(step)
        while not seen.is_set() and not go_on.is_set():
            if need.poll(0.01):
                need = next(step)
        change.tighten(context)
        go_on.set()
        while need is not None:
            need.poll()
            need = next(step, None)
        conn.send_request("GET", "/1")
        assert conn.read_response().status == 200
        conn.discard()
        with pytest.raises(ssl.SSLCertVerificationError):
            conn.connect()
        server.settle(2)
        assert server.targets() == ["/1"]
    assert offered(inner) == [[], []]


@faces_that_differ
@every_change
def test_what_is_verified_since_of_a_proxy(change: Change, face: Face, certificates: Certificates) -> None:
    """Its context is another than the origin's: neither session stands for the other's verification."""
    inside = Tap(answers, server_side(certificates))
    tunnel = Tunnel("https", inside, server_side(certificates, "1.3", change.certificate))
    context = certificates.client()
    change.loosen(context)

    async def main(proxy: Proxy) -> None:
        async with connected(face, 443, certificates.client(), proxy=proxy) as conn:
            for target in ("/1", "/2"):
                await ask(conn, target)
                conn.close()
            change.tighten(context)
            with pytest.raises(ssl.SSLCertVerificationError) as caught:
                await conn.send_request("GET", SECRET, FIELDS)
            assert caught.value.verify_code in change.codes

    assert tunnel.outside is not None
    with Scripted(tunnel.script) as server:
        asyncio.run(main(tunnel.proxy(server, context)))
        server.settle(3)
        assert server.targets() == [f"{HOST}:443", "/1", f"{HOST}:443", "/2"]
    assert_nothing_said(tunnel.outside.peers[2], b"CONNECT")


@faces_that_differ
@every_change
def test_what_is_verified_since_inside_a_tunnel(change: Change, face: Face, certificates: Certificates) -> None:
    inside = Tap(answers, server_side(certificates, "1.3", change.certificate))
    tunnel = Tunnel("https", inside, server_side(certificates))
    context = certificates.client()
    change.loosen(context)

    async def main(proxy: Proxy) -> None:
        async with connected(face, 443, context, proxy=proxy) as conn:
            for target in ("/1", "/2"):
                await ask(conn, target)
                conn.close()
            change.tighten(context)
            with pytest.raises(ssl.SSLCertVerificationError):
                await conn.send_request("GET", SECRET, FIELDS)

    with Scripted(tunnel.script) as server:
        asyncio.run(main(tunnel.proxy(server, certificates.client())))
        server.settle(3)
    assert resumed(inside)[:2] == [False, True]
    assert_nothing_said(inside.peers[2], b"secret")


def list_of_revocations(certificates: Certificates, path: Path, year: int, *revoked: Entity) -> Path:
    """The intermediate's, as of that year."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(certificates.house.middle.certificate.subject)
        .last_update(datetime.datetime(year, 1, 1))
        .next_update(datetime.datetime(2100, 1, 1))
    )
    for entity in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(entity.certificate.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(datetime.datetime(year, 1, 1)).build())
    path.write_bytes(builder.sign(certificates.house.middle.key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return path


@faces_that_differ
@each_version
def test_revoked_since(kind: str, face: Face, certificates: Certificates, tmp_path: Path) -> None:
    """The context has been given a list of revocations: a connection that is made later is held to it."""
    tap = Tap(answers, server_side(certificates, kind))
    context = certificates.client()
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    context.load_verify_locations(list_of_revocations(certificates, tmp_path / "old.pem", 2001))
    revoked = certificates.served("plain").chain[0]

    async def main(port: int) -> None:
        async with connected(face, port, context) as conn:
            await ask(conn, "/1")
            conn.close()
            context.load_verify_locations(list_of_revocations(certificates, tmp_path / "new.pem", 2002, revoked))
            with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
                await conn.send_request("GET", SECRET, FIELDS)

    with Scripted(tap) as server:
        asyncio.run(main(server.port))
        server.settle(2)
        assert server.targets() == ["/1"]


# -- whose it is not --


@faces_that_differ
@every_kind
def test_another_connection_has_its_own(kind: str, face: Face, certificates: Certificates) -> None:
    """Whatever they share: the context, and the host."""
    tap = Tap(answers, server_side(certificates, kind))
    context = certificates.client()

    async def main(port: int) -> None:
        for target in ("/1", "/2"):
            async with connected(face, port, context) as conn:
                await ask(conn, target)
        async with connected(face, port, context) as one, connected(face, port, context) as other:
            await ask(one, "/3")
            one.close()
            await ask(other, "/4")
            other.close()
            await ask(one, "/5")

    with Scripted(tap) as server:
        asyncio.run(main(server.port))
        server.settle(5)
    assert resumed(tap) == [False] * 4 + [True]
    assert offered(tap)[:4] == [[]] * 4


@faces_that_differ
@each_version
def test_another_run_and_another_host_have_their_own(kind: str, face: Face, certificates: Certificates) -> None:
    """Two names of one server, with one certificate, and two runs of `fetch`."""
    tap = Tap(answers_two("/last"), server_side(certificates, kind, "wildcard"))
    context = certificates.client()
    hosts = (HOST, "mail.example.test")

    async def main(port: int) -> None:
        for _ in range(2):
            items = [f"https://{host}:{port}{target}" for host in hosts for target in TARGETS[:4]]
            results = [result async for result in face.fetch(items, ssl_context=context, timeout=WAIT)]
            assert all(result.ok for result in results)

    with Scripted(tap) as server:
        asyncio.run(main(server.port))
        server.settle(8)
    hellos = [ClientHello.of(peer) for peer in tap.peers]
    for host in hosts:
        mine = [number for number, hello in enumerate(hellos) if hello.server_name == host]
        assert [number for number in mine if not hellos[number].tickets] == [mine[0], mine[len(mine) // 2]]
    given = {host: {ticket for hello in hellos if hello.server_name == host for ticket in hello.tickets}
             for host in hosts}  # fmt: skip
    assert not given[hosts[0]] & given[hosts[1]]


# -- who this side is --


@every_face
@every_kind
@pytest.mark.parametrize("first", ["alice", "nobody"])
def test_t_41_a_resumed_session_keeps_the_identity(
    first: str, kind: str, face: Face, certificates: Certificates, tmp_path: Path
) -> None:
    """A context does not tell which certificate it has. Who changes it takes a connection that is new, too."""
    identities = Identities(tmp_path)
    tap = Tap(answers, identities.demanded_by(server_side(certificates, kind), ssl.CERT_OPTIONAL))
    context = certificates.client()
    if first != "nobody":
        context.load_cert_chain(identities.files(first).both)

    async def main(port: int) -> None:
        async with connected(face, port, context) as conn:
            await ask(conn, "/1")
            context.load_cert_chain(identities.files("bob").both)
            conn.close()
            await ask(conn, "/2")
        async with connected(face, port, context) as conn:
            await ask(conn, "/3")

    with Scripted(tap) as server:
        asyncio.run(main(server.port))
        server.settle(3)
    assert resumed(tap) == [False, True, False]
    assert [client_of(peer) for peer in tap.peers] == [first, first, "bob"]


# -- forks --

FORKS = """
import os, ssl, sys
from httpio import HTTPConnection

def ask(target):
    conn.send_request("GET", target)
    assert conn.read_response().status == 200
    assert conn.readall() == target.encode()

conn = HTTPConnection("127.0.0.1", int(sys.argv[1]), ssl.create_default_context(cafile=sys.argv[2]), timeout=20)
ask("/1")
if sys.argv[3] == "closed":
    conn.close()
pid = os.fork()
if pid == 0:
    ask("/child")
    conn.close()
    ask("/child-again")
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
conn.close()
ask("/parent")
conn.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@every_kind
@pytest.mark.parametrize("when", ["closed", "open"])
def test_a_session_stays_with_the_parent(when: str, kind: str, certificates: Certificates) -> None:
    """Two processes do not show the same ticket."""
    tap = Tap(answers, server_side(certificates, kind, "address"))
    with Scripted(tap) as server:
        arguments = [sys.executable, "-c", FORKS.replace("/child-again", "/child-again")]
        done = subprocess.run(
            [*arguments, str(server.port), str(certificates.ca), when], capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()
        server.settle(4)
        assert server.targets() == ["/1", "/child", "/child-again", "/parent"]
    assert_each_offered_once(tap)
    assert resumed(tap) == [False, False, True, True]
