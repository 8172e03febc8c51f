"""`httpio get` against nginx: ten thousand files over TCP and TLS, and a server that closes now and then."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from subprocess import CompletedProcess
from urllib.parse import quote

import pytest

from conftest import Authority, Serve
from servers.nginx import Nginx
from servers.objects import content, sizes

COUNT = 10_000

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterable[list[Path]]:
    """The folder that is served, and below it 10,000 files of 0 B to 5 MB, about 500 MB in all."""
    root = tmp_path_factory.mktemp("served")
    made = [root]
    for number, size in enumerate(sizes(COUNT, 50_000, 5_000_000, "nginx")):
        folder = root / f"folder {number % 100:02}" / "é"
        if number < 100:
            folder.mkdir(parents=True)
        path = folder / f"{number:05}.bin"
        path.write_bytes(content(number, size))
        made.append(path)
    yield made
    shutil.rmtree(root)


@pytest.fixture
def into(tmp_path: Path) -> Iterable[Path]:
    """The folder to fetch into; removed at once, for it is large."""
    folder = tmp_path / "fetched"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def urls(server: Nginx, files: list[Path]) -> list[str]:
    root, *paths = files
    return [f"{server.url}/{quote(path.relative_to(root).as_posix())}" for path in paths]


def assert_no_error(done: CompletedProcess[str], server: Nginx) -> None:
    """Status 0, and no line but the summary."""
    assert done.returncode == 0, done.stderr[-2000:]
    assert len((done.stdout + done.stderr).splitlines()) == 1, done.stdout + done.stderr
    assert {line.status for line in server.served()} == {200}
    assert server.errors() == []


def test_the_sizes_are_as_announced(files: list[Path]) -> None:
    found = [path.stat().st_size for path in files[1:]]
    assert len(found) == COUNT
    assert (min(found), max(found)) == (0, 5_000_000)
    assert 480e6 < sum(found) < 520e6


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_all_files_are_identical(
    kind: str, files: list[Path], into: Path, authority: Authority, serve: Serve,
    get: Callable[..., CompletedProcess[str]], tree_digest: Callable[[Path], str],
) -> None:  # fmt: skip
    server = serve(files[0], certificate=(authority.chain, authority.key) if kind == "tls" else None)
    options = ["--cacert", str(authority.ca)] if kind == "tls" else []
    done = get(urls(server, files), into, *options)
    server.stop()
    assert_no_error(done, server)
    assert tree_digest(into) == tree_digest(files[0])
    assert len(server.served()) <= COUNT * 1.05
    assert len({line.connection for line in server.served()}) <= 20


def test_a_server_that_closes_after_100_requests(
    files: list[Path], into: Path, serve: Serve, get: Callable[..., CompletedProcess[str]],
    tree_digest: Callable[[Path], str],
) -> None:  # fmt: skip
    server = serve(files[0], keepalive_requests=100)
    done = get(urls(server, files), into)
    server.stop()
    assert_no_error(done, server)
    assert tree_digest(into) == tree_digest(files[0])
    assert len({line.connection for line in server.served()}) <= 110
    assert len(server.served()) <= COUNT * 1.05


def test_a_certificate_that_nobody_vouches_for(
    files: list[Path], into: Path, authority: Authority, serve: Serve,
    get: Callable[..., CompletedProcess[str]],
) -> None:  # fmt: skip
    server = serve(files[0], certificate=(authority.chain, authority.key))
    done = get(urls(server, files)[:10], into)
    assert done.returncode not in (0, 130)
    assert not [path for path in into.rglob("*") if path.is_file()]
    server.stop()
    assert server.served() == []
