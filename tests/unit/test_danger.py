"""When an unanswered task counts as in danger, by the window and what confirmations take of it."""

from pathlib import Path

import pytest

from watcher.clock import SystemClock
from watcher.health.service import HealthService
from watcher.settings.model import Settings


@pytest.mark.parametrize(
    ("window_blocks", "l1_blocks", "blocks"),
    [(30, False, 2), (30, True, 7), (24, False, 1), (24, True, 6), (1000, True, 10), (None, True, 10)],
)
def test_danger_begins_by_the_blocks_that_the_contract_counts(
    window_blocks: int | None, l1_blocks: bool, blocks: int, tmp_path: Path
) -> None:
    tables: dict[str, object] = {
        "chain": {"rpc_urls": ["http://127.0.0.1:9"], "chain_id": 1, "confirmations": 20},
        "task_manager": {"address": "0x" + "11" * 20, "start_block": 0},
        "operator": {"api": "none"},
        "ledger": {"url": f"sqlite:///{tmp_path / 'watcher.db'}"},
    }
    instruments = HealthService(Settings(**tables), SystemClock(), 30.0)  # type: ignore[arg-type]
    instruments.l1_blocks = l1_blocks
    assert instruments.danger_blocks(window_blocks) == blocks
