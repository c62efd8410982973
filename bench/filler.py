"""A ledger with any number of ended tasks: the rows of a real one, copied by SQLite itself.

A column that numbers a row, or refers to one, is shifted in each copy; every other value stays as the program wrote it.
So the copies follow the program's tables, whatever columns they have.
"""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

_TABLES = ("tasks", "attempts", "journal", "responses")
_NUMBERS = """
WITH RECURSIVE up (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM up WHERE n < ?)
INSERT INTO copies SELECT n FROM up WHERE n > 0
"""
_OF_TASK, _OF_ATTEMPT = ("task_id",), ("attempt_id",)


def fill(template: Path, target: Path, copies: int) -> int:
    """Write a ledger with so many copies of the template's tasks. Return the number of its tasks.

    Args:
        template: a ledger of one task manager, whose tasks are all `final` and have the indices from 0 on.
        target: the new file.
        copies: how often each task is in it.
    """
    draft = target.with_suffix(".new")
    shutil.copy(template, draft)
    with closing(sqlite3.connect(draft, isolation_level=None)) as db:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-262144", "temp_store=MEMORY"):
            db.execute(f"PRAGMA {pragma}")
        sizes = {table: _last_id(db, table) for table in _TABLES}
        (tasks,) = db.execute("SELECT count(*) FROM tasks").fetchone()
        db.execute("CREATE TEMP TABLE copies (n INTEGER PRIMARY KEY)")
        db.execute(_NUMBERS, (copies - 1,))
        db.execute("BEGIN")
        for table in _TABLES:
            _copy(db, table, sizes, tasks)
        _raise_counts(db, copies, tasks)
        db.execute("COMMIT")
        db.execute("ANALYZE")
        db.execute("PRAGMA journal_mode=WAL")
    draft.replace(target)
    return int(tasks) * copies


def _copy(db: sqlite3.Connection, table: str, sizes: dict[str, int], tasks: int) -> None:
    """Copy the rows of a table once for each row of `copies`."""
    columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    shifts = {"id": sizes[table], "task_index": tasks}
    shifts |= dict.fromkeys(_OF_TASK, sizes["tasks"]) | dict.fromkeys(_OF_ATTEMPT, sizes["attempts"])
    values = [f"row.{name} + copies.n * {shifts[name]}" if name in shifts else f"row.{name}" for name in columns]
    db.execute(f"CREATE TEMP TABLE template_{table} AS SELECT * FROM {table}")
    db.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} "
        f"FROM copies, template_{table} AS row ORDER BY copies.n, row.id"
    )


def _raise_counts(db: sqlite3.Connection, copies: int, tasks: int) -> None:
    """Raise what the program counts beside the rows, where it does."""
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "ended_counts" in tables:
        db.execute("UPDATE ended_counts SET tasks = tasks * ?", (copies,))
    if "coverage" in tables:
        db.execute("UPDATE coverage SET next_index = ? WHERE next_index = ?", (tasks * copies, tasks))


def _last_id(db: sqlite3.Connection, table: str) -> int:
    (last,) = db.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()
    return int(last)
