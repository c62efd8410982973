"""Ids for new rows, taken before the rows are inserted, so that a transaction knows what it adds."""

from functools import cache

from sqlalchemy import ColumnElement, Connection, Table, column, func, select, table

from watcher.ledger.prepared import Question


def new_ids(conn: Connection, of: Table, count: int) -> list[int]:
    """Return ids for `count` new rows of a table, ascending; no other writer gets them.

    Cheaper than RETURNING, which makes another long statement for each number of rows. On SQLite a write transaction is
    the only one.
    """
    if conn.dialect.name != "sqlite":
        sequence = func.pg_get_serial_sequence(of.name, "id")
        return list(conn.execute(select(func.nextval(sequence)).select_from(func.generate_series(1, count))).scalars())
    last: int = _last(of).rows(conn)[0][0]
    return list(range(last + 1, last + 1 + count))


@cache
def _last(of: Table) -> Question:
    """Return the question for the last id of a SQLite table."""
    last: ColumnElement[int] = func.coalesce(func.max(of.c.id), 0)
    if of.dialect_options["sqlite"]["autoincrement"]:
        # The id of a removed row is never used again: SQLite's own table knows it (https://www.sqlite.org/autoinc.html).
        sequences = table("sqlite_sequence", column("name"), column("seq"))
        removed = select(func.max(sequences.c.seq)).where(sequences.c.name == of.name).scalar_subquery()
        last = func.max(last, func.coalesce(removed, 0))
    return Question(select(last), [])
