"""A ledger moves between databases, and nothing of it changes on the way."""

import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, Table, insert, select, text, update
from sqlalchemy.engine import URL

from tests.conformance.rig import make_task, opened
from watcher.daemon.own_ledger import own_ledger
from watcher.errors import FixConfiguration, FixUsage, TryLater
from watcher.ledger import copying, move, restore, schema
from watcher.ledger import transfer as moving
from watcher.ledger.audit.check import Checker
from watcher.ledger.columns import Uint256
from watcher.ledger.engine import open_engine, sqlite_path
from watcher.ledger.lock import open_mark, sole_writer
from watcher.ledger.periods import RUNNING
from watcher.ledger.row_ids import new_ids
from watcher.ledger.side_tables import periods
from watcher.ledger.store import write_once
from watcher.ledger.tables import events, metadata, sources, tasks
from watcher.ledger.transfer import Transfer, transfer
from watcher.state import State


class Killed(BaseException):
    """The end of a process, as far as the code of the copy can see."""


def moved(source: URL, target: URL) -> Transfer:
    return transfer(source, target, Random(1), lambda _step, _rows, _total: None)


def rows_of(url: URL) -> dict[str, list[str]]:
    """Every row of every table, in an order that no database decides."""
    engine = open_engine(url)
    with engine.connect() as conn:
        rows = {
            table.name: sorted(repr(tuple(row)) for row in conn.execute(select(table)))
            for table in metadata.sorted_tables
        }
    engine.dispose()
    return rows


def problems(url: URL) -> int:
    engine = open_engine(url)
    with engine.connect() as conn:
        count = Checker(conn, 1).run().problem_count
    engine.dispose()
    return count


def edit(url: URL, *statements: Any) -> None:
    engine = open_engine(url)
    with engine.begin() as conn:
        for statement in statements:
            conn.execute(statement)
    engine.dispose()


def leave_start_mark(url: URL) -> None:
    """Leave the mark of a first start beside a SQLite ledger."""
    path = sqlite_path(url)
    if path is not None:
        with open_mark(url) as mark:
            assert mark is not None
            restore.start_generation(path, mark, None, 77, 110)


@pytest.fixture
def target(url: URL, tmp_path: Path, request: pytest.FixtureRequest) -> URL:
    """A target on the other database."""
    if url.get_backend_name() == "sqlite":
        other: URL = request.getfixturevalue("empty_schema")
        return other
    return URL.create("sqlite", database=str(tmp_path / "moved.db"))


@pytest.fixture
async def resting(url: URL, target: URL) -> AsyncIterator[URL]:
    """A ledger without a daemon: tasks on every way, an index of 256 bits, bytes that are no text."""
    engine = open_engine(url)
    async with opened(url, engine) as ledger:
        await ledger.bring(*(make_task(index) for index in range(40)), to=State.RESPONDED)
        await ledger.bring(make_task(2**255, deadline=None), to=State.COMPUTED)
        await ledger.record(make_task(2**63 - 1, message=b"\x00\xff" * 500))
    engine.dispose()
    leave_start_mark(url)
    yield url
    _unmark(url, target)


def _unmark(*urls: URL) -> None:
    """Remove the marks of a move from the PostgreSQL schema, which the tests share."""
    for each in urls:
        if each.get_backend_name() == "postgresql":
            engine = open_engine(each)
            with engine.begin() as conn:
                move.remove_mark(conn)
            engine.dispose()


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "BATCH", 7)


def test_ledger_moves_and_returns_with_every_row(resting: URL, target: URL) -> None:
    before = rows_of(resting)
    done = moved(resting, target)
    assert rows_of(target) == before
    assert sum(done.rows.values()) == sum(map(len, before.values()))
    assert done.resumed == 0
    assert done.before == done.after
    assert done.after[0].root is not None
    with pytest.raises(FixConfiguration, match=r"was left at .* it goes on at"), own_ledger(resting):
        pass
    with pytest.raises(FixConfiguration, match="was left"):
        write_once(resting.render_as_string(hide_password=False), lambda _tx: None)
    with own_ledger(target) as own:
        assert own.loss is None
    moved(target, resting)
    assert rows_of(resting) == before
    assert problems(resting) == problems(target) == 0
    with pytest.raises(FixConfiguration, match="was left"), own_ledger(target):
        pass
    with own_ledger(resting) as own:
        assert own.loss is None


def _value(column: Column[Any], random: Random, number: int) -> Any:
    """A value that the column can hold, often at its limits; a part of a key is never given twice."""
    kind, length = column.type, getattr(column.type, "length", None)
    if column.name == "leaves":  # the check reads them
        return b""
    if column.nullable and random.random() < 0.3:
        return None
    if isinstance(kind, Boolean):
        return random.random() < 0.5
    if isinstance(kind, Uint256):
        return random.choice((0, 2**63 - 1, 2**63, 2**256 - 1, random.getrandbits(256)))
    if column.primary_key and isinstance(kind, Integer):
        return number * 3 + 1
    if isinstance(kind, BigInteger):
        return random.choice((0, -1, 2**63 - 1, -(2**63), random.getrandbits(40)))
    if isinstance(kind, Integer):
        return random.choice((0, -(2**31), 2**31 - 1))
    if isinstance(kind, LargeBinary):
        return random.randbytes(length or random.choice((0, 1, 5000)))
    letters = "aBc_Z ~é€\U0001f600" if column.name in ("words", "why", "error", "note") else "aBc_Z -"
    return ("".join(random.choices(letters, k=8)) + str(number))[: length or 500]


def _fill(url: URL, random: Random) -> None:
    """Put rows of any content into every table."""
    ids: dict[str, list[Any]] = {}

    def row(table: Table, number: int) -> dict[str, Any]:
        return {
            column.name: random.choice(ids[next(iter(column.foreign_keys)).column.table.name])
            if column.foreign_keys
            else _value(column, random, number)
            for column in table.columns
        }

    for table in metadata.sorted_tables:
        # Of a table whose key is a source alone, one row for each.
        alone = [column.name for column in table.primary_key.columns] == ["source_id"]
        rows = [row(table, number) for number in range(1 if alone else 40)]
        ids[table.name] = [each["id"] for each in rows] if "id" in table.c else []
        edit(url, insert(table).values(rows))


@pytest.mark.parametrize("seed", [1, 2])
def test_rows_of_any_content_are_the_same_on_the_other_side(url: URL, target: URL, seed: int) -> None:
    _fill(url, Random(seed))
    leave_start_mark(url)
    before = rows_of(url)
    assert all(before.values())
    try:
        moved(url, target)
        assert rows_of(target) == before
        moved(target, url)
        assert rows_of(url) == before
    finally:
        _unmark(url, target)


@pytest.mark.parametrize("kill_at", [1, 5, 30])
def test_copy_goes_on_where_it_was_killed(resting: URL, target: URL, kill_at: int) -> None:
    before = rows_of(resting)
    steps = 0

    def follow(step: str, rows: int, _total: int) -> None:
        nonlocal steps
        steps += step in metadata.tables and rows > 0
        if steps >= kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        try:
            transfer(resting, target, Random(1), follow)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    with pytest.raises(FixConfiguration, match="unfinished copy"), own_ledger(target):
        pass
    assert move.loss_of_reopened(resting) is None
    done = moved(resting, target)
    assert 0 < done.resumed < sum(done.rows.values())
    assert rows_of(target) == before


@pytest.mark.parametrize(
    "change",
    [update(tasks).values(due_at_ms=tasks.c.due_at_ms + 5), update(sources).values(cursor_block=12345)],
    ids=["that no digest has", "that the digest has"],
)
def test_copy_begins_anew_when_the_source_has_changed(resting: URL, target: URL, change: Any) -> None:
    def follow(step: str, _rows: int, _total: int) -> None:
        if step == "comparing":
            raise Killed

    with pytest.raises(Killed):
        transfer(resting, target, Random(1), follow)
    edit(resting, change)
    before = rows_of(resting)
    moved(resting, target)
    assert rows_of(target) == before


@pytest.mark.parametrize("step", ["set_last_ids", "open_target"])
def test_move_that_was_cut_behind_the_mark_is_finished(
    resting: URL, target: URL, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows_of(resting)

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(copying, step, die)
        with pytest.raises(Killed):
            moved(resting, target)
    for url in (resting, target):
        with pytest.raises(FixConfiguration), own_ledger(url):
            pass
    moved(resting, target)
    assert rows_of(target) == before
    with own_ledger(target) as own:
        assert own.loss is None
    with pytest.raises(FixConfiguration, match="already"):
        moved(resting, target)


def test_new_rows_get_ids_behind_all_that_were_ever_given(resting: URL, target: URL) -> None:
    engine = open_engine(resting)
    with engine.begin() as conn:
        last = copying.last_ids(conn)
        last["tasks"] += 1000  # as after rows that are gone
        copying.set_last_ids(conn, last)
    engine.dispose()
    moved(resting, target)
    engine = open_engine(target)
    with engine.begin() as conn:
        for table in (tasks, events):
            assert new_ids(conn, table, 1) == [last[table.name] + 1]
    engine.dispose()


def test_target_with_other_data_is_refused(resting: URL, target: URL, tmp_path: Path) -> None:
    other = URL.create("sqlite", database=str(tmp_path / "other.db"))
    with pytest.raises(FixUsage, match="the same ledger"):
        moved(resting, resting)
    moved(resting, target)
    with pytest.raises(FixConfiguration, match="was left for"):
        moved(resting, other)
    moved(target, other)
    with pytest.raises(FixConfiguration, match="holds a ledger already"):
        moved(other, resting)
    assert not problems(resting)


def test_other_schema_on_either_side_is_refused(resting: URL, target: URL) -> None:
    side = resting if resting.get_backend_name() == "sqlite" else target
    schema.upgrade(side)
    edit(side, text("UPDATE alembic_version SET version_num = '0001'"))
    with pytest.raises(FixConfiguration, match="has schema 0001"):
        moved(resting, target)


def test_target_that_changed_since_it_was_left_is_refused(resting: URL, target: URL) -> None:
    moved(resting, target)
    newest = "(SELECT max(seq) FROM audit_entries)"
    edit(resting, text(f"UPDATE audit_entries SET hash = prev_hash WHERE seq = {newest}"))
    with pytest.raises(FixConfiguration, match="has changed since"):
        moved(target, resting)


def test_daemon_on_either_side_is_refused(resting: URL, target: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    side = resting if resting.get_backend_name() == "sqlite" else target
    with sole_writer(side), pytest.raises(TryLater, match="another watcher"):
        moved(resting, target)
    if side is resting:
        return
    monkeypatch.setattr(moving, "_LOOKS", 1)
    now_ms = time.time_ns() // 1_000_000
    ran = {"source_id": 1, "key": RUNNING, "began_at_ms": now_ms, "last_at_ms": now_ms, "words": ""}
    edit(resting, insert(periods).values(ran))
    engine = open_engine(resting)
    with engine.connect(), pytest.raises(TryLater, match="seconds ago"):
        moved(resting, target)
    engine.dispose()


def test_reopened_ledger_holds_its_tasks_back_once(resting: URL, target: URL) -> None:
    with pytest.raises(FixConfiguration, match="was not left"):
        move.reopen(resting)
    moved(resting, target)
    assert move.reopen(resting) == move.name_of(target)
    with own_ledger(resting) as own:
        assert own.loss is not None
        assert "opened again" in own.loss.reason
    with pytest.raises(FixConfiguration, match="was opened again"):
        moved(resting, target)
    move.forget_reopened(resting)
    assert move.loss_of_reopened(resting) is None


def test_name_of_a_ledger_has_no_secret() -> None:
    url = URL.create("postgresql", "anna", "geheim", "db.example", 5433, "w", {"password": "auch", "host": "h"})
    assert move.name_of(url) == "postgresql://db.example:5433/w"
