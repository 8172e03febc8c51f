"""Play all faults to all clients, and write docs/faults.md.

    python faults/run.py [--clients NAME,...] [--faults NAME,...] [--at-once N]

With some of the clients or some of the faults, the cells are printed instead. build/faults.json gets the verdicts
and the sentences of the exceptions. The exit status is 1 when httpio was wrong somewhere.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))  # its scripted server

import environments
import page
from clients import CLIENTS
from menu import SCENARIOS, Scenario
from playing import RIGHT, Cell, Keys, Times, make_keys, play_apart, start

ROOT = environments.ROOT


def prepare(names: Iterable[str], at_once: int) -> tuple[dict[str, Path], dict[str, str], dict[str, str]]:
    """The Pythons and the versions of the clients, and why others are absent."""
    pythons: dict[str, Path] = {}
    versions: dict[str, str] = {}
    absent: dict[str, str] = {}

    def one(name: str) -> None:
        try:
            python = environments.prepare(name)
        except environments.NotInstalled as error:
            print(f"{name}: {error}", file=sys.stderr)
            absent[name] = "pip could not install it"
            return
        said, complaint = start(name, python).communicate("\n")
        if said:
            pythons[name], versions[name] = python, json.loads(said)
        else:
            print(f"{name}: {complaint}", file=sys.stderr)
            absent[name] = complaint.strip().rpartition("\n")[2]

    with ThreadPoolExecutor(at_once) as workers:
        list(workers.map(one, names))
    return pythons, versions, absent


def play_all(
    pythons: dict[str, Path], scenarios: list[Scenario], keys: Keys, times: Times, at_once: int
) -> dict[str, dict[str, Cell]]:
    """All cells, by client and scenario."""
    pairs = [(name, scenario) for scenario in scenarios for name in pythons]
    columns: dict[str, dict[str, Cell]] = {name: {} for name in pythons}

    def one(pair: tuple[str, Scenario]) -> None:
        name, scenario = pair
        columns[name][scenario.name] = play_apart(name, pythons[name], scenario, keys, times)

    with ThreadPoolExecutor(at_once) as workers:
        for number, _ in enumerate(workers.map(one, pairs), 1):
            if sys.stderr.isatty():
                print(f"\r{number} of {len(pairs)}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return columns


def chosen(named: str, known: Iterable[str], parser: argparse.ArgumentParser) -> list[str]:
    """What is known and named; all where nothing is named."""
    names = named.split(",") if named else list(known)
    if unknown := set(names) - set(known):
        parser.error(f"not known: {', '.join(sorted(unknown))}")
    return [name for name in known if name in names]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", default="", help=f"of {', '.join(CLIENTS)}")
    parser.add_argument("--faults", default="", help=f"of {', '.join(scenario.name for scenario in SCENARIOS)}")
    parser.add_argument("--at-once", type=int, default=2, help="how many are played at the same time (default: 2)")
    options = parser.parse_args()
    names = chosen(options.clients, list(CLIENTS), parser)
    faults = chosen(options.faults, [scenario.name for scenario in SCENARIOS], parser)
    began, times = time.monotonic(), Times()

    pythons, versions, absent = prepare(names, options.at_once)
    ordered = {name: pythons[name] for name in names if name in pythons}
    scenarios = [scenario for scenario in SCENARIOS if scenario.name in faults]
    with tempfile.TemporaryDirectory() as folder:
        columns = play_all(ordered, scenarios, make_keys(Path(folder)), times, options.at_once)

    found = {name: {fault: cell._asdict() for fault, cell in column.items()} for name, column in columns.items()}
    results = ROOT / "build" / "faults.json"
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps({"versions": versions, "absent": absent, "cells": found}, indent=1), encoding="utf-8")
    if options.clients or options.faults:
        for scenario in scenarios:
            print(scenario.title)
            for name, column in columns.items():
                cell = column[scenario.name]
                print(f"  {name:17} {cell.verdict:6} {cell.text}  {cell.detail}")
    else:
        page.PAGE.write_text(page.write(page.Run(columns, versions, absent, times)), encoding="utf-8")
        print(f"{page.PAGE.relative_to(ROOT)}: {len(columns)} clients, {len(scenarios)} faults,"
              f" {time.monotonic() - began:.0f} s")  # fmt: skip
    ours = [cell for name in columns if name.startswith("httpio") for cell in columns[name].values()]
    return 0 if all(cell.verdict == RIGHT for cell in ours) else 1


if __name__ == "__main__":
    sys.exit(main())
