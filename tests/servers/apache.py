"""Apache from Debian's package, in the foreground, with a configuration of its own in a folder of its own."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from servers.program import Program, held_port

PROGRAM = Path("/usr/sbin/apache2")
MODULES = Path("/usr/lib/apache2/modules")
LOADED = (
    "mpm_event", "authz_core", "authz_user", "authn_core", "authn_file", "auth_basic", "alias", "reflector",
)  # fmt: skip

CONFIGURATION = """\
{user}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {folder}/apache.pid
DefaultRuntimeDir {folder}
DocumentRoot /
ErrorLog {folder}/error.log
LogFormat "%>s %I %U" counted
CustomLog {folder}/access.log counted
{modules}
<Directory />
    AllowOverride None
</Directory>
Timeout 60
KeepAliveTimeout 60
StartServers 1
ServerLimit 1
ThreadsPerChild 25
MaxRequestWorkers 25
{directives}
"""


class Apache(Program):
    """`with Apache(folder, directives) as server:` listens on `server.port`.

    folder: an empty one, for its files. directives: lines of its configuration; the handler `reflector` sends back
    the body that it is given. Under root Apache becomes www-data, which cannot see the files of the tests.
    """

    def __init__(self, folder: Path, directives: Iterable[str]) -> None:
        self.folder = folder
        configuration = folder / "apache.conf"
        with held_port() as self.port, (folder / "log").open("wb") as log:
            configuration.write_text(
                CONFIGURATION.format(
                    user="" if os.geteuid() else "User www-data\nGroup www-data",
                    port=self.port,
                    folder=folder,
                    modules="\n".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in LOADED),
                    directives="\n".join(directives),
                )
            )
            super().__init__([PROGRAM, "-DFOREGROUND", "-f", configuration], stdout=log, stderr=log)
            try:
                self.wait_until_it_listens(self.port)
            except RuntimeError:
                self.stop()
                raise

    def received(self) -> list[int]:
        """The bytes of each request, its head included. Call it after `stop`."""
        return [int(line.split()[1]) for line in (self.folder / "access.log").read_text().splitlines()]
