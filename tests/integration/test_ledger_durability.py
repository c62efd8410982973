"""Deferred commits: no sync of their own, and on the disk with the next durable commit or within a second."""

import asyncio
import errno
import os
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from tests.conformance.rig import CHAIN_ID, MANAGER, header, make_task
from tests.kit.clocks import SetClock
from watcher.ledger import ingest, queries, schema
from watcher.ledger.store import Ledger, open_ledger
from watcher.ledger.transaction import Tx
from watcher.ledger.writer import SYNC_WITHIN_S, Batch

FULL, NORMAL = 2, 1


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "watcher.db"
    schema.upgrade(URL.create("sqlite", database=str(path)))
    return path


@pytest.fixture
async def ledger(file: Path) -> AsyncIterator[Ledger]:
    url = URL.create("sqlite", database=str(file))
    async with open_ledger(url, SetClock(), CHAIN_ID, MANAGER, 1) as opened:
        yield opened


def level(tx: Tx) -> int:
    """Return the setting `synchronous` of a transaction."""
    return int(tx.conn.exec_driver_sql("PRAGMA synchronous").scalar_one())


def another_level(tx: Tx) -> int:
    return level(tx)


async def test_only_deferred_verbs_commit_without_a_sync(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watcher.ledger.store.DEFERRED", frozenset({level}))
    assert await ledger.write(level) == NORMAL
    assert await ledger.write(another_level) == FULL
    assert await ledger.write(level) == NORMAL
    assert await asyncio.gather(*(ledger.write(verb) for verb in (level, another_level, level, level))) in (
        [NORMAL, FULL, FULL, FULL],  # the first may be taken before the others wait
        [FULL] * 4,
    )


async def test_deferred_commits_reach_the_disk_when_nothing_follows(ledger: Ledger, file: Path) -> None:
    task = make_task(0)
    await ledger.write(ingest.record, ledger.source_id, [task], [], header(200), 200)
    copy = file.with_name("copy.db")
    # The log is left out: what its sync has brought to the file counts.
    async with asyncio.timeout(SYNC_WITHIN_S * 20):
        while True:
            shutil.copyfile(file, copy)
            with closing(sqlite3.connect(f"file:{copy}?mode=ro&immutable=1", uri=True)) as connection:
                if connection.execute("SELECT count(*) FROM tasks").fetchone() == (1,):
                    break
            await asyncio.sleep(0.05)
    assert (await ledger.read(queries.cursor, ledger.source_id)).block == 200


async def test_sync_that_fails_while_idle_is_a_failure_of_the_ledger(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk refuses each sync of the log from outside a commit, until it is repaired."""
    is_broken, synced = threading.Event(), os.fdatasync
    is_broken.set()

    def fdatasync(handle: int) -> None:
        if is_broken.is_set() and Path(f"/proc/self/fd/{handle}").readlink().name.endswith("-wal"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        synced(handle)

    monkeypatch.setattr("watcher.ledger.wal.os.fdatasync", fdatasync)
    batches: asyncio.Queue[Batch] = asyncio.Queue()
    url = URL.create("sqlite", database=str(file))
    async with open_ledger(url, SetClock(), CHAIN_ID, MANAGER, 1, observe=batches.put_nowait) as ledger:
        await ledger.write(ingest.record, ledger.source_id, [make_task(0)], [], header(200), 200)
        async with asyncio.timeout(SYNC_WITHIN_S * 20):
            for _ in range(2):  # it is tried again
                while (failed := await batches.get()).condition is None:
                    pass
                assert failed.condition == "the ledger could not be written (its log: Input/output error)"
            is_broken.clear()
            while (works := await batches.get()).condition is not None:
                pass
        assert works.verbs == 0, "no commit was needed"
