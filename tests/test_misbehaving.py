"""`httpio get` against servers that lose requests or connections without a word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from servers.objects import content, sizes
from servers.process import ServerProcess

COUNT = 300

# Connections and requests that the server may see, as a share of the files.
# drops: a silence costs a connection; after a few of them nothing rides behind another request any more.
# closes, resets: a connection carries one answer at most. What rode behind the first request is lost, and a
# reset may take the answer with it; a client that has seen this a few times expects it.
BOUNDS = {"drops": (0.05, 1.2), "closes": (1.05, 1.2), "resets": (1.2, 1.4)}


@pytest.mark.parametrize("mode", sorted(BOUNDS))
def test_all_files_are_right(mode: str, tmp_path: Path, get: Callable[..., CompletedProcess[str]]) -> None:
    wanted = sizes(COUNT, 4000, 100_000, "misbehaving")
    into = tmp_path / "fetched"
    with ServerProcess("misbehaving", mode) as server:
        urls = [f"{server.url}/{number}?size={size}" for number, size in enumerate(wanted)]
        done = get(urls, into, "--timeout", "2", timeout=120)
        counts = server.stop()
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(path.name for path in into.rglob("*")) == sorted(str(number) for number in range(COUNT))
    for number, size in enumerate(wanted):
        assert (into / str(number)).read_bytes() == content(number, size), number
    connections, requests = BOUNDS[mode]
    assert counts["connections"] <= COUNT * connections, counts
    assert counts["requests"] <= COUNT * requests, counts
