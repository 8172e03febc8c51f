"""Fixtures that several test files share."""

from __future__ import annotations

import hashlib
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import settings

import httpio.window
from servers import apache, haproxy, nginx, socks, squid
from servers.process import ServerProcess
from servers.scripted import WAIT, server_context

Serve = Callable[..., nginx.Nginx]
ServeApache = Callable[..., apache.Apache]
ServeHAProxy = Callable[..., haproxy.HAProxy]
ServeSquid = Callable[..., squid.Squid]
ServeSocks = Callable[..., socks.Socks]
Contexts = tuple[ssl.SSLContext | None, ssl.SSLContext | None]
"""For TLS the server's and the client's; None for both without."""


settings.register_profile("patient", deadline=None)  # how long an example takes is the machine's matter
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def patience() -> Iterable[None]:
    """A pipeline takes a second without an answer for a loss, and on a busy machine a server's thread may not run for a
    second. A test that is about this limit sets its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpio.window, "FIRST_PATIENCE", WAIT)
        yield


class Authority:
    """A certificate authority of the test's own, and a certificate for 127.0.0.1 and localhost."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        self.ca, self.chain, self.key = folder / "ca.pem", folder / "chain.pem", folder / "key.pem"
        authority.cert_pem.write_to_path(self.ca)
        certificate.private_key_pem.write_to_path(self.key)
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(self.chain, append=True)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=["plain", "tls"])
def contexts(request: pytest.FixtureRequest, authority: Authority) -> Contexts:
    """A test with this is run without TLS, and with it."""
    if request.param == "plain":
        return None, None
    return server_context(authority.chain, authority.key), ssl.create_default_context(cafile=authority.ca)


def need(found: bool, name: str) -> None:
    """Skip the test when a server is missing; where CI=true, fail."""
    if not found:
        sentence = f"{name} is missing: install it."
        if os.environ.get("CI") == "true":
            pytest.fail(sentence)
        pytest.skip(sentence)


@pytest.fixture(scope="session")
def nginx_installed() -> None:
    need(nginx.PROGRAM.exists(), f"{nginx.PROGRAM} (package nginx)")


@pytest.fixture
def serve(nginx_installed: None, tmp_path: Path) -> Iterable[Serve]:
    """A function that starts nginx, as `nginx.Nginx(root, folder, ...)` without the folder."""
    with ExitStack() as started:

        def start(root: Path, **options: Any) -> nginx.Nginx:
            return started.enter_context(nginx.Nginx(root, new_folder(tmp_path, "nginx"), **options))

        yield start


@pytest.fixture
def serve_apache(tmp_path: Path) -> Iterable[ServeApache]:
    """A function that starts Apache, as `apache.Apache(folder, directives)` without the folder."""
    need(apache.PROGRAM.exists(), f"{apache.PROGRAM} (package apache2)")
    with ExitStack() as started:
        yield lambda directives: started.enter_context(apache.Apache(new_folder(tmp_path, "apache"), directives))


@pytest.fixture
def serve_haproxy(tmp_path: Path) -> Iterable[ServeHAProxy]:
    """A function that starts HAProxy, as `haproxy.HAProxy(folder, behind, ...)` without the folder."""
    need(haproxy.PROGRAM.exists(), f"{haproxy.PROGRAM} (package haproxy)")
    with ExitStack() as started:

        def start(behind: int, directives: Iterable[str] = ()) -> haproxy.HAProxy:
            return started.enter_context(haproxy.HAProxy(new_folder(tmp_path, "haproxy"), behind, directives))

        yield start


@pytest.fixture
def serve_squid() -> Iterable[ServeSquid]:
    """A function that starts Squid, as `squid.Squid(login, certificate)`."""
    need(squid.PROGRAM.exists(), f"{squid.PROGRAM} (package squid-openssl)")
    with ExitStack() as started:
        yield lambda *args, **options: started.enter_context(squid.Squid(*args, **options))


@pytest.fixture
def serve_socks(tmp_path: Path) -> Iterable[ServeSocks]:
    """A function that starts microsocks, as `socks.Socks(folder, login)` without the folder."""
    need(socks.PROGRAM.exists(), f"{socks.PROGRAM} (package microsocks)")
    with ExitStack() as started:
        yield lambda login=None: started.enter_context(socks.Socks(new_folder(tmp_path, "socks"), login))


@pytest.fixture
def uvicorn() -> Iterable[ServerProcess]:
    """uvicorn with the application of `servers/uvicorn.py`."""
    need(find_spec("uvicorn") is not None, "The Python package uvicorn")
    with ServerProcess("uvicorn") as server:
        yield server


def new_folder(parent: Path, name: str) -> Path:
    folder = parent / f"{name}-{sum(1 for _ in parent.iterdir())}"
    folder.mkdir()
    return folder


@pytest.fixture
def get(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs `httpio get -i LIST -d FOLDER OPTIONS...` in a process of its own."""

    def run(
        urls: Iterable[str], folder: Path, *options: str, timeout: float = 300.0
    ) -> subprocess.CompletedProcess[str]:
        listed = tmp_path / "list.txt"
        listed.write_text("".join(f"{url}\n" for url in urls))
        command = [sys.executable, "-m", "httpio", "get", "-i", str(listed), "-d", str(folder), *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout)

    return run


@pytest.fixture(scope="session")
def tree_digest() -> Callable[[Path], str]:
    """A function that gives one SHA-256 for all files below a folder: their names and their content."""

    def digest(folder: Path) -> str:
        total = hashlib.sha256()
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix().encode()
            total.update(b"%d:%s" % (len(name), name) + hashlib.sha256(path.read_bytes()).digest())
        return total.hexdigest()

    return digest
