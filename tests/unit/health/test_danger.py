"""When an unanswered task counts as in danger, by the window and what confirmations take of it."""

import pytest

from watcher.health.service import danger_blocks


@pytest.mark.parametrize(
    ("window_blocks", "confirmations", "blocks"),
    [(30, 20, 2), (30, 0, 7), (24, 20, 1), (24, 0, 6), (1000, 0, 10), (1000, 20, 10), (None, 0, 10), (None, 20, 10)],
)
def test_danger_begins_by_the_blocks_that_the_contract_counts(
    window_blocks: int | None, confirmations: int, blocks: int
) -> None:
    assert danger_blocks(10, window_blocks, confirmations) == blocks
