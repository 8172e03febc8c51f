"""Runs a server of this folder in a process of its own.

The server is a program. It prints the port as its first line, serves until its standard input ends (so that
it ends with its parent, however that ends), and prints its counts as one line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType


class ServerProcess:
    """`with ServerProcess("misbehaving", "drops") as server:` has a port; `stop` returns the counts."""

    def __init__(self, module: str, *arguments: str) -> None:
        tests = Path(__file__).parent.parent
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"servers.{module}", *arguments],
            cwd=tests, env={**os.environ, "PYTHONPATH": ""},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server {module} ended with status {self._process.wait()}")
        self.port = int(line)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> dict[str, int]:
        """Ends the server; what it counted. May be called once."""
        try:
            output, _ = self._process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise
        return dict(json.loads(output))

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()
