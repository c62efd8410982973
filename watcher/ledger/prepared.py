"""Statements of which many run: for each row, SQLAlchemy's work costs more than the database's.

They are written in SQLAlchemy Core like all others, so that each database gets its own text. For SQLite, a statement is
compiled once, and its parameters go to the driver as they are; rows of a question come from the driver.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from operator import itemgetter
from typing import Any, cast

from sqlalchemy import Boolean, Connection, CursorResult, Dialect, Insert, LargeBinary, Select, Update
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from watcher.ledger import sqlite_driver
from watcher.ledger.columns import BoundedText, Uint256, uint256

Values = Sequence[Any]
Row = list[Any]
_Convert = Callable[[Any], Any]
_Pick = Callable[[Values], tuple[Any, ...]]


class Question:
    """A SELECT and the names of its parameters."""

    def __init__(self, statement: Select[Any], names: Sequence[str]) -> None:
        self.statement = statement
        self._names = tuple(names)
        self._on_sqlite: tuple[str, _Pick] | None = None
        self._converts: dict[str, list[tuple[int, _Convert]]] = {}

    def rows(self, conn: Connection, *parameters: Any) -> list[Row]:
        """Return the rows for these parameters, with values as the types of their columns have them."""
        converts = self._converts_of(conn.dialect)
        return [_converted(row, converts) for row in self._rows(conn, parameters)]

    def _rows(self, conn: Connection, parameters: Values) -> Sequence[Values]:
        """Return the rows as the driver has them."""
        if conn.dialect.name != "sqlite":
            result = conn.execute(self.statement, dict(zip(self._names, parameters, strict=True)))
            assert isinstance(result, CursorResult)
            rows = cast("list[Values]", result.cursor.fetchall())  # without SQLAlchemy's own rows
            result.close()
            return rows
        if self._on_sqlite is None:
            self._on_sqlite = _compiled(self.statement, self._names, None, conn.dialect)
        text, pick = self._on_sqlite
        return sqlite_driver.rows(conn, text, pick(parameters))

    def _converts_of(self, dialect: Dialect) -> list[tuple[int, _Convert]]:
        if dialect.name not in self._converts:
            converts = [_from_driver(column.type) for column in self.statement.selected_columns]
            self._converts[dialect.name] = [(place, convert) for place, convert in enumerate(converts) if convert]
        return self._converts[dialect.name]


class Prepared:
    """An INSERT or UPDATE and the names of its parameters. A row of parameters is a tuple in their order.

    Texts are cut to the length of their columns before (`BoundedText.stored`): the audit chain binds them so.
    """

    def __init__(self, statement: Insert | Update, names: Sequence[str], sets: Sequence[str] = ()) -> None:
        """Take a statement. `sets`: the parameters among `names` that are columns to set, of one without values."""
        self.statement = statement
        self._names = tuple(names)
        self._sets = list(sets) or None
        self._on_sqlite: tuple[str, _Pick] | None = None

    def run(self, conn: Connection, rows: Sequence[Values]) -> None:
        """Run the statement once for each row of parameters."""
        if conn.dialect.name != "sqlite":  # there, one statement takes all rows (`arrays.py`)
            conn.execute(self.statement, [dict(zip(self._names, row, strict=True)) for row in rows])
            return
        if self._on_sqlite is None:
            self._on_sqlite = _compiled(self.statement, self._names, self._sets, conn.dialect)
        text, pick = self._on_sqlite
        sqlite_driver.run_each(conn, text, [*map(pick, rows)])


def _compiled(
    statement: Select[Any] | Insert | Update, names: Sequence[str], sets: list[str] | None, dialect: Dialect
) -> tuple[str, _Pick]:
    """Return the text for SQLite, and what makes the driver's parameters of those of a row."""
    compiled = statement.compile(dialect=dialect, column_keys=sets)
    assert isinstance(compiled, SQLCompiler)
    expanded = compiled.construct_expanded_state(dict.fromkeys(names), escape_names=False)
    assert expanded.positiontup is not None, "parameters of SQLite have no names"
    constants = {name: _plain(value) for name, value in expanded.parameters.items() if name not in names}
    converts = {name: _to_driver(bind.type, dialect) for name, bind in compiled.binds.items()}
    return expanded.statement, _positional(names, expanded.positiontup, constants, converts)


def _positional(
    names: Sequence[str], order: Sequence[str], constants: Mapping[str, Any], converts: Mapping[str, _Convert | None]
) -> _Pick:
    known = (*names, *constants)
    tail = tuple(constants.values())
    places = [known.index(name) for name in order]
    converted = [(place, convert) for place, name in enumerate(order) if (convert := converts.get(name))]
    if places == list(range(len(names))):
        return (lambda row: tuple(_converted(row, converted))) if converted else _same
    pick: _Pick = itemgetter(*places) if len(places) > 1 else lambda row: (row[places[0]],)
    return lambda row: tuple(_converted(pick((*row, *tail)), converted))


def _same(row: Values) -> tuple[Any, ...]:
    return row if isinstance(row, tuple) else tuple(row)


def _converted(row: Values, converts: Sequence[tuple[int, _Convert]]) -> Row:
    values = list(row)
    for place, convert in converts:
        values[place] = convert(values[place])
    return values


def _plain(value: Any) -> Any:
    """Return a constant as the driver takes it fastest."""
    return value.value if isinstance(value, Enum) else value


def _to_driver(type_: TypeEngine[Any], dialect: Dialect) -> _Convert | None:
    # Drivers take bytes and booleans as they are; SQLAlchemy would wrap the one and check the other.
    if isinstance(type_, LargeBinary | BoundedText | Boolean):
        return None
    return type_.dialect_impl(dialect).bind_processor(dialect)


def _from_driver(type_: TypeEngine[Any]) -> _Convert | None:
    """Return what makes a value of a column of a driver's bytes, text or number; None: nothing."""
    if isinstance(type_, Uint256):
        return uint256
    if isinstance(type_, Boolean):
        return _boolean
    return None


def _boolean(value: Any) -> bool | None:
    return None if value is None else bool(value)
