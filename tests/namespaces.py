"""Programs in a network of their own: a Linux network namespace, with a resolver's configuration of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from conftest import need

RESOLVER = {
    "/etc/resolv.conf": "nameserver 127.0.0.1\n",
    "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "/etc/nsswitch.conf": "hosts: files dns\n",
}

# What is sent to these neighbours comes out of the far end of the cable, whose address is another: it is dropped there.
DEAD_NET = (
    "ip link set lo up",
    "ip link add cable type veth peer name far",
    "ip link set cable up",
    "ip link set far up",
    "ip address add 192.0.2.9/24 dev cable",
    "ip address add 2001:db8::9/64 dev cable nodad",
    *(f"ip neighbour add 192.0.2.{n} lladdr 02:00:00:00:00:99 dev cable nud permanent" for n in (1, 2, 3)),
    *(f"ip neighbour add 2001:db8::{n} lladdr 02:00:00:00:00:99 dev cable nud permanent" for n in (1, 2, 3)),
)
"""What makes 192.0.2.1 to .3 and 2001:db8::1 to ::3 black holes; all else but loopback cannot be reached."""

_UNSHARE = ["unshare", *(() if os.geteuid() == 0 else ("--user", "--map-root-user")), "--net", "--mount"]
_ASKED_OF_THE_KERNEL = (
    "ip link add cable type veth peer name far",
    "ip address add 2001:db8::9/64 dev lo nodad",
    "mount --bind /etc/hosts /etc/hosts",
)


@cache
def refusal() -> str:
    """Why the kernel gives no network namespace, or not what is needed in it; "" where it does."""
    script = " && ".join(_ASKED_OF_THE_KERNEL)
    done = subprocess.run([*_UNSHARE, "sh", "-c", script], capture_output=True, text=True, timeout=60)
    return "" if done.returncode == 0 else done.stderr.strip() or f"unshare ended with {done.returncode}"


@pytest.fixture
def namespaces() -> None:
    """Skips where there are none: where CI=true, only if it is the kernel that refuses."""
    if sys.platform != "linux":
        pytest.skip("network namespaces are Linux's")
    need(shutil.which("unshare") is not None, "unshare (package util-linux)")
    need(shutil.which("ip") is not None, "ip (package iproute2)")
    if refusal():
        pytest.skip(f"no network namespace: {refusal()}")


def run(program: Path, *arguments: str, folder: Path) -> str:
    """Run a Python program in a namespace with dead addresses; returns what it wrote. It must exit with 0.

    *folder*: for the resolver's configuration.
    """
    folder.mkdir(exist_ok=True)
    commands = [*DEAD_NET]
    for path, content in RESOLVER.items():
        if os.path.exists(path):  # without them the C library does just this
            copy = folder / os.path.basename(path)
            copy.write_text(content)
            commands.append(f"mount --bind '{copy}' {path}")
    commands.append('exec "$@"')
    command = [*_UNSHARE, "sh", "-ec", "\n".join(commands), "sh", sys.executable, str(program), *arguments]
    settings = {"RES_OPTIONS": "timeout:1 attempts:1", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment = {**os.environ, **settings}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
