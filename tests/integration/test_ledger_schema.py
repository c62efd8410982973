"""A ledger is brought to the schema this code knows, copied first when it holds data, and never taken back."""

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.engine import URL

from tests.conformance.rig import CHAIN_ID, MANAGER, header, make_task
from tests.kit.clocks import SetClock
from watcher.errors import FixConfiguration, TryLater
from watcher.files import shipped
from watcher.ledger import ingest, schema
from watcher.ledger.engine import open_engine
from watcher.ledger.source import open_source
from watcher.ledger.transaction import Tx

SHIPPED = sorted(path.stem.split("_")[0] for path in (shipped("migrations") / "versions").glob("[0-9]*.py"))[-1]
NEXT = '''"""One revision more."""

import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{head}"


def upgrade() -> None:
    op.add_column("events", sa.Column("weight", sa.Integer(), nullable=True))
    {then}
'''


# Upgrades, in one child after the other, and is killed before its first statement, its second, and so on.
KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine, make_url
from watcher.ledger import schema

url, folder = make_url(sys.argv[1]), Path(sys.argv[2])
schema.shipped = {"migrations": folder}.__getitem__
start = Path(url.database).with_suffix(".start")
shutil.copy(url.database, start) if Path(url.database).exists() else None
deaths = 0


def upgrade(left):
    def count(*_):
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    for moment in ("before_cursor_execute", "commit"):
        event.listen(Engine, moment, count)
    schema.upgrade(url)
    os._exit(0)


while True:
    for one in Path(url.database).parent.glob(Path(url.database).name + "*"):
        one.unlink()
    shutil.copy(start, url.database) if start.exists() else None
    child = os.fork()
    if child == 0:
        upgrade(deaths)
    _, status = os.waitpid(child, 0)
    schema.upgrade(url)
    assert schema.check(url).is_current, deaths
    if status == 0:
        break
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, status
    deaths += 1
print(deaths)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "watcher.db"


@pytest.fixture
def url(path: Path) -> URL:
    return URL.create("sqlite", database=str(path))


def add_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, then: str = "pass") -> None:
    """The program of tomorrow: it knows one revision more."""
    folder = tmp_path / "migrations"
    shutil.copytree(shipped("migrations"), folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "9999_next.py").write_text(NEXT.format(head=SHIPPED, then=then))
    monkeypatch.setattr(schema, "shipped", {"migrations": folder}.__getitem__)
    monkeypatch.setattr(schema, "COMPATIBLE_FROM", "9999")


def fill(url: URL) -> None:
    engine = open_engine(url)
    with engine.begin() as conn:
        tx = Tx(conn, SetClock().now_ms())
        source = open_source(tx, CHAIN_ID, MANAGER, 100).source_id
        ingest.record(tx, source, [make_task(index) for index in range(3)], [], header(110), 110)
    engine.dispose()


def count(path: Path, table: str = "tasks") -> int:
    with sqlite3.connect(path) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def columns(path: Path) -> list[str]:
    with sqlite3.connect(path) as connection:
        return [row[1] for row in connection.execute("PRAGMA table_info(events)")]


def copies(path: Path) -> list[Path]:
    return sorted(path.parent.glob("watcher.db.before-*"))


def test_an_empty_place_becomes_a_ledger_and_stays_one(url: URL, path: Path) -> None:
    before = schema.upgrade(url)
    assert before.current is None
    assert schema.check(url).is_current
    bytes_then = path.read_bytes()
    second_upgrade = schema.upgrade(url)
    assert second_upgrade.is_current
    assert path.read_bytes() == bytes_then, "the second upgrade does nothing"
    assert copies(path) == [], "there was nothing to copy"


def schema_of(path: Path) -> dict[str, object]:
    """Tables with their columns, and indices in their own words: Alembic compares neither partial indices nor
    AUTOINCREMENT."""
    with sqlite3.connect(path) as connection:
        tables: dict[str, object] = {}
        for name, sql in connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall():
            columns = connection.execute(f"PRAGMA table_info({name})").fetchall()
            own_words = " ".join(sql.replace('"', "").split())
            tables[name] = own_words if own_words.startswith("CREATE INDEX") else (columns, "AUTOINCREMENT" in sql)
        return tables


def test_the_revisions_build_exactly_the_tables_of_a_new_ledger(url: URL, path: Path, tmp_path: Path) -> None:
    schema.upgrade(url)
    migrated = tmp_path / "migrated.db"
    engine = open_engine(URL.create("sqlite", database=str(migrated)))
    with engine.begin() as connection:
        schema.migrate(connection)
    engine.dispose()
    assert schema_of(path) == schema_of(migrated)
    assert {"ix_tasks_open", "alembic_version"} <= schema_of(path).keys()


def test_a_new_ledger_carries_the_newest_revision_of_alembic(url: URL, path: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(shipped("migrations")))
    revisions = ScriptDirectory.from_config(config)
    schema.upgrade(url)
    with sqlite3.connect(path) as connection:
        stored = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    assert stored == [(revisions.get_current_head(),)]
    shipped_names = {revision.path.rpartition("/")[2].partition("_")[0] for revision in revisions.walk_revisions()}
    assert shipped_names == {revision.revision for revision in revisions.walk_revisions()}


def test_a_ledger_with_data_is_copied_before_it_is_changed(
    url: URL, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema.upgrade(url)
    fill(url)
    add_revision(monkeypatch, tmp_path)
    state = schema.check(url)
    assert (state.current, state.expected) == (SHIPPED, "9999")
    before = schema.upgrade(url)
    assert (before.current, before.expected) == (SHIPPED, "9999")
    assert schema.check(url).is_current
    assert (count(path), columns(path)[-1]) == (3, "weight")
    (copy,) = copies(path)
    assert (count(copy), columns(copy)[-1]) == (3, "words")


def test_an_upgrade_that_fails_half_way_changes_nothing(
    url: URL, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema.upgrade(url)
    fill(url)
    add_revision(monkeypatch, tmp_path, 'op.execute("INSERT INTO no_such_table VALUES (1)")')
    with pytest.raises(TryLater, match="no_such_table"):
        schema.upgrade(url)
    assert (count(path), columns(path)[-1]) == (3, "words")
    assert schema.check(url).current == SHIPPED


@pytest.mark.parametrize("filled", [False, True])
def test_an_upgrade_that_is_killed_anywhere_is_done_by_the_next_start(
    url: URL, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filled: bool
) -> None:
    if filled:
        schema.upgrade(url)
        fill(url)
    add_revision(monkeypatch, tmp_path)
    command = [sys.executable, "-c", KILLED, url.render_as_string(), str(tmp_path / "migrations")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5, "it was killed at every statement of the upgrade"
    assert (count(path), columns(path)[-1]) == (3 if filled else 0, "weight")


def test_a_ledger_newer_than_the_program_is_refused(
    url: URL, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as tomorrow:
        add_revision(tomorrow, tmp_path)
        schema.upgrade(url)
    for refused in (schema.check, schema.upgrade):
        with pytest.raises(
            FixConfiguration, match=rf"schema 9999, newer than .* {SHIPPED}; install the version"
        ) as caught:
            refused(url)
        assert caught.value.exit_code == 78
    assert columns(path)[-1] == "weight"


def test_somebody_elses_database_is_refused_untouched(url: URL, path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE customers (name TEXT)")
    for refused in (schema.check, schema.upgrade):
        with pytest.raises(FixConfiguration, match="tables of something else"):
            refused(url)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("customers",)]


@pytest.mark.parametrize("content", [b"this is not a database" * 100, b"\x00" * 5_000])
def test_a_file_that_is_no_database_is_refused_untouched(url: URL, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for refused in (schema.check, schema.upgrade):
        with pytest.raises(FixConfiguration, match="not a database"):
            refused(url)
    assert path.read_bytes() == content


def test_a_ledger_locked_by_somebody_else_is_tried_later(url: URL, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from watcher.ledger import engine as engine_file

    schema.upgrade(url)
    monkeypatch.setattr(engine_file, "_BUSY_TIMEOUT_S", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    other.execute("CREATE TABLE t (n)")
    with pytest.raises(TryLater, match="locked"):
        schema.check(url)
    other.close()
