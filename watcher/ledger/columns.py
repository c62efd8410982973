"""Column types that the databases lack or treat differently."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Dialect, Numeric, String
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
        if value is None:
            return None
        cut = value[: self.length]
        return cut if cut.isprintable() else cut.encode("utf-8", "replace").decode().replace("\0", "?")
