"""What was measured, as a table for people and as JSON for programs."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.order import Measured
from bench.rounds import Results


@dataclass(frozen=True, slots=True)
class Comparison:
    """One benchmark: its sides, the one they are compared with, and the ratio aimed at (None: no aim)."""

    name: str
    results: Results
    against: str
    aim: float | None = None
    aimed: str = ""

    def ratios(self, side: str) -> list[float]:
        """How many times the rate of `against`, pair by pair, lowest first."""
        pairs = zip(self.results[side], self.results[self.against], strict=True)
        return sorted(one.per_s / other.per_s for one, other in pairs)


@dataclass(slots=True)
class Report:
    """All that was run; `skipped` says what was not, and why."""

    comparisons: list[Comparison] = field(default_factory=list)
    parts: dict[str, Sequence[Measured]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])

    @property
    def _conditions(self) -> str:
        return (
            f"Python {platform.python_version()}, {os.cpu_count()} cores, load average "
            f"{self.load_before:.1f} before and {os.getloadavg()[0]:.1f} after"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "conditions": self._conditions,
            "system": platform.platform(),
            "comparisons": [_comparison(one) for one in self.comparisons],
            "parts_cpu_us_per_task": {side: _parts(runs) for side, runs in self.parts.items()},
            "skipped": self.skipped,
        }

    def show(self, console: Console) -> None:
        for one in self.comparisons:
            console.print(_table(one))
        if self.parts:
            console.print(_parts_table(self.parts))
        for words in self.skipped:
            console.print(f"skipped: {words}")
        console.print(self._conditions + ".")
        console.print(
            "Rates and CPU belong to this machine and this moment; ratios are medians over neighbouring runs."
        )


def _comparison(one: Comparison) -> dict[str, Any]:
    return {
        "name": one.name,
        "against": one.against,
        "aim": one.aim,
        "sides": {
            side: {
                "tasks": runs[0].tasks,
                "tasks_per_s": [round(run.per_s, 1) for run in runs],
                "tasks_per_s_median": round(median(run.per_s for run in runs), 1),
                "cpu_us_per_task_median": round(median(run.cpu_us for run in runs), 1),
                "ratio_median": round(median(one.ratios(side)), 2),
                "ratios": [round(ratio, 2) for ratio in one.ratios(side)],
            }
            for side, runs in one.results.items()
        },
    }


def _parts(runs: Sequence[Measured]) -> dict[str, float]:
    return {name: round(median(run.parts[name] for run in runs), 1) for name in runs[0].parts}


def _table(one: Comparison) -> Table:
    table = Table(title=one.name, title_justify="left")
    for name in ("side", "tasks", "tasks/s", "CPU us/task", "ratio", "lowest to highest", "aim"):
        table.add_column(name, justify="left" if name == "side" else "right")
    for side, runs in one.results.items():
        ratios = one.ratios(side)
        compared = side != one.against
        table.add_row(
            side,
            f"{runs[0].tasks:,}",
            f"{median(run.per_s for run in runs):,.0f}",
            f"{median(run.cpu_us for run in runs):,.0f}",
            f"{median(ratios):.1f}" if compared else "1",
            f"{ratios[0]:.1f} to {ratios[-1]:.1f}" if compared else "",
            f"{one.aim:g}" if one.aim and side == one.aimed else "",
        )
    return table


def _parts_table(parts: Mapping[str, Sequence[Measured]]) -> Table:
    table = Table(title="parts of our ingest, CPU us per task", title_justify="left")
    table.add_column("side")
    names = list(next(iter(parts.values()))[0].parts)
    for name in names:
        table.add_column(name, justify="right")
    for side, runs in parts.items():
        medians = _parts(runs)
        table.add_row(side, *(f"{medians[name]:,.1f}" for name in names))
    return table
