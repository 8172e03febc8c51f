"""The environments of the clients: one for each, since some would disturb others.

niquests brings urllib3-future, which takes the place of urllib3; and what can be imported decides which content
codings a client asks for.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

OURS = ("httpio", "httpio asyncio", "httpio.client", "http.client")
"""They are in the environment in which this runs."""

_PIP = ("-m", "pip", "--disable-pip-version-check", "--retries", "1", "--timeout", "15")
_NEWEST = ("install", "--quiet", "--upgrade", "--prefer-binary")


class NotInstalled(Exception):
    """There is no environment for a client; the message is what pip said."""


def prepare(name: str) -> Path:
    """The Python of a client's environment, `.venv-faults-NAME`, with the newest version in it.

    Where the newest cannot be had, an older one that is installed will do.
    """
    if name in OURS:
        return Path(sys.executable)
    folder = ROOT / f".venv-faults-{name}"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    installed = folder / "installed"  # written when pip has succeeded: by which Python
    if not installed.is_file() or installed.read_text(encoding="utf-8") != sys.version:
        installed.unlink(missing_ok=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, stdout=sys.stderr)
    done = subprocess.run([python, *_PIP, *_NEWEST, name], capture_output=True, text=True)
    if done.returncode == 0:
        installed.write_text(sys.version, encoding="utf-8")
    elif not installed.is_file():
        raise NotInstalled(done.stderr.strip())
    return python
