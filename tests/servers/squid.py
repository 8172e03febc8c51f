"""Squid from Debian's package, in the foreground, without a cache, with all of its files in a folder of its own."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import tempfile
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

from servers.program import Program, held_port

PROGRAM = Path("/usr/sbin/squid")
CHECKS_PASSWORDS = Path("/usr/lib/squid/basic_ncsa_auth")

DENIED_PORT = 1
"""A port to which nobody is let through."""

CONFIGURATION = """\
http_port 127.0.0.1:{port}
{https}
visible_hostname squid.test
pid_filename none
cache_log {folder}/cache.log
logformat asked %rm\t%'>ru\t%>Hs\t%un\t%'{{Host}}>h
access_log stdio:{folder}/access.log asked
cache deny all
netdb_filename none
pinger_enable off
coredump_dir {folder}
max_filedescriptors 512
client_persistent_connections on
server_persistent_connections on
connect_timeout 5 seconds
acl denied port {denied}
http_access deny denied
{login}
http_access allow localhost
http_access deny all
"""
LOGIN = """\
auth_param basic program {program} {folder}/passwords
auth_param basic children 1 startup=1
auth_param basic realm tests
acl known proxy_auth REQUIRED
http_access deny !known
"""


class Asked(NamedTuple):
    """A line of the access log: what a client asked for, and what it was answered.

    target: as it stood in the request line. user: who has shown a password, or "-". host: the Host field, or "-".
    """

    method: str
    target: str
    status: int
    user: str
    host: str


class Squid(Program):
    """`with Squid() as proxy:` is an HTTP proxy on `proxy.port`, and with a certificate in TLS on `proxy.tls_port`.

    login: (user, password) that it asks for. certificate: (chain, key) as PEM files. It goes to every port of this
    machine but `DENIED_PORT`.
    """

    stops_by = signal.SIGKILL  # asked kindly it takes two seconds, and it has nothing to put in order

    def __init__(self, login: tuple[str, str] | None = None, certificate: tuple[Path, Path] | None = None) -> None:
        # Under root Squid becomes somebody who cannot see into the folders of the tests.
        self._temporary = tempfile.TemporaryDirectory()
        self.folder = folder = Path(self._temporary.name)
        https = ""
        with held_port() as self.port, held_port() as self.tls_port:
            if certificate:
                chain, key = (shutil.copy(path, folder) for path in certificate)
                https = f"https_port 127.0.0.1:{self.tls_port} tls-cert={chain} tls-key={key}"
            if login:
                # Of the forms of a password that the program knows, the one that the standard library makes.
                digest = hashlib.md5(login[1].encode(), usedforsecurity=False).hexdigest()
                (folder / "passwords").write_text(f"{login[0]}:{digest}\n", "utf-8")
            configuration = folder / "squid.conf"
            configuration.write_text(
                CONFIGURATION.format(
                    port=self.port,
                    https=https,
                    folder=folder,
                    denied=DENIED_PORT,
                    login=LOGIN.format(program=CHECKS_PASSWORDS, folder=folder) if login else "",
                )
            )
            if os.geteuid() == 0:
                for path in (folder, *folder.iterdir()):
                    shutil.chown(path, "proxy", "proxy")
            self._name = f"tests{self.port}"
            super().__init__([PROGRAM, "-N", "-n", self._name, "-f", configuration])
            try:
                self.wait_until_it_listens(self.port)
            except RuntimeError:
                self.stop()
                raise

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"https://127.0.0.1:{self.tls_port}"

    def asked(self, count: int) -> list[Asked]:
        """What was asked for, when so many requests have ended (with CONNECT, tunnels), in the order of their ends."""
        end = monotonic() + 20
        while len(found := self._read_log()) < count:
            assert monotonic() < end, found
            sleep(0.002)
        return found

    def stop(self) -> None:
        super().stop()
        for shared in Path("/dev/shm").glob(f"{self._name}-*"):  # memory that it would have given back
            shared.unlink()
        self._temporary.cleanup()

    def _read_log(self) -> list[Asked]:
        log = self.folder / "access.log"
        lines = log.read_text("utf-8").splitlines(keepends=True) if log.exists() else []
        # The last one may be half written; and a connection that ended without a request has a line, too.
        fields = [line.rstrip("\n").split("\t") for line in lines if line.endswith("\n") and "\terror:" not in line]
        return [Asked(method, target, int(status), user, host) for method, target, status, user, host in fields]
