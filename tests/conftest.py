"""Fixtures that several test files share."""
from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import trustme

from servers import nginx

Serve = Callable[..., nginx.Nginx]


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


@pytest.fixture(scope="session")
def nginx_installed() -> None:
    if not nginx.PROGRAM.exists():
        sentence = f"{nginx.PROGRAM} is missing: install the package nginx."
        if os.environ.get("CI") == "true":
            pytest.fail(sentence)
        pytest.skip(sentence)


@pytest.fixture
def serve(nginx_installed: None, tmp_path: Path) -> Iterable[Serve]:
    """A function that starts nginx, as `nginx.Nginx(root, folder, ...)` without the folder."""
    started: list[nginx.Nginx] = []

    def start(root: Path, **options: object) -> nginx.Nginx:
        folder = tmp_path / f"nginx-{len(started)}"
        folder.mkdir()
        started.append(nginx.Nginx(root, folder, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for server in started:
        server.stop()


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
