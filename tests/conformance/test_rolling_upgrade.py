"""Daemons are replaced one by one: a program and the one before it work on one schema, and one of them changes it."""

import ast
import asyncio
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL

from tests.conformance.rig import CHAIN_ID, MANAGER, START_BLOCK, LedgerRig, make_task
from tests.kit.clocks import SetClock
from watcher.errors import FixConfiguration, TryLater
from watcher.files import shipped
from watcher.ledger import schema
from watcher.ledger.audit.check import Checker
from watcher.ledger.engine import open_engine
from watcher.ledger.store import open_ledger
from watcher.state import State

_NEXT = '''"""What tomorrow's program adds."""

import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{head}"


def upgrade() -> None:
    """Add a column and a table."""
    op.add_column("tasks", sa.Column("weight", sa.Integer(), nullable=True))
    op.add_column("events", sa.Column("weight", sa.Integer(), nullable=False, server_default="1"))
    op.create_table("weights", sa.Column("id", sa.BigInteger(), primary_key=True))
'''
_EXPANDING = {"add_column", "create_table", "create_index"}
_UPGRADE = """
import sys
from sqlalchemy.engine import make_url
from watcher.ledger import schema
print(schema.upgrade(make_url(sys.argv[1])).current)
"""


@pytest.fixture
def fresh(request: pytest.FixtureRequest, postgres: URL) -> Iterator[URL]:
    """A schema of its own on the server: its tables change."""
    name = f"rolling_{abs(hash(request.node.name)) % 10**8}"
    admin = create_engine(postgres)
    with admin.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    try:
        yield postgres.update_query_dict({"options": f"-csearch_path={name}"})
    finally:
        with admin.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
        admin.dispose()


def upgrade_by_tomorrows_program(url: URL, folder: Path, compatible_from: str) -> None:
    """Upgrade as a program does that has one revision more, and says which older ones work on it."""
    migrations = folder / "migrations"
    if not migrations.exists():
        shutil.copytree(shipped("migrations"), migrations, ignore=shutil.ignore_patterns("__pycache__"))
        (migrations / "versions" / "9999_next.py").write_text(_NEXT.format(head=schema.REVISION))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "shipped", {"migrations": migrations}.__getitem__)
        patch.setattr(schema, "COMPATIBLE_FROM", compatible_from)
        schema.upgrade(url)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_program_works_on_newer_schema_that_allows_it(
    database: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = URL.create("sqlite", database=str(tmp_path / "watcher.db"))
    if database == "postgresql":
        url = request.getfixturevalue("fresh")
    schema.upgrade(url)
    clock, engine = SetClock(), open_engine(url)
    async with open_ledger(url, clock, CHAIN_ID, MANAGER, START_BLOCK) as store:
        await LedgerRig(store, clock, url, engine).bring(make_task(0), to=State.RESPONDED)
    upgrade_by_tomorrows_program(url, tmp_path, schema.REVISION)
    state = schema.upgrade(url)
    assert (state.current, state.is_newer, state.is_usable, state.is_current) == ("9999", True, True, False)
    async with open_ledger(url, clock, CHAIN_ID, MANAGER, START_BLOCK) as store:
        ledger = LedgerRig(store, clock, url, engine)
        await ledger.bring(make_task(1), to=State.RESPONDED)
        assert await ledger.state(1) is State.RESPONDED
        with engine.connect() as conn:
            assert Checker(conn, store.source_id).run().problems == []
    engine.dispose()


def test_program_refuses_newer_schema_that_does_not_allow_it(tmp_path: Path) -> None:
    url = URL.create("sqlite", database=str(tmp_path / "watcher.db"))
    schema.upgrade(url)
    upgrade_by_tomorrows_program(url, tmp_path, "9999")
    for opening in (schema.check, schema.upgrade):
        with pytest.raises(FixConfiguration, match="schema 9999, newer than this program"):
            opening(url)


async def test_daemon_works_on_while_another_upgrades_its_schema(fresh: URL, tmp_path: Path) -> None:
    """The tables change between two of its statements, prepared ones included."""
    schema.upgrade(fresh)
    clock, engine = SetClock(), open_engine(fresh)
    async with open_ledger(fresh, clock, CHAIN_ID, MANAGER, START_BLOCK) as store:
        ledger = LedgerRig(store, clock, fresh, engine)
        upgrading = asyncio.create_task(
            asyncio.to_thread(upgrade_by_tomorrows_program, fresh, tmp_path, schema.REVISION)
        )
        recorded = 0
        while not upgrading.done() or recorded < 12:
            await ledger.record(make_task(recorded), upto=110 + recorded)
            recorded += 1
        await upgrading
        await ledger.admit()
        assert len(await ledger.claim(State.READY, limit=recorded)) == recorded
        with engine.connect() as conn:
            assert Checker(conn, store.source_id).run().problems == []
    assert schema.check(fresh).is_newer
    engine.dispose()


def test_two_processes_on_an_empty_database_make_one_schema(fresh: URL) -> None:
    """Both wait at the lock, so that they are there at the same moment; one creates, and the other finds it done."""
    engine = create_engine(fresh, isolation_level="AUTOCOMMIT")
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = :class AND NOT granted"
    with engine.connect() as gate:
        gate.execute(text("SELECT pg_advisory_lock(:class, 0)"), {"class": schema._LOCK_CLASS})
        command = [sys.executable, "-c", _UPGRADE, fresh.render_as_string()]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        deadline_s = time.monotonic() + 100
        while gate.execute(text(waiting), {"class": schema._LOCK_CLASS}).scalar_one() < 2:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        gate.execute(text("SELECT pg_advisory_unlock(:class, 0)"), {"class": schema._LOCK_CLASS})
        results = sorted(process.communicate(timeout=100)[0].strip() for process in processes)
    engine.dispose()
    assert results == sorted(["None", schema.REVISION])
    assert schema.check(fresh).is_current


def test_upgrade_waits_for_tables_within_limits(fresh: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads a table for long holds the upgrade up, and the upgrade nobody for longer than its limit."""
    schema.upgrade(fresh)
    monkeypatch.setattr(schema, "_SHORT_WAIT", text("SET LOCAL lock_timeout = '50ms'"))
    monkeypatch.setattr(schema, "_LOCK_PAUSE_S", 0.0)
    engine, busy, over = create_engine(fresh), threading.Event(), threading.Event()

    def read_for_long() -> None:
        with engine.begin() as connection:
            connection.execute(text("SELECT count(*) FROM tasks"))
            busy.set()
            assert over.wait(60)

    reading = threading.Thread(target=read_for_long)
    reading.start()
    assert busy.wait(60)
    try:
        with pytest.raises(TryLater, match="lock timeout"):
            upgrade_by_tomorrows_program(fresh, tmp_path, schema.REVISION)
        assert schema.check(fresh).is_current
    finally:
        over.set()
        reading.join()
    upgrade_by_tomorrows_program(fresh, tmp_path, schema.REVISION)
    assert schema.check(fresh).is_newer
    engine.dispose()


def _calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node


def test_revisions_that_older_programs_share_only_add() -> None:
    """Expand first, contract a release later: what is not an addition moves `COMPATIBLE_FROM`."""
    for path in sorted((shipped("migrations") / "versions").glob("[0-9]*_*.py")):
        if path.name.partition("_")[0] <= schema.COMPATIBLE_FROM:
            continue
        for call in _calls(path):
            assert isinstance(call.func, ast.Attribute)
            if getattr(call.func.value, "id", "") != "op":
                continue
            assert call.func.attr in _EXPANDING, f"{path.name}: op.{call.func.attr}; move schema.COMPATIBLE_FROM"
            if call.func.attr == "add_column":
                source = ast.unparse(call)
                assert "nullable=True" in source or "server_default" in source, f"{path.name}: {source}"
