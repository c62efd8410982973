"""The availability of nodes, API, hook, ledger and watcher over a time, from the recorded periods. Pure.

The time in which no watcher ran, or none was recorded, is unknown: it counts neither for nor against a part.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from watcher.ledger.periods import RUNNING, Period

_OUTAGES_LIMIT = 200
Interval = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which a part was not available. Times are milliseconds since 1970, clipped to the report's time."""

    key: str
    began_ms: int
    ended_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class PartUse:
    """The availability of one part. `down_ms` is within the time that is known; `share` is None if none is known."""

    key: str
    outages: int
    down_ms: int
    longest_ms: int
    share: float | None


@dataclass(frozen=True, slots=True)
class Availability:
    """The availability of all parts. `known_ms` is the time in which a watcher ran and recorded.

    `known` are its intervals. `outages` are the longest ones, oldest first; `left_out` counts the others.
    """

    known_ms: int
    unknown_ms: int
    known: tuple[Interval, ...]
    parts: tuple[PartUse, ...]
    outages: tuple[Outage, ...]
    left_out: int


def availability(periods: Sequence[Period], since_ms: int, until_ms: int, always: Iterable[str] = ()) -> Availability:
    """Return the availability between two moments.

    Args:
        periods: the recorded periods that overlap that time.
        since_ms: the begin, in milliseconds since 1970.
        until_ms: the end.
        always: keys that are part of the result also without an outage.
    """
    by_key: dict[str, list[Interval]] = {key: [] for key in always}
    reasons: dict[str, list[Outage]] = defaultdict(list)
    running: list[Interval] = []
    for period in periods:
        interval = max(since_ms, period.began_ms), min(until_ms, period.last_ms)
        if interval[0] > interval[1]:
            continue
        if period.key == RUNNING:
            running.append(interval)
        else:
            by_key.setdefault(period.key, []).append(interval)
            reasons[period.key].append(Outage(period.key, *interval, period.message))
    known = merged(running)
    known_ms = _length(known)
    parts = tuple(_part(key, intervals, known, known_ms) for key, intervals in by_key.items())
    outages = [outage for kept in reasons.values() for outage in kept]
    longest = sorted(outages, key=lambda outage: outage.began_ms - outage.ended_ms)[:_OUTAGES_LIMIT]
    return Availability(
        known_ms,
        until_ms - since_ms - known_ms,
        tuple(known),
        parts,
        tuple(sorted(longest, key=lambda outage: outage.began_ms)),
        len(outages) - len(longest),
    )


def _part(key: str, intervals: list[Interval], known: list[Interval], known_ms: int) -> PartUse:
    down = merged(intervals)
    down_ms = _overlap(down, known)
    share = 1 - down_ms / known_ms if known_ms else None
    return PartUse(key, len(down), down_ms, max((end - begin for begin, end in down), default=0), share)


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """Return the union of intervals, in order and without overlap."""
    result: list[Interval] = []
    for begin, end in sorted(intervals):
        if result and begin <= result[-1][1]:
            result[-1] = result[-1][0], max(result[-1][1], end)
        else:
            result.append((begin, end))
    return result


def _length(intervals: Iterable[Interval]) -> int:
    return sum(end - begin for begin, end in intervals)


def _overlap(left: list[Interval], right: list[Interval]) -> int:
    """Return the time that two unions have in common, in one walk over both."""
    common = first = second = 0
    while first < len(left) and second < len(right):
        common += max(0, min(left[first][1], right[second][1]) - max(left[first][0], right[second][0]))
        if left[first][1] <= right[second][1]:
            first += 1
        else:
            second += 1
    return common
