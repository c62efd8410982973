"""Medians and spreads of runs; quotients and differences between runs that were neighbours."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from bench.measure import Aim
from bench.results import MeasureResult, SideResult


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values, the lowest and the highest."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a side achieved of an aim. `value` is in the terms of the aim: a value, a quotient or a difference."""

    aim: Aim
    value: float

    @property
    def is_met(self) -> bool:
        return self.value >= self.aim.bound if self.aim.at_least else self.value <= self.aim.bound


def values(side: SideResult, key: str) -> Spread | None:
    """Return the spread of a figure; None if the side does not have it."""
    return _spread(sample.values[key] for sample in side.samples if key in sample.values)


def quotients(result: MeasureResult, side: SideResult, key: str) -> Spread | None:
    """Return the spread of a figure divided by that of the side's `against`, run by run."""
    return _spread(mine / other for mine, other in _pairs(result, side, key) if other)


def differences(result: MeasureResult, side: SideResult, key: str) -> Spread | None:
    """Return the spread of a figure minus that of the side's `against`, run by run."""
    return _spread(mine - other for mine, other in _pairs(result, side, key))


def verdicts(result: MeasureResult) -> list[Verdict]:
    """Return what was achieved of each aim; aims of sides without a result are left out."""
    verdicts: list[Verdict] = []
    for aim in result.aims:
        side = result.side(aim.side)
        spread = None
        if side is not None and aim.relation == "value":
            spread = values(side, aim.figure)
        elif side is not None:
            spread = (quotients if aim.relation == "times" else differences)(result, side, aim.figure)
        if spread is not None:
            verdicts.append(Verdict(aim, spread.median))
    return verdicts


def _pairs(result: MeasureResult, side: SideResult, key: str) -> list[tuple[float, float]]:
    other = result.side(side.against) if side.against else None
    if other is None:
        return []
    pairs = zip(side.samples, other.samples, strict=False)
    return [(a.values[key], b.values[key]) for a, b in pairs if key in a.values and key in b.values]


def _spread(numbers: Iterable[float]) -> Spread | None:
    ordered = sorted(number for number in numbers if math.isfinite(number))
    return Spread(median(ordered), ordered[0], ordered[-1]) if ordered else None
