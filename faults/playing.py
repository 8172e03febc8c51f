"""Plays one fault to one client, and judges what came of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import trustme

from clients import CLIENTS, Answer, Failure, Job, Outcome, play
from menu import UPLOAD, Scenario, Truth
from scripts import Meeting
from servers.scripted import Peer, Scripted, server_context

RIGHT, WRONG, LOST, TOOK, HANG, DIED = "right", "wrong", "lost", "took", "hang", "died"
"""Right; a silent wrong answer; a good answer refused; a flood taken whole; no end in time; the process died."""

_OUR_OWN = re.compile("_PROXY$|_CA_BUNDLE$|^SSL_CERT_", re.IGNORECASE)
"""Variables of this machine that would change what a client does."""


class Times(NamedTuple):
    """Seconds: what the client allows without progress and for an exchange; when its process is ended."""

    idle: float = 1.5
    total: float = 5.0
    limit: float = 10.0


class Keys(NamedTuple):
    """The files of a certificate for 127.0.0.1: the authority's certificate, the chain, the key."""

    ca: Path
    chain: Path
    key: Path


class Cell(NamedTuple):
    """What the table says, a verdict, and the exception's name where the server had gone away."""

    text: str
    verdict: str
    gone: str | None = None
    detail: str = ""
    """The sentence of the exception."""


class Ended(NamedTuple):
    """Instead of an outcome: the process was ended at the limit, or died of itself."""

    verdict: str
    text: str
    detail: str = ""


@contextmanager
def staged(scenario: Scenario, keys: Keys, times: Times) -> Iterator[tuple[Scripted, Job, Meeting]]:
    """The server of one scenario, the job for the client, and their meeting."""
    meeting = Meeting()

    def script(peer: Peer) -> None:
        scenario.script(peer, meeting)

    context = server_context(keys.chain, keys.key) if scenario.tls and not scenario.plain else None
    with Scripted(script, context) as server:
        base = f"{'https' if scenario.tls else 'http'}://127.0.0.1:{server.port}"
        cafile = str(keys.ca) if scenario.tls else None
        try:
            yield server, Job(base, cafile, times.idle, times.total, UPLOAD, scenario.pauses, scenario.steps), meeting
        finally:
            meeting.paused.set()  # a client that failed before has not


def play_here(name: str, scenario: Scenario, keys: Keys, times: Times) -> Cell:
    """Play it in this process."""
    with staged(scenario, keys, times) as (server, job, meeting):
        outcomes = play(CLIENTS[name], job, meeting.pause)
        return judge(scenario, outcomes, posts(server))


def play_apart(name: str, python: Path, scenario: Scenario, keys: Keys, times: Times) -> Cell:
    """Play it in a process of the client's own, which is ended at the limit."""
    with staged(scenario, keys, times) as (server, job, meeting):
        outcomes = run(name, python, job, meeting.pause, times)
        return judge(scenario, outcomes, posts(server))


def posts(server: Scripted) -> int:
    """How many POSTs the server has seen."""
    return sum(seen.method == "POST" for seen in server.seen)


def make_keys(folder: Path) -> Keys:
    """A new authority, and a certificate that it issues."""
    keys = Keys(folder / "ca.pem", folder / "chain.pem", folder / "key.pem")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(keys.ca)
    certificate.private_key_pem.write_to_path(keys.key)
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(keys.chain, append=True)
    return keys


def start(name: str, python: Path) -> subprocess.Popen[str]:
    """The process of a client: its first line is its version."""
    environment = {key: value for key, value in os.environ.items() if not _OUR_OWN.search(key)}
    environment["PYTHONWARNINGS"] = "ignore"
    if str(python) != sys.executable:
        environment.pop("PYTHONPATH", None)
    program = Path(__file__).with_name("clients.py")
    return subprocess.Popen(
        [python, program, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment,
    )  # fmt: skip


def run(name: str, python: Path, job: Job, wait: Callable[[], object], times: Times) -> list[Outcome] | Ended:
    """Do a job in a process of the client's own."""
    process = start(name, python)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(times.limit, end)
    timer.start()
    answer = None
    try:
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        while (line := process.stdout.readline()) and (answer := json.loads(line)) == "pause":
            wait()
            process.stdin.write("\n")
            process.stdin.flush()
    except BrokenPipeError:
        pass
    finally:
        timer.cancel()
    if isinstance(answer, list):
        process.kill()  # it has said all, and may wait for a thread of its own
        process.communicate()
        return [Failure(*one) if isinstance(one[0], str) else Answer(one[0], bytes.fromhex(one[1])) for one in answer]
    _, errors = process.communicate()
    if late.is_set():
        return Ended(HANG, f"no end in {times.limit:g} s")
    return Ended(DIED, f"died ({process.returncode})", errors[-300:])


def judge(scenario: Scenario, outcomes: list[Outcome] | Ended, posts: int) -> Cell:
    """What the table says to what came of it."""
    if isinstance(outcomes, Ended):
        return Cell(outcomes.text, outcomes.verdict, detail=outcomes.detail)
    last = outcomes[-1]
    for number, (truth, outcome) in enumerate(zip(scenario.truths, outcomes, strict=False)):
        if isinstance(outcome, Answer) and not fits(truth, outcome) and not (scenario.once and posts > 1):
            return Cell(f"**{called(scenario, truth, outcome)}**", WRONG)
        if isinstance(outcome, Failure) and not truth.refusable:
            where = "at the first answer: " if number == 0 and len(scenario.truths) > 1 else ""
            return Cell(f"{where}refused, {outcome.name}", LOST, detail=outcome.text)
    if scenario.once and posts > 1:
        what = f", then {last.name}" if isinstance(last, Failure) else ""
        return Cell(f"**sent {posts} times{what}**", WRONG)
    if isinstance(last, Failure):
        return Cell(last.name, RIGHT, last.name if scenario.gone else None, last.text)
    if scenario.flood:
        return Cell(f"took {scenario.flood}", TOOK)
    truth = scenario.truths[len(outcomes) - 1]
    return Cell("(raw)" if truth.coded is not None and last.body == truth.coded else "ok", RIGHT)


def fits(truth: Truth, answer: Answer) -> bool:
    """Whether this may be delivered."""
    return answer.status == truth.status and answer.body in [
        body for body in (truth.body, truth.coded) if body is not None
    ]


def called(scenario: Scenario, truth: Truth, answer: Answer) -> str:
    """What the table calls a wrong answer."""
    if answer.body in scenario.known:
        return scenario.known[answer.body]
    if answer.status != truth.status:
        return f"ok, status {answer.status}"
    return f"ok {len(answer.body)}"
