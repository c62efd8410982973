"""How SQLite runs the statements of the ledger: their plans, and the steps of its virtual machine."""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from sqlite3 import connect
from typing import Any

from sqlalchemy import Connection

from tests.kit.statements import noted

_LEDGER = f"{Path('watcher') / 'ledger'}"
_GROWING = ("tasks", "attempts", "journal", "responses", "events")
# These count for a person, or once in the life of a ledger.
_READ_ALL = frozenset(
    {"recounted", "recount", "expired_before", "past_count", "_read_all", "_in_column", "_undecodable"}
)
_STEPS_PER_TICK = 10


class PlanRecorder:
    """The plans of the statements that code of the ledger sends to SQLite, each statement once."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._fresh: list[tuple[str, Any, str]] = []

    @property
    def count(self) -> int:
        """The number of statements recorded so far."""
        return len(self._seen)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record the statements of all engines inside this block."""
        with noted(self._record):
            yield

    def growing(self, path: Path) -> list[str]:
        """Return the recorded statements that read more of a larger ledger; `path` is any ledger of this schema."""
        with closing(connect(path)) as connection:
            problems = [
                f"{function}: {step} in {statement}"
                for statement, parameters, function in self._fresh
                for step in grows(_plan(connection, statement, parameters), statement)
            ]
        self._fresh.clear()
        return problems

    def _record(self, conn: Connection, statement: str, parameters: Any) -> None:
        if conn.dialect.name != "sqlite" or statement in self._seen or not statement.startswith(_KINDS):
            return
        function = _caller()
        if function is not None and function not in _READ_ALL:
            self._seen.add(statement)
            self._fresh.append((statement, parameters[0] if isinstance(parameters, list) else parameters, function))


_KINDS = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")


def _caller() -> str | None:
    """Return the function of the ledger that sends the statement, None for a statement of a test."""
    caller = sys._getframe(2)
    while caller is not None:
        file = caller.f_code.co_filename
        if "sqlalchemy" not in file and not file.endswith(("plans.py", "statements.py")):
            return caller.f_code.co_name if _LEDGER in file else None
        caller = caller.f_back  # type: ignore[assignment]
    return None


def _plan(connection: Any, statement: str, parameters: Any) -> list[str]:
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]


def grows(plan: list[str], statement: str) -> list[str]:
    """Return the steps of a plan that read a table as a whole, or all rows of a source without a limit."""
    wrong = []
    for step in plan:
        if step.startswith("BLOOM FILTER ON"):  # it is filled from the whole table
            wrong.append(step)
        kind, _, table = step.partition(" ")
        table = table.partition(" ")[0]
        of_source = "(source_id=?)" in step and "ix_tasks_open" not in step and "look_again" not in step
        if table in _GROWING and (kind == "SCAN" or of_source) and "LIMIT" not in statement:
            wrong.append(step)
    return wrong


@contextmanager
def counted_steps(conn: Connection) -> Iterator[list[int]]:
    """Count the steps of SQLite's virtual machine inside this block, in tens; the sum is the only item."""
    driver: Any = conn.connection.driver_connection
    ticks = [0]

    def tick() -> int:
        ticks[0] += 1
        return 0

    driver.set_progress_handler(tick, _STEPS_PER_TICK)
    try:
        yield ticks
    finally:
        driver.set_progress_handler(None, 0)
