"""The results, as tables for people and as JSON for programs."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.rounds import Results
from bench.run_spec import Measured


@dataclass(frozen=True, slots=True)
class Comparison:
    """One benchmark: the results of its sides, the side they are compared with, and the aimed ratio of one side.

    `aim` None: there is no aim.
    """

    name: str
    results: Results
    against: str
    aim: float | None = None
    aimed: str = ""

    def ratios(self, side: str) -> list[float]:
        """Return the rate of a side divided by that of `against`, pair by pair, lowest first."""
        pairs = zip(self.results[side], self.results[self.against], strict=True)
        return sorted(run.per_s / other.per_s for run, other in pairs)


@dataclass(slots=True)
class Report:
    """The results of all benchmarks; `skipped` lists those that did not run, and why."""

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
            "comparisons": [_comparison(comparison) for comparison in self.comparisons],
            "parts_cpu_us_per_task": {side: _parts(runs) for side, runs in self.parts.items()},
            "skipped": self.skipped,
        }

    def show(self, console: Console) -> None:
        for comparison in self.comparisons:
            console.print(_table(comparison))
        if self.parts:
            console.print(_parts_table(self.parts))
        for reason in self.skipped:
            console.print(f"skipped: {reason}")
        console.print(self._conditions + ".")
        console.print("Rates and CPU hold for this machine and this moment; ratios are medians over neighbouring runs.")


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "name": comparison.name,
        "against": comparison.against,
        "aim": comparison.aim,
        "sides": {
            side: {
                "tasks": runs[0].tasks,
                "tasks_per_s": [round(run.per_s, 1) for run in runs],
                "tasks_per_s_median": round(median(run.per_s for run in runs), 1),
                "cpu_us_per_task_median": round(median(run.cpu_us for run in runs), 1),
                "ratio_median": round(median(comparison.ratios(side)), 2),
                "ratios": [round(ratio, 2) for ratio in comparison.ratios(side)],
            }
            for side, runs in comparison.results.items()
        },
    }


def _parts(runs: Sequence[Measured]) -> dict[str, float]:
    return {name: round(median(run.parts[name] for run in runs), 1) for name in runs[0].parts}


def _table(comparison: Comparison) -> Table:
    table = Table(title=comparison.name, title_justify="left")
    for name in ("side", "tasks", "tasks/s", "CPU us/task", "ratio", "lowest to highest", "aim"):
        table.add_column(name, justify="left" if name == "side" else "right")
    for side, runs in comparison.results.items():
        ratios = comparison.ratios(side)
        compared = side != comparison.against
        table.add_row(
            side,
            f"{runs[0].tasks:,}",
            f"{median(run.per_s for run in runs):,.0f}",
            f"{median(run.cpu_us for run in runs):,.0f}",
            f"{median(ratios):.1f}" if compared else "1",
            f"{ratios[0]:.1f} to {ratios[-1]:.1f}" if compared else "",
            f"{comparison.aim:g}" if comparison.aim and side == comparison.aimed else "",
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
