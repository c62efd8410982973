"""Where databases differ. The one file that knows SQLite from PostgreSQL.

Invariant: a write transaction on SQLite is `BEGIN IMMEDIATE` with `synchronous=FULL`: a verb that has returned survives
a power cut, and no reader-turned-writer can fail half-way.
"""

import os
import sqlite3
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, SQLAlchemyError

from watcher.errors import FixConfiguration, TryLater

_BUSY_TIMEOUT_S = 10
# A server that vanished without a word (seconds, and milliseconds at last), in libpq's terms: a connection that is
# waited for, a silent one, and what was sent and never acknowledged. The URL may say otherwise.
_SERVER_LIMITS = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}
_LOCK_TIMEOUT_MS = 30_000
_CACHE_KIB = 16 * 1024
_READ_CACHE_KIB = 2 * 1024  # each of several connections has its own, and the system caches the file anyway
_WAL_LIMIT_BYTES = 64 * 1024 * 1024


def database_reason(error: SQLAlchemyError) -> str:
    """Return the database's own reason on one line. The statement and its values, which error texts add, stay out."""
    lines = str(getattr(error, "orig", None) or "").splitlines()
    return type(error).__name__ + (f": {lines[0][:200]}" if lines else "")


def parse_url(url: str) -> URL:
    """The URL of a ledger. Raises FixConfiguration, which never repeats the URL (it may hold a password)."""
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
    """The file of a SQLite ledger, None for another database or one in memory."""
    if url.get_backend_name() != "sqlite" or not url.database or ":memory:" in url.database:
        return None
    return Path(url.database).absolute()


def open_engine(url: URL, *, read_only: bool = False) -> Engine:
    """An engine whose transactions are what the ledger needs; `read_only` never waits for a writer."""
    if url.get_backend_name() == "postgresql":
        limits = {name: value for name, value in _SERVER_LIMITS.items() if name not in url.query}
        engine = create_engine(
            url,
            hide_parameters=True,
            pool_pre_ping=True,
            # Said only where it is wanted: False would overrule a server that was made read-only, as for a full disk.
            execution_options={"postgresql_readonly": True} if read_only else {},
            # A pooler in transaction mode hands each transaction to another session, which knows no statement of ours.
            connect_args={**limits, "prepare_threshold": None},
        )
        event.listen(engine, "connect", _settle_session, insert=True)  # before SQLAlchemy's own first statement
        event.listen(engine, "begin", _settle_transaction)
        return engine
    path = sqlite_path(url)
    assert path is not None, "parse_url lets no other URL pass"
    if read_only:
        engine = create_engine(url, hide_parameters=True, creator=lambda: _connect_to_read(path))
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        return engine
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": _BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _pragmas)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


# A lock that somebody else keeps is an outside trouble, and waited for within limits. A commit that returned is on the
# disk, whatever the server or the role is set to; a stronger promise stays.
_SETTLE_SESSION = (
    f"SELECT set_config('lock_timeout', '{_LOCK_TIMEOUT_MS}ms', false), "
    "set_config('synchronous_commit', CASE current_setting('synchronous_commit') "
    "WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)"
)
_SETTLE_TRANSACTION = _SETTLE_SESSION.replace("false)", "true)")
_DURABILITY = "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')"


_PID_AND_TIME = "SELECT pg_backend_pid(), transaction_timestamp()"
_STATEMENT_MODE = (
    "ledger.url: the pooler gives each statement a transaction of its own (statement mode), and the ledger would lose"
    " or double work; set pool_mode = transaction or session in the pooler, or name the server itself"
)


def _settle_session(connection: Any, record: Any) -> None:
    """Set the session up; behind a pooler, each transaction does that itself.

    Raises FixConfiguration where two statements do not share a transaction.
    """
    try:
        pid, began = connection.execute(_PID_AND_TIME).fetchone()
        record.info["pooled"] = pid != connection.info.backend_pid  # a pooler names no process of the server
        # The time of a transaction is that of its first statement, whatever a pooler says of itself.
        is_split = record.info["pooled"] and connection.execute(_PID_AND_TIME).fetchone()[1] != began
    except Exception as error:
        if "statement pooling" not in str(error):  # as PgBouncer refuses BEGIN
            raise
        is_split = True
    if is_split:
        raise FixConfiguration(_STATEMENT_MODE)
    if not record.info["pooled"]:
        connection.execute(_SETTLE_SESSION)
    connection.commit()


def _settle_transaction(connection: Connection) -> None:
    if connection.info.get("pooled"):
        connection.exec_driver_sql(_SETTLE_TRANSACTION)


def durability(url: URL) -> tuple[list[str], bool]:
    """What of a PostgreSQL server's settings may lose a commit, one line each, and whether a pooler is in between.

    Raises TryLater when it cannot be asked.
    """
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            values: dict[str, str] = {row[0]: row[1] for row in connection.exec_driver_sql(_DURABILITY)}
            pooled = bool(connection.info.get("pooled"))
    except DatabaseError as error:
        raise TryLater(f"the ledger cannot be read: {str(error.orig).splitlines()[0][:200]}") from None
    finally:
        engine.dispose()
    wanted = {"fsync": ("on",), "full_page_writes": ("on",), "synchronous_commit": ("on", "remote_apply")}
    return [f"{name} is {values[name]}" for name, good in wanted.items() if values[name] not in good], pooled


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, also for an auditor who may write nowhere beside the file.

    Such a reader cannot make the shared memory that WAL needs. While a daemon runs it is there; else nobody writes,
    and the file can be read as it is.
    """
    at_rest = not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists()
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
        # After a burst, or a reader that took long, the write-ahead log shrinks again.
        f"journal_size_limit={_WAL_LIMIT_BYTES}",
        f"cache_size=-{_CACHE_KIB}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def insert_into(table: Table, dialect: str) -> Any:
    """An INSERT that knows `on_conflict_do_nothing` and `on_conflict_do_update`."""
    if dialect == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # late: commands that only read start the sooner

    return postgresql.insert(table)


def backup_sqlite(source: Path, target: Path) -> None:
    """Copy a SQLite ledger, also while it is being written. `target` must not exist.

    Raises TryLater when the copy could not be finished; nothing is left of it then.
    """
    if os.path.lexists(target):
        raise FixConfiguration(f"{target} already exists; name another file")
    os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o640))
    try:
        with closing(_connect_to_read(source)) as reading, closing(sqlite3.connect(target)) as writing:
            reading.backup(writing)
            # A copy says that it is one, wherever it is carried: what was sent after it was made, it cannot know.
            set_generation(writing, -abs(writing.execute("PRAGMA user_version").fetchone()[0] or 1))
            writing.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        target.unlink(missing_ok=True)
        raise TryLater(f"{source} was not copied to {target}: {error}") from None


def generation_of(path: Path) -> tuple[int, int] | None:
    """The generation of a SQLite ledger (below 0: a copy of it; 0: of an older program) and its last attempt's row id.

    None where the file holds no ledger. Raises TryLater when it cannot be read.
    """
    try:
        with closing(_connect_to_read(path)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'attempts'").fetchone():
                return None
            generation = connection.execute("PRAGMA user_version").fetchone()[0]
            # Also after retention has removed the rows.
            last = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'attempts'").fetchone()
            return generation, last[0] if last else 0
    except sqlite3.Error as error:
        raise TryLater(f"{path} cannot be read now: {error}") from None


def set_generation(connection: sqlite3.Connection, generation: int) -> None:
    """Write a ledger's generation. Raises sqlite3.Error."""
    connection.execute(f"PRAGMA user_version = {generation:d}")


def vacuum_sqlite(path: Path) -> tuple[int, int]:
    """Write the file anew without its holes. The caller is the sole writer. Returns its bytes before and after.

    Raises TryLater when it cannot, for want of space above all (it needs as much again); nothing has changed then.
    """
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # or the file would not show its size
            before_bytes = path.stat().st_size
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise TryLater(f"{path} was not vacuumed: {error}") from None
    return before_bytes, path.stat().st_size


def integrity(url: URL, *, quick: bool = False) -> str | None:
    """What is wrong with the file of a SQLite ledger, None when every page is in order.

    Reads all of it. `quick` does not compare the indexes with their tables, and takes a fraction of the time. Raises
    TryLater when the system does not let it be read.
    """
    path = sqlite_path(url)
    if path is None:
        return None
    pragma = "quick_check" if quick else "integrity_check"
    try:
        with closing(_connect_to_read(path)) as connection:
            found = [row[0] for row in connection.execute(f"PRAGMA {pragma}(5)")]
    except sqlite3.OperationalError as error:
        raise TryLater(f"{path} cannot be read now: {error}") from None
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if found == ["ok"] else "; ".join(found)
