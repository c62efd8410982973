"""The clock of the database, which all replicas share: the clocks of their hosts may differ."""

from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction


class database_now_ms(GenericFunction[int]):  # noqa: N801 - reads as a function of SQL
    """The database's time in milliseconds since 1970, at the moment of the statement."""

    type = BigInteger()
    inherit_cache = True


@compiles(database_now_ms, "postgresql")
def _on_postgresql(element: Any, compiler: Any, **_: Any) -> str:  # noqa: ARG001 - the library's signature
    return "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)"


@compiles(database_now_ms, "sqlite")
def _on_sqlite(element: Any, compiler: Any, **_: Any) -> str:  # noqa: ARG001 - the library's signature
    # The Julian day of 1970-01-01 is 2440587.5 (https://www.sqlite.org/lang_datefunc.html).
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
