"""HAProxy from Debian's package, in the foreground, in front of one server on this machine."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path

from servers.program import Program

PROGRAM = Path("/usr/sbin/haproxy")

CONFIGURATION = """\
global
    maxconn 512
    nbthread 1
defaults
    mode http
    timeout connect 20s
    timeout client 20s
    timeout server 20s
frontend front
    bind fd@{descriptor}
    {directives}
    default_backend back
backend back
    server only 127.0.0.1:{behind}
"""


class HAProxy(Program):
    """`with HAProxy(folder, behind) as server:` hands on to the port *behind* what comes to `server.port`.

    folder: an empty one, for its files. directives: lines for its frontend.
    """

    def __init__(self, folder: Path, behind: int, directives: Iterable[str] = ()) -> None:
        configuration = folder / "haproxy.cfg"
        # It takes over a listening socket from whoever starts it: no race for a port, and nothing to wait for.
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener, (folder / "log").open("wb") as log:
            self.port: int = listener.getsockname()[1]
            configuration.write_text(
                CONFIGURATION.format(descriptor=listener.fileno(), behind=behind, directives="\n    ".join(directives))
            )
            super().__init__(
                [PROGRAM, "-db", "-f", configuration], pass_fds=[listener.fileno()], stdout=log, stderr=log
            )
