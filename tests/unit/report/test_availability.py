"""Availability: the union of outages over the time that is known, and nothing said of the rest."""

from hypothesis import given
from hypothesis import strategies as st

from watcher.ledger.periods import RUNNING, Period
from watcher.report.availability import availability

_SPANS = st.lists(st.tuples(st.integers(0, 80), st.integers(0, 30)), max_size=8)


@given(_SPANS, _SPANS, st.integers(0, 40), st.integers(1, 80))
def test_shares_equal_a_count_of_each_moment(
    runs: list[tuple[int, int]], outages: list[tuple[int, int]], since: int, length: int
) -> None:
    until = since + length
    periods = [Period(RUNNING, begin, begin + size) for begin, size in runs]
    periods += [Period("api", begin, begin + size, "why") for begin, size in outages]
    seen = availability(periods, since, until, ["api", "store"])

    def covered(spans: list[tuple[int, int]]) -> set[int]:
        return {moment for begin, size in spans for moment in range(begin, begin + size) if since <= moment < until}

    known, down = covered(runs), covered(outages)
    assert (seen.known_ms, seen.unknown_ms) == (len(known), length - len(known))
    api, store = seen.parts
    assert (api.key, api.down_ms, store.down_ms) == ("api", len(known & down), 0)
    assert api.share == (1 - len(known & down) / len(known) if known else None)
    assert store.share == (1 if known else None)


def test_outages_are_clipped_and_the_longest_are_told() -> None:
    periods = [Period(RUNNING, 0, 10_000), Period("node a", 0, 700, "refused")]
    periods += [Period("node b", place * 10, place * 10 + 5, "slow") for place in range(300)]
    seen = availability(periods, 500, 9000)
    assert (seen.outages[0].key, seen.outages[0].began_ms, seen.outages[0].ended_ms) == ("node a", 500, 700)
    assert (len(seen.outages), seen.left_out) == (200, 51)
