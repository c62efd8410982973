"""A SQLite ledger read from outside, with nothing of the program's own code."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class LedgerReading:
    """What the file at `ledger` holds. Empty while there is none."""

    ledger: Path

    def query(self, sql: str, *parameters: Any) -> list[Any]:
        """Rows of the ledger; [] while there is none."""
        if not self.ledger.exists():
            return []
        # A daemon that is stopped (SIGSTOP) while it recovers the write-ahead log keeps readers out for that long.
        connection = sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True, timeout=60)
        try:
            return connection.execute(sql, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise
        finally:
            connection.close()

    def states(self) -> dict[int, str]:
        """The state of the canonical task at each index."""
        return dict(self.query("SELECT task_index, state FROM tasks WHERE canonical ORDER BY task_index"))

    def state(self, index: int) -> str | None:
        """The state of the canonical task at this index, None when there is none."""
        return self.states().get(index)

    def all_in(self, *states: str, indices: Iterable[int] | None = None) -> bool:
        """Are there tasks, and are all of them (or those of `indices`) in one of these states?"""
        now = self.states()
        chosen = list(now) if indices is None else list(indices)
        return bool(chosen) and all(now.get(index) in states for index in chosen)

    def cursor(self) -> int:
        """The block up to which the ledger has read, -1 before the first."""
        rows = self.query("SELECT cursor_block FROM sources")
        return int(rows[0][0]) if rows else -1

    def steps(self) -> int:
        """How many moves the tasks have made so far, all together."""
        rows = self.query("SELECT max(id) FROM journal")
        return int(rows[0][0] or 0) if rows else 0

    def journeys(self) -> dict[int, list[str]]:
        """Every state each task (by row id) went through, in order, from the ledger's journal."""
        journeys: defaultdict[int, list[str]] = defaultdict(list)
        for task, state in self.query("SELECT task_id, to_state FROM journal ORDER BY id"):
            journeys[task].append(state)
        return dict(journeys)
