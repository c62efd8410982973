"""The revisions build the tables of the code, on every database."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column
from sqlalchemy.engine import URL

from watcher.ledger import schema
from watcher.ledger.columns import Uint256
from watcher.ledger.engine import open_engine
from watcher.ledger.tables import metadata


def compare_type(
    context: MigrationContext, _: object, declared: Column[object], __: object, type_: object
) -> bool | None:
    """SQLite keeps the name of a type and Alembic sees its affinity alone: there, UINT256 cannot be compared."""
    return False if context.dialect.name == "sqlite" and isinstance(type_, Uint256) else None


def test_the_tables_are_those_of_the_code(url: URL) -> None:
    assert schema.check(url).is_current
    engine = open_engine(url, read_only=True)
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": compare_type, "compare_server_default": True}
            )
            assert compare_metadata(context, metadata) == []
    finally:
        engine.dispose()


def test_a_second_upgrade_does_nothing(url: URL) -> None:
    assert schema.upgrade(url).is_current
