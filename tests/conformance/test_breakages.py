"""A face that waits wrongly, gives wrong results, or is given a wrong step fails: the suite sees what it is for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.breakages import CALLS, STEPS, WAITS, Breakage
from conformance.faces import FACES, Blocking, InLoop, Steps, Threads, UVLoop
from conformance.scenario import PLAIN
from conformance.stage import play
from conformance.tables import SCENARIOS
from conftest import Contexts
from httpio import HTTPError

LIMIT = 0.25
"""Seconds after which a face that is broken counts as stuck."""

TIMES = 4
"""How often a breakage may go unnoticed, as it may where two threads happen not to wait for each other."""


def cases() -> Iterator[tuple[str, str]]:
    for face in (Blocking, Threads, Steps, InLoop, UVLoop):
        for breakage in (*WAITS, *CALLS, *STEPS):
            if not SCENARIOS[breakage.scenario].needs & face.lacks.keys():
                yield face.name, breakage.name


BREAKAGES = {breakage.name: breakage for breakage in (*WAITS, *CALLS, *STEPS)}


@pytest.mark.parametrize(("face", "name"), list(cases()))
def test_it_is_noticed(
    face: str, name: str, secured: Contexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    breakage: Breakage = BREAKAGES[name]
    scenario = SCENARIOS[breakage.scenario]
    contexts = (None, None) if breakage.way == PLAIN else secured
    with monkeypatch.context() as patch:
        breakage.apply(patch, FACES[face])
        for _ in range(TIMES):
            try:
                play(scenario, FACES[face](), contexts, tmp_path, patch, LIMIT)
            except (AssertionError, HTTPError):
                return
    pytest.fail(f"{breakage.scenario!r} does not notice it")
