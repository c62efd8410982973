"""Values that no verb writes: another type than that of their column, or a time or a state that there is not.

SQLite keeps any value in any column, so whoever edits a ledger can leave rows that no question can read. They are
searched after a question failed, so that a healthy ledger pays nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Integer,
    LargeBinary,
    String,
    Table,
    and_,
    cast,
    func,
    literal,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.types import NULLTYPE

from watcher.errors import Edited, TryLater
from watcher.ledger.columns import BoundedText, Uint256
from watcher.ledger.reader import Reader
from watcher.ledger.tables import metadata
from watcher.state import State
from watcher.text import escape

_LISTED = 20
_LAST_MS = 253_402_300_799_999  # the end of the year 9999, the last time that a date can hold
_UNKNOWN = "a value that means nothing there"
_STATES = ("state", "from_state", "to_state")
# What SQLite calls the types of values.
_KINDS: dict[type[Any], tuple[str, ...]] = {
    Uint256: ("integer", "blob"),
    Boolean: ("integer",),
    BigInteger: ("integer",),
    Integer: ("integer",),
    LargeBinary: ("blob",),
    BoundedText: ("text",),
    String: ("text",),
}
# What an unreadable row does to the code that reads it.
_FAILURES = (TryLater, SQLAlchemyError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@contextmanager
def reporting_misfits(reader: Reader) -> Iterator[None]:
    """Raise Edited in place of a failure if the ledger holds values that no verb writes."""
    try:
        yield
    except _FAILURES as error:
        try:
            sentences = reader.read_now(misfits)
        except TryLater:
            raise error from None
        if not sentences:
            raise
        raise Edited("\n".join(["the ledger was edited by other hands, or is damaged:", *sentences])) from error


def misfits(conn: Connection, limit: int = _LISTED) -> list[str]:
    """Return the first values that do not fit their columns, each as a sentence with table, row and column."""
    sentences: list[str] = []
    for table in metadata.sorted_tables:
        for column in table.c:
            if len(sentences) < limit:
                sentences += _in_column(conn, table, column, limit - len(sentences))
    return sentences


def _in_column(conn: Connection, table: Table, column: Column[Any], limit: int) -> list[str]:
    key = [type_coerce(each, NULLTYPE) for each in table.primary_key]
    if conn.dialect.name != "sqlite":  # which enforces the types
        wrong = _wrong_values(column)
        rows = [] if wrong is None else conn.execute(select(*key).where(wrong).limit(limit)).all()
        return [_sentence(table, column, row, _UNKNOWN) for row in rows]
    kind = func.typeof(type_coerce(column, NULLTYPE))
    kinds = next(_KINDS[base] for base in type(column.type).__mro__ if base in _KINDS)
    allowed = kinds + (("null",) if column.nullable else ())
    wrong = or_(kind.not_in(allowed), *([] if (values := _wrong_values(column)) is None else [values]))
    if isinstance(column.type, Uint256):
        plain = type_coerce(column, NULLTYPE)
        wrong = or_(wrong, and_(kind == "blob", func.length(plain) != 32), and_(kind == "integer", plain < literal(0)))
    rows = conn.execute(select(kind, *key).where(wrong).limit(limit)).all()
    sentences = [
        _sentence(table, column, row[1:], _UNKNOWN if row[0] in allowed else _article(str(row[0]))) for row in rows
    ]
    return sentences + (
        _undecodable(conn, table, column, limit) if isinstance(column.type, String | BoundedText) else []
    )


def _wrong_values(column: Column[Any]) -> ColumnElement[bool] | None:
    """Return the condition that a value of the right type means nothing, None where every value means something."""
    if column.name in _STATES:
        return column.not_in([state.value for state in State])
    if column.name.endswith("at_ms"):
        return or_(column < 0, column > _LAST_MS)
    if column.name.endswith("time_s"):
        return column < 0
    return None


def _undecodable(conn: Connection, table: Table, column: Column[Any], limit: int) -> list[str]:
    """Return the texts that are not UTF-8, which SQLite stores and Python does not read."""
    key = [cast(each, LargeBinary) if isinstance(each.type, String) else each for each in table.primary_key]
    sentences: list[str] = []
    for text, *row in conn.execute(select(cast(column, LargeBinary), *key).where(column.is_not(None))):
        try:
            text.decode()
        except (UnicodeDecodeError, AttributeError):
            sentences.append(_sentence(table, column, row, "text that is not UTF-8"))
        if len(sentences) == limit:
            break
    return sentences


def _article(kind: str) -> str:
    return {"integer": "an integer", "null": "no value", "real": "a fraction"}.get(kind, f"a {kind}")


def _sentence(table: Table, column: Column[Any], key: Any, what: str) -> str:
    names = [each.name for each in table.primary_key]
    row_key = ", ".join(f"{name} {escape(str(value))[:80]}" for name, value in zip(names, key, strict=True))
    return f"{table.name} ({row_key}): the column {column.name} holds {what}"
