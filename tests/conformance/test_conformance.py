"""Every scenario over every face, without TLS and with it: one outcome, whoever waits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.faces import FACES, Face
from conformance.scenario import PLAIN, Scenario
from conformance.stage import play
from conformance.tables import SCENARIOS, TABLES
from conftest import Contexts

LEFT_OUT = {"blocking": 14, "two threads": 3, "steps": 60, "asyncio": 0, "uvloop": 0}
"""How many scenarios a face may not play, at most."""


def excluded(face: type[Face], scenario: Scenario) -> str | None:
    """Why a face does not play a scenario; None: it does."""
    lacking = sorted(scenario.needs & face.lacks.keys())
    return face.lacks[lacking[0]] if lacking else None


def cases() -> Iterator[tuple[str, str, str]]:
    """The names of all scenarios, faces and ways that belong together."""
    for name, scenario in SCENARIOS.items():
        for face in FACES.values():
            if excluded(face, scenario) is None:
                for way in scenario.over:
                    if way in face.over:
                        yield name, face.name, way


@pytest.mark.parametrize(("name", "face", "way"), list(cases()))
def test_one_outcome(
    name: str, face: str, way: str, secured: Contexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts = (None, None) if way == PLAIN else secured
    play(SCENARIOS[name], FACES[face](), contexts, tmp_path, monkeypatch)


@pytest.mark.parametrize("face", LEFT_OUT)
def test_few_scenarios_are_left_out(face: str) -> None:
    left_out = [name for name, scenario in SCENARIOS.items() if excluded(FACES[face], scenario) is not None]
    assert len(left_out) <= LEFT_OUT[face]


def test_what_a_face_lacks_is_what_a_scenario_needs() -> None:
    needed = {need for scenario in SCENARIOS.values() for need in scenario.needs}
    assert needed == {lacking for face in FACES.values() for lacking in face.lacks}
    assert all(reason for face in FACES.values() for reason in face.lacks.values())


def test_each_table_has_scenarios() -> None:
    modules = {scenario.program.__module__ for scenario in SCENARIOS.values()}
    assert {table.__name__ for table in TABLES} <= modules
    assert len(SCENARIOS) >= 200
