"""Running rivals: each in a process of its own on the client's core, taking turns round by round.

A question's file gives its rivals as functions: each takes the options (a dict), prepares itself, and
returns `go`. `go(count)` does `count` units of work, raises when a unit came out wrong, and may return a
`Usage` where a child did the work. `go` alone is measured: `resource.getrusage` of the rival's process, its
wall time, and its peak memory.

Rounds are short and many: the speed of a virtual machine's core can double or halve from one second to the
next, and only what was measured within milliseconds can be compared.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from report import Table, show

HERE = Path(__file__).resolve().parent
SECONDS_FOR_A_ROUND = 60.0


class Usage(NamedTuple):
    """What a child process used: units done, CPU seconds, peak bytes."""

    units: int
    cpu: float
    peak: int


class Sample(NamedTuple):
    """One round of one rival: units done, CPU seconds, wall seconds, peak bytes of the process so far."""

    units: int
    cpu: float
    wall: float
    peak: int


Go = Callable[[int], Usage | None]
Setup = Callable[[dict[str, Any]], Callable[[int], Usage | None]]


def _cores() -> tuple[int | None, int | None]:
    # The last two: the first core takes most interrupts.
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    cores = sorted(os.sched_getaffinity(0))
    return (cores[-2], cores[-1]) if len(cores) > 1 else (None, None)


CLIENT_CORE, SERVER_CORE = _cores()


def pin(pid: int, core: int | None) -> None:
    """Keep the process `pid` on `core`, where the system can."""
    if core is not None:
        os.sched_setaffinity(pid, {core})


def find_httpio() -> None:
    """Make `import httpio` work: as installed, or else from the checkout's `src`."""
    if importlib.util.find_spec("httpio") is None:
        sys.path.insert(0, str(HERE.parent / "src"))


def peak_bytes() -> int:
    """The peak resident memory of this process."""
    try:
        # ru_maxrss survives exec: it would show the parent's peak.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def run_child(command: Sequence[str]) -> tuple[str, float, int]:
    """Run `command` to its end: its output, and by `wait4` its CPU seconds and peak bytes.

    RuntimeError when it fails. The peak is an upper bound: never below that of the calling process.
    """
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[0]} exited with {process.returncode}")
    peak = used.ru_maxrss if sys.platform == "darwin" else used.ru_maxrss << 10
    return output, used.ru_utime + used.ru_stime, peak


def _work(setup: Setup, options: dict[str, Any]) -> None:
    """The rival's own process: one line in (units to do), one line out (what they took)."""
    find_httpio()
    try:
        go = setup(options)
    except (ImportError, AttributeError, FileNotFoundError) as error:
        print(json.dumps({"missing": f"{error}"}), flush=True)
        return
    print(json.dumps({}), flush=True)
    for line in sys.stdin:
        count = int(line)
        before = resource.getrusage(resource.RUSAGE_SELF)
        start = time.perf_counter()
        usage = go(count)
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        units, cpu, peak = usage or Usage(count, cpu, peak_bytes())
        print(json.dumps({"units": units, "cpu": cpu, "wall": wall, "peak": peak}), flush=True)


@dataclass
class Rival:
    """One way of doing the work. `command` starts its process; `count` is the units of work in a round."""

    label: str
    command: list[str]
    count: int
    samples: list[Sample] = field(default_factory=list)
    absent: str = ""
    _process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the process and wait until it is prepared; `absent` says why where it cannot be."""
        if self.absent:
            return
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self.command, stdin=pipe, stdout=pipe, text=True)
        pin(self._process.pid, CLIENT_CORE)
        answer = self._answer()
        if answer is not None and "missing" in answer:
            self.absent = answer["missing"]
            self.stop()

    def turn(self, count: int) -> Sample | None:
        """Do `count` units; None when the rival is absent."""
        if self.absent or self._process is None or self._process.stdin is None:
            return None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        answer = self._answer()
        return None if answer is None else Sample(**answer)

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _answer(self) -> dict[str, Any] | None:
        assert self._process is not None
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], SECONDS_FOR_A_ROUND)
        line = self._process.stdout.readline() if ready else ""
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self.absent = "failed" if ready else f"no answer in {SECONDS_FOR_A_ROUND:.0f} s"
        self.stop()
        return None


def ask_again(sock: socket.socket, request: bytes, size: int, buffer: bytearray) -> Go:
    """The least that a client can do: send the request, receive until the known number of bytes is there."""

    def go(count: int) -> None:
        for _ in range(count):
            sock.sendall(request)
            received = 0
            while received < size:
                if not (length := sock.recv_into(buffer)):
                    raise RuntimeError("the server closed the connection")
                received += length

    return go


def rival(file: str, name: str, count: int, options: dict[str, Any], label: str = "") -> Rival:
    """The rival called `name` in the RIVALS of a question's `file`."""
    return Rival(label or name, [sys.executable, file, "--rival", name, json.dumps(options)], count)


def interleave(rivals: list[Rival], rounds: int) -> list[Rival]:
    """Let the rivals take turns for `rounds` rounds, after one that is not counted; they keep samples."""
    try:
        for one in rivals:
            one.start()
            one.turn(one.count)
        for _ in range(rounds):
            for one in rivals:
                if sample := one.turn(one.count):
                    one.samples.append(sample)
        for one in rivals:
            if one.absent:
                one.samples.clear()
        return rivals
    finally:
        for one in rivals:
            one.stop()


Measure = Callable[[int], Iterator[Table]]


def main(measure: Measure, rounds: int, rivals: Mapping[str, Setup], doc: str) -> None:
    """The command line of one question: `--rounds`, `--strict`; and what starts a rival's process."""
    if sys.argv[1:2] == ["--rival"]:
        _work(rivals[sys.argv[2]], json.loads(sys.argv[3]))
        return
    options = arguments(doc).parse_args()
    sys.exit(run([(measure, rounds)], options))


def arguments(doc: str) -> argparse.ArgumentParser:
    """The options that every question has."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds, in which each rival has one turn")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a goal is not met")
    return parser


def run(questions: Sequence[tuple[Measure, int]], options: argparse.Namespace) -> int:
    """Answer the questions, print their tables and the goals, and return the exit code."""
    print(f"Python {sys.version.split()[0]}; httpio {_whereabouts()}; "
          f"client on core {CLIENT_CORE}, server on core {SERVER_CORE}", flush=True)
    # So that a `kill` unwinds, and leaves no server behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    start = time.perf_counter()
    tables = []
    for measure, rounds in questions:
        for table in measure(options.rounds or rounds):
            show(table)
            tables.append(table)
    goals = [goal for table in tables for goal in table.goals]
    met = sum(goal.met is True for goal in goals)
    print(f"\n{met} of {len(goals)} goals met, {time.perf_counter() - start:.0f} s")
    return int(options.strict and met < len(goals))


def _whereabouts() -> str:
    find_httpio()
    spec = importlib.util.find_spec("httpio")
    return f"from {Path(spec.origin).parent}" if spec and spec.origin else "is not there: build or install it"
