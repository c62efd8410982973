"""Statements of which many run: for each row, SQLAlchemy's work costs more than the database's.

They are written in SQLAlchemy Core like all others, so that each database gets its own text. For SQLite, what changes
rows is compiled once, and its rows of parameters go to the driver as they are; rows of a question come from the driver.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, cast

from sqlalchemy import Boolean, Connection, CursorResult, Dialect, Insert, LargeBinary, Select, Update
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from watcher.ledger.columns import BoundedText, Uint256, uint256

Values = tuple[Any, ...]
_Convert = Callable[[Any], Any]


class Question:
    """A SELECT and the names of its parameters."""

    def __init__(self, statement: Select[Any], names: Sequence[str]) -> None:
        self.statement = statement
        self._names = tuple(names)
        self._converts: dict[str, list[tuple[int, _Convert]]] = {}

    def rows(self, conn: Connection, *parameters: Any) -> list[Values]:
        """Return the rows for these parameters, with values as the types of their columns have them."""
        result = conn.execute(self.statement, dict(zip(self._names, parameters, strict=True)))
        assert isinstance(result, CursorResult)
        rows = cast("list[Values]", result.cursor.fetchall())  # of the driver, without SQLAlchemy's own rows
        result.close()
        converts = self._converts_of(conn.dialect)
        return [_converted(row, converts) for row in rows]

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
        self._compiled: tuple[str, _Convert | None] | None = None

    def run(self, conn: Connection, rows: Sequence[Values]) -> None:
        """Run the statement once for each row of parameters."""
        if conn.dialect.name != "sqlite":  # there, one statement takes all rows (`arrays.py`)
            conn.execute(self.statement, [dict(zip(self._names, row, strict=True)) for row in rows])
            return
        if self._compiled is None:
            self._compiled = self._compile(conn.dialect)
        text, parameters = self._compiled
        conn.exec_driver_sql(text, [parameters(row) for row in rows] if parameters else list(rows))

    def _compile(self, dialect: Dialect) -> tuple[str, _Convert | None]:
        """Return the text, and what makes the driver's parameters of a row; None: the row is them."""
        compiled = self.statement.compile(dialect=dialect, column_keys=self._sets)
        assert isinstance(compiled, SQLCompiler)
        assert compiled.positiontup is not None, "parameters of SQLite have no names"
        constants = {name: value for name, value in compiled.params.items() if name not in self._names}
        converts = {name: _to_driver(bind.type, dialect) for name, bind in compiled.binds.items()}
        return str(compiled), _positional(self._names, compiled.positiontup, constants, converts)


def _positional(
    names: Sequence[str], order: Sequence[str], constants: Mapping[str, Any], converts: Mapping[str, _Convert | None]
) -> Callable[[Values], Values] | None:
    known = (*names, *constants)
    tail = tuple(constants.values())
    places = [known.index(name) for name in order]
    in_order = places == list(range(len(names)))
    converted = [(place, convert) for place, name in enumerate(order) if (convert := converts[name])]
    if in_order:
        return (lambda row: _converted(row, converted)) if converted else None
    pick: Callable[[Values], Values] = itemgetter(*places) if len(places) > 1 else lambda row: (row[places[0]],)
    return lambda row: _converted(pick(row + tail), converted)


def _converted(row: Values, converts: Sequence[tuple[int, _Convert]]) -> Values:
    if not converts:
        return row
    values = list(row)
    for place, convert in converts:
        values[place] = convert(values[place])
    return tuple(values)


def _to_driver(type_: TypeEngine[Any], dialect: Dialect) -> _Convert | None:
    # Drivers take bytes as they are; SQLAlchemy would wrap them.
    if isinstance(type_, LargeBinary | BoundedText):
        return None
    if isinstance(type_, Boolean):
        return int
    return type_.dialect_impl(dialect).bind_processor(dialect)


def _from_driver(type_: TypeEngine[Any]) -> _Convert | None:
    """Return what makes a value of a column of a driver's bytes, text or number; None: nothing."""
    if isinstance(type_, Uint256):
        return uint256
    if isinstance(type_, Boolean):
        return lambda value: None if value is None else bool(value)
    return None
