"""The connection that writes, and the statements that go to SQLite's driver as they are."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.pool import QueuePool

from watcher.errors import TryLater
from watcher.ledger import sqlite_driver
from watcher.ledger.engine import open_engine
from watcher.ledger.write_connection import WriteConnection

FULL, NORMAL = 2, 1


@pytest.fixture
def url(tmp_path: Path) -> URL:
    return URL.create("sqlite", database=str(tmp_path / "watcher.db"))


@pytest.fixture
def engine(url: URL) -> Iterator[Engine]:
    opened = open_engine(url)
    yield opened
    opened.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[WriteConnection]:
    made = WriteConnection(engine)
    with made.begin(deferred=False) as conn:
        conn.exec_driver_sql("CREATE TABLE t (number INTEGER UNIQUE)")
    yield made
    made.close()


def level(conn: Connection) -> Any:
    return conn.exec_driver_sql("PRAGMA synchronous").scalar_one()


def driver_of(conn: Connection) -> sqlite3.Connection:
    driver = conn.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def taken(engine: Engine) -> int:
    assert isinstance(engine.pool, QueuePool)
    return engine.pool.checkedout()


def numbers(engine: Engine) -> list[Any]:
    with engine.connect() as conn:
        return list(conn.exec_driver_sql("SELECT number FROM t").scalars())


def add(connection: WriteConnection, number: int, *, deferred: bool = False) -> None:
    with connection.begin(deferred=deferred) as conn:
        sqlite_driver.run_each(conn, "INSERT INTO t VALUES (?)", [(number,)])


def test_one_connection_serves_all_transactions_until_an_error(connection: WriteConnection, engine: Engine) -> None:
    with connection.begin(deferred=False) as first:
        driver = driver_of(first)
    with connection.begin(deferred=True) as second:
        assert (driver_of(second) is driver, level(second)) == (True, NORMAL)
    assert taken(engine) == 1
    with pytest.raises(IntegrityError), connection.begin(deferred=True) as conn:
        sqlite_driver.run_each(conn, "INSERT INTO t VALUES (?)", [(1,), (1,)])
    assert taken(engine) == 0, "nobody knows what the error has left"
    assert numbers(engine) == []
    with connection.begin(deferred=True) as conn:
        assert level(conn) == NORMAL
    with connection.begin(deferred=False) as conn:
        assert level(conn) == FULL


def test_another_writer_is_an_error_of_the_database_and_no_more(
    connection: WriteConnection, engine: Engine, url: URL
) -> None:
    connection.close()  # the next one waits for a lock only shortly
    with engine.connect() as conn:
        sqlite_driver.command(conn, "PRAGMA busy_timeout=10")
    other = sqlite3.connect(str(url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OperationalError, match="locked"):
        add(connection, 1)
    other.execute("ROLLBACK")
    other.close()
    add(connection, 2)
    assert numbers(engine) == [2]


def test_closed_connection_leaves_no_log_behind(connection: WriteConnection, engine: Engine, url: URL) -> None:
    log = Path(f"{url.database}-wal")
    add(connection, 1, deferred=True)
    assert log.exists()
    connection.sync()
    connection.close()
    engine.dispose()
    assert not log.exists()


def test_sync_that_fails_is_tried_again_on_a_connection_that_works(connection: WriteConnection, engine: Engine) -> None:
    add(connection, 1, deferred=True)
    assert connection._open is not None
    driver_of(connection._open).close()
    with pytest.raises(TryLater) as caught:
        connection.sync()
    assert str(caught.value) == "ProgrammingError: Cannot operate on a closed database."
    connection.sync()
    assert numbers(engine) == [1]


def test_questions_of_one_connection_see_one_commit(connection: WriteConnection, url: URL) -> None:
    reading = open_engine(url, read_only=True)
    with reading.connect() as conn:
        assert sqlite_driver.rows(conn, "SELECT number FROM t", ()) == []
        add(connection, 1)
        assert sqlite_driver.rows(conn, "SELECT number FROM t", ()) == []
        assert conn.exec_driver_sql("SELECT number FROM t").all() == []
    with reading.connect() as conn:
        assert sqlite_driver.rows(conn, "SELECT number FROM t", ()) == [(1,)]
    reading.dispose()


def test_errors_of_the_driver_are_those_of_the_ledger(connection: WriteConnection) -> None:
    with pytest.raises(OperationalError, match="no such table") as caught, connection.begin(deferred=False) as conn:
        sqlite_driver.rows(conn, "SELECT number FROM absent WHERE number = ?", ("a secret",))
    assert "secret" not in str(caught.value)
    with pytest.raises(OperationalError, match="no such table"), connection.begin(deferred=False) as conn:
        sqlite_driver.run_each(conn, "INSERT INTO absent VALUES (?)", [(1,)])
    with pytest.raises(OperationalError, match="syntax"), connection.begin(deferred=False) as conn:
        sqlite_driver.command(conn, "NO COMMAND")
