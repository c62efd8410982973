"""A ledger that knows less than was sent from it: noticed at the start, and nothing answered twice from it."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from sqlalchemy.engine import URL

from tests.conformance.rig import CHAIN_ID, MANAGER, LedgerRig, make_task
from tests.kit.clocks import SetClock
from watcher.daemon.own_ledger import hold_back, own_ledger, watch_file
from watcher.errors import FixConfiguration, TryLater
from watcher.ledger import claims, restore, schema, stats
from watcher.ledger.engine import backup_sqlite, open_engine, parse_url
from watcher.ledger.high_water import HighWater, MarkFile, mark_of, read_mark
from watcher.ledger.store import Ledger, open_ledger
from watcher.ledger.transaction import Tx
from watcher.state import State

HEAD = 150


class Life:
    """One life of a daemon with the ledger at `path`, as far as the ledger is concerned."""

    def __init__(self, path: Path, seed: int = 1, head: int = HEAD) -> None:
        self.path, self.head = path, head
        self._random = Random(seed)

    async def __aenter__(self) -> LedgerRig:
        self._stack = ExitStack()
        url = parse_url(f"sqlite:///{self.path}")
        own = self.own = self._stack.enter_context(own_ledger(url))
        clock = SetClock()
        self._opened = open_ledger(url, clock, CHAIN_ID, MANAGER, 100, mark=own.mark)
        store = await self._opened.__aenter__()
        await hold_back(own, store, self.head, self._random, release=False)
        engine = open_engine(url)
        self._stack.callback(engine.dispose)
        return LedgerRig(store, clock, url, engine)

    async def __aexit__(self, *error: object) -> None:
        await self._opened.__aexit__(None, None, None)
        self._stack.close()


async def answer(ledger: LedgerRig, index: int, block: int) -> None:
    """A task that was sent an answer for."""
    await ledger.bring(make_task(index, block=block), to=State.SENDING)


async def offered(ledger: LedgerRig) -> list[int]:
    """The tasks the hook would be given now."""
    await ledger.admit()
    above = ledger.store.held_to_block
    claimed = await ledger.write(claims.claim, ledger.source, [State.READY], 100, 1000, above)
    return sorted(task.task.task_index for task in claimed)


def replace_file(path: Path, copy: Path) -> None:
    """What an operator does to restore a copy: the mark stays."""
    copy.replace(path)


def remove(path: Path) -> None:
    path.unlink()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "watcher.db"


async def test_restart_holds_nothing_back(path: Path) -> None:
    async with Life(path) as ledger:
        await answer(ledger, 0, 101)
    async with Life(path, seed=2) as ledger:
        assert ledger.store.held_to_block == -1
        await ledger.record(make_task(1, block=102))
        assert await offered(ledger) == [1]


def _by_backup(path: Path, copy: Path) -> None:
    backup_sqlite(path, copy)


def _by_cp(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(path, copy)


@pytest.mark.parametrize("make", [_by_backup, _by_cp])
async def test_restored_copy_holds_back_what_was_sent_since(path: Path, make: Callable[[Path, Path], None]) -> None:
    copy = path.with_name("copy.db")
    async with Life(path, head=100) as ledger:
        await answer(ledger, 0, 101)
        make(path, copy)
        await answer(ledger, 1, 105)
        await ledger.record(make_task(2, block=107))
    replace_file(path, copy)
    async with Life(path, seed=2) as ledger:
        assert ledger.store.held_to_block == 105, "the mark knows the block of the last answer"
        await ledger.record(make_task(1, block=105), make_task(2, block=107))
        assert await offered(ledger) == [2]
        seen = await ledger.read(stats.work, ledger.source, 0, 10, held_to_block=ledger.store.held_to_block)
        assert seen.held_back == 1
        assert "105; 1 task without an answer held back" in seen.held_message
    async with Life(path, seed=3) as ledger:
        assert ledger.store.held_to_block == 105, "a restart changes nothing"


async def test_copy_on_another_machine_holds_back_up_to_the_head(path: Path, tmp_path: Path) -> None:
    async with Life(path) as ledger:
        await answer(ledger, 0, 101)
        (tmp_path / "other").mkdir()
        backup_sqlite(path, tmp_path / "other" / "watcher.db")
    async with Life(tmp_path / "other" / "watcher.db", seed=2) as ledger:
        assert ledger.store.held_to_block == HEAD
        await ledger.record(make_task(1, block=HEAD), make_task(2, block=HEAD + 1), upto=HEAD + 1)
        assert await offered(ledger) == [2]


async def test_copy_beside_an_older_mark_of_another_line_is_noticed(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    async with Life(other, seed=5) as ledger:
        await answer(ledger, 0, 101)
    async with Life(path) as ledger:
        for index in range(3):
            await answer(ledger, index, 101)
        other.unlink()
        backup_sqlite(path, other)
    async with Life(other, seed=6) as ledger:
        assert ledger.store.held_to_block == HEAD


async def test_copy_of_a_ledger_that_sent_nothing_since_is_whole(path: Path) -> None:
    copy = path.with_name("copy.db")
    async with Life(path) as ledger:
        await answer(ledger, 0, 101)
        backup_sqlite(path, copy)
    replace_file(path, copy)
    async with Life(path, seed=2) as ledger:
        assert ledger.store.held_to_block == -1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] > 0, "it is a copy no more"


async def test_removed_write_ahead_log_is_noticed(path: Path, tmp_path: Path) -> None:
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    async with Life(path, head=100) as ledger:
        await answer(ledger, 0, 101)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        await answer(ledger, 1, 104)
        # As after a kill, by somebody who tidies up what he does not know.
        for name in ("watcher.db", "watcher.db.begun"):
            shutil.copy(path.with_name(name), crashed)
    async with Life(crashed / "watcher.db", seed=2) as ledger:
        assert ledger.store.held_to_block == 104


async def test_ledger_without_tables_is_refused_when_answers_were_sent(path: Path) -> None:
    async with Life(path) as ledger:
        await answer(ledger, 0, 101)
    remove(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("DROP TABLE t")
    with pytest.raises(FixConfiguration, match="holds no ledger any more"):
        async with Life(path, seed=2):
            pass


async def test_restored_copy_sends_the_answer_it_holds(path: Path) -> None:
    copy = path.with_name("copy.db")
    async with Life(path) as ledger:
        await ledger.bring(make_task(0, block=101), to=State.COMPUTED)
        backup_sqlite(path, copy)
    replace_file(path, copy)
    mark_of(path).unlink()
    async with Life(path, seed=2) as ledger:
        assert ledger.store.held_to_block == HEAD
        assert [task.task.task_index for task in await ledger.claim(State.COMPUTED)] == [0]


async def test_release_ends_the_hold_for_good(path: Path) -> None:
    async with Life(path) as ledger:
        await answer(ledger, 0, 101)
    mark_of(path).unlink()
    life = Life(path, seed=2)
    async with life as ledger:
        assert ledger.store.held_to_block == HEAD
        await hold_back(replace(life.own, loss=None), ledger.store, HEAD, Random(3), release=True)
        await ledger.record(make_task(1, block=102))
        assert await offered(ledger) == [1]
    async with Life(path, seed=4) as ledger:
        assert ledger.store.held_to_block == -1


async def test_hold_survives_a_kill_before_the_mark_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Life(path) as ledger:
        await answer(ledger, 0, 101)
    mark_of(path).unlink()

    def dies(*_: object) -> None:
        raise TryLater("killed here")

    life = Life(path, seed=2)
    with monkeypatch.context() as patched:
        patched.setattr(restore, "start_generation", dies)
        with pytest.raises(TryLater, match="killed here"):
            await life.__aenter__()
    await life.__aexit__()
    async with Life(path, seed=3) as ledger:
        assert ledger.store.held_to_block == HEAD


async def test_first_start_of_an_older_ledger_holds_nothing_back(path: Path) -> None:
    """A ledger and a mark of the program before this one."""
    async with Life(path) as ledger:
        await answer(ledger, 0, 101)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 0")
    mark_of(path).write_text("A ledger was begun at watcher.db. Remove this file only together with it.\n")
    async with Life(path, seed=2) as ledger:
        assert ledger.store.held_to_block == -1
    mark = read_mark(path)
    assert mark is not None
    assert mark.generation > 0
    assert mark.attempt > 0
    assert mark.block == HEAD, "what was sent before is of no later block"


# -- the mark itself ---------------------------------------------------------------------------------------------------


def test_mark_keeps_the_highest(path: Path) -> None:
    mark = MarkFile(path)
    mark.begin(HighWater(7))
    for attempt, block in ((3, 50), (2, 90), (5, 40)):
        mark.follow(Tx(None, 0, attempt=attempt, attempt_block=block))  # type: ignore[arg-type]
    mark.sync()
    mark.close()
    assert read_mark(path) == HighWater(7, 5, 50)
    assert "Remove this file only together with it." in mark_of(path).read_text()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe junk", b"generation=1 attempt=x", b"A ledger was begun at x.\n"])
def test_mark_that_cannot_be_read_says_nothing(path: Path, content: bytes) -> None:
    mark_of(path).write_bytes(content)
    assert read_mark(path) == HighWater()


def test_mark_never_follows_a_link(path: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("data")
    mark_of(path).symlink_to(precious)
    with pytest.raises(FixConfiguration, match=r"watcher\.db\.begun"), own_ledger(parse_url(f"sqlite:///{path}")):
        pass
    assert precious.read_text() == "data"


async def test_no_attempt_begins_when_the_mark_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Life(path) as ledger:
        await ledger.bring(make_task(0), to=State.COMPUTED)
        claimed = await ledger.claim_one(State.COMPUTED)

        def fails(*_: object) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", fails)
            with pytest.raises(TryLater, match="its mark: No space left"):
                await ledger.begin(claimed)


# -- the file at its path ----------------------------------------------------------------------------------------------


def _removed(path: Path) -> None:
    path.unlink()


def _renamed(path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))


def _replaced(path: Path) -> None:
    other = path.with_name("other.db")
    schema.upgrade(URL.create("sqlite", database=str(other)))
    other.replace(path)


@pytest.mark.parametrize("happens", [_removed, _renamed, _replaced])
async def test_nothing_is_written_when_the_file_is_not_at_its_path(path: Path, happens: Callable[[Path], None]) -> None:
    life = Life(path)
    async with life as ledger:
        await ledger.bring(make_task(0), to=State.COMPUTED)
        claimed = await ledger.claim_one(State.COMPUTED)
        happens(path)
        with pytest.raises(TryLater, match="was moved, removed or replaced while it was in use"):
            await ledger.begin(claimed)
        with pytest.raises(TryLater, match="was moved, removed or replaced"):
            await watch_file(life.own, ledger.store, asyncio.Event(), ledger.clock)


async def test_watch_of_the_file_ends_with_the_daemon(path: Path) -> None:
    life = Life(path)
    async with life as ledger:
        stopping = asyncio.Event()
        stopping.set()
        await watch_file(life.own, ledger.store, stopping, ledger.clock)


async def test_book_of_postgresql_has_no_file(ledger: LedgerRig) -> None:
    """On both databases a verb goes through; only SQLite has a path."""
    assert isinstance(ledger.store, Ledger)
    ledger.store.check_file()
    await ledger.record(make_task(0))
