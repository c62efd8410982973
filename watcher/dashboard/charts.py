"""Charts over blocks: what became of the tasks of each part of a range, and how long their answers took."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from watcher.dashboard.view import View
from watcher.ledger import overview
from watcher.ledger.cursor import Cursor
from watcher.state import State

RANGES = (100, 500, 2000, 10_000)  # blocks
_PARTS = 50
_DEFAULT = 500
# What became of a task, in the order in which a bar stacks it.
KINDS = ("answered", "other", "open", "skipped", "missed")
_KIND_OF: Mapping[State, str] = {
    State.RESPONDED: "answered",
    State.FINAL: "answered",
    State.DELIVERED: "answered",
    State.RESPONDED_OTHER: "other",
    State.FINAL_OTHER: "other",
    State.SKIPPED: "skipped",
    State.QUARANTINED: "skipped",
    State.ORPHANED: "skipped",
    State.EXPIRED: "missed",
    State.FAILED: "missed",
}
_ANSWERED = frozenset({State.RESPONDED, State.FINAL})


@dataclass(frozen=True, slots=True)
class Bar:
    """One part of the range. `median` and `slowest` are blocks from a task to our answer, None without one."""

    first_block: int
    last_block: int
    counts: Mapping[str, int]
    median: float | None
    slowest: int | None

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True)
class Chart:
    """Both charts over one range. `blocks`: the range asked for; `is_cut`: it holds more tasks than are counted."""

    blocks: int
    bars: Sequence[Bar]
    is_cut: bool

    @cached_property
    def totals(self) -> Mapping[str, int]:
        return {kind: sum(bar.counts.get(kind, 0) for bar in self.bars) for kind in KINDS}

    @cached_property
    def total(self) -> int:
        return sum(self.totals.values())

    @property
    def in_time(self) -> float | None:
        """Return the share of the tasks that had to be answered and were, None without any; open ones do not count."""
        due = self.totals["answered"] + self.totals["missed"]
        return self.totals["answered"] / due if due else None

    @cached_property
    def most(self) -> int:
        return max((bar.total for bar in self.bars), default=0) or 1

    @cached_property
    def slowest(self) -> int:
        return max((bar.slowest or 0 for bar in self.bars), default=0) or 1

    @property
    def json(self) -> str:
        """Return the columns that the script draws: first blocks, each kind, median and slowest answer."""
        columns: dict[str, Any] = {kind: [bar.counts.get(kind, 0) for bar in self.bars] for kind in KINDS}
        columns["block"] = [bar.first_block for bar in self.bars]
        columns["last"] = [bar.last_block for bar in self.bars]
        columns["median"] = [bar.median for bar in self.bars]
        columns["slowest"] = [bar.slowest for bar in self.bars]
        return json.dumps(columns, separators=(",", ":"))


def range_of(text: str | None) -> int:
    """Return the range in blocks that a query string asks for, one of RANGES."""
    return next((blocks for blocks in RANGES if str(blocks) == text), _DEFAULT)


def chart_of(view: View, cursor: Cursor, blocks: int) -> Chart:
    """Return the charts of the last `blocks` blocks."""
    begin = min(cursor.start_block, cursor.head_block)  # a young ledger has nothing before
    charted = overview.span(
        view.conn, view.source_id, cursor.head_block, min(blocks, cursor.head_block - begin + 1), _PARTS
    )
    counts: defaultdict[int, Counter[str]] = defaultdict(Counter)
    delays: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for row in overview.counts_by_part(view.conn, view.source_id, charted):
        state = State(row.state)
        counts[row.part][_KIND_OF.get(state, "open")] += row.tasks
        if state in _ANSWERED and row.delay is not None:
            delays[row.part][row.delay] += row.tasks
    parts = range((charted.last_block - charted.first_block) // charted.size + 1)
    return Chart(blocks, [_bar(part, charted, counts[part], delays[part]) for part in parts], charted.is_cut)


def _bar(part: int, charted: overview.Span, counts: Mapping[str, int], delays: Counter[int]) -> Bar:
    first = charted.first_block + part * charted.size
    last = min(charted.last_block, first + charted.size - 1)
    return Bar(first, last, counts, _median(sorted(delays.items())), max(delays, default=None))


def _median(counted: Iterable[tuple[int, int]]) -> float | None:
    """Return the median of values that are given with their counts, in order."""
    pairs = list(counted)
    total = sum(count for _, count in pairs)
    if not total:
        return None
    middle = [(total - 1) // 2, total // 2]
    values, passed = [], 0
    for value, count in pairs:
        values += [value for rank in middle if passed <= rank < passed + count]
        passed += count
    return sum(values) / 2
