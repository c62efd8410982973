"""The writer: verbs that wait together share one commit, and none pays for the failure of another."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from tests.conformance.rig import CHAIN_ID, MANAGER, header, make_task
from tests.kit.clocks import SetClock
from watcher.errors import LostLease, TryLater
from watcher.ledger import ingest, queries, schema
from watcher.ledger.engine import open_engine
from watcher.ledger.source import note_event
from watcher.ledger.store import open_ledger
from watcher.ledger.transaction import Tx
from watcher.ledger.writer import Writer
from watcher.state import State


@pytest.fixture
def url(tmp_path: Path) -> URL:
    made = URL.create("sqlite", database=str(tmp_path / "watcher.db"))
    schema.upgrade(made)
    return made


@pytest.fixture
def engine(url: URL) -> Iterator[Engine]:
    opened = open_engine(url)
    yield opened
    opened.dispose()


@pytest.fixture
async def writer(engine: Engine) -> AsyncIterator[Writer]:
    opened = Writer(engine, SetClock())
    yield opened
    await opened.stop()


@contextmanager
def counted(engine: Engine, name: str) -> Iterator[list[None]]:
    """The commits or rollbacks of an engine, as they happen."""
    seen: list[None] = []

    def count(_: object) -> None:
        seen.append(None)

    event.listen(engine, name, count)
    yield seen
    event.remove(engine, name, count)


@asynccontextmanager
async def busy(writer: Writer) -> AsyncIterator[None]:
    """Keep the writer at one verb while the block queues others behind it."""
    gate, inside = threading.Event(), threading.Event()

    def wait(tx: Tx) -> None:
        inside.set()
        assert gate.wait(10)

    lock_holder = asyncio.ensure_future(writer.do(wait))
    try:
        assert await asyncio.to_thread(inside.wait, 10)
        yield
    finally:
        gate.set()
        await lock_holder


async def queue_up(*waiting: "asyncio.Task[object]") -> None:
    """Let the tasks reach the queue."""
    for _ in range(3):
        await asyncio.sleep(0)
    assert not any(waiter.done() for waiter in waiting)


def set_version(tx: Tx, number: int) -> int:
    tx.conn.execute(text("INSERT INTO t VALUES (:number)"), {"number": number})
    return number


async def make_table(writer: Writer) -> None:
    await writer.do(lambda tx: tx.conn.execute(text("CREATE TABLE t (number INTEGER UNIQUE)")) and None)


def numbers(url: URL) -> list[int]:
    assert url.database is not None
    with sqlite3.connect(url.database) as connection:
        return [row[0] for row in connection.execute("SELECT number FROM t ORDER BY number")]


async def test_verbs_that_wait_together_share_one_commit(writer: Writer, engine: Engine, url: URL) -> None:
    await make_table(writer)
    with counted(engine, "commit") as commits:
        async with busy(writer):
            waiting = [asyncio.ensure_future(writer.do(partial(set_version, number=n))) for n in range(100)]
            await queue_up(*waiting)
        assert await asyncio.gather(*waiting) == list(range(100))
    assert len(commits) == 2, "one for the verb in front, one for the hundred behind it"
    assert numbers(url) == list(range(100))


async def test_a_batch_is_bounded(writer: Writer, engine: Engine, url: URL) -> None:
    await make_table(writer)
    with counted(engine, "commit") as commits:
        async with busy(writer):
            waiting = [asyncio.ensure_future(writer.do(partial(set_version, number=n))) for n in range(1_100)]
            await queue_up(*waiting)
        await asyncio.gather(*waiting)
    assert len(commits) == 4, "one in front, then 512, 512 and 76"
    assert len(numbers(url)) == 1_100


async def test_a_verb_that_raises_spoils_no_other(writer: Writer, url: URL) -> None:
    await make_table(writer)

    def fail(tx: Tx) -> None:
        set_version(tx, 99)
        raise ValueError("no")

    async with busy(writer):
        first = asyncio.ensure_future(writer.do(lambda tx: set_version(tx, 1)))
        second = asyncio.ensure_future(writer.do(fail))
        third = asyncio.ensure_future(writer.do(lambda tx: set_version(tx, 3)))
        clash = asyncio.ensure_future(writer.do(lambda tx: set_version(tx, 3)))
        await queue_up()
    assert await first == 1
    with pytest.raises(ValueError, match="no"):
        await second
    assert await third == 3
    with pytest.raises(TryLater, match="UNIQUE"):
        await clash
    assert numbers(url) == [1, 3]


async def test_a_bug_of_ours_is_not_taken_for_a_busy_database(writer: Writer) -> None:
    with pytest.raises(Exception, match="no_such_bind") as caught:
        await writer.do(lambda tx: tx.conn.execute(text("SELECT :no_such_bind")))
    assert not isinstance(caught.value, TryLater)


async def test_a_verb_returns_only_after_its_commit(writer: Writer, url: URL) -> None:
    await make_table(writer)
    for number in range(5):
        await writer.do(partial(set_version, number=number))
        assert numbers(url)[-1] == number


async def test_a_cancelled_waiter_does_not_lose_the_commit(writer: Writer, url: URL) -> None:
    await make_table(writer)
    async with busy(writer):
        cancelled = asyncio.ensure_future(writer.do(lambda tx: set_version(tx, 1)))
        other = asyncio.ensure_future(writer.do(lambda tx: set_version(tx, 2)))
        await queue_up()
        cancelled.cancel()
        await asyncio.wait([cancelled])
    assert await other == 2
    assert cancelled.cancelled()
    assert numbers(url) == [1, 2]


async def test_a_cancelled_waiter_of_a_failing_verb_disturbs_nobody(writer: Writer, url: URL) -> None:
    await make_table(writer)
    async with busy(writer):
        cancelled = asyncio.ensure_future(writer.do(lambda tx: 1 // 0))
        other = asyncio.ensure_future(writer.do(lambda tx: set_version(tx, 2)))
        await queue_up()
        cancelled.cancel()
    assert await other == 2
    assert numbers(url) == [2]


async def test_stop_finishes_the_queue_and_then_takes_nothing(engine: Engine, url: URL) -> None:
    writer = Writer(engine, SetClock())
    await make_table(writer)
    async with busy(writer):
        waiting = [asyncio.ensure_future(writer.do(partial(set_version, number=n))) for n in range(700)]
        await queue_up(*waiting)
        stopping = asyncio.ensure_future(writer.stop())
        await queue_up(stopping)
    await stopping
    assert await asyncio.gather(*waiting) == list(range(700))
    assert len(numbers(url)) == 700
    with pytest.raises(TryLater, match="closed"):
        await writer.do(lambda tx: set_version(tx, 1_000))
    await writer.stop()


async def test_a_full_disk_is_told_to_every_waiter_and_passes(writer: Writer, url: URL) -> None:
    await make_table(writer)
    await writer.do(lambda tx: set_version(tx, 0))

    async def limit(pages: str) -> None:
        """The database may not grow: exactly what SQLite sees when the disk is full."""
        await writer.do(lambda tx: tx.conn.exec_driver_sql(f"PRAGMA max_page_count = {pages}").close())

    def grow(tx: Tx, number: int) -> int:
        tx.conn.execute(text("CREATE TABLE IF NOT EXISTS big (bytes BLOB)"))
        tx.conn.execute(text("INSERT INTO big VALUES (zeroblob(100000))"))
        return set_version(tx, number)

    await limit("1")  # SQLite takes it as: no page more than there are
    for _ in range(2):
        async with busy(writer):
            waiting = [asyncio.ensure_future(writer.do(partial(grow, number=n))) for n in range(1, 6)]
            await queue_up(*waiting)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results] == [TryLater] * 5
        assert "full" in str(results[0])
        assert numbers(url) == [0], "what was acknowledged is there, nothing else"
    await limit(str(2**30))
    assert await writer.do(lambda tx: grow(tx, 7)) == 7
    assert numbers(url) == [0, 7]


@pytest.mark.parametrize("message", ["", "\n"])
async def test_writer_survives_a_database_error_without_text(writer: Writer, message: str) -> None:
    """A driver may give no reason; the thread that all stages wait for must not end by that."""

    def fail(_tx: Tx) -> None:
        raise OperationalError("INSERT", {}, sqlite3.OperationalError(message))

    async with asyncio.timeout(10):
        with pytest.raises(TryLater, match="OperationalError"):
            await writer.do(fail)
        assert await writer.do(lambda _tx: 7) == 7


async def test_a_ledger_locked_by_somebody_else_is_tried_later(url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    from watcher.ledger import engine as engine_file

    monkeypatch.setattr(engine_file, "_BUSY_TIMEOUT_S", 0.05)
    short = open_engine(url)
    writer = Writer(short, SetClock())
    assert url.database is not None
    other = sqlite3.connect(url.database, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TryLater, match="locked"):
            await writer.do(lambda tx: None)
        other.execute("ROLLBACK")
        await writer.do(lambda tx: None)
    finally:
        other.close()
        await writer.stop()
        short.dispose()


async def test_stages_are_woken_once_per_commit_with_the_states_entered(url: URL) -> None:
    woken: list[Tx] = []
    async with open_ledger(url, SetClock(), CHAIN_ID, MANAGER, 100, on_commit=woken.append) as ledger:
        assert woken == [], "nothing moved yet"
        await ledger.write(ingest.record, ledger.source_id, [make_task(0), make_task(1)], [], header(110), 110)
        (tx,) = woken
        assert (tx.entered, tx.due, tx.cursor_moved) == ({State.SEEN}, {State.SEEN}, False)
        await ledger.write(note_event, ledger.source_id, "odd log", 1, "words")
        assert len(woken) == 1


async def test_readers_do_not_wait_for_a_writer(url: URL) -> None:
    async with open_ledger(url, SetClock(), CHAIN_ID, MANAGER, 100) as ledger:
        await ledger.write(ingest.record, ledger.source_id, [make_task(0)], [], header(110), 110)
        gate, inside = threading.Event(), threading.Event()

        def slow(tx: Tx) -> None:
            ingest.record(tx, ledger.source_id, [make_task(1)], [], header(111), 111)
            inside.set()
            assert gate.wait(10)

        writing = asyncio.ensure_future(ledger.write(slow))
        try:
            assert await asyncio.to_thread(inside.wait, 10)
            answers = await asyncio.gather(*[ledger.read(queries.counts, ledger.source_id) for _ in range(20)])
            assert {work.open_tasks for work in answers} == {1}, "they see the last commit"
        finally:
            gate.set()
        await writing
        assert (await ledger.read(queries.counts, ledger.source_id)).open_tasks == 2


class SetEach:
    """A batched verb that inserts numbers, and refuses negative ones. It remembers the sizes of its executions."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, tx: Tx, items: Sequence[int]) -> list[int | LostLease]:
        self.sizes.append(len(items))
        return [set_version(tx, item) if item >= 0 else LostLease(str(item)) for item in items]


async def test_items_that_wait_share_one_execution_and_each_gets_its_result(writer: Writer, url: URL) -> None:
    await make_table(writer)
    verb = SetEach()
    async with busy(writer):
        waiting = [asyncio.ensure_future(writer.do_item(verb, number)) for number in range(100)]
        await queue_up(*waiting)
    assert await asyncio.gather(*waiting) == list(range(100))
    assert verb.sizes == [100]
    assert numbers(url) == list(range(100))


async def test_item_that_waits_alone_is_a_batch_of_one(writer: Writer, url: URL) -> None:
    await make_table(writer)
    verb = SetEach()
    assert [await writer.do_item(verb, number) for number in (1, 2)] == [1, 2]
    assert verb.sizes == [1, 1]
    assert numbers(url) == [1, 2]


async def test_failed_item_spoils_no_other(writer: Writer, engine: Engine, url: URL) -> None:
    await make_table(writer)
    verb = SetEach()
    with counted(engine, "commit") as commits:
        async with busy(writer):
            waiting = [asyncio.ensure_future(writer.do_item(verb, number)) for number in (0, -1, 2)]
            await queue_up(*waiting)
        first, second, third = await asyncio.gather(*waiting, return_exceptions=True)
    assert (first, third) == (0, 2)
    assert isinstance(second, LostLease)
    assert len(commits) == 2, "one in front, one for the items"
    assert numbers(url) == [0, 2]


async def test_batched_verb_that_raises_fails_only_the_item_it_raises_for(writer: Writer, url: URL) -> None:
    await make_table(writer)
    verb = SetEach()
    async with busy(writer):
        waiting = [asyncio.ensure_future(writer.do_item(verb, number)) for number in (7, 7, 8)]
        await queue_up(*waiting)
    first, second, third = await asyncio.gather(*waiting, return_exceptions=True)
    assert (first, third) == (7, 8)
    assert isinstance(second, TryLater), "the database refuses the number a second time"
    assert verb.sizes == [3, 1, 1, 1]
    assert numbers(url) == [7, 8]


async def test_batched_verb_that_loses_a_result_commits_nothing(writer: Writer, url: URL) -> None:
    await make_table(writer)

    def lose_last(tx: Tx, items: Sequence[int]) -> list[int]:
        return [set_version(tx, item) for item in items][:-1]

    with pytest.raises(ValueError, match="zip"):
        await writer.do_item(lose_last, 1)
    assert numbers(url) == []


async def test_different_verbs_of_a_batch_run_in_the_order_of_their_first_call(writer: Writer) -> None:
    await make_table(writer)
    order: list[str] = []

    def plain(tx: Tx) -> None:
        order.append("plain")

    def batched(name: str, tx: Tx, items: Sequence[int]) -> Sequence[int]:
        order.append(f"{name} {list(items)}")
        return items

    first, second = partial(batched, "first"), partial(batched, "second")
    async with busy(writer):
        jobs = (writer.do_item(first, 1), writer.do(plain), writer.do_item(second, 2), writer.do_item(first, 3))
        waiting = [asyncio.ensure_future(job) for job in jobs]
        await queue_up(*waiting)
    await asyncio.gather(*waiting)
    assert order == ["first [1, 3]", "plain", "second [2]"]


async def test_database_error_goes_to_all_items(writer: Writer) -> None:
    def fail(tx: Tx, items: Sequence[int]) -> Sequence[int]:
        raise OperationalError("x", {}, sqlite3.OperationalError("disk full"))

    async with busy(writer):
        waiting = [asyncio.ensure_future(writer.do_item(fail, number)) for number in range(3)]
        await queue_up(*waiting)
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [TryLater] * 3


async def test_closed_ledger_takes_no_item(engine: Engine) -> None:
    writer = Writer(engine, SetClock())
    await writer.stop()
    with pytest.raises(TryLater, match="closed"):
        await writer.do_item(SetEach(), 1)
