"""Run the tests with each Python from 3.10 up that is found: on PATH, and under ~/.pyenv/versions.

    python tools/every_python.py [pytest's arguments]

One of each minor version is used, two at a time, or one less than there are cores; what each says is printed when it
has ended. The Python that runs this file comes first, and it alone runs the tests marked `heavy`. Exit status: 0 when
all passed. A Python that cannot build (no headers, say) is named with the reason and does not count.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
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


def prepare(python: Path) -> str | None:
    """Make the environment, and return the path of its Python; None: that has failed, and was said."""
    prepared = subprocess.run([python, PREPARE], stdout=subprocess.PIPE, text=True)
    return None if prepared.returncode else prepared.stdout.strip()


def run_tests(python: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", "pytest", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")


def main() -> int:
    usable, reasons = find_pythons()
    outcomes = {}
    runs: dict[Future[subprocess.CompletedProcess[str]], str] = {}
    ready = {f"Python {version[0]}.{version[1]}": prepare(python) for version, python in usable.items()}
    with ThreadPoolExecutor(max_workers=max(2, (os.cpu_count() or 1) - 1)) as pool:  # they wait much of the time
        for number, (name, python) in enumerate(ready.items()):
            outcomes[name] = False
            if python is not None:
                light = ["-m", "not heavy"] if number else []
                runs[pool.submit(run_tests, python, [*light, *sys.argv[1:]])] = name
        for run in as_completed(runs):
            name, done = runs[run], run.result()
            outcomes[name] = done.returncode == 0
            print(f"==== {name}: {ready[name]}\n{done.stdout}", flush=True)
    print("==== every Python")
    for name, passed in outcomes.items():
        print(f"{name}: {'passed' if passed else 'FAILED'}")
    for version, reason in reasons.items():
        print(f"Python {version[0]}.{version[1]}: not used. {reason}")
    return 0 if outcomes and all(outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
