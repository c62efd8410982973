"""Bring a ledger to the schema this code knows: Alembic's revisions, found in the wheel or in a checkout.

Invariant: a ledger newer than the code is refused, and one that holds data is copied before it is changed.
"""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, inspect
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError, OperationalError

from watcher.errors import FixConfiguration, TryLater
from watcher.files import shipped
from watcher.ledger.engine import backup_sqlite, open_engine, sqlite_path
from watcher.ledger.lock import create_file


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The revision a ledger is at, None for an empty one, and the one this code wants."""

    current: str | None
    wanted: str

    @property
    def is_current(self) -> bool:
        return self.current == self.wanted


def check(url: URL) -> SchemaState:
    """Where the ledger stands. Raises FixConfiguration when it is newer than the code or no ledger at all."""
    path = sqlite_path(url)
    if path is not None and not path.exists():  # to look at it would make it, readable by everybody
        return SchemaState(None, _wanted(_revisions()))
    engine = open_engine(url, read_only=True)
    try:
        return _check(engine)
    except OperationalError as error:
        raise TryLater(f"the ledger cannot be read: {_words(error)}") from None
    except DatabaseError as error:
        raise FixConfiguration(f"ledger.url: no ledger of this program: {_words(error)}") from None
    finally:
        engine.dispose()


def try_writing(url: URL) -> None:
    """Write what is there already, and take it back. Also beside a running daemon, which is kept waiting for a moment.

    Raises TryLater when it cannot be written.
    """
    engine = open_engine(url)
    try:
        with engine.connect() as connection, connection.begin() as transaction:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")
            transaction.rollback()
    except DatabaseError as error:
        raise TryLater(f"the ledger cannot be written: {_words(error)}; see to its rights and its disk") from None
    finally:
        engine.dispose()


def upgrade(url: URL) -> SchemaState:
    """Bring the ledger to the wanted revision, copying it first when it holds data. Returns where it stood before.

    The caller holds the ledger (`sole_writer`), so that two upgrades never meet.
    """
    from alembic import command

    path = sqlite_path(url)
    if path is not None:
        create_file(path)
    before = check(url)
    if before.is_current:
        return before
    if path is not None and before.current is not None:
        now_ms = time.time_ns() // 1_000_000  # a start that was killed may be repeated within the second
        stamp = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now_ms // 1000))}.{now_ms % 1000:03}Z"
        backup_sqlite(path, path.with_name(f"{path.name}.before-{before.wanted}-{stamp}"))
    engine = open_engine(url)
    try:
        config = _config()
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except DatabaseError as error:
        raise TryLater(f"the ledger was not upgraded, and is as it was before: {_words(error)}") from None
    finally:
        engine.dispose()
    return before


def _config() -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(shipped("migrations")))
    return config


def _revisions() -> Any:
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_config())


def _wanted(revisions: Any) -> str:
    head = revisions.get_current_head()
    assert isinstance(head, str), "the program ships no migrations"
    return head


def _words(error: DatabaseError) -> str:
    return str(error.orig).splitlines()[0][:200]


def _check(engine: Engine) -> SchemaState:
    from alembic.migration import MigrationContext

    revisions = _revisions()
    wanted = _wanted(revisions)
    with engine.connect() as connection:
        heads = MigrationContext.configure(connection).get_current_heads()
        strangers = set(inspect(connection).get_table_names()) - {"alembic_version"}
    unknown = set(heads) - {revision.revision for revision in revisions.walk_revisions()}
    if unknown:
        raise FixConfiguration(
            f"ledger.url: the ledger has schema {', '.join(sorted(unknown))}, newer than this program's {wanted}; "
            "install the version that wrote it, or restore the copy made before the upgrade"
        )
    if not heads and strangers:
        raise FixConfiguration("ledger.url: that database holds tables of something else; name one of its own")
    return SchemaState(heads[0] if heads else None, wanted)
