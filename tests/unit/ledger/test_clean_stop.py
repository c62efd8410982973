"""After a clean stop the start does not read the whole file; after anything else it does."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from watcher.daemon import own_ledger as starting
from watcher.daemon.own_ledger import OwnLedger, own_ledger
from watcher.errors import FixConfiguration
from watcher.ledger import clean_stop, schema
from watcher.ledger.engine import integrity


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "watcher.db"


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One item for each check of the whole file at a start."""
    checks: list[bool] = []

    def check(url: URL, *, quick: bool) -> str | None:
        checks.append(quick)
        return integrity(url, quick=quick)

    monkeypatch.setattr(starting, "integrity", check)
    return checks


def url_of(path: Path) -> URL:
    return URL.create("sqlite", database=str(path))


def run(path: Path) -> None:
    """A run of the daemon as far as the file is concerned: it writes, and closes the file."""
    with own_ledger(url_of(path)):
        assert not clean_stop.mark_of(path).exists(), "no run leaves the mark of the one before"
        write(path)


def write(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO events (source_id, at_ms, kind, words) VALUES (1, 1, 'x', 'y')")


def spoil(path: Path, table: str) -> None:
    """Overwrite the root page of a table."""
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


def background(own: OwnLedger) -> list[str]:
    reports: list[str] = []
    asyncio.run(own.file_check.run(reports.append))
    return reports


def test_the_file_is_read_whole_once_while_stops_are_clean(path: Path, whole: list[bool]) -> None:
    for _ in range(3):
        run(path)
    assert whole == [True], "only at the first start"


def test_the_file_is_read_whole_after_a_crash(path: Path, whole: list[bool]) -> None:
    run(path)
    with pytest.raises(ZeroDivisionError), own_ledger(url_of(path)):
        raise ZeroDivisionError
    assert not clean_stop.mark_of(path).exists()
    run(path)
    assert len(whole) == 2


@pytest.mark.parametrize("change", ["write", "touch", "copy", "link", "nonsense", "log in use"])
def test_the_file_is_read_whole_when_it_is_not_as_left(path: Path, whole: list[bool], change: str) -> None:
    run(path)
    mark = clean_stop.mark_of(path)
    if change == "write":
        write(path)
    elif change == "touch":
        path.touch()
    elif change == "copy":
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    elif change == "link":
        mark.rename(mark.with_name("elsewhere"))
        mark.symlink_to(mark.with_name("elsewhere"))
    elif change == "nonsense":
        mark.write_bytes(b"\xff" * 10_000)
    else:
        path.with_name(path.name + "-wal").write_bytes(b"x")
    run(path)
    assert len(whole) == 2


def test_a_stop_is_not_clean_while_another_process_writes(path: Path) -> None:
    schema.upgrade(url_of(path))
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        with own_ledger(url_of(path)), other:
            other.execute("CREATE TABLE t (n)")
        assert not clean_stop.mark_of(path).exists()


def test_damage_after_a_clean_stop_is_found_in_the_background(path: Path, whole: list[bool]) -> None:
    run(path)
    spoil(path, "journal")
    clean_stop.leave(path)  # a disk that rots changes no time
    with own_ledger(url_of(path)) as own:
        (report,) = background(own)
    assert "malformed" in report or "page" in report.lower() or "Tree" in report
    assert len(whole) == 1
    assert not clean_stop.mark_of(path).exists(), "the next start reads the whole file"
    with pytest.raises(FixConfiguration, match="damaged"), own_ledger(url_of(path)):
        pass


def test_damage_in_a_small_table_is_refused_at_once(path: Path) -> None:
    run(path)
    spoil(path, "sources")
    clean_stop.leave(path)
    with pytest.raises(FixConfiguration, match="damaged"), own_ledger(url_of(path)):
        pass


def test_the_background_check_finds_a_whole_file_in_order(path: Path) -> None:
    run(path)
    with own_ledger(url_of(path)) as own:
        assert background(own) == []


async def test_the_background_check_closes_the_file_when_it_is_cancelled(path: Path) -> None:
    run(path)
    with own_ledger(url_of(path)) as own:
        task = asyncio.create_task(own.file_check.run(lambda _: None))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert own.file_check.damage is None
    assert clean_stop.mark_of(path).exists()
