"""What the tests of others say: an outcome for each, two runs beside each other, and the differences that are meant.

A run is a process of its own that appends a line of JSON, [id, outcome, detail], when a test starts and when it has
ended: what a process that hangs or dies has done so far is not lost.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn

PASSED, SKIPPED, FAILED, STARTED, NOTE = "passed", "skipped", "failed", "started", "note"


class Outcome(NamedTuple):
    """`detail`: the last line of the traceback, or the reason of a skip."""

    outcome: str
    detail: str


Outcomes = dict[str, Outcome]


class Difference(NamedTuple):
    """A test that passes on the standard library and not here, with what its failure says, and why that is meant.

    `row`: the id of the row of `cases/` that the test goes against; "" where there is none.
    """

    test: str
    error: str
    reason: str
    row: str = ""


class Report:
    """The file to which a run appends; `seconds` is how long one test may take in the main thread, 0 for any time."""

    def __init__(self, path: Path, seconds: int = 0) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._seconds = seconds
        if seconds:
            signal.signal(signal.SIGALRM, self._too_long)

    def add(self, test: str, outcome: str, detail: str = "") -> None:
        """Of several outcomes of one test the last counts."""
        if self._seconds:
            signal.alarm(self._seconds if outcome == STARTED else 0)
        self._file.write(json.dumps([test, outcome, detail]) + "\n")
        self._file.flush()

    def _too_long(self, number: int, frame: FrameType | None) -> NoReturn:
        raise RuntimeError(f"it takes longer than {self._seconds} s")


def run(
    command: Sequence[str | Path], report: Path, seconds: float, cwd: Path, path: Iterable[Path] = (), **variables: str
) -> Outcomes:
    """Run a worker, killed with all that it has started after `seconds`, and return what it wrote to `report`.

    `path`: where it imports from; `variables`: of its environment, which has no proxies.
    What it prints is in the file beside `report`; AssertionError with its end when there are no outcomes.
    """
    printed = report.with_suffix(".txt")
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, path)), **variables}
    with printed.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    found = read(report) if report.exists() else {}
    assert found, printed.read_text(encoding="utf-8", errors="replace")[-4000:]
    return found


def read(report: Path) -> Outcomes:
    """The outcomes in a report; one that has started and not ended has failed."""
    found: Outcomes = {}
    for line in report.read_text(encoding="utf-8").splitlines():
        test, outcome, detail = json.loads(line)
        found[test] = Outcome(outcome, detail) if outcome != STARTED else Outcome(FAILED, "it did not end")
    return found


def lost(control: Outcomes, replaced: Outcomes) -> dict[str, str]:
    """The tests that pass in `control` and not in `replaced`, with what was found instead."""
    missing = Outcome(FAILED, "it was not run")
    found = {test: replaced.get(test, missing) for test, outcome in control.items() if outcome.outcome == PASSED}
    return {test: f"{one.outcome}: {one.detail}" for test, one in found.items() if one.outcome != PASSED}


def unexplained(found: dict[str, str], differences: Iterable[Difference]) -> dict[str, str]:
    """What is lost against expectation; and what is listed and not lost, or by another error: a list must be true."""
    listed = {difference.test: difference.error for difference in differences}
    wrong = {test: text for test, text in found.items() if test not in listed or listed[test] not in text}
    return wrong | {test: "listed, and it passes" for test in listed if test not in found}
