"""Ids for new rows, taken before the rows are inserted, so that a transaction knows what it adds."""

from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, Table, column, func, select, table


def new_ids(conn: Connection, of: Table, count: int) -> list[int]:
    """Return ids for `count` new rows of a table, ascending; no other writer gets them.

    Cheaper than RETURNING, which makes another long statement for each number of rows. On SQLite a write transaction is
    the only one.
    """
    if conn.dialect.name != "sqlite":
        sequence = func.pg_get_serial_sequence(of.name, "id")
        return list(conn.execute(select(func.nextval(sequence)).select_from(func.generate_series(1, count))).scalars())
    last: int = max(conn.execute(question).scalar() or 0 for question in _last(of))
    return list(range(last + 1, last + 1 + count))


@cache
def _last(of: Table) -> tuple[Select[Any], ...]:
    """Return the questions for the last id of a SQLite table."""
    present = select(func.max(of.c.id))
    if not of.dialect_options["sqlite"]["autoincrement"]:
        return (present,)
    # The id of a removed row is never used again: SQLite's own table knows it (https://www.sqlite.org/autoinc.html).
    sequences = table("sqlite_sequence", column("name"), column("seq"))
    return present, select(sequences.c.seq).where(sequences.c.name == of.name)
