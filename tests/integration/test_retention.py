"""Old stories become files that can be trusted, and the proof stays whole without them."""

import gzip
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL

from tests.conformance.rig import LedgerRig, header, make_task, opened
from tests.system.daemon_rig import running_rig
from watcher.errors import FixConfiguration, FixUsage, TryLater
from watcher.ledger import finality, outcomes, queries, schema
from watcher.ledger.backup import copy_named, copy_to
from watcher.ledger.engine import integrity, open_engine, vacuum_sqlite
from watcher.ledger.lock import sole_writer
from watcher.ledger.reader import Reader
from watcher.ledger.retention import Age
from watcher.report import archive as moving
from watcher.report.archive import retain
from watcher.state import State

ANY = Age(blocks=0)


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[LedgerRig]:
    url = URL.create("sqlite", database=str(tmp_path / "ledger" / "watcher.db"))
    schema.upgrade(url)
    engine = open_engine(url)
    async with opened(url, engine) as opened_ledger:
        yield opened_ledger
    engine.dispose()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "archive"


async def finish(ledger: LedgerRig, count: int) -> None:
    await ledger.bring(*(make_task(index) for index in range(count)), to=State.RESPONDED)
    await ledger.write(finality.finalise, ledger.source, header(110))
    await ledger.write(outcomes.final, await ledger.in_state(State.RESPONDED), header(110))


def moved(ledger: LedgerRig, folder: Path, age: Age = ANY, **options: Any) -> list[moving.Export]:
    reader = Reader(ledger.url)
    try:
        return retain(reader, str(ledger.url), ledger.source, age, folder, **options)
    finally:
        reader.close()


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def lines_of(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


async def test_the_files_hold_every_line_and_name_what_they_hold(ledger: LedgerRig, archive: Path) -> None:
    await finish(ledger, 7)
    before = {row.task_index: await ledger.story(row.task_index) for row in await ledger.rows()}
    exports = moved(ledger, archive, limit_tasks=3)
    assert [(export.first_index, export.last_index, export.tasks) for export in exports] == [
        (0, 2, 3),
        (3, 5, 3),
        (6, 6, 1),
    ]
    lines_by_index = {line["task_index"]: line for export in exports for line in lines_of(export.path)}
    assert sorted(lines_by_index) == list(range(7))
    for index, (transitions, tries) in before.items():
        assert [line["why"] for line in lines_by_index[index]["journal"]] == [row.why for row in transitions]
        assert [line["id"] for line in lines_by_index[index]["attempt_log"]] == [row.id for row in tries]
        assert await ledger.story(index) == ([], [])
    for export in exports:
        assert export.path.name.startswith(f"tasks-{export.first_index}-{export.last_index}-")
        assert hashlib.sha256(export.path.read_bytes()).hexdigest() == export.sha256
        assert (archive / f"{export.path.name}.sha256").read_text() == f"{export.sha256}  {export.path.name}\n"
        assert export.path.stat().st_mode & 0o777 == 0o640
    events = await ledger.read(queries.recent_events, ledger.source)
    assert [event.kind for event in events] == ["retained"] * 3
    assert all(any(export.sha256 in event.words for event in events) for export in exports)
    assert moved(ledger, archive) == []
    assert len(names(archive)) == 6


async def test_a_folder_that_cannot_be_written_costs_nothing(ledger: LedgerRig, tmp_path: Path) -> None:
    await finish(ledger, 2)
    before = await ledger.everything()
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(FixUsage, match="nothing was removed"):
        moved(ledger, blocked / "archive")
    assert await ledger.everything() == before


async def test_a_stop_in_the_middle_loses_no_line(
    ledger: LedgerRig, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await finish(ledger, 2)
    before = {row.task_index: await ledger.story(row.task_index) for row in await ledger.rows()}

    class Killed(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> Any:
        raise Killed

    for name in ("write_once", "_named", "_written"):  # from the last step to the first
        with monkeypatch.context() as patch:
            patch.setattr(moving, name, killed)
            with pytest.raises(Killed):
                moved(ledger, archive)
        assert {index: await ledger.story(index) for index in before} == before
    moved(ledger, archive)
    whole = [line for name in names(archive) if name.endswith(".gz") for line in lines_of(archive / name)]
    assert {line["task_index"] for line in whole} == set(before)


async def test_the_space_is_used_again_and_given_back_when_asked(ledger: LedgerRig, archive: Path) -> None:
    path = Path(str(ledger.url.database))
    await finish(ledger, 100)
    moved(ledger, archive)
    before, after = vacuum_sqlite(path)
    assert after < before * 0.9  # the proofs of the audit chain stay
    assert integrity(ledger.url) is None
    assert len(await ledger.rows()) == 100


async def test_the_write_ahead_log_does_not_stay_long(ledger: LedgerRig) -> None:
    with ledger.engine.connect() as connection:
        limit = connection.exec_driver_sql("PRAGMA journal_size_limit").scalar()
    assert limit == 64 * 1024 * 1024


async def test_copies_are_read_through_and_only_the_newest_stay(ledger: LedgerRig, tmp_path: Path) -> None:
    await finish(ledger, 2)
    path, folder = Path(str(ledger.url.database)), tmp_path / "backup"
    folder.mkdir()
    for day in range(1, 4):
        (folder / f"watcher-2026010{day}T000000Z.db").touch()
    (folder / "watcher-mine.db").touch()
    made, gone = copy_named(path, folder, 2)
    assert sorted(copy.name for copy in gone) == ["watcher-20260101T000000Z.db", "watcher-20260102T000000Z.db"]
    assert {copy.name for copy in folder.iterdir()} == {made.name, "watcher-20260103T000000Z.db", "watcher-mine.db"}
    assert made.stat().st_mode & 0o777 == 0o640
    with sqlite3.connect(made) as copy:
        assert copy.execute("SELECT count(*) FROM tasks WHERE state = 'final'").fetchone() == (2,)
    with pytest.raises(FixConfiguration, match="already exists"):
        copy_to(path, made)
    with pytest.raises(FixUsage, match="there is no folder"):
        copy_to(path, tmp_path / "nowhere" / "copy.db")


async def test_a_damaged_ledger_gives_no_copy(tmp_path: Path) -> None:
    source = tmp_path / "watcher.db"
    with sqlite3.connect(source) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("CREATE INDEX i ON t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [(os.urandom(200),) for _ in range(500)])
    data = bytearray(source.read_bytes())
    data[8192:12288] = bytes(4096)
    source.write_bytes(data)
    with pytest.raises(TryLater):
        copy_to(source, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


async def test_proof_is_the_same_after_retention_beside_a_running_daemon(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        daemon = await rig.start()
        await rig.create(5)
        await rig.settle()
        before = await rig.prove()
        done = await rig.command(
            "db", "retain", "--to", str(tmp_path / "archive"), "--older-than-blocks", "0", "--json"
        )
        assert done.code == 0, done.err
        assert [entry["tasks"] for entry in done.json] == [5]
        assert rig.journeys() == {}
        after = await rig.prove()
        assert after["ok"]
        assert after["answered_by_us"] == before["answered_by_us"] == 5
        verified = await rig.command("audit", "verify", "--json")
        assert (verified.code, verified.json["problems"]) == (0, []), verified
        assert verified.json["removed_by_rule"] >= sum(entry["tasks"] for entry in done.json)
        busy = await rig.command("db", "retain", "--to", str(tmp_path / "archive"), "--days", "0", "--vacuum")
        assert busy.code == 75
        assert "another watcher" in busy.err
        assert await daemon.stop() == 0
        vacuumed = await rig.command("db", "retain", "--to", str(tmp_path / "archive"), "--days", "0", "--vacuum")
        assert vacuumed.code == 0, vacuumed.err
        assert "the ledger takes" in vacuumed.out
        assert (await rig.prove())["answered_by_us"] == 5
        neither = await rig.command("db", "retain", "--to", str(tmp_path / "archive"))
        assert neither.code == 64


def test_the_folder_of_the_copies_is_named_in_place_of_the_copy() -> None:
    for arguments in ([], ["copy.db", "--to", "folder"]):
        done = subprocess.run(
            [sys.executable, "-m", "watcher", "db", "backup", *arguments], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 64
        assert "name either" in done.stderr


def test_the_lock_is_needed_to_vacuum(tmp_path: Path) -> None:
    url = URL.create("sqlite", database=str(tmp_path / "watcher.db"))
    with sole_writer(url), pytest.raises(TryLater), sole_writer(url):
        pass
    shutil.rmtree(tmp_path)
