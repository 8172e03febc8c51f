"""nginx from Debian's package, in the foreground, with a configuration of its own in a folder of its own."""

from __future__ import annotations

import grp
import os
import pwd
import signal
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from servers.program import Program

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
    log_format counted '$connection $status $request_length $request_uri';
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
    """A line of the access log.

    connection: its number. received: bytes of the request, without those of a body that was thrown away after
    the answer.
    """

    connection: int
    status: int
    received: int
    target: str


class Nginx(Program):
    """`with Nginx(root, folder) as server:` serves the files below `root` at `server.url`, on `server.port`.

    folder: an empty one, for all that nginx writes. certificate: (chain, key) as PEM files, for TLS.
    keepalive_requests: after how many requests nginx closes a connection; None leaves its default, 1000.
    directives: lines for its `server` block. `stop` waits for the requests under way: then the access log is complete.
    """

    stops_by = signal.SIGQUIT

    def __init__(
        self, root: Path, folder: Path, *, certificate: tuple[Path, Path] | None = None,
        keepalive_requests: int | None = None, directives: Iterable[str] = (),
    ) -> None:  # fmt: skip
        self.folder = folder
        options = [*directives]
        if certificate:
            options += [f"ssl_certificate {certificate[0]};", f"ssl_certificate_key {certificate[1]};"]
        if keepalive_requests is not None:
            options.append(f"keepalive_requests {keepalive_requests};")
        # nginx takes over a listening socket from whoever starts it: no race for a port.
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            self.port: int = listener.getsockname()[1]
            self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.port}"
            configuration = folder / "nginx.conf"
            configuration.write_text(
                CONFIGURATION.format(
                    user=self._user(), folder=folder, root=root, port=self.port, ssl=" ssl" if certificate else "",
                    options="\n        ".join(options),
                )
            )  # fmt: skip
            super().__init__(
                [PROGRAM, "-p", folder, "-c", configuration, "-e", folder / "error.log"],
                pass_fds=[listener.fileno()], env={**os.environ, "NGINX": f"{listener.fileno()};"},
            )  # fmt: skip

    @staticmethod
    def _user() -> str:
        """Root's workers would become somebody who cannot read the files of the tests."""
        if os.geteuid():
            return ""
        return f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(0).gr_name};"

    def served(self) -> list[Served]:
        """What the server saw, in its order. Call it after `stop`."""
        lines = (self.folder / "access.log").read_text().splitlines()
        return [Served(int(a), int(b), int(c), d) for a, b, c, d in (line.split(" ", 3) for line in lines)]

    def errors(self) -> list[str]:
        """What it logged, but for the notice that it took the socket over."""
        lines = (self.folder / "error.log").read_text().splitlines()
        return [line for line in lines if "[notice]" not in line]
