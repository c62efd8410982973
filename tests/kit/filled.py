"""A ledger of any size within seconds: nearly all tasks are final with their stories.

A few hundred tasks are open: the newest, and one of the oldest. Every twentieth older task has ended in another way
than `final`. SQLite makes the rows from their numbers (filled.sql).
"""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL

from tests.conformance.rig import CHAIN_ID, MANAGER, START_BLOCK
from tests.kit.clocks import SetClock
from watcher.ledger import ended, schema
from watcher.ledger.engine import open_engine
from watcher.ledger.transaction import Tx

OPEN_TASKS = 320
PER_BLOCK = 5
_FINAL_AFTER = OPEN_TASKS // PER_BLOCK  # blocks
_FIXED = {"per_block": PER_BLOCK, "open": OPEN_TASKS, "window": 100, "blocks": 1000, "start_block": START_BLOCK}
_STATEMENTS = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8").split(";\n")


@dataclass(frozen=True, slots=True)
class Filled:
    """A filled ledger: `tasks` is their number; the open ones are in the blocks above `final_block`."""

    url: URL
    tasks: int
    source_id: int
    head_block: int
    final_block: int


def fill(path: Path, tasks: int) -> Filled:
    """Make a ledger at `path` with so many tasks, at least `OPEN_TASKS`."""
    url = URL.create("sqlite", database=str(path))
    schema.upgrade(url)
    head_block = START_BLOCK + tasks // PER_BLOCK + 1
    filled = Filled(url, tasks, 1, head_block, head_block - _FINAL_AFTER)
    chain = {"chain_id": CHAIN_ID, "manager": MANAGER, "head_block": head_block, "final_block": filled.final_block}
    _insert(path, {**_FIXED, **chain, "tasks": tasks, "now_ms": SetClock().now_ms()})
    engine = open_engine(url)
    with engine.begin() as conn:
        ended.recount(Tx(conn, SetClock().now_ms()), filled.source_id)
    engine.dispose()
    return filled


def _insert(path: Path, parameters: dict[str, Any]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-131072", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        for statement in _STATEMENTS:
            connection.execute(statement, parameters)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")
