"""What SQLite must be told so that an acknowledged verb survives: read back through the very engine the ledger uses."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from watcher.errors import FixConfiguration, TryLater
from watcher.ledger import schema
from watcher.ledger.engine import backup_sqlite, open_engine, parse_url
from watcher.ledger.lock import lock_file, sole_writer

HOLD = """
import sys, time
from sqlalchemy.engine import make_url
from watcher.ledger.lock import sole_writer
with sole_writer(make_url(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "watcher.db"


@pytest.fixture
def url(path: Path) -> URL:
    made = URL.create("sqlite", database=str(path))
    schema.upgrade(made)
    return made


def test_every_connection_that_writes_is_durable_and_strict(url: URL) -> None:
    expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}
    engine = open_engine(url)
    for _ in range(2):
        with engine.connect() as connection:
            pragmas = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in expected}
        assert pragmas == expected
        engine.dispose()  # the next one is a new connection


def test_a_write_transaction_takes_the_lock_before_it_reads(url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    from watcher.ledger import engine as engine_file

    monkeypatch.setattr(engine_file, "_BUSY_TIMEOUT_S", 0.05)
    writer, other, reader = open_engine(url), open_engine(url), open_engine(url, read_only=True)
    with writer.begin() as first:
        first.execute(text("SELECT 1"))
        with pytest.raises(OperationalError, match="locked"), other.begin():
            pass
        with reader.connect() as reading:
            assert reading.execute(text("SELECT count(*) FROM tasks")).scalar() == 0
    for opened in (writer, other, reader):
        opened.dispose()


def test_a_server_without_its_driver_is_a_matter_of_installing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(FixConfiguration, match=r"pip install .*\[postgres\]"):
        parse_url("postgresql://watcher:secret@db.example/watcher")


def test_a_reader_cannot_write(url: URL) -> None:
    engine = open_engine(url, read_only=True)
    with engine.connect() as connection, pytest.raises(OperationalError, match="readonly"):
        connection.execute(text("DELETE FROM tasks"))
    engine.dispose()


def test_a_failed_verb_is_rolled_back_with_its_tables(url: URL) -> None:
    engine = open_engine(url)

    def fail() -> None:
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE t (n)"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM sqlite_master WHERE name = 't'")).scalar() == 0
    engine.dispose()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_ledger_and_its_copies_are_nobody_elses_business(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        made = URL.create("sqlite", database=str(path))
        schema.check(made)  # a command that only reads, before the first start
        schema.upgrade(made)
        engine = open_engine(made)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE t (n)"))
            files = [path, *path.parent.glob("watcher.db-*")]
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in files}
        copy = path.with_name("copy.db")
        backup_sqlite(path, copy)
        modes["copy.db"] = stat.S_IMODE(copy.stat().st_mode)
        engine.dispose()
    finally:
        os.umask(before)
    assert {"watcher.db", "watcher.db-wal", "copy.db"} <= set(modes)
    assert set(modes.values()) == {0o640 & ~umask}


def test_looking_at_a_ledger_that_is_not_there_makes_none(path: Path) -> None:
    state = schema.check(URL.create("sqlite", database=str(path)))
    assert state.current is None and not state.is_current
    assert not path.exists()


def test_the_second_daemon_is_refused_and_told_who_is_running(url: URL, path: Path) -> None:
    pattern = rf"another watcher \(process {os.getpid()}\).*{path}"
    with sole_writer(url), pytest.raises(TryLater, match=pattern), sole_writer(url):
        pass
    with sole_writer(url):
        assert lock_file(path).read_text() == str(os.getpid())


def test_a_killed_daemon_leaves_no_lock_behind(url: URL) -> None:
    command = [sys.executable, "-c", HOLD, url.render_as_string()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(TryLater, match=rf"\(process {holder.pid}\)"), sole_writer(url):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
        with sole_writer(url):
            pass


def test_two_ledgers_have_two_locks(url: URL, tmp_path: Path) -> None:
    with sole_writer(url), sole_writer(URL.create("sqlite", database=str(tmp_path / "other.db"))):
        pass


def test_a_backup_taken_while_the_ledger_is_written_is_whole(url: URL, path: Path) -> None:
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (n)"))
        connection.execute(text("INSERT INTO t VALUES (1)"))
    odd = path.with_name("odd?name#%41.db")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO t VALUES (2)"))
        backup_sqlite(path, odd)
    engine.dispose()
    second_copy = path.with_name("again.db")
    backup_sqlite(odd, second_copy)
    for file in (odd, second_copy):
        with sqlite3.connect(file) as copy:
            assert copy.execute("SELECT n FROM t").fetchall() == [(1,)]
            assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",), "one file is the whole copy"


def test_a_backup_overwrites_nothing(url: URL, path: Path) -> None:
    there = path.with_name("there.db")
    there.write_text("precious")
    with pytest.raises(FixConfiguration, match="already exists"):
        backup_sqlite(path, there)
    assert there.read_text() == "precious"


def test_a_backup_that_fails_leaves_no_half_copy(tmp_path: Path) -> None:
    source = tmp_path / "broken.db"
    source.write_bytes(b"this is not a database" * 1_000)
    target = tmp_path / "copy.db"
    with pytest.raises(TryLater, match="not a database"):
        backup_sqlite(source, target)
    assert not target.exists()


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("", "not a database URL"),
        ("watcher.db", "not a database URL"),
        ("mysql://u:hunter2@h/d", "mysql is not supported"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
    ],
)
def test_an_address_that_cannot_hold_a_ledger_is_refused_in_words(written: str, message: str) -> None:
    with pytest.raises(FixConfiguration, match=message) as caught:
        parse_url(written)
    assert "hunter2" not in str(caught.value)
    assert caught.value.exit_code == 78


def test_a_place_where_nothing_can_be_written_is_told_in_words(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    url = URL.create("sqlite", database=str(file / "watcher.db"))
    with (
        pytest.raises(FixConfiguration, match=r"nothing can be written beside .* give this user the right"),
        sole_writer(url),
    ):
        raise AssertionError("nobody gets here")
