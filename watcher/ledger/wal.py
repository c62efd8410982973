"""The sync of SQLite's write-ahead log, for the commits that did not wait for one."""

import os
import sqlite3
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from watcher.errors import TryLater
from watcher.ledger.engine import sqlite_path


def sync(engine: Engine) -> None:
    """Bring the deferred commits of a SQLite ledger to the disk.

    Raises TryLater if they may not be there. They stay deferred: the next sync or durable commit tries again.
    """
    if engine.dialect.name != "sqlite":
        return
    path = sqlite_path(engine.url)
    assert path is not None, "a ledger in memory is not opened"
    try:
        with engine.connect() as connection:
            # The checkpoint syncs nothing while a reader or another checkpoint is in its way, and does not say so.
            _sync_file(path.with_name(path.name + "-wal"))
            cursor = connection.connection.cursor()
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise TryLater(f"{type(error).__name__}: {error}") from None
    except OSError as error:
        raise TryLater(f"its log: {error.strerror}") from None


def _sync_file(path: Path) -> None:
    """Sync a file that SQLite has open. SQLite takes no locks on its log, so that closing it here releases none."""
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fdatasync(handle)
    finally:
        os.close(handle)
