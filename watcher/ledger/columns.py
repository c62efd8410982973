"""Column types that the databases lack or treat differently."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Boolean, ColumnElement, Dialect, Numeric, String, any_, bindparam, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType

_SQLITE_INTEGER_MAX = 2**63 - 1


class _Uint256OnSqlite(UserDefinedType[Any]):
    """Declared `UINT256`: SQLite gives it integer affinity, which leaves blobs as they are."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "UINT256"


class Uint256(TypeDecorator[int]):
    """An unsigned 256-bit integer that sorts as a number on every database.

    On SQLite a value of up to 63 bits is an ordinary INTEGER, so that an auditor's SQL reads naturally; a larger one is
    a 32-byte big-endian BLOB, which SQLite sorts after every INTEGER. On PostgreSQL it is NUMERIC(78, 0).
    """

    impl = Numeric(78, 0)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(_Uint256OnSqlite())
        return dialect.type_descriptor(Numeric(78, 0))

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if not 0 <= value < 2**256:
            raise ValueError(f"{value} is not an unsigned 256-bit integer")
        if dialect.name == "sqlite" and value > _SQLITE_INTEGER_MAX:
            return value.to_bytes(32, "big")
        return value

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], int | None]:  # noqa: ARG002
        return uint256  # itself: the usual method costs a second call for each value


def uint256(value: Any) -> int | None:
    """Return the number that a driver's value of a `Uint256` column means."""
    if type(value) is int or value is None:
        return value
    return int.from_bytes(value, "big") if isinstance(value, bytes) else int(value)


class BoundedText(TypeDecorator[str]):
    """Text from outside, cut to the length of its column.

    Databases refuse NUL and lone surrogates in text. Both are replaced, so that the outcome of a POST is never lost
    because of its message.
    """

    impl = String
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return self.stored(value)

    def stored(self, value: str | None) -> str | None:
        """Return a value as the database holds it."""
        if value is None:
            return None
        cut = value[: self.length]
        return cut if cut.isprintable() else cut.encode("utf-8", "replace").decode().replace("\0", "?")


class RowIds(UserDefinedType[Sequence[int]]):
    """Any number of row ids as one parameter: JSON on SQLite, an array on PostgreSQL."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "BIGINT[]"

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any] | None:
        return json.dumps if dialect.name == "sqlite" else list


class Among(FunctionElement[bool]):
    """The condition that a row id is among those of a parameter. Its text is the same for any number of them."""

    inherit_cache = True
    type = Boolean()

    def __init__(self, column: ColumnElement[int], parameter: str) -> None:
        super().__init__(column, bindparam(parameter, type_=RowIds()))

    def self_group(self, against: Any = None) -> "Among":  # noqa: ARG002
        return self  # not compared with 1, as SQLAlchemy does with other conditions on SQLite


@compiles(Among, "sqlite")
def _among_on_sqlite(element: Among, compiler: SQLCompiler, **kwargs: Any) -> str:
    column, parameter = element.clauses
    rows = func.json_each(parameter).table_valued("value")
    return compiler.process(column.in_(select(rows.c.value)), **kwargs)


@compiles(Among, "postgresql")
def _among_on_postgresql(element: Among, compiler: SQLCompiler, **kwargs: Any) -> str:
    column, parameter = element.clauses
    return compiler.process(column == any_(parameter), **kwargs)


class Few(FunctionElement[bool]):
    """A condition that few rows meet, however many there are: the newest ones of a table, by its ids.

    SQLite supposes that a quarter does. With statistics (ANALYZE) of a large ledger it then reads a whole table first,
    for a Bloom filter, where it joins these few rows to others (https://www.sqlite.org/lang_corefunc.html#likelihood).
    """

    inherit_cache = True
    type = Boolean()

    def __init__(self, condition: ColumnElement[bool]) -> None:
        super().__init__(condition)

    def self_group(self, against: Any = None) -> "Few":  # noqa: ARG002
        return self  # not compared with 1, as SQLAlchemy does with other conditions on SQLite


@compiles(Few, "sqlite")
def _few_on_sqlite(element: Few, compiler: SQLCompiler, **kwargs: Any) -> str:
    (condition,) = element.clauses
    return f"likelihood({compiler.process(condition, **kwargs)}, 0.000001)"


@compiles(Few, "postgresql")
def _few_on_postgresql(element: Few, compiler: SQLCompiler, **kwargs: Any) -> str:
    (condition,) = element.clauses
    return compiler.process(condition, **kwargs)
