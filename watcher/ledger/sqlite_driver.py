"""Statements that go to SQLite's driver as they are: SQLAlchemy's work for each would be more than SQLite's.

Errors are SQLAlchemy's, as everywhere in the ledger.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError


def command(conn: Connection, text: str) -> None:
    """Run a statement outside of the transactions that SQLAlchemy knows: a PRAGMA, or the BEGIN of one."""
    try:
        _driver_of(conn).execute(text)
    except sqlite3.Error as error:
        raise _as_sqlalchemy(error, text) from error


def rows(conn: Connection, text: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return the rows of a SELECT, within the transaction of the connection."""
    _begin(conn)
    try:
        return cast("list[tuple[Any, ...]]", _driver_of(conn).execute(text, parameters).fetchall())
    except sqlite3.Error as error:
        raise _as_sqlalchemy(error, text) from error


def run_each(conn: Connection, text: str, parameters: Sequence[Sequence[Any]]) -> None:
    """Run an INSERT or UPDATE once for each row of parameters, within the transaction of the connection."""
    _begin(conn)
    try:
        _driver_of(conn).executemany(text, parameters)
    except sqlite3.Error as error:
        raise _as_sqlalchemy(error, text) from error


def _begin(conn: Connection) -> None:
    if not conn.in_transaction():
        conn.begin()  # as SQLAlchemy does for each statement: what follows sees the same commit


def _driver_of(conn: Connection) -> sqlite3.Connection:
    return cast("sqlite3.Connection", conn.connection.driver_connection)


def _as_sqlalchemy(error: sqlite3.Error, text: str) -> Exception:
    return DBAPIError.instance(text, None, error, sqlite3.Error, hide_parameters=True)
