"""Draw the two state tables of a connection into docs/states.md: as diagrams, and in words.

python tools/draw_states.py            write the page
python tools/draw_states.py --check    only look: the exit status is 1 when the page is not up to date
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path

from httpio.states import RECEIVING, SENDING, Receive, Receiving, Send, Sending

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "states.md"

Moves = Mapping[tuple[Enum, Enum], Enum]

INTRODUCTION = """\
<!-- Drawn by tools/draw_states.py from src/httpio/states.py: change that, and run `make docs`. -->

# The states of a connection

A connection has two halves. What each may do is a table in `src/httpio/states.py`: a state and an event give the
next state. An event that has no entry is not possible in that state; a call that asks for it raises `StateError`, and
nothing has changed. Both halves begin anew with each `connect`. In the diagrams, an event that leaves a state as it is
stands inside it.

The halves meet in a few rules:

- A request that is sent makes the receiving half expect its answer.
- An answer to the request that is still going out stops the body, when its status is 400 or more or when it ends the
  connection ([RFC 9112 section 9.5](https://www.rfc-editor.org/rfc/rfc9112#section-9.5)).
- A response that ends the connection ends the sending too.
- When sending fails, the receiving half goes on with what is already here: a response that came in full stands.
"""


def common_moves(moves: Moves, states: type[Enum]) -> dict[Enum, tuple[Enum, list[Enum]]]:
    """Events that lead to one state from every state, or from every state but one: for each, that state and the
    states that are left out. Drawn one by one they would hide the rest."""
    common = {}
    for event in dict.fromkeys(event for _, event in moves):
        origins = [state for state in states if (state, event) in moves]
        targets = {moves[state, event] for state in origins}
        left_out = [state for state in states if state not in origins]
        if len(targets) == 1 and len(left_out) <= 1:
            common[event] = targets.pop(), left_out
    return common


def diagram(moves: Moves, states: type[Enum]) -> Iterator[str]:
    """The lines of a Mermaid stateDiagram-v2."""
    common = common_moves(moves, states)
    stays: dict[Enum, list[str]] = {}
    arrows: dict[tuple[Enum, Enum], list[str]] = {}
    for (state, event), target in moves.items():
        if event in common:
            continue
        if state is target:
            stays.setdefault(state, []).append(event.name)
        else:
            arrows.setdefault((state, target), []).append(event.name)
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield "    direction LR"
    yield f"    [*] --> {next(iter(states)).name}"
    for state, names in stays.items():
        yield f'    state "{state.name}<br>stays: {", ".join(names)}" as {state.name}'
    for (state, target), names in arrows.items():
        yield f"    {state.name} --> {target.name} : {', '.join(names)}"
    for event, (target, left_out) in common.items():
        name = f"any_{event.name}"
        yield f'    state "{from_every(left_out)}" as {name}'
        yield f"    {name} --> {target.name} : {event.name}"
    yield "```"


def from_every(left_out: list[Enum]) -> str:
    return "every state" + "".join(f" but {state.name}" for state in left_out)


def words(moves: Moves, states: type[Enum], events: type[Enum]) -> Iterator[str]:
    """The same as two tables of Markdown."""
    common = common_moves(moves, states)
    yield "| state | meaning | what may happen, and the state after it |"
    yield "|---|---|---|"
    for state in states:
        goes = [
            f"`{event.name}` → `{target.name}`"
            for (origin, event), target in moves.items()
            if origin is state and event not in common
        ]
        yield f"| `{state.name}` | {state.value} | {', '.join(goes) or 'only what every state allows'} |"
    for event, (target, left_out) in common.items():
        yield f"| {from_every(left_out)} | | `{event.name}` → `{target.name}` |"
    yield ""
    yield "| event | meaning |"
    yield "|---|---|"
    for event in events:
        yield f"| `{event.name}` | {event.value} |"


def page() -> str:
    """The whole text of docs/states.md."""
    lines = [INTRODUCTION]
    for title, moves, kind, events in (
        ("Sending", SENDING, Sending, Send),
        ("Receiving", RECEIVING, Receiving, Receive),
    ):
        lines += [f"## {title}", "", *diagram(moves, kind), "", *words(moves, kind, events), ""]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw the state tables into docs/states.md.")
    parser.add_argument("--check", action="store_true", help="only look whether the page is up to date")
    options = parser.parse_args()
    text = page()
    if options.check:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
            return 0
        print("docs/states.md is not up to date: run `make docs`.", file=sys.stderr)
        return 1
    PAGE.write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
