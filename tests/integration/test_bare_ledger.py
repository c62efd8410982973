"""A ledger file alone: read without settings, without a trace beside it, also on a read-only medium."""

import csv
import io
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy.engine import URL

from tests.conformance.rig import CHAIN_ID, MANAGER
from tests.kit.filled import fill
from watcher.cli import explain, main, task_list, tasks
from watcher.cli.bare_ledger import open_to_read
from watcher.doctor.finding import Notes
from watcher.doctor.ledger import check_ledger
from watcher.errors import FixUsage, WatcherError
from watcher.ledger.lock import is_locked
from watcher.report.task_columns import FIELDS
from watcher.settings.ledger import Ledger
from watcher.settings.model import TaskManager
from watcher.state import State

NO_CONFIG = Path("there-are-no-settings.toml")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bare") / "watcher.db"
    fill(path, 1_000)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE tasks SET error = '=HYPERLINK(\"http://x\")' || char(27) || '[2J' WHERE id = 50")
    connection.close()
    return path


@pytest.fixture
def file(original: Path, tmp_path: Path) -> Path:
    """A copy alone in a folder, as an auditor has it."""
    copy = tmp_path / "evidence" / "copy.db"
    copy.parent.mkdir()
    shutil.copy(original, copy)
    return copy


def listed(file: Path, capsys: pytest.CaptureFixture[str], **options: Any) -> str:
    task_list.list_tasks(NO_CONFIG, file, **options)
    return capsys.readouterr().out


def test_a_file_alone_is_listed_in_every_form(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = file.read_bytes(), file.stat().st_mtime_ns
    objects = json.loads(listed(file, capsys, as_json=True))
    assert [task["task_index"] for task in objects] == list(range(1_000)) and list(objects[0]) == list(FIELDS)
    rows = list(csv.DictReader(io.StringIO(listed(file, capsys, as_csv=True), newline="")))
    assert [row["task_index"] for row in rows] == [str(index) for index in range(1_000)]
    assert rows[49]["error"] == '\'=HYPERLINK("http://x")\\x1b[2J'
    table = listed(file, capsys, state=State.BLOCKED, wide=True).splitlines()
    assert len(table) == 2 and "\x1b" not in table[1]
    last = listed(file, capsys, columns="state, task_index", limit=1, reverse=True).split()
    assert last[:2] == ["state", "task_index"] and "999" in last
    assert list(file.parent.iterdir()) == [file], "nothing lies beside the evidence"
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before


def test_nothing_but_the_header_without_a_match(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(listed(file, capsys, as_json=True, blocks="900000..")) == []
    assert listed(file, capsys, as_csv=True, blocks="900000..").count("\r\n") == 1


def test_a_task_is_shown_and_explained_without_settings(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks.show(index=49, config=NO_CONFIG, ledger_file=file, as_json=True)
    (task,) = json.loads(capsys.readouterr().out)
    assert task["state"] == "blocked" and task["reason"] and task["journal"]
    explain.explain(index=49, config=NO_CONFIG, ledger_file=file)
    assert task["reason"][:20] in " ".join(capsys.readouterr().out.split())


def test_several_contracts_are_asked_for(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TEMP TABLE other AS SELECT * FROM sources")
        connection.execute("UPDATE other SET id = 2, chain_id = chain_id + 1")
        connection.execute("INSERT INTO sources SELECT * FROM other")
    connection.close()
    address = "0x" + MANAGER.hex()
    with pytest.raises(FixUsage, match=rf"several contracts.*--source: {CHAIN_ID}:{address}, {CHAIN_ID + 1}:{address}"):
        listed(file, capsys)
    with pytest.raises(FixUsage, match="on several chains"):
        listed(file, capsys, source=address)
    assert json.loads(listed(file, capsys, source=f"{CHAIN_ID + 1}:{address}", as_json=True)) == []
    assert listed(file, capsys, source=f"{CHAIN_ID}:{address.upper().replace('0X', '0x')}", limit=1)


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0" + b"\0" * 100, b"no database", os.urandom(5000)])
def test_what_is_no_ledger_is_refused_with_a_sentence(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.db"
    file.write_bytes(content)
    with pytest.raises(WatcherError) as refusal, open_to_read(NO_CONFIG, file, None):
        pass
    assert "\n" not in str(refusal.value)
    with pytest.raises(FixUsage, match="there is no file"), open_to_read(NO_CONFIG, tmp_path / "none.db", None):
        pass


def test_another_schema_is_refused_with_the_way_forward(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0005'")
    connection.close()
    with pytest.raises(FixUsage, match="has schema 0005"), open_to_read(NO_CONFIG, file, None):
        pass


def test_no_lock_is_taken(file: Path) -> None:
    with open_to_read(NO_CONFIG, file, None) as ledger:
        assert ledger.settings is None
        assert not is_locked(URL.create("sqlite", database=str(file)))


@pytest.mark.parametrize("columns", ["", "nope", "state,,task_index"])
def test_an_unknown_column_is_refused(file: Path, capsys: pytest.CaptureFixture[str], columns: str) -> None:
    with pytest.raises(typer.BadParameter, match="there is no column"):
        listed(file, capsys, columns=columns)


@pytest.fixture
def closed(original: Path, tmp_path: Path) -> Iterator[Path]:
    """A ledger in a folder that this process cannot enter."""
    file = tmp_path / "closed" / "watcher.db"
    file.parent.mkdir()
    shutil.copy(original, file)
    file.parent.chmod(0)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    yield file
    if is_root:
        os.seteuid(0)
    file.parent.chmod(0o700)


@pytest.mark.parametrize("arguments", ["tasks list --ledger", "audit verify --ledger", "audit export /x --ledger"])
def test_file_below_a_closed_folder_is_a_sentence(
    arguments: str, closed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run([*arguments.split(), str(closed)]) == 78
    printed = capsys.readouterr().err
    assert "is closed to this user" in printed and "Traceback" not in printed and printed.count("\n") == 1


async def test_check_says_that_the_folder_of_the_ledger_is_closed(closed: Path) -> None:
    notes = Notes("ledger")
    section = TaskManager(address="0x" + MANAGER.hex(), start_block=0)
    await check_ledger(Ledger(url=f"sqlite:///{closed}"), CHAIN_ID, section, notes)
    assert [finding.check for finding in notes.findings] == ["folder"]
    assert "is closed to this user" in notes.findings[0].message
