"""The check of a SQLite ledger's pages: of all at the start, or, after a clean stop, of most in the background.

Invariant: the check in the background holds up no stage. It has a read-only connection of its own, in a thread of the
lowest priority, and lets go of the file after each table.
"""

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from watcher.errors import TryLater
from watcher.ledger.engine import connect_to_read
from watcher.ledger.tables import metadata

# They stay small however large the ledger, and are checked before anything is written.
_SMALL_TABLES = ("alembic_version", "sources", "passes", "contract_facts", "coverage", "ended_counts")
_LOWEST_PRIORITY = 19
_JOIN_S = 0.02


def damage_of_small_tables(path: Path) -> str | None:
    """Read the schema and check the small tables. Return the damage, None if all is in order.

    Raises TryLater if the file cannot be read now.
    """
    try:
        with closing(connect_to_read(path)) as connection:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            return next(filter(None, (_damage(connection, name) for name in _SMALL_TABLES if name in tables)), None)
    except sqlite3.OperationalError as error:
        raise TryLater(f"{path} cannot be read now: {error}") from None
    except sqlite3.DatabaseError as error:
        return str(error)


class BackgroundCheck:
    """The check of the other tables, while the daemon runs. `damage` is what it has found so far, None if nothing."""

    def __init__(self, path: Path | None) -> None:
        """`path` is the ledger; None: there is nothing left to check."""
        self._path = path
        self._reading: sqlite3.Connection | None = None
        self._stopped = False
        self.damage: str | None = None

    async def run(self, report: Callable[[str], None]) -> None:
        """Check table by table, and call `report` with the damage. When cancelled, end once the file is closed."""
        if self._path is None:
            return
        done = asyncio.get_running_loop().create_future()
        thread = threading.Thread(target=self._check, args=(self._path, done), name="ledger-check", daemon=True)
        thread.start()
        try:
            self.damage = await done
        finally:
            self._stopped = True
            while thread.is_alive():  # an interrupt just before a statement is lost
                if self._reading is not None:
                    with contextlib.suppress(sqlite3.ProgrammingError):  # it is closed
                        self._reading.interrupt()
                thread.join(_JOIN_S)
        if self.damage is not None:
            report(self.damage)

    def _check(self, path: Path, done: "asyncio.Future[str | None]") -> None:
        with contextlib.suppress(OSError):  # on Linux, a thread has a priority of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
        tables = [table.name for table in metadata.sorted_tables if table.name not in _SMALL_TABLES]
        damage = next(filter(None, (self._check_table(path, name) for name in tables)), None)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            done.get_loop().call_soon_threadsafe(_set, done, damage)

    def _check_table(self, path: Path, name: str) -> str | None:
        try:
            with closing(connect_to_read(path)) as self._reading:
                return None if self._stopped else _damage(self._reading, name)
        except sqlite3.OperationalError:  # interrupted, or the file cannot be read now
            return None
        except sqlite3.DatabaseError as error:
            return str(error)


def _damage(connection: sqlite3.Connection, table: str) -> str | None:
    """Return the damage in a table and its indices, None if all is in order."""
    lines = [row[0] for row in connection.execute(f"PRAGMA quick_check('{table}')")]
    return None if lines == ["ok"] else "; ".join(lines[:5])


def _set(done: "asyncio.Future[str | None]", damage: str | None) -> None:
    if not done.done():
        done.set_result(damage)
