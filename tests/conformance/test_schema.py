"""The revisions build the tables of the code, on every database."""

import os

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, create_engine, text
from sqlalchemy.engine import URL

from watcher.ledger import schema
from watcher.ledger.audit.structure import differences
from watcher.ledger.columns import Uint256
from watcher.ledger.engine import open_engine
from watcher.ledger.tables import metadata
from watcher.ledger.views import VIEWS, select_of


def compare_type(
    context: MigrationContext, _: object, declared: Column[object], __: object, type_: object
) -> bool | None:
    """SQLite keeps the name of a type and Alembic sees its affinity alone: there, UINT256 cannot be compared."""
    return False if context.dialect.name == "sqlite" and isinstance(type_, Uint256) else None


# Another test compares how SQLite spells the indices of both, expressions included.
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_the_tables_are_those_of_the_code(url: URL) -> None:
    assert schema.check(url).is_current
    engine = open_engine(url, read_only=True)
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection,
                opts={
                    "compare_type": compare_type,
                    "compare_server_default": True,
                    "include_name": lambda name, kind, _: kind != "table" or name != schema._COMPATIBILITY.name,
                },
            )
            assert compare_metadata(context, metadata) == []
    finally:
        engine.dispose()


def test_a_second_upgrade_does_nothing(url: URL) -> None:
    assert schema.upgrade(url).is_current


_TRIGGERS = {
    "sqlite": ("CREATE TRIGGER quiet AFTER INSERT ON journal BEGIN DELETE FROM journal; END",),
    "postgresql": (
        "CREATE FUNCTION quiet() RETURNS trigger AS 'BEGIN RETURN NULL; END' LANGUAGE plpgsql",
        "CREATE TRIGGER quiet BEFORE INSERT ON journal EXECUTE FUNCTION quiet()",
    ),
}


def test_each_change_of_the_structure_is_named(url: URL) -> None:
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            assert differences(connection) == []
            dialect = connection.dialect.name
            narrower = f"CREATE VIEW audit_journal AS {select_of(VIEWS['audit_journal'], dialect)} WHERE journal.id > 5"
            for statement in (
                "DROP VIEW audit_attempt",
                "DROP VIEW audit_journal",
                narrower,
                "DROP INDEX ix_tasks_open",
                "CREATE INDEX of_the_operator ON tasks (state)",
                "ALTER TABLE blocks ADD COLUMN more INTEGER",
                *_TRIGGERS[dialect],
            ):
                connection.exec_driver_sql(statement)
            named = sorted(problem.message for problem in differences(connection) or ())
            connection.rollback()
    finally:
        engine.dispose()
    assert named == [
        "the index ix_tasks_open is missing",
        "the table blocks is not as this program makes it",
        "the trigger quiet of journal was added: it may change rows, or what is read of them",
        "the view audit_attempt is missing",
        "the view audit_journal is not as this program makes it",
    ]


_CATALOG = """
SELECT table_name, column_name, data_type, character_maximum_length::text, numeric_precision::text, is_nullable,
       column_default
FROM information_schema.columns WHERE table_schema = current_schema()
UNION SELECT tablename, indexname, indexdef, '', '', '', '' FROM pg_indexes WHERE schemaname = current_schema()
UNION SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '', '', ''
FROM pg_constraint WHERE connamespace = current_schema()::regnamespace
UNION SELECT relname, objsubid::text, description, 'comment', '', '', ''
FROM pg_description JOIN pg_class ON pg_class.oid = objoid WHERE relnamespace = current_schema()::regnamespace
"""


def test_revisions_build_the_tables_of_a_new_ledger_on_postgresql(postgres: URL) -> None:
    """Columns, indices with their conditions, constraints and comments, as the server spells them."""
    catalogs = []
    for name, build in (("created", schema.upgrade), ("migrated", _migrate)):
        name = f"watcher_{name}_{os.getpid()}"
        admin = create_engine(postgres)
        with admin.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {name}"))
        try:
            url = postgres.update_query_dict({"options": f"-csearch_path={name}"})
            build(url)
            engine = open_engine(url, read_only=True)
            with engine.connect() as connection:
                rows = [
                    [str(value).replace(f"{name}.", "") for value in row] for row in connection.execute(text(_CATALOG))
                ]
            engine.dispose()
            catalogs.append(sorted(rows))
        finally:
            with admin.begin() as connection:
                connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
            admin.dispose()
    created, migrated = catalogs
    assert created == migrated
    assert any("ix_tasks_open" in row for row in created)
    comments = [row[2] for row in created if row[3] == "comment"]
    assert {"POSTs so far.", VIEWS["audit_task"].about, VIEWS["audit_task"].columns[-1].about} <= {*comments}


def _migrate(url: URL) -> None:
    engine = open_engine(url)
    try:
        with engine.begin() as connection:
            schema.migrate(connection)
    finally:
        engine.dispose()
