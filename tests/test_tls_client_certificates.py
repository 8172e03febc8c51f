"""The certificate that this side shows where a server asks for one, and files that cannot be used for it."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bad_certificates import HOST, Certificates
from client_certificates import PASSWORD, Identities, client_of
from httpio import ConnectionClosed, default_context
from httpio.cli import main
from servers.scripted import Peer, Scripted, answers
from servers.tls import Tap, TLSPeer, assert_nothing_said
from tls_ways import FIELDS, SECRET, WAIT, WAYS, Face, every_face, every_name_is_here, faces_that_differ

V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

every_way = pytest.mark.parametrize("way", WAYS)
every_version = pytest.mark.parametrize("version", [V1_2, V1_3], ids=["1.2", "1.3"])

Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    return Identities(tmp_path_factory.mktemp("identities"))


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


def mutual(certificates: Certificates, identities: Identities, version: ssl.TLSVersion = V1_3) -> ssl.SSLContext:
    """A server that wants to know its clients."""
    return identities.demanded_by(certificates.server("plain", version))


@every_way
@every_version
@pytest.mark.parametrize("given", ["default_context", "own context"])
def test_a_client_certificate(
    given: str, version: ssl.TLSVersion, way: str, certificates: Certificates, identities: Identities
) -> None:
    files = identities.files("alice")
    if given == "default_context":
        context = default_context(certificates.ca, certfile=files.certificate, keyfile=files.key)
    else:
        context = certificates.client()
        context.load_cert_chain(files.both)
    tap = Tap(answers, mutual(certificates, identities, version))
    with Scripted(tap) as server:
        assert WAYS[way](HOST, server.port, context) is None
        server.settle(1)
    assert [client_of(peer) for peer in tap.peers] == ["alice"]


FORMS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "two files": lambda files: {"certfile": files.certificate, "keyfile": files.key},
    "names of files": lambda files: {"certfile": str(files.certificate), "keyfile": str(files.key)},
    "one file": lambda files: {"certfile": files.both},
    "password": lambda files: {"certfile": files.certificate, "keyfile": files.locked_key, "password": PASSWORD},
    "password as bytes": lambda files: {
        "certfile": files.certificate,
        "keyfile": files.locked_key,
        "password": PASSWORD.encode(),
    },
    "password from a function": lambda files: {
        "certfile": files.certificate,
        "keyfile": files.locked_key,
        "password": lambda: PASSWORD,
    },
    "password for nothing": lambda files: {"certfile": files.both, "password": PASSWORD},
}


@pytest.mark.parametrize("form", FORMS)
def test_the_forms_of_a_client_certificate(form: str, certificates: Certificates, identities: Identities) -> None:
    context = default_context(certificates.ca, **FORMS[form](identities.files("alice")))
    tap = Tap(answers, mutual(certificates, identities))
    with Scripted(tap) as server:
        assert WAYS["blocking by_request"](HOST, server.port, context) is None
        server.settle(1)
    assert client_of(tap.peers[0]) == "alice"


@pytest.mark.parametrize("form", ["one file", "two files"])
@pytest.mark.parametrize("given", ["--cacert", "SSL_CERT_FILE"])
def test_a_client_certificate_of_the_command(
    given: str,
    form: str,
    certificates: Certificates,
    identities: Identities,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = identities.files("alice")
    options = ["--cert", files.both] if form == "one file" else ["--cert", files.certificate, "--key", files.key]
    if given == "--cacert":
        options += [given, certificates.ca]
    else:
        monkeypatch.setenv(given, str(certificates.ca))
    tap = Tap(answers, mutual(certificates, identities))
    with Scripted(tap) as server:
        assert command(url_of(server), *options) == (0, "")
        server.settle(1)
    assert client_of(tap.peers[0]) == "alice"
    assert (tmp_path / "got" / SECRET[1:]).read_bytes() == SECRET.encode()


@faces_that_differ
def test_it_is_shown_on_each_connection(face: Face, certificates: Certificates, identities: Identities) -> None:
    """Whether it goes on with a session or not."""
    tap = Tap(answers, *(mutual(certificates, identities) for _ in range(2)))
    context = default_context(certificates.ca, identities.files("alice").both)

    async def ask_three_times(port: int) -> None:
        async with face.connection(HOST, port, context, timeout=WAIT) as conn:
            for _ in range(3):
                await conn.send_request("GET", "/1")
                assert ((await conn.read_response()).status, await conn.readall()) == (200, b"/1")
                conn.close()

    with Scripted(tap) as server:
        asyncio.run(ask_three_times(server.port))
        server.settle(3)
    assert [client_of(peer) for peer in tap.peers] == ["alice"] * 3


@faces_that_differ
def test_t_41_each_run_has_its_own_identity(face: Face, certificates: Certificates, identities: Identities) -> None:
    """Two at a time, with one server, which answers with the name."""

    def script(peer: Peer) -> None:
        assert isinstance(peer, TLSPeer)
        while peer.request() is not None:
            peer.answer(client_of(peer).encode())

    tap = Tap(script, mutual(certificates, identities))

    async def main(port: int) -> None:
        runs = []
        for name in ("alice", "bob"):
            context = default_context(certificates.ca, identities.files(name).both)
            items = [f"https://{HOST}:{port}/{name}/{number}" for number in range(3)]
            runs.append(face.fetch(iter(items), ssl_context=context, timeout=WAIT))
        for _ in range(3):
            assert [(await anext(run)).content for run in runs] == [b"alice", b"bob"]
        for run in runs:
            assert [result async for result in run] == []

    with Scripted(tap) as server:
        asyncio.run(main(server.port))
        server.settle(2)
        assert server.connections == 2


REASONS = {
    (None, V1_2): "handshake failure",
    (None, V1_3): "certificate required",
    ("mallory", V1_2): "unknown ca",
    ("mallory", V1_3): "unknown ca",
}
"""What a server says to a client without a certificate, and to one whose certificate it does not know."""


@every_face
@every_version
@pytest.mark.parametrize("who", [None, "mallory"])
def test_a_client_certificate_that_is_refused(
    who: str | None, version: ssl.TLSVersion, face: Face, certificates: Certificates, identities: Identities
) -> None:
    """With TLS 1.3 that is known only when the answer is to come: the handshake is over before."""
    files = None if who is None else identities.files(who, known=False)
    context = default_context(certificates.ca, files and files.both)

    async def ask(port: int) -> Exception:
        async with face.connection(HOST, port, context, timeout=WAIT) as conn:
            with pytest.raises(OSError) as caught:  # noqa: PT011, PT012 - told apart below
                await conn.send_request("GET", SECRET, FIELDS)
                await conn.read_response()
            return caught.value

    tap = Tap(answers, mutual(certificates, identities, version))
    with Scripted(tap) as server:
        error = asyncio.run(ask(server.port))
        server.settle(1)
        assert server.seen == []
    if version == V1_2:
        assert type(error) is ssl.SSLError
        assert_nothing_said(tap.peers[0], b"secret")
    else:
        assert isinstance(error, ConnectionClosed)
        assert isinstance(error.__cause__, ssl.SSLError)
    assert REASONS[who, version] in str(error)


@pytest.mark.parametrize("who", [None, "mallory"])
@every_version
def test_a_client_certificate_of_the_command_that_is_refused(
    version: ssl.TLSVersion, who: str | None, certificates: Certificates, identities: Identities, command: Command
) -> None:
    """Its one line says why."""
    options = [] if who is None else ["--cert", identities.files(who, known=False).both]
    with Scripted(Tap(answers, mutual(certificates, identities, version))) as server:
        status, complaint = command(url_of(server), "--cacert", certificates.ca, *options)
        assert server.seen == []
    assert status == 1
    assert len(complaint.splitlines()) == 1
    assert REASONS[who, version] in complaint


def unusable(what: str, identities: Identities, folder: Path) -> tuple[dict[str, Any], Path]:
    """Arguments for `default_context`, one of them a file that cannot be used; and which one that is."""
    alice, bob = identities.files("alice"), identities.files("bob")
    kind, _, of = what.partition(" ")
    bad = {"missing": folder / "missing.pem", "empty": folder / "empty.pem", "folder": folder}.get(kind)
    if kind == "empty":
        (folder / "empty.pem").write_bytes(b"")
    if of == "cafile":
        return {"cafile": bad}, bad or folder
    if of == "certfile":
        return {"certfile": bad, "keyfile": alice.key}, bad or folder
    if of == "keyfile":
        return {"certfile": alice.certificate, "keyfile": bad}, bad or folder
    if kind == "another's":
        return {"certfile": alice.certificate, "keyfile": bob.key}, bob.key
    if kind == "no":
        return {"certfile": alice.certificate}, alice.certificate
    return {"certfile": alice.certificate, "keyfile": alice.locked_key, "password": "wrong"}, alice.locked_key


UNUSABLE = [
    *(f"{kind} {of}" for of in ("cafile", "certfile", "keyfile") for kind in ("missing", "empty", "folder")),
    "another's key",
    "no key",
]


@pytest.mark.parametrize("what", [*UNUSABLE, "wrong password"])
def test_files_that_cannot_be_used(what: str, identities: Identities, tmp_path: Path) -> None:
    """What the system says comes with the file's name; OpenSSL says of the content what it can."""
    arguments, bad = unusable(what, identities, tmp_path)
    kinds = {"missing": FileNotFoundError, "folder": IsADirectoryError}
    kind = kinds.get(what.partition(" ")[0], ssl.SSLError)
    with pytest.raises(kind) as caught:
        default_context(**arguments)
    assert type(caught.value) is kind
    if kind is not ssl.SSLError:
        assert str(bad) in str(caught.value)


@pytest.mark.parametrize("what", UNUSABLE)
def test_the_command_and_files_that_cannot_be_used(
    what: str, identities: Identities, command: Command, tmp_path: Path
) -> None:
    """Nothing is asked of anybody, and the complaint names the file."""
    arguments, bad = unusable(what, identities, tmp_path)
    names = {"cafile": "--cacert", "certfile": "--cert", "keyfile": "--key"}
    options = [part for name, path in arguments.items() for part in (names[name], path)]
    status, complaint = command("https://127.0.0.1:9/", *options)
    assert status == 2
    assert len(complaint.splitlines()) == 1
    assert str(bad) in complaint
    assert "[Errno" not in complaint
    assert not (tmp_path / "got").exists()


def test_a_key_without_a_certificate(identities: Identities, command: Command) -> None:
    key = identities.files("alice").key
    with pytest.raises((TypeError, ValueError), match="certfile"):
        default_context(keyfile=key)
    status, complaint = command("https://127.0.0.1:9/", "--key", key)
    assert status == 2
    assert "--cert" in complaint


def test_no_password(identities: Identities) -> None:
    """Nobody is asked for it."""
    files = identities.files("alice")
    with pytest.raises(ValueError, match="password"):
        default_context(certfile=files.certificate, keyfile=files.locked_key)


def test_the_command_asks_for_no_password_where_nobody_is(identities: Identities, tmp_path: Path) -> None:
    """A key that is encrypted is a file that cannot be used."""
    files = identities.files("alice")
    options = ["-d", str(tmp_path), "--cert", str(files.certificate), "--key", str(files.locked_key)]
    done = subprocess.run(
        [sys.executable, "-m", "httpio", "get", *options, "https://127.0.0.1:9/"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
    )
    assert done.returncode == 2
    assert "the key has a password" in done.stderr
    assert "Traceback" not in done.stderr
