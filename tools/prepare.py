"""Make the virtual environment in which httpio is built and tested, and build httpio in it.

    python tools/prepare.py [--extras test,lint]     print the path of the environment's Python
    python tools/prepare.py --check                  only look whether this Python can build httpio

The environment is .venv-<version>, of the Python that runs this file. It is made again when that Python
changes, and installed again when pyproject.toml changes; the extension is compiled again when one of its
sources changes.
What is missing on the machine is named in one sentence on standard error, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / f".venv-{sys.version_info[0]}.{sys.version_info[1]}"
VENV_PYTHON = VENV / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
STATE = VENV / "prepared.json"
EXTENSION_SOURCES = ["setup.py", "src/*.pyx", "src/*.pxd", "src/*.pxi", "vendor/llhttp.toml"]


def find_missing() -> str | None:
    """Return one sentence about the first thing that this machine lacks, or None."""
    apt = "(Debian, Ubuntu: apt-get install {})".format
    this = f"Python {sys.version_info[0]}.{sys.version_info[1]} ({sys.executable})"
    if sys.version_info < (3, 10):  # noqa: UP036  (an older one may run this file)
        return f"httpio needs Python 3.10 or later, and this is {this}."
    if importlib.util.find_spec("ensurepip") is None:
        return f"{this} cannot make virtual environments: install its venv module {apt('python3-venv')}."
    if sys.platform == "win32":
        return None
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        return f"There is no C compiler ({compiler[0]}): install one {apt('gcc libc6-dev')}."
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return f"{this} has no C headers (Python.h): install them {apt('python3-dev')}."
    trial = [*compiler, "-fsyntax-only", "-x", "c", "-"]
    if subprocess.run(trial, input=b"#include <stdlib.h>\n", stderr=subprocess.DEVNULL).returncode:
        return f"The C compiler ({compiler[0]}) finds no stdlib.h: install it {apt('gcc libc6-dev')}."
    return None


def fingerprint(patterns: list[str]) -> str:
    paths = sorted(path for pattern in patterns for path in ROOT.glob(pattern))
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def run(*command: str) -> None:
    """Run a command in the checkout. Its output goes to standard error: standard output is for the result."""
    subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=True)


def save(state: dict[str, object]) -> None:
    STATE.write_text(json.dumps(state), encoding="utf-8")


def prepare(extras: set[str]) -> None:
    """Bring the environment up to date, doing only what is needed."""
    python = [sys.base_prefix, sys.version]
    project, extension = fingerprint(["pyproject.toml"]), fingerprint(EXTENSION_SOURCES)
    try:
        state = json.loads(STATE.read_text(encoding="utf-8"))
        VENV_PYTHON.stat()
    except (OSError, ValueError):
        state = {}
    if state.get("python") != python:
        run(sys.executable, "-m", "venv", "--clear", str(VENV))
        state = {"python": python, "extras": []}
        save(state)
    if state.get("project") != project or not extras <= set(state["extras"]):
        extras |= set(state["extras"])
        what = f".[{','.join(sorted(extras))}]"
        run(str(VENV_PYTHON), "-m", "pip", "install", "--quiet", "--editable", what)
        state.update(project=project, extension=extension, extras=sorted(extras))
        save(state)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    if state["extension"] != extension or not (ROOT / f"src/httpio/_parser{suffix}").exists():
        run(str(VENV_PYTHON), "setup.py", "--quiet", "build_ext", "--inplace")
        state["extension"] = extension
        save(state)


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the environment in which httpio is built and tested.")
    parser.add_argument("--check", action="store_true", help="only look whether this Python can build httpio")
    parser.add_argument("--extras", default="test", help="the extras to install, with commas (default: test)")
    options = parser.parse_args()
    missing = find_missing()
    if missing:
        print(missing, file=sys.stderr)
        return 1
    if options.check:
        return 0
    try:
        prepare(set(options.extras.split(",")))
    except subprocess.CalledProcessError as error:
        print(f"Building httpio failed: see the output above ({shlex.join(error.cmd)}).", file=sys.stderr)
        return 1
    print(VENV_PYTHON)
    return 0


if __name__ == "__main__":
    sys.exit(main())
