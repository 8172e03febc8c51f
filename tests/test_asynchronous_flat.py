"""A hundred thousand objects through afetch, from an asynchronous iterable: memory stays flat."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from httpio.testing import Server
from loops import KINDS

COUNT = 100_000


@pytest.mark.heavy
@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_flat(kind: str) -> None:
    with Server() as server:
        program = Path(__file__).with_name("afetch_client.py")
        command = [sys.executable, str(program), server.url, str(COUNT), kind]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout)
    assert (seen["answered"], seen["bytes"]) == (COUNT, sum(number % 2000 for number in range(COUNT)))
    assert seen["last_peak"] - seen["first_peak"] < 8 << 20, seen
