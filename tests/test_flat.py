"""A hundred thousand pipelined responses of all kinds: each matches its request, and memory stays flat."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from servers.flat import plan
from servers.process import ServerProcess

COUNT = 100_000


@pytest.mark.heavy
def test_memory_is_flat() -> None:
    plans = [plan(number) for number in range(COUNT)]
    expected = sum(a.size for a in plans if a.method == "GET" and a.status == 200)
    assert 0.9e9 < expected < 1.1e9
    with ServerProcess("flat") as server:
        program = Path(__file__).with_name("flat_client.py")
        done = subprocess.run(
            [sys.executable, program, str(server.port), str(COUNT)],
            capture_output=True,
            text=True,
            timeout=240,
        )
        counts = server.stop()
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout)
    assert (seen["answered"], seen["bytes"]) == (COUNT, expected)
    assert seen["interim"] == sum(a.interim for a in plans) > 1000
    assert seen["streamed"] > 1000
    assert seen["trailers"] > 1000
    assert counts == {"connections": 1, "requests": COUNT}
    assert seen["last_peak"] - seen["first_peak"] < 8 << 20, seen
