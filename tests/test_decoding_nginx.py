"""nginx that encodes: on the fly, and from files that were encoded before. Decoded, each file is what it was."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from subprocess import CompletedProcess
from urllib.parse import quote

import pytest

import httpio
from codings import gzipped
from conftest import Serve
from httpio import AsyncHTTPConnection, HTTPConnection, Result
from servers.nginx import Nginx

COUNT = 300
STATIC = range(0, COUNT, 3)
"""The numbers of the files that are there encoded, too."""
ENCODES = ["gzip on;", "gzip_types *;", "gzip_min_length 1;", "gzip_static on;"]


def text(number: int) -> bytes:
    """Lines of words, of 0 to 80 kB, mostly few; each number has its own."""
    words = random.Random(number)
    size = 0 if number == 0 else int(words.paretovariate(1.0) * 1000) % 80_000 + 1
    return b" ".join(b"%d" % words.randrange(500) for _ in range(size // 2 + 2))[:size]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    for number in range(COUNT):
        (folder / f"{number:03}.txt").write_bytes(text(number))
        if number in STATIC:
            (folder / f"{number:03}.txt.gz").write_bytes(gzipped(text(number)))
    return folder


@pytest.fixture
def server(root: Path, serve: Serve) -> Nginx:
    return serve(root, directives=ENCODES)


TARGETS = [f"/{number:03}.txt" for number in range(COUNT)]
CONTENTS = [text(number) for number in range(COUNT)]


def assert_encoded(headers: Iterable[httpio.Headers], decode: bool) -> None:
    """The server has encoded all but the empty file, where it was asked to, and said so."""
    codings = [fields["Content-Encoding"] for fields in headers]
    assert codings[1:] == ["gzip" if decode else None] * (COUNT - 1)


@pytest.mark.parametrize("decode", [False, True])
def test_fetch(decode: bool, server: Nginx) -> None:
    results: list[Result] = list(httpio.fetch([server.url + target for target in TARGETS], decode=decode))
    assert [result.error for result in results] == [None] * COUNT
    assert [result.content for result in results] == CONTENTS
    assert_encoded((result.headers for result in results if result.headers is not None), decode)
    lengths = [result.headers["Content-Length"] for result in results if result.headers is not None]
    for number in range(1, COUNT):
        made_before = len(gzipped(CONTENTS[number])) if number in STATIC else None
        wanted = made_before if decode else len(CONTENTS[number])
        assert lengths[number] == (None if wanted is None else str(wanted))
    server.stop()
    assert len({line.connection for line in server.served()}) == 1
    assert server.errors() == []


@pytest.mark.parametrize("body_limit", [1 << 20, 2000])
def test_pipeline(body_limit: int, server: Nginx) -> None:
    headers, found = [], []
    with HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        for response in conn.pipeline(TARGETS, body_limit=body_limit, decode=True):
            body = response.body
            assert body is None or len(body) <= body_limit
            found.append(conn.readall() if body is None else body)
            headers.append(response.headers)
    assert found == CONTENTS
    assert_encoded(headers, True)


def test_one_after_the_other_on_one_connection(server: Nginx) -> None:
    """Decoded, or as they come, in turn."""
    fields = {"Accept-Encoding": httpio.accept_encoding()}

    async def work() -> None:
        async with AsyncHTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
            for number, target in enumerate(TARGETS[:60]):
                await conn.send_request("GET", target, fields if number % 4 else None)
                response = await conn.read_response(decode=number % 2 == 1)
                body = await conn.readall()
                if number % 4 == 2:
                    assert response.headers["Content-Encoding"] == "gzip"
                    assert body[:2] == b"\x1f\x8b"
                else:
                    assert body == CONTENTS[number]

    asyncio.run(work())
    server.stop()
    assert len({line.connection for line in server.served()}) == 1


def test_the_command(
    server: Nginx, root: Path, tmp_path: Path, get: Callable[..., CompletedProcess[str]],
    tree_digest: Callable[[Path], str],
) -> None:  # fmt: skip
    found = []
    for options in ([], ["--compressed"]):
        folder = tmp_path / f"fetched-{len(options)}"
        done = get([server.url + quote(target) for target in TARGETS], folder, *options)
        assert done.returncode == 0, done.stderr
        found.append(tree_digest(folder))
    assert found[0] == found[1]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == dict(
        zip((target[1:] for target in TARGETS), CONTENTS, strict=True)
    )
