"""Run the tests with each Python from 3.10 up that is found: on PATH, and under ~/.pyenv/versions.

    python tools/every_python.py [pytest's arguments]

One of each minor version is used; the Python that runs this file comes first, and it alone runs the tests
marked `heavy`. Exit status: 0 when all passed. A Python that cannot build (no headers, say) is named with the
reason and does not count.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PREPARE = Path(__file__).resolve().with_name("prepare.py")
DESCRIBE = (
    "import sys, sysconfig; v = sys.version_info;"
    "print(v[0], v[1], v.releaselevel, sysconfig.get_config_var('Py_GIL_DISABLED') or 0)"
)


def find_candidates() -> list[Path]:
    """Return the paths of programs that may be a Python, those to be preferred first."""
    on_path = [path for folder in os.get_exec_path() for path in sorted(Path(folder).glob("python3.*"))]
    in_pyenv = sorted(Path.home().glob(".pyenv/versions/*/bin/python"))
    named = [path for path in on_path if re.fullmatch(r"python3\.[0-9]+(\.exe)?", path.name)]
    return [Path(sys.executable), *named, *in_pyenv]


def describe(python: Path) -> tuple[int, int] | None:
    """Return the version of a released CPython with the GIL, or None for anything else."""
    try:
        answer = subprocess.run([python, "-c", DESCRIBE], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.fullmatch(r"(\d+) (\d+) final 0\n", answer.stdout)
    return (int(match[1]), int(match[2])) if match else None


def find_pythons() -> tuple[dict[tuple[int, int], Path], dict[tuple[int, int], str]]:
    """Return, by version, the Pythons that can build httpio, and why others cannot."""
    usable: dict[tuple[int, int], Path] = {}
    reasons: dict[tuple[int, int], str] = {}
    for python in find_candidates():
        version = describe(python)
        if version is None or version < (3, 10) or version in usable:
            continue
        check = subprocess.run([python, PREPARE, "--check"], capture_output=True, text=True)
        if check.returncode == 0:
            usable[version] = python
            reasons.pop(version, None)
        else:
            reasons[version] = check.stderr.strip()
    return usable, reasons


def run_tests(python: Path, arguments: list[str]) -> bool:
    prepared = subprocess.run([python, PREPARE], stdout=subprocess.PIPE, text=True)
    if prepared.returncode:
        return False
    return subprocess.run([prepared.stdout.strip(), "-m", "pytest", *arguments]).returncode == 0


def main() -> int:
    usable, reasons = find_pythons()
    outcomes = {}
    for number, (version, python) in enumerate(usable.items()):
        name = f"Python {version[0]}.{version[1]}"
        print(f"==== {name}: {python}", flush=True)
        light = ["-m", "not heavy"] if number else []
        outcomes[name] = run_tests(python, [*light, *sys.argv[1:]])
    print("==== every Python")
    for name, passed in outcomes.items():
        print(f"{name}: {'passed' if passed else 'FAILED'}")
    for version, reason in reasons.items():
        print(f"Python {version[0]}.{version[1]}: not used. {reason}")
    return 0 if outcomes and all(outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
