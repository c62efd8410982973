"""A distribution in bounded memory beside the sorted values themselves."""

from hypothesis import given
from hypothesis import strategies as st

from watcher.report.distribution import Distribution

_VALUES = st.lists(st.integers(-5, 10**7), min_size=1, max_size=60)


@given(_VALUES, st.integers(1, 100))
def test_percentile_is_the_nearest_rank_to_three_digits(values: list[int], share: int) -> None:
    distribution = Distribution()
    for value in values:
        distribution.add(value)
    exact = sorted(max(0, value) for value in values)[-(-len(values) * share // 100) - 1]
    value_at = distribution.at(share)
    assert value_at is not None
    assert value_at <= exact < value_at + max(1, exact / 100 + 1)
    assert value_at == exact or exact >= 1000
    assert (distribution.total, distribution.largest) == (len(values), max(0, *values))


def test_memory_is_bounded_by_the_digits() -> None:
    distribution = Distribution()
    for value in range(0, 1_000_000, 7):
        distribution.add(value)
    assert len(distribution.counts) <= 1000 + 3 * 900
    assert list(distribution.cumulated())[-1][1] == distribution.total


def test_empty_distribution_has_no_percentile() -> None:
    assert Distribution().percentiles((50, 99)) == {"p50": None, "p99": None}
