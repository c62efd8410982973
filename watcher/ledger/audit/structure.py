"""The structure of a ledger beside the one that this program makes: tables, indices, views and triggers.

Whoever reads the ledger by SQL reads it through these: a view that was made anew shows other rows than the tables hold,
and a trigger changes rows that nobody wrote. A part that this program does not know (an index of the operator's own, a
table of a tool) is no difference, unless it is a trigger or a rule.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from sqlalchemy import Connection, create_engine, select, text

from watcher.ledger.audit.check import Problem
from watcher.ledger.schema import REVISION, VERSION
from watcher.ledger.tables import metadata
from watcher.ledger.views import VIEWS, create_views, select_of

KIND = "structure"
_Parts = Mapping[str, Any]
_OF_SQLITE = text("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")
_COLUMNS = text('SELECT name, type, "notnull", pk, hidden FROM pragma_table_xinfo(:name) ORDER BY cid')
# The columns of the keys that a table itself declares, which have no statement of their own.
_KEYS = text(
    "SELECT il.origin, group_concat(ii.name) FROM pragma_index_list(:name) AS il, pragma_index_info(il.name) AS ii "
    "WHERE il.origin <> 'c' GROUP BY il.seq, il.origin ORDER BY 1, 2"
)
_OF_POSTGRESQL = text("""
SELECT CASE relkind WHEN 'v' THEN 'view' ELSE 'table' END AS kind, relname AS name,
string_agg(attname || CASE WHEN attnotnull THEN ' NO' ELSE ' YES' END, ',') AS content
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
WHERE relnamespace = to_regnamespace(current_schema()) AND relkind IN ('r', 'p', 'v', 'm', 'f')
GROUP BY relkind, relname
UNION ALL SELECT 'index', indexname, '' FROM pg_indexes WHERE schemaname = current_schema()
UNION ALL SELECT 'trigger', tgname || ' of ' || relname, '' FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE NOT tgisinternal AND relnamespace = to_regnamespace(current_schema())
UNION ALL SELECT 'rule', rulename || ' of ' || tablename, '' FROM pg_rules WHERE schemaname = current_schema()
""")


def differences(conn: Connection) -> list[Problem] | None:
    """Return what is not as this program makes it; None: the ledger is of a newer program, and nothing is known of it.

    `Problem.table` names a table whose columns differ or that is missing: its rows cannot be compared.
    """
    if conn.execute(select(VERSION.c.version_num)).scalars().all() != [REVISION]:
        return None
    is_sqlite = conn.dialect.name == "sqlite"
    expected, present = (_expected_of_sqlite(), _sqlite(conn)) if is_sqlite else (_EXPECTED, _postgresql(conn))
    problems = []
    for part, content in expected.items():
        kind, _, name = part.partition(" ")
        table = name if kind == "table" else None
        if part not in present:
            problems.append(Problem(KIND, f"the {part} is missing", table))
        elif present[part] != content:
            problems.append(Problem(KIND, f"the {part} is not as this program makes it", table))
    problems += [
        Problem(KIND, f"the {part} was added: it may change rows, or what is read of them")
        for part in sorted(present.keys() - expected.keys())
        if part.startswith(("trigger ", "rule "))
    ]
    views = () if is_sqlite else _changed_views(conn, present)
    return problems + [Problem(KIND, f"the view {name} is not as this program makes it") for name in views]


@cache
def _expected_of_sqlite() -> _Parts:
    engine = create_engine("sqlite://")
    try:
        with engine.connect() as conn:
            metadata.create_all(conn)
            create_views(conn)
            return _sqlite(conn)
    finally:
        engine.dispose()


def _sqlite(conn: Connection) -> _Parts:
    parts: dict[str, Any] = {}
    for kind, name, table, sql in conn.execute(_OF_SQLITE).all():
        if kind == "table":
            columns = tuple(map(tuple, conn.execute(_COLUMNS, {"name": name})))
            keys = tuple(map(tuple, conn.execute(_KEYS, {"name": name})))
            parts[f"table {name}"] = (columns, keys, "AUTOINCREMENT" in (sql or "").upper())
        else:
            of_table = f" of {table}" if kind == "trigger" else ""
            parts[f"{kind} {name}{of_table}"] = " ".join((sql or "").replace('"', "").split())
    return parts


def _content(columns: Iterable[tuple[str, bool | None]]) -> str:
    return ",".join(sorted(f"{name} {'YES' if nullable else 'NO'}" for name, nullable in columns))


_EXPECTED: _Parts = {
    **{
        f"table {table.name}": _content((column.name, column.nullable) for column in table.columns)
        for table in metadata.sorted_tables
    },
    **{f"view {name}": _content((column.name, True) for column in view.columns) for name, view in VIEWS.items()},
    **{f"index {index.name}": "" for table in metadata.sorted_tables for index in table.indexes},
}
"""Of PostgreSQL, where all columns of a view may be null."""


def _postgresql(conn: Connection) -> _Parts:
    return {
        f"{kind} {name}": ",".join(sorted(content.split(","))) for kind, name, content in conn.execute(_OF_POSTGRESQL)
    }


def _changed_views(conn: Connection, present: _Parts) -> Iterator[str]:
    """Yield the views that PostgreSQL reads in another way than the query of this program: it spells views anew."""
    for name, view in VIEWS.items():
        if f"view {name}" not in present:
            continue
        ways = [
            conn.exec_driver_sql("EXPLAIN (VERBOSE, COSTS OFF) " + query).scalars().all()
            for query in ("SELECT * FROM " + name, select_of(view, conn.dialect.name))  # noqa: S608 - a constant
        ]
        if ways[0] != ways[1]:
            yield name
