"""The connection that writes: one transaction after the other, each durable at once or with a later one."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from watcher.errors import TryLater
from watcher.ledger.engine import database_reason, sqlite_path
from watcher.ledger.postgres import use_pipeline
from watcher.ledger.sqlite_driver import command
from watcher.ledger.wal import sync_log


class WriteConnection:
    """The connection of the writer's thread, and of no other.

    SQLite's stays open from one transaction to the next: to take it from the pool costs as much as a small transaction.
    A server's goes back each time, because the pool replaces one that the server has closed. After an error, both do.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._file = sqlite_path(engine.url)
        self._open: Connection | None = None
        self._is_deferred: bool | None = None  # how the open one commits; None: not set yet

    @contextmanager
    def begin(self, *, deferred: bool) -> Iterator[Connection]:
        """Open a write transaction. On SQLite a `deferred` one commits without a sync, which a later one makes good.

        A commit of PostgreSQL is always durable: its sync is shared among all sessions, and deferring costs a round
        trip. Raises SQLAlchemyError.
        """
        try:
            connection = self._ready(deferred=deferred)
            with connection.begin():
                yield connection
        except BaseException:
            self.close()
            raise
        if self._file is None:
            self.close()

    def sync(self) -> None:
        """Bring the deferred commits of a SQLite ledger to the disk.

        Raises TryLater if they may not be there. They stay deferred: the next sync or durable commit tries again.
        """
        if self._file is None:
            return
        try:
            connection = self._ready(deferred=False)
            # The checkpoint syncs nothing while a reader or another checkpoint is in its way, and does not say so.
            sync_log(self._file)
            command(connection, "PRAGMA wal_checkpoint(PASSIVE)")
        except SQLAlchemyError as error:
            self.close()
            raise TryLater(database_reason(error)) from None
        except OSError as error:
            raise TryLater(f"its log: {error.strerror}") from None

    def close(self) -> None:
        """Give the connection back to the pool. The next transaction takes one."""
        connection, self._open, self._is_deferred = self._open, None, None
        if connection is not None:
            connection.close()

    def _ready(self, *, deferred: bool) -> Connection:
        if self._open is None:
            self._open = self._engine.connect()
        if self._file is None:
            use_pipeline(self._open)
        elif self._is_deferred is not deferred:
            # Not within a transaction, which SQLAlchemy would begin for a statement of its own.
            command(self._open, f"PRAGMA synchronous={'NORMAL' if deferred else 'FULL'}")
            self._is_deferred = deferred
        return self._open
