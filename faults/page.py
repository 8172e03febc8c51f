"""Writes docs/faults.md from the cells, and reads it again."""

from __future__ import annotations

import platform
import re
import ssl
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import NamedTuple

from clients import CLIENTS
from menu import GROUPS, SCENARIOS
from playing import DIED, HANG, LOST, TOOK, WRONG, Cell, Times

PAGE = Path(__file__).resolve().parent.parent / "docs" / "faults.md"

Column = Mapping[str, Cell]
"""A client's cells, by the names of the scenarios."""


class Run(NamedTuple):
    """What one run has found: the columns, the versions of the clients in them, and why others are absent."""

    columns: Mapping[str, Column]
    versions: Mapping[str, str]
    absent: Mapping[str, str]
    times: Times


_START = """\
# Faults

What clients for HTTP deliver when the wire fails. `make faults` plays each of these faults to each client, over the
loopback interface, and writes this page; nobody edits it by hand. The faults are in `faults/menu.py`, what the
server does is in `faults/scripts.py`, and how each client is used in `faults/clients.py`.

## How to read it

| a cell says | what it means |
|---|---|
| ok | the answer was delivered, whole and right |
| the name of an exception | the client refused, and was right to; pycurl has one type and a number for each error |
| **bold** | a silent wrong answer: no exception, but not what was meant; "ok 500": 500 bytes as if they were all |
| (raw) | the body as it was sent: the client does not decode content codings |
| refused | a good answer that was not delivered, and the exception instead |
| took | all of a flood was read, and the answer behind it delivered: no limit stopped it |
| no end | the client had not returned after {limit:g} seconds, and its process was ended; "died": it ended by itself |

- Where a row leaves a choice, both are right: an answer that is certain may be delivered or refused (Content-Length and
  chunked, bare LF), and a GET may be repeated on a new connection.
- Each client allows {idle:g} seconds without progress, and {total:g} for an exchange where it has a setting for that.
- In the rows with two requests the cell is about the second, unless it says otherwise.
- gzip without its last 8 bytes: the text is whole, but what would prove it is missing. To deliver it as if nothing
  were missing counts as a silent wrong answer.
- Which of two exceptions comes may change from run to run where a server resets a connection while a body goes out.
"""


def write(run: Run) -> str:
    """The page."""
    parts = [_START.format_map(run.times._asdict())]
    names = list(run.columns)
    for group in GROUPS:
        rows = [
            [scenario.title, *(run.columns[name][scenario.name].text for name in names)] for scenario in group.scenarios
        ]
        parts.append(f"## {group.title}\n\n{table(['fault', *names], rows)}")
    rows = [[name, *totals(run.columns[name])] for name in names]
    parts.append("## Totals\n\n" + table(["client", *TOTALS], rows))
    if run.absent:
        rows = [[name, reason] for name, reason in run.absent.items()]
        parts.append("Not run:\n\n" + table(["client", "why"], rows))
    rows = [[name, run.versions[name], CLIENTS[name].note] for name in names]
    parts.append("## The clients\n\n" + table(["client", "version", "how it is used"], rows))
    parts.append(
        f"Run on {date.today().isoformat()} with Python {platform.python_version()} and {ssl.OPENSSL_VERSION} on"
        f" {platform.system()}.\n"
    )
    parts.append(_END)
    return "\n".join(parts)


_END = """\
## To run it

    make faults                                             all, in a few minutes; writes this page
    make faults PYTHON=python3.13                           with another Python
    make faults ARGS="--clients httpio,urllib3"             some of the clients, printed
    make faults ARGS="--faults length-fin,gzip-cut"         some of the faults, printed

Each client gets the newest version in an environment of its own, `.venv-faults-<name>`, and each fault is played to a
new process. The verdicts behind the cells and the sentences of the exceptions are in `build/faults.json`.
`tests/test_faults.py` plays all faults to httpio, and compares what it finds with this page.
"""

TOTALS = (
    "silent wrong answers",
    "good answers refused",
    "floods taken",
    "no end",
    "exceptions when the server has gone away",
)


def totals(column: Column) -> list[str]:
    """The counts under `TOTALS` for one client; the last says how many types there are, and which."""
    verdicts = [cell.verdict for cell in column.values()]
    types: dict[str, list[str]] = {}
    for gone in sorted({cell.gone for cell in column.values() if cell.gone}):
        name, _, number = gone.partition(" ")
        types.setdefault(name, []).extend(filter(None, [number]))
    named = [f"{name} ({', '.join(numbers)})" if numbers else name for name, numbers in types.items()]
    counts = [verdicts.count(kind) for kind in (WRONG, LOST, TOOK)]
    counts.append(verdicts.count(HANG) + verdicts.count(DIED))
    return [*map(str, counts), f"{len(types)}: {', '.join(named)}"]


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def read(text: str, client: str) -> dict[str, str]:
    """A client's column on the page: the cells by the names of the scenarios."""
    names = {scenario.title: scenario.name for scenario in SCENARIOS}
    column: dict[str, str] = {}
    head: list[str] = []
    for line in re.findall(r"^\| (.*) \|$", text, re.MULTILINE):
        cells = line.split(" | ")
        if cells[0] == "fault":
            head = cells
        elif cells[0] in names and client in head:
            column[names[cells[0]]] = cells[head.index(client)]
    return column
