"""nginx from Debian's package, in the foreground, with a configuration of its own in a folder of its own."""
from __future__ import annotations

import grp
import os
import pwd
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

PROGRAM = Path("/usr/sbin/nginx")

CONFIGURATION = """\
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 512; }}
http {{
    sendfile on;
    tcp_nopush on;
    types {{ }}
    default_type application/octet-stream;
    log_format counted '$connection $status $request_uri';
    access_log {folder}/access.log counted;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port}{ssl};
        root {root};
        {options}
    }}
}}
"""


class Served(NamedTuple):
    """A line of the access log: the connection's number, the status, the request target."""

    connection: int
    status: int
    target: str


class Nginx:
    """`with Nginx(root, folder) as server:` serves the files below `root` at `server.url`.

    folder: an empty one, for all that nginx writes. certificate: (chain, key) as PEM files, for TLS.
    keepalive_requests: after how many requests nginx closes a connection; None leaves its default, 1000.
    """

    def __init__(
        self, root: Path, folder: Path, *, certificate: tuple[Path, Path] | None = None,
        keepalive_requests: int | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder
        options = []
        if certificate:
            options += [f"ssl_certificate {certificate[0]};", f"ssl_certificate_key {certificate[1]};"]
        if keepalive_requests is not None:
            options.append(f"keepalive_requests {keepalive_requests};")
        # nginx takes over a listening socket from whoever starts it: no race for a port.
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            port = listener.getsockname()[1]
            self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{port}"
            configuration = folder / "nginx.conf"
            configuration.write_text(
                CONFIGURATION.format(
                    user=self._user(), folder=folder, root=root, port=port, ssl=" ssl" if certificate else "",
                    options="\n        ".join(options),
                )
            )  # fmt: skip
            self._process = subprocess.Popen(
                [PROGRAM, "-p", folder, "-c", configuration, "-e", folder / "error.log"],
                stdin=subprocess.DEVNULL, pass_fds=[listener.fileno()],
                env={**os.environ, "NGINX": f"{listener.fileno()};"},
            )  # fmt: skip

    @staticmethod
    def _user() -> str:
        """Root's workers would become somebody who cannot read the files of the tests."""
        if os.geteuid():
            return ""
        return f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(0).gr_name};"

    def stop(self) -> None:
        """Stops nginx when the requests under way are served; then the access log is complete."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def served(self) -> list[Served]:
        """What the server saw, in its order. Call it after `stop`."""
        lines = (self.folder / "access.log").read_text().splitlines()
        return [Served(int(a), int(b), c) for a, b, c in (line.split(" ", 2) for line in lines)]

    def errors(self) -> list[str]:
        """What it logged, but for the notice that it took the socket over."""
        lines = (self.folder / "error.log").read_text().splitlines()
        return [line for line in lines if "[notice]" not in line]

    def __enter__(self) -> Nginx:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
