"""Every promise of the ledger is tested on every database it may live in."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from tests.conformance.postgres import NoServer, running_server
from tests.conformance.rig import LedgerRig, opened
from tests.kit.plans import PlanRecorder
from tests.kit.rereading import rereading
from watcher.ledger import schema
from watcher.ledger.audit.check import Checker
from watcher.ledger.engine import open_engine
from watcher.ledger.tables import metadata


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite ledger to copy: the same for every test, and made once."""
    path = tmp_path_factory.mktemp("ledger") / "migrated.db"
    schema.upgrade(URL.create("sqlite", database=str(path)))
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[URL]:
    """A PostgreSQL server: the one that TEST_DATABASE_URL names, or one of our own."""
    with ExitStack() as stack:
        address = os.environ.get("TEST_DATABASE_URL")
        if address:
            url = make_url(address).set(drivername="postgresql+psycopg")
        else:
            pytest.importorskip("psycopg")
            try:
                url = stack.enter_context(running_server())
            except NoServer as why:
                pytest.skip(str(why))
        yield url


@pytest.fixture(scope="session")
def migrated_schema(postgres: URL) -> Iterator[URL]:
    """A migrated PostgreSQL schema of our own. It keeps rows: a ledger's test takes `empty_schema`."""
    name = f"watcher_tests_{os.getpid()}"
    of_its_own = postgres.update_query_dict({"options": f"-csearch_path={name}"})
    admin = create_engine(postgres)
    with admin.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    try:
        schema.upgrade(of_its_own)
        yield of_its_own
    finally:
        with admin.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
        admin.dispose()


@pytest.fixture
def empty_schema(migrated_schema: URL) -> URL:
    """The migrated PostgreSQL schema without a row."""
    engine = create_engine(migrated_schema, poolclass=NullPool)
    with engine.begin() as connection:
        names = ", ".join(table.name for table in metadata.sorted_tables)
        connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY"))
    return migrated_schema


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """The address of a fresh, migrated ledger."""
    if request.param == "sqlite":
        path = tmp_path / "watcher.db"
        shutil.copy(request.getfixturevalue("migrated_file"), path)
        yield URL.create("sqlite", database=str(path))
        return
    yield request.getfixturevalue("empty_schema")


@pytest.fixture(scope="session")
def plans() -> PlanRecorder:
    """The statements of all ledgers of the session; each is looked at once."""
    return PlanRecorder()


@pytest.fixture
async def ledger(
    url: URL, plans: PlanRecorder, migrated_file: Path, request: pytest.FixtureRequest
) -> AsyncIterator[LedgerRig]:
    """An open ledger on a fresh database. No statement of the ledger reads more when it has grown.

    Every row that a verb hands to the audit chain is the one that the database holds, and at the end the chain has
    every change, unless the test edits rows itself (`edits_rows`).
    """
    engine = open_engine(url)
    try:
        with plans.recording(), rereading():
            async with opened(url, engine) as open_ledger:
                yield open_ledger
        if not request.node.get_closest_marker("edits_rows"):
            with engine.connect() as conn:
                assert Checker(conn, open_ledger.source).run().problems == []
    finally:
        engine.dispose()
    assert plans.growing(migrated_file) == []
