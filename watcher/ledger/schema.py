"""The schema of a ledger: made for a new one, and brought to the newest revision for an older one.

Alembic runs the revisions of `migrations/`, which lies in the wheel or in a checkout. Invariant: a ledger newer than
the code is refused, and one that holds data is copied before it is changed.
"""

import time
from dataclasses import dataclass

from sqlalchemy import Column, Engine, MetaData, PrimaryKeyConstraint, String, Table, insert, inspect, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.schema import CreateSchema

from watcher.errors import FixConfiguration, TryLater
from watcher.files import shipped
from watcher.ledger import side_tables as _side_tables  # noqa: F401 - they belong to the metadata
from watcher.ledger.audit import tables as _audit_tables  # noqa: F401 - they belong to the metadata
from watcher.ledger.engine import backup_sqlite, database_reason, open_engine, schema_of, sqlite_path
from watcher.ledger.lock import create_file
from watcher.ledger.tables import metadata
from watcher.ledger.views import create_views, drop_views

REVISION = "0013"
"""The revision of `tables.metadata`."""

# Alembic's own table, as Alembic makes it.
_VERSION = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The revision of a ledger (None: empty), and the revision of this code."""

    current: str | None
    expected: str

    @property
    def is_current(self) -> bool:
        return self.current == self.expected


def check(url: URL, *, alone: bool = False) -> SchemaState:
    """Return the ledger's revision and the expected one; `alone` as `open_engine` takes it.

    Raises:
        FixConfiguration: the ledger is newer than the code, or is no ledger at all.
        TryLater: it cannot be read now.
    """
    path = sqlite_path(url)
    if path is not None and not path.exists():  # connecting would create it, readable by everybody
        return SchemaState(None, _newest())
    engine = open_engine(url, read_only=True, alone=alone)
    try:
        return _check(engine)
    except OperationalError as error:
        raise TryLater(f"the ledger cannot be read: {database_reason(error)}") from None
    except DatabaseError as error:
        raise FixConfiguration(f"ledger.url: not a ledger of this program: {database_reason(error)}") from None
    finally:
        engine.dispose()


def try_writing(url: URL) -> None:
    """Write a value that is there already, and roll back. A daemon beside it waits for a moment.

    Raises TryLater if the ledger cannot be written.
    """
    engine = open_engine(url)
    try:
        with engine.connect() as connection, connection.begin() as transaction:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")
            transaction.rollback()
    except DatabaseError as error:
        raise TryLater(
            f"the ledger cannot be written: {database_reason(error)}; check its permissions and the free disk space"
        ) from None
    finally:
        engine.dispose()


def upgrade(url: URL) -> SchemaState:
    """Bring the ledger to the expected revision, and return the state before. A ledger with data is copied first.

    The caller holds the ledger (`sole_writer`), so that two upgrades never meet.

    Raises:
        FixConfiguration: as `check` does.
        TryLater: as `check` does, or the upgrade failed and changed nothing.
    """
    path = sqlite_path(url)
    if path is not None:
        create_file(path)
    before = check(url)
    if before.is_current:
        return before
    if path is not None and before.current is not None:
        now_ms = time.time_ns() // 1_000_000  # a start that was killed may be repeated within the second
        stamp = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now_ms // 1000))}.{now_ms % 1000:03}Z"
        backup_sqlite(path, path.with_name(f"{path.name}.before-{before.expected}-{stamp}"))
    engine = open_engine(url)
    try:
        if before.current is None:
            _create(engine, schema_of(url))
        if (before.current or REVISION) != before.expected:
            migrate(engine)
    except DatabaseError as error:
        raise TryLater(f"the ledger was not upgraded and is unchanged: {database_reason(error)}") from None
    finally:
        engine.dispose()
    return before


def migrate(engine: Engine) -> None:
    """Run the revisions from the ledger's own to the newest, in one transaction."""
    from alembic import command  # late: only an older ledger needs it, and it costs 7 MiB and 0.1 s
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(shipped("migrations")))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        drop_views(connection)
        command.upgrade(config, "head")
        create_views(connection)


def _create(engine: Engine, schema: str) -> None:
    """Make the tables of the code in an empty database, marked with their revision, in one transaction.

    `schema` is made, too, if it is not there, which takes the right to do so; "": the tables need none of their own.

    Source: "Building an Up to Date Database from Scratch", https://alembic.sqlalchemy.org/en/latest/cookbook.html.
    """
    with engine.begin() as connection:
        if schema and not inspect(connection).has_schema(schema):
            connection.execute(CreateSchema(schema, if_not_exists=True))
        metadata.create_all(connection)
        create_views(connection)
        _VERSION.create(connection, checkfirst=True)
        connection.execute(insert(_VERSION).values(version_num=REVISION))


def _known() -> list[str]:
    """Return the shipped revisions, the newest last. A file's name begins with its revision."""
    files = (shipped("migrations") / "versions").glob("[0-9]*_*.py")
    return sorted(file.name.partition("_")[0] for file in files)


def _newest() -> str:
    return _known()[-1]


def _check(engine: Engine) -> SchemaState:
    known = _known()
    with engine.connect() as connection:
        tables = set(inspect(connection).get_table_names())
        heads = set(connection.scalars(select(_VERSION.c.version_num))) if _VERSION.name in tables else set()
    if unknown := heads - set(known):
        raise FixConfiguration(
            f"ledger.url: the ledger has schema {', '.join(sorted(unknown))}, newer than this program's {known[-1]}; "
            "install the version that wrote it, or restore the copy made before the upgrade"
        )
    if not heads and tables - {_VERSION.name}:
        raise FixConfiguration("ledger.url: that database holds tables of something else; name one of its own")
    return SchemaState(max(heads, default=None), known[-1])
