"""The differences between SQLite and PostgreSQL: all in this file, in `postgres.py` and in `arrays.py`.

Invariant: a write transaction on SQLite is `BEGIN IMMEDIATE`, so that no transaction fails half-way because it turns
from reading to writing, and commits with `synchronous=FULL`, so that it survives a power cut, except the deferred ones
of `durability.py`.
"""

import os
import sqlite3
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine, Table, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, SQLAlchemyError

from watcher.errors import FixConfiguration, TryLater
from watcher.ledger.postgres import open_postgres, server_limits
from watcher.ledger.sqlite_driver import command

_BUSY_TIMEOUT_S = 10
# Each connection has a cache of its own, which fills up and stays; the system caches the file anyway.
_CACHE_KIB = 1024
_READ_CACHE_KIB = 256
_WAL_LIMIT_BYTES = 64 * 1024 * 1024


def database_reason(error: SQLAlchemyError) -> str:
    """Return the database's own reason on one line. The statement and its values, which error texts add, stay out."""
    lines = str(getattr(error, "orig", None) or "").splitlines()
    return type(error).__name__ + (f": {lines[0][:200]}" if lines else "")


def parse_url(url: str) -> URL:
    """Return the URL of a ledger. Raises FixConfiguration without the URL in it, which may hold a password."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise FixConfiguration("ledger.url: not a database URL; use sqlite:///path or postgresql://host/name") from None
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise FixConfiguration(f"ledger.url: {parsed.get_backend_name()} is not supported; use sqlite or postgresql")
    if parsed.get_backend_name() == "postgresql" and find_spec("psycopg") is None:
        raise FixConfiguration('ledger.url: PostgreSQL needs a driver: pip install "avs-task-watcher[postgres]"')
    if parsed.get_backend_name() == "sqlite" and sqlite_path(parsed) is None:
        raise FixConfiguration("ledger.url: a ledger in memory would be lost at the first stop; name a file")
    return parsed


def sqlite_path(url: URL) -> Path | None:
    """Return the file of a SQLite ledger, None for another database or one in memory."""
    if url.get_backend_name() != "sqlite" or not url.database or ":memory:" in url.database:
        return None
    return Path(url.database).absolute()


def schema_of(url: URL) -> str:
    """Return the schema of a PostgreSQL ledger (`?schema=` in its URL), "" for the one that the server chooses."""
    schema = url.query.get("schema", "")
    return schema if isinstance(schema, str) else schema[-1]


def open_engine(url: URL, *, read_only: bool = False, alone: bool = False) -> Engine:
    """Return an engine with the transactions the ledger needs. With `read_only` it never waits for a writer.

    `alone`: a SQLite file that no daemon has open leaves nothing beside it while it is read.
    """
    if url.get_backend_name() == "postgresql":
        return open_postgres(url.difference_update_query(["schema"]), schema_of(url), read_only=read_only)
    path = sqlite_path(url)
    assert path is not None, "parse_url lets no other URL pass"
    if read_only:
        engine = create_engine(url, hide_parameters=True, creator=lambda: connect_to_read(path, alone=alone))
        event.listen(engine, "begin", lambda connection: command(connection, "BEGIN"))
        return engine
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": _BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _pragmas)
    event.listen(engine, "begin", lambda connection: command(connection, "BEGIN IMMEDIATE"))
    return engine


def server_arguments(url: URL) -> dict[str, Any]:
    """Return the arguments with which psycopg connects to a PostgreSQL ledger, within the same limits."""
    url = url.difference_update_query(["schema"])
    _, arguments = url.get_dialect()().create_connect_args(url)
    return {**arguments, **server_limits(url)}


_DURABILITY = "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')"


def durability(url: URL) -> tuple[list[str], bool]:
    """Return the settings of a PostgreSQL server that may lose a commit, and True if a pooler is in between.

    Raises TryLater if the server cannot be asked.
    """
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            values: dict[str, str] = {row[0]: row[1] for row in connection.exec_driver_sql(_DURABILITY)}
            pooled = bool(connection.info.get("pooled"))
    except DatabaseError as error:
        raise TryLater(f"the ledger cannot be read: {database_reason(error)}") from None
    finally:
        engine.dispose()
    safe = {"fsync": ("on",), "full_page_writes": ("on",), "synchronous_commit": ("on", "remote_apply")}
    return [f"{name} is {values[name]}" for name, choices in safe.items() if values[name] not in choices], pooled


def connect_to_read(path: Path, *, alone: bool = False) -> sqlite3.Connection:
    """Return a read-only connection, also for an auditor without the right to write beside the file.

    Such a reader cannot make the shared memory that WAL needs. While a daemon runs, it exists; otherwise the file does
    not change and can be read as it is (https://www.sqlite.org/wal.html#readonly). `alone`: a file without a log is
    read so in any folder, because nothing is to be written beside evidence.
    """
    has_log = path.with_name(path.name + "-wal").exists()
    at_rest = not has_log and (alone or not os.access(path.parent, os.W_OK))
    uri = f"file:{quote(str(path))}?mode=ro{'&immutable=1' if at_rest else ''}"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S, check_same_thread=False, isolation_level=None)
    connection.execute(f"PRAGMA cache_size=-{_READ_CACHE_KIB}")
    return connection


def _pragmas(connection: sqlite3.Connection, _: object) -> None:
    # pysqlite's own transaction handling sends no BEGIN before a SELECT: two read-then-write verbs would lose updates.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={_BUSY_TIMEOUT_S * 1000}",
        # The write-ahead log shrinks again after a burst or a long read.
        f"journal_size_limit={_WAL_LIMIT_BYTES}",
        f"cache_size=-{_CACHE_KIB}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def insert_into(table: Table, dialect: str) -> Any:
    """Return an INSERT with `on_conflict_do_nothing` and `on_conflict_do_update`."""
    if dialect == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # late: commands that only read start sooner

    return postgresql.insert(table)


def backup_sqlite(source: Path, target: Path) -> None:
    """Copy a SQLite ledger, also while a daemon writes it.

    Raises:
        FixConfiguration: `target` exists.
        TryLater: the copy failed and was removed.
    """
    if os.path.lexists(target):
        raise FixConfiguration(f"{target} already exists; name another file")
    os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o640))
    try:
        with closing(connect_to_read(source)) as reading, closing(sqlite3.connect(target)) as writing:
            reading.backup(writing)
            # The negative generation marks a copy: it lacks the attempts that were sent after it was made.
            set_generation(writing, -abs(writing.execute("PRAGMA user_version").fetchone()[0] or 1))
            writing.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        target.unlink(missing_ok=True)
        raise TryLater(f"{source} was not copied to {target}: {error}") from None


def generation_of(path: Path) -> tuple[int, int] | None:
    """Return a SQLite ledger's generation (below 0: a copy; 0: an older program's) and the row id of its last attempt.

    None: the file holds no ledger. Raises TryLater if it cannot be read.
    """
    try:
        with closing(connect_to_read(path)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'attempts'").fetchone():
                return None
            generation = connection.execute("PRAGMA user_version").fetchone()[0]
            # The sequence stays after retention has removed the rows.
            last = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'attempts'").fetchone()
            return generation, last[0] if last else 0
    except sqlite3.Error as error:
        raise TryLater(f"{path} cannot be read now: {error}") from None


def set_generation(connection: sqlite3.Connection, generation: int) -> None:
    """Write a ledger's generation (PRAGMA user_version). Raises sqlite3.Error."""
    connection.execute(f"PRAGMA user_version = {generation:d}")


def vacuum_sqlite(path: Path) -> tuple[int, int]:
    """Rewrite the file without its free pages. The caller is the sole writer. Return its size (bytes) before and after.

    Raises TryLater if that fails, often for want of disk space (it needs as much again); nothing has changed then.
    """
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # else part of the size is in the log
            before_bytes = path.stat().st_size
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise TryLater(f"{path} was not vacuumed: {error}") from None
    return before_bytes, path.stat().st_size


def integrity(url: URL, *, quick: bool = False) -> str | None:
    """Read all of a SQLite ledger's file. Return the damage, None if every page is in order.

    `quick` does not compare indexes with their tables and takes a fraction of the time. Raises TryLater if the file
    cannot be read now.
    """
    path = sqlite_path(url)
    if path is None:
        return None
    pragma = "quick_check" if quick else "integrity_check"
    try:
        with closing(connect_to_read(path)) as connection:
            lines = [row[0] for row in connection.execute(f"PRAGMA {pragma}(5)")]
    except sqlite3.OperationalError as error:
        raise TryLater(f"{path} cannot be read now: {error}") from None
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if lines == ["ok"] else "; ".join(lines)
