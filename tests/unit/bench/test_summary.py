"""Medians, quotients between neighbours, and aims."""

from collections.abc import Sequence

import pytest

from bench.machine import Conditions
from bench.measure import Aim, Figure, Sample
from bench.measures.latency import percentile
from bench.results import MeasureResult, SideResult
from bench.sizes import QUICK
from bench.summary import differences, quotients, values, verdicts

CONDITIONS = Conditions("2026-01-01 00:00 UTC", "abc", "3.11", 2, "Linux", 0.1, 0.2)


def result(ours: Sequence[float], theirs: Sequence[float], *aims: Aim) -> MeasureResult:
    sides = [
        SideResult(name, name, against, 0.0, [Sample({"per_s": value}, 1, 1) for value in numbers])
        for name, against, numbers in (("ours", "theirs", ours), ("theirs", "", theirs))
    ]
    return MeasureResult("m", "m", CONDITIONS, QUICK, 1.0, [Figure("per_s", "tasks/s")], sides, aims=aims)


def test_quotients_are_taken_between_neighbouring_runs() -> None:
    measured = result([10, 40, 90], [10, 20, 30])
    spread = quotients(measured, measured.sides[0], "per_s")
    assert spread is not None
    assert (spread.low, spread.median, spread.high) == (1, 2, 3)
    assert quotients(measured, measured.sides[1], "per_s") is None


def test_differences_are_taken_between_neighbouring_runs() -> None:
    measured = result([10, 40, 90], [10, 20, 30])
    spread = differences(measured, measured.sides[0], "per_s")
    assert spread is not None
    assert (spread.low, spread.median, spread.high) == (0, 20, 60)


def test_values_without_a_number_are_left_out() -> None:
    measured = result([float("nan"), 3, 5], [1, 1, 1])
    spread = values(measured.sides[0], "per_s")
    assert spread is not None
    assert (spread.low, spread.median, spread.high) == (3, 4, 5)
    assert values(measured.sides[0], "unknown") is None


@pytest.mark.parametrize(
    ("aim", "is_met"),
    [
        (Aim("ours", "per_s", "times", 2, at_least=True), True),
        (Aim("ours", "per_s", "times", 2.1, at_least=True), False),
        (Aim("ours", "per_s", "plus", 20), True),
        (Aim("ours", "per_s", "plus", 19), False),
        (Aim("ours", "per_s", "value", 40), True),
        (Aim("ours", "per_s", "value", 39), False),
    ],
)
def test_an_aim_is_met_by_the_median(aim: Aim, is_met: bool) -> None:
    (verdict,) = verdicts(result([10, 40, 90], [10, 20, 30], aim))
    assert verdict.is_met is is_met


def test_an_aim_of_a_missing_side_has_no_verdict() -> None:
    assert verdicts(result([1], [1], Aim("absent", "per_s", "value", 1))) == []


def test_a_percentile_is_the_nearest_rank() -> None:
    numbers = list(range(100, 0, -1))
    assert [percentile(numbers, number) for number in (0, 50, 90, 99, 100)] == [1, 50, 90, 99, 100]
    assert percentile([7.0], 99) == 7.0
