"""Charts over blocks, from a filled ledger."""

from collections import Counter
from pathlib import Path

from tests.kit.filled import PER_BLOCK, fill
from watcher.dashboard.charts import KINDS, _median, range_of
from watcher.ledger import overview, queries
from watcher.ledger.reader import Reader


def test_median_of_counted_values() -> None:
    assert _median([]) is None
    assert _median([(3, 1)]) == 3
    assert _median([(1, 1), (4, 1)]) == 2.5
    assert _median([(1, 10), (2, 1), (9, 11)]) == 5.5
    assert _median([(1, 2), (2, 5), (90, 2)]) == 2


def test_range_is_one_of_those_offered() -> None:
    assert [range_of(text) for text in ("100", "10000", "101", "", None, "-1", "1e3")] == [100, 10_000, *[500] * 5]


def test_span_counts_every_task_once(tmp_path: Path) -> None:
    filled = fill(tmp_path / "l.db", 2000)
    reader = Reader(filled.url)
    for blocks, parts in ((7, 3), (100, 50), (101, 50), (100_000, 50)):
        charted = reader.read_now(overview.span, filled.source_id, filled.head_block, blocks, parts)
        rows = reader.read_now(overview.counts_by_part, filled.source_id, charted)
        by_part = Counter[int]()
        for row in rows:
            by_part[row.part] += row.tasks
        assert set(by_part) <= set(range(parts))
        first = max(charted.first_block, filled.head_block - blocks + 1)
        assert charted.first_block == max(0, first)
        assert max(by_part.values()) <= charted.size * PER_BLOCK
        assert not charted.is_cut
    canonical = filled.tasks - sum(
        count
        for state, count in reader.read_now(queries.count_by_state, filled.source_id).items()
        if state in ("orphaned", "quarantined")
    )
    assert sum(by_part.values()) == canonical
    reader.close()


def test_kinds_are_those_of_the_styles() -> None:
    styles = (Path(__file__).parents[3] / "watcher/dashboard/static/app.css").read_text()
    assert all(f"--{kind}:" in styles and f"rect.{kind}" in styles for kind in KINDS)
