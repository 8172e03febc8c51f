"""The handle on a server in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from httpio.testing.faults import Faults, Stats

__all__ = ["Server"]

_StrPath = str | os.PathLike[str]
_WAIT = 20.0


class Server:
    """An HTTP/1.1 server in a child process, for tests and demonstrations.

    `tls`: False, or the files of a certificate chain and its key, in PEM (a context cannot travel to another
    process). `host`, `port`: where to listen; port 0 takes a free one. `unix_socket`: the path of a Unix
    socket, to be made, to listen on instead. `faults`: what the server shall do wrong.

    Used as a context manager, or with `start` and `stop`. After the start there are `url` (without a slash at
    its end), `host`, `port` (0 for a Unix socket) and `pid`. The child ends with `stop`, and when this
    process ends.

    The server answers `/objects/NUMBER` with `object_bytes(NUMBER, size)`; the query may hold `size` (default
    1024), `chunked=1` and `chunk` (bytes a chunk, default 16384), `status` (200 to 599), `delay` (seconds)
    and `interim` (so many 103 responses before the final one). A PUT or POST there is answered with the
    SHA-256 of the content received, in hex. `/stats` gives the counters as JSON.

    Raises TypeError or ValueError for bad arguments, OSError when the child cannot start or does not come up.
    """

    def __init__(
        self,
        *,
        tls: Literal[False] | tuple[_StrPath, _StrPath] = False,
        host: str = "127.0.0.1",
        port: int = 0,
        unix_socket: _StrPath | None = None,
        faults: Faults | None = None,
    ) -> None:
        if tls is not False and not isinstance(tls, tuple):
            raise TypeError("tls is False or (certificate file, key file)")
        self.host = host
        self.port = port
        self.pid = 0
        self.url = ""
        self._options = ["--until-eof", "--host", host, "--port", str(port)]
        if faults is not None:
            self._options += faults.as_options()
        if tls:
            self._options += ["--certificate", os.path.abspath(tls[0]), "--key", os.path.abspath(tls[1])]
        if unix_socket is not None:
            self._options += ["--unix-socket", os.path.abspath(unix_socket)]
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the child and wait until it listens."""
        if self._process is not None:
            raise ValueError("the server is running")
        package = Path(__file__).resolve().parents[2]
        paths = [str(package), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "httpio.testing", *self._options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        try:
            where = self._read_line()
        except OSError:
            self.stop()
            raise
        self.url, self.host, self.port, self.pid = where["url"], where["host"], where["port"], where["pid"]

    def stop(self) -> None:
        """End the child; without one, do nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_WAIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def stats(self) -> Stats:
        """Return what the server has seen so far. This takes no connection to it."""
        with self._lock:
            if self._process is None or self._process.stdin is None:
                raise ValueError("the server is not running")
            self._process.stdin.write(b"stats\n")
            self._process.stdin.flush()
            return Stats(**self._read_line())

    def _read_line(self) -> dict[str, Any]:
        """Read what the child says. It is killed when it says nothing for too long."""
        process = self._process
        if process is None or process.stdout is None:
            raise ValueError("the server is not running")
        timer = threading.Timer(_WAIT, process.kill)
        timer.start()
        try:
            line = process.stdout.readline()
        finally:
            timer.cancel()
        if not line.endswith(b"\n"):
            raise OSError("the server's process has ended; what it said is on stderr")
        said: dict[str, Any] = json.loads(line)
        return said

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
