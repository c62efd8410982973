"""The schema of a ledger: made for a new one, and brought to the newest revision for an older one.

Alembic runs the revisions of `migrations/`, which lies in the wheel or in a checkout. Invariants: a ledger newer than
the code is refused, unless it says that this code works on it; a SQLite ledger that holds data is copied before it is
changed; of several daemons that start at once on PostgreSQL one makes the change, and the others wait for it.
"""

import time
from dataclasses import dataclass

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    delete,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.schema import CreateSchema, SetColumnComment, SetTableComment

from watcher.errors import FixConfiguration, TryLater
from watcher.files import shipped
from watcher.ledger import side_tables as _side_tables  # noqa: F401 - they belong to the metadata
from watcher.ledger.audit import tables as _audit_tables  # noqa: F401 - they belong to the metadata
from watcher.ledger.engine import backup_sqlite, database_reason, open_engine, schema_of, sqlite_path
from watcher.ledger.lock import create_file
from watcher.ledger.tables import metadata
from watcher.ledger.views import create_views, drop_views

REVISION = "0014"
"""The revision of `tables.metadata`."""
COMPATIBLE_FROM = REVISION
"""The oldest revision whose programs work on a ledger of `REVISION`, beside those of today.

So daemons of both run on one database while they are replaced one by one. A revision after it may only add: tables,
indices, and columns that may be null or have a default of the server. What an older program still uses is taken away a
release later, with this moved.
"""

# Alembic's own table, as Alembic makes it.
VERSION = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
# Beside the revision, for the programs that come before it. Older ones than this table refuse a newer ledger.
_COMPATIBILITY = Table(
    "schema_compatibility",
    MetaData(),
    Column("revision", String(32), primary_key=True),
    Column("compatible_from", String(32), nullable=False),
)
_LOCK = text("SELECT pg_advisory_xact_lock(:class, 0)")
_LOCK_CLASS = 0x73636865  # "sche": the class of our advisory lock
# A change of a table waits for its readers, and all that come later wait for the change: not for long, but again.
_SHORT_WAIT = text("SET LOCAL lock_timeout = '2s'")
_LOCK_TRIES, _LOCK_PAUSE_S = 5, 1.0


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The revision of a ledger (None: empty), and the revision of this code.

    `is_newer`: the ledger is ahead of this code, and says that this code works on it.
    """

    current: str | None
    expected: str
    is_newer: bool = False

    @property
    def is_usable(self) -> bool:
        """Return True if this code works on the ledger as it is."""
        return self.is_current or self.is_newer

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
        with engine.connect() as connection:
            return _check(connection)
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

    The caller holds a SQLite ledger (`sole_writer`); on PostgreSQL an advisory lock keeps two upgrades apart.

    Raises:
        FixConfiguration: as `check` does.
        TryLater: as `check` does, or the upgrade failed and changed nothing.
    """
    path = sqlite_path(url)
    if path is not None:
        create_file(path)
    before = check(url)
    if before.is_usable:
        return before
    if path is not None and before.current is not None:
        now_ms = time.time_ns() // 1_000_000  # a start that was killed may be repeated within the second
        stamp = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now_ms // 1000))}.{now_ms % 1000:03}Z"
        backup_sqlite(path, path.with_name(f"{path.name}.before-{before.expected}-{stamp}"))
    engine = open_engine(url)
    try:
        return _upgrade_patiently(engine, schema_of(url))
    except DatabaseError as error:
        raise TryLater(f"the ledger was not upgraded and is unchanged: {database_reason(error)}") from None
    finally:
        engine.dispose()


def _upgrade_patiently(engine: Engine, schema: str) -> SchemaState:
    """Upgrade within short waits for the tables, several times if others use them. Raises DatabaseError."""
    for attempt in range(1, _LOCK_TRIES + 1):
        try:
            return _upgrade(engine, schema)
        except OperationalError as error:
            if attempt == _LOCK_TRIES or "lock timeout" not in str(error.orig):
                raise
            time.sleep(_LOCK_PAUSE_S)
    raise AssertionError("the last attempt returns or raises")


def _upgrade(engine: Engine, schema: str) -> SchemaState:
    """Create or upgrade in one transaction, and return the state before."""
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(_LOCK, {"class": _LOCK_CLASS})  # until the commit; the limit of every lock applies
            connection.execute(_SHORT_WAIT)
        before = _check(connection)
        if before.is_usable:  # another daemon was sooner
            return before
        if before.current is None:
            _create(connection, schema)
        if (before.current or REVISION) != before.expected:
            migrate(connection)
        return before


def migrate(connection: Connection) -> None:
    """Run the revisions from the ledger's own to the newest, in the transaction of `connection`."""
    from alembic import command  # late: only an older ledger needs it, and it costs 7 MiB and 0.1 s
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(shipped("migrations")))
    config.attributes["connection"] = connection
    drop_views(connection)
    command.upgrade(config, "head")
    create_views(connection)
    _comment(connection)
    _declare(connection, _newest())


def _create(connection: Connection, schema: str) -> None:
    """Make the tables of the code in an empty database, marked with their revision.

    `schema` is made, too, if it is not there, which takes the right to do so; "": the tables need none of their own.

    Source: "Building an Up to Date Database from Scratch", https://alembic.sqlalchemy.org/en/latest/cookbook.html.
    """
    if schema and not inspect(connection).has_schema(schema):
        connection.execute(CreateSchema(schema, if_not_exists=True))
    metadata.create_all(connection)
    create_views(connection)
    VERSION.create(connection, checkfirst=True)
    connection.execute(insert(VERSION).values(version_num=REVISION))
    _declare(connection, REVISION)


def _comment(connection: Connection) -> None:
    """Set the comments of tables and columns as the code has them, where a database keeps comments.

    No revision holds one: a sentence that changes then needs no revision.
    """
    if not connection.dialect.supports_comments:
        return
    for table in metadata.sorted_tables:
        connection.execute(SetTableComment(table))
        for column in table.columns:
            connection.execute(SetColumnComment(column))


def _declare(connection: Connection, revision: str) -> None:
    """Say in the ledger which older programs work on it."""
    _COMPATIBILITY.create(connection, checkfirst=True)
    connection.execute(delete(_COMPATIBILITY))
    connection.execute(insert(_COMPATIBILITY).values(revision=revision, compatible_from=COMPATIBLE_FROM))


def _known() -> list[str]:
    """Return the shipped revisions, the newest last. A file's name begins with its revision."""
    files = (shipped("migrations") / "versions").glob("[0-9]*_*.py")
    return sorted(file.name.partition("_")[0] for file in files)


def _newest() -> str:
    return _known()[-1]


def _check(connection: Connection) -> SchemaState:
    known = _known()
    tables = set(inspect(connection).get_table_names())
    heads = set(connection.scalars(select(VERSION.c.version_num))) if VERSION.name in tables else set()
    if unknown := heads - set(known):
        if _COMPATIBILITY.name in tables and _works_here(connection, heads, known[-1]):
            return SchemaState(max(heads), known[-1], is_newer=True)
        raise FixConfiguration(
            f"ledger.url: the ledger has schema {', '.join(sorted(unknown))}, newer than this program's {known[-1]}; "
            "install the version that wrote it, or restore the copy made before the upgrade"
        )
    if not heads and tables - {VERSION.name, _COMPATIBILITY.name}:
        raise FixConfiguration("ledger.url: that database holds tables of something else; name one of its own")
    return SchemaState(max(heads, default=None), known[-1])


def _works_here(connection: Connection, heads: set[str], newest: str) -> bool:
    """Return True if the ledger, which is newer, says that programs of revision `newest` work on it."""
    declared = connection.execute(select(_COMPATIBILITY)).all()
    return {row.revision for row in declared} == heads and all(row.compatible_from <= newest for row in declared)
