"""Pauses between attempts: doubled after each failure, bounded, and spread."""

import pytest

from watcher.backoff import doubled_s, spread_s


@pytest.mark.parametrize(
    ("failures", "pause_s"), [(0, 0.5), (1, 0.5), (2, 1), (3, 2), (5, 8), (6, 10), (1_000_000, 10)]
)
def test_pause_doubles_after_each_failure_up_to_its_limit(failures: int, pause_s: float) -> None:
    assert doubled_s(failures, 0.5, 10) == pause_s


def test_pause_is_spread_over_its_upper_half() -> None:
    assert spread_s(8, lambda: 0.0) == 4
    assert spread_s(8, lambda: 0.999) == pytest.approx(7.996)
