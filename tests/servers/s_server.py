"""openssl's own server, for one connection, which sends what it is told on its standard input."""

from __future__ import annotations

import subprocess
from pathlib import Path
from shutil import which
from types import TracebackType

PROGRAM = which("openssl")


class SServer:
    """`with SServer(chain, key, "-tls1_2") as server:` connect to server.port."""

    def __init__(self, chain: Path, key: Path, *options: str) -> None:
        assert PROGRAM is not None
        command = [PROGRAM, "s_server", "-accept", "127.0.0.1:0", "-naccept", "1"]
        command += ["-cert", str(chain), "-key", str(key), *options]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.port = int(self.wait_for(b"ACCEPT ").rpartition(b":")[2])

    def wait_for(self, start: bytes) -> bytes:
        """The next line of its output that begins so."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(start):
                return line
        raise AssertionError(f"openssl ended before it wrote {start!r}")

    def tell(self, data: bytes) -> None:
        """A command, which is a letter and the end of the line; or what is to be sent, if it begins with none."""
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def __enter__(self) -> SServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
