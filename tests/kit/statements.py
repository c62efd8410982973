"""The statements that the ledger sends: SQLAlchemy's, and those that go to SQLite's driver as they are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from sqlalchemy import Connection, Engine, event

from watcher.ledger import sqlite_driver

# Gets the connection, the text and the parameters of a statement before it runs.
Note = Callable[[Connection, str, Any], None]


@contextmanager
def noted(note: Note, engine: Engine | None = None) -> Iterator[None]:
    """Call `note` for each statement of an engine, or of all engines, inside this block."""

    def by_sqlalchemy(conn: Connection, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        note(conn, statement, parameters)

    def first(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(conn: Connection, statement: str, parameters: Any) -> Any:
            if engine is None or conn.engine is engine:
                note(conn, statement, parameters)
            return function(conn, statement, parameters)

        return called

    target = Engine if engine is None else engine
    event.listen(target, "before_cursor_execute", by_sqlalchemy)
    try:
        with (
            patch.object(sqlite_driver, "rows", first(sqlite_driver.rows)),
            patch.object(sqlite_driver, "run_each", first(sqlite_driver.run_each)),
        ):
            yield
    finally:
        event.remove(target, "before_cursor_execute", by_sqlalchemy)
