"""Tables and goals, from the rivals' samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from harness import Rival


class Goal(NamedTuple):
    """One promise: `met` is None where it could not be measured; `figure` is what was measured."""

    text: str
    met: bool | None
    figure: str


@dataclass
class Table:
    """One question's answer. Ratios are to the rival labelled `baseline`; `scale` seconds in `unit`."""

    title: str
    rivals: Sequence[Rival]
    baseline: str
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    scale: float = 1e6
    unit: str = "us"

    def find(self, label: str) -> Rival:
        """The rival with that label."""
        return next(one for one in self.rivals if one.label == label)

    def require_time(self, label: str, most: float) -> None:
        """Add the goal: at most `most` (in `unit`) of CPU per unit of work, by the median of the rounds."""
        costs = [cost * self.scale for cost in costs_of(self.find(label))]
        text = f"{label}: at most {most:g} {self.unit} of CPU"
        if costs:
            figure = f"{median(costs):.3f} {self.unit} (lowest round {min(costs):.3f})"
            self.goals.append(Goal(text, median(costs) <= most, figure))
        else:
            self.goals.append(Goal(text, None, "not measured"))

    def require_ratio(self, label: str, other: str, most: float) -> None:
        """Add the goal: at most `most` times the CPU of `other`, by the median of the rounds' ratios."""
        value = ratio(self.find(label), self.find(other))
        text = f"{label}: at most {most:g} x the CPU of {other}"
        if value is None:
            self.goals.append(Goal(text, None, "not measured"))
        else:
            self.goals.append(Goal(text, value <= most, f"{value:.2f} x"))


def costs_of(rival: Rival) -> list[float]:
    """CPU seconds per unit of work, in each round."""
    return [sample.cpu / sample.units for sample in rival.samples]


def ratio(rival: Rival, base: Rival) -> float | None:
    """The median over the rounds of `rival`'s CPU per unit divided by `base`'s in that round, or None."""
    ratios = [one / two for one, two in zip(costs_of(rival), costs_of(base), strict=False) if two]
    return median(ratios) if ratios else None


def show(table: Table) -> None:
    """Print the table, its notes and its goals."""
    width = max(24, *(len(one.label) for one in table.rivals))
    base = table.find(table.baseline)
    print(f"\n{table.title}")
    print(f"  {'':{width}} {'CPU ' + table.unit:>9} {'lowest':>9} {'ratio':>7} {'wall ' + table.unit:>9}"
          f" {'busy':>5} {'peak MiB':>9}  rounds")
    for one in table.rivals:
        costs = costs_of(one)
        if not costs:
            print(f"  {one.label:{width}} {'-':>9}   {one.absent or 'no rounds'}")
            continue
        wall = median(sample.wall / sample.units for sample in one.samples)
        busy = median(min(1.0, sample.cpu / sample.wall) for sample in one.samples)
        peak = max(sample.peak for sample in one.samples) / (1 << 20)
        times = ratio(one, base)
        shown = "-" if times is None else f"{times:.2f}"
        print(f"  {one.label:{width}} {median(costs) * table.scale:9.3f} {min(costs) * table.scale:9.3f}"
              f" {shown:>7} {wall * table.scale:9.3f} {busy:5.0%} {peak:9.1f}"
              f"  {len(one.samples)} x {one.samples[-1].units}")
    for note in table.notes:
        print(f"  {note}")
    for goal in table.goals:
        print(f"  goal: {goal.text}: {'met' if goal.met else 'NOT MET'}, {goal.figure}", flush=True)
