"""The distribution of many whole numbers within bounded memory: counts of rounded values."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Distribution:
    """Counts of whole numbers from 0 on, rounded down to so many digits: exact for short numbers.

    `largest` and `total` are exact.
    """

    digits: int = 3
    counts: Counter[int] = field(default_factory=Counter)
    largest: int | None = None
    total: int = 0

    def add(self, value: int) -> None:
        """Count one value; one below 0 counts as 0."""
        value = max(0, value)
        unit = 10 ** max(0, len(str(value)) - self.digits)
        self.counts[value // unit * unit] += 1
        self.total += 1
        if self.largest is None or value > self.largest:
            self.largest = value

    def percentiles(self, shares: Sequence[int]) -> dict[str, int | None]:
        """Return the percentiles (nearest rank) as p50, p95 and so on; None where nothing was counted."""
        return {f"p{share}": self.at(share) for share in shares}

    def at(self, share: int) -> int | None:
        """Return the percentile `share` (1 to 100), None where nothing was counted."""
        rank = -(-self.total * share // 100)
        return next((value for value, passed in self.cumulated() if passed >= rank), None)

    def cumulated(self) -> Iterator[tuple[int, int]]:
        """Yield each rounded value, smallest first, with the number of values up to it."""
        passed = 0
        for value in sorted(self.counts):
            passed += self.counts[value]
            yield value, passed
