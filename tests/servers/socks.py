"""microsocks from Debian's package, a SOCKS5 proxy, in the foreground."""

from __future__ import annotations

import re
from pathlib import Path
from time import monotonic, sleep

from servers.program import Program, held_port

PROGRAM = Path("/usr/bin/microsocks")


class Socks(Program):
    """`with Socks(folder) as proxy:` is a SOCKS5 proxy on `proxy.port`.

    folder: an empty one, for its log. login: (user, password) that it asks for.
    """

    def __init__(self, folder: Path, login: tuple[str, str] | None = None) -> None:
        self._log = folder / "log"
        shown = ["-u", login[0], "-P", login[1]] if login else []
        with held_port() as self.port, self._log.open("wb") as log:
            super().__init__([PROGRAM, "-i", "127.0.0.1", "-p", str(self.port), *shown], stdout=log, stderr=log)
            try:
                self.wait_until_it_listens(self.port)
            except RuntimeError:
                self.stop()
                raise

    def connected(self, count: int = 1) -> list[tuple[str, int]]:
        """The hosts and ports that it has connected to, as clients gave them, when there are so many."""
        end = monotonic() + 20
        while len(found := re.findall(r": connected to (.+):(\d+)\n", self._log.read_text())) < count:
            assert monotonic() < end, found
            sleep(0.002)
        return [(host, int(port)) for host, port in found]
