"""The daemon's own ledger: locked, checked, upgraded, compared with its mark, watched while open.

Invariant: a ledger that knows less than it once did is noticed before anything is sent from it, and the hold it leads
to is in the ledger before the mark forgets the loss.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from loguru import logger
from sqlalchemy.engine import URL

from watcher.clock import Clock
from watcher.daemon.startup import ChainStart
from watcher.errors import FixConfiguration, TryLater
from watcher.ledger import clean_stop, known_sources, move, restore, schema
from watcher.ledger.engine import integrity, sqlite_path
from watcher.ledger.file_check import BackgroundCheck, damage_of_small_tables
from watcher.ledger.high_water import MarkFile
from watcher.ledger.known_sources import Beginning
from watcher.ledger.lock import open_mark, sole_writer
from watcher.ledger.lost_commits import entry_file_of
from watcher.ledger.reader import Reader
from watcher.ledger.restore import Loss
from watcher.ledger.store import Ledger, open_ledger
from watcher.ledger.transaction import Tx
from watcher.ledger.writer import Observe
from watcher.settings.model import TaskManager

_LOOK_EVERY_S = 5.0
_SYNC_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class OwnLedger:
    """A ledger locked by this process. `mark` is None for PostgreSQL, `loss` if nothing is known to be missing.

    `file_check` is the part of the check of its pages that is left for the background.
    """

    url: URL
    mark: MarkFile | None
    loss: Loss | None
    file_check: BackgroundCheck


@contextmanager
def own_ledger(url: URL) -> Iterator[OwnLedger]:
    """Hold the ledger's lock inside this block, with its schema upgraded.

    The whole file is checked, or, if nothing has changed since a clean stop, its small tables, and the rest later.

    Raises:
        FixConfiguration: the ledger is missing, damaged, of a newer program, or was left for another one.
        TryLater: another daemon holds it, or it cannot be read.
    """
    path = sqlite_path(url)
    with sole_writer(url):
        is_clean = path is not None and _was_clean(path)
        damage = damage_of_small_tables(path) if path is not None and is_clean else integrity(url, quick=True)
        if damage is not None:
            raise FixConfiguration(f"ledger.url: the ledger is damaged ({damage}); restore a copy of it")
        loss = move.loss_of_reopened(url) or (None if path is None else restore.loss_of(path))
        before = schema.upgrade(url)
        if before.is_newer:
            logger.info(
                "ledger.newer: the schema is ahead of this program, and allows it",
                ledger=before.current,
                own=before.expected,
            )
        elif not before.is_current and before.current is not None:
            logger.info("ledger.upgraded: the schema was upgraded", before=before.current, now=before.expected)
        file_check = BackgroundCheck(path if is_clean else None)
        with open_mark(url) as mark:
            yield OwnLedger(url, mark, loss, file_check)
        # Not after an error: it may have been one of the file.
        if path is not None and file_check.damage is None:
            with contextlib.suppress(OSError):  # the next start checks the whole file
                clean_stop.leave(path)


def _was_clean(path: Path) -> bool:
    """Take the mark of the last stop. Raises FixConfiguration if it cannot be removed."""
    try:
        return clean_stop.take(path)
    except OSError as error:
        raise FixConfiguration(
            f"ledger.url: {clean_stop.mark_of(path)} cannot be removed ({error.strerror}); give this user the right"
        ) from None


def begun_at(url: URL, chain_id: int, section: TaskManager) -> Beginning | None:
    """Return the beginning of a contract's ledger, None if it holds nothing of this contract.

    Raises FixConfiguration if task_manager.start_block names another block.
    """
    with closing(Reader(url)) as reader:
        begun = reader.read_now(known_sources.beginning, chain_id, section.address_bytes)
    if begun is not None and (problem := begun.mismatch(section.start_block)) is not None:
        raise FixConfiguration(problem)
    return begun


@asynccontextmanager
async def open_own(
    own: OwnLedger,
    clock: Clock,
    chain_id: int,
    section: TaskManager,
    begun: Beginning | None,
    start: ChainStart,
    on_commit: Callable[[Tx], None],
    observe: Observe,
    on_damage: Callable[[str], None],
) -> AsyncIterator[Ledger]:
    """Open the ledger of a task manager inside this block, and check the rest of its file.

    Args:
        own: the ledger, locked.
        clock: the time of leases and due times.
        chain_id: the chain.
        section: the section [task_manager]; start_block = "latest" means the block of `begun`, or the head.
        begun: the ledger's beginning, None for a new one.
        start: head and block 0 of the chain.
        on_commit: called with each committed transaction.
        observe: called with each batch of the writer.
        on_damage: called with damage that the check of the file has found.
    """
    latest = begun.start_block if begun else start.head.number
    start_block = latest if section.start_block == "latest" else section.start_block
    async with open_ledger(
        own.url,
        clock,
        chain_id,
        section.address_bytes,
        start_block,
        start.genesis,
        on_commit,
        observe,
        own.mark,
        start.head,
        _entry_file(own.url, chain_id, section.address_bytes),
    ) as ledger:
        checking = asyncio.create_task(own.file_check.run(on_damage), name="file check")
        try:
            yield ledger
        finally:
            checking.cancel()
            await asyncio.gather(checking, return_exceptions=True)


def _entry_file(url: URL, chain_id: int, task_manager: bytes) -> Path | None:
    """Return where the newest entry of a ledger on PostgreSQL is remembered: $STATE_DIRECTORY, else the folder."""
    if sqlite_path(url) is not None:
        return None
    folder = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    return entry_file_of(url, Path(folder or "."), chain_id, task_manager)


async def hold_back(own: OwnLedger, ledger: Ledger, head_block: int, random: Random, *, release: bool) -> None:
    """Write into the ledger the tasks it must hold back, or with `release` that it holds back none.

    Args:
        own: the ledger, with what is known to be missing.
        ledger: the same, open.
        head_block: the head of the chain; tasks up to it may have been answered.
        random: gives the number of the ledger's new line.
        release: a person says that the lost ledger answered none of the tasks.

    Raises:
        TryLater: the ledger or its mark cannot be written.
    """
    if own.loss is not None:
        block = await ledger.write(restore.note_loss, ledger.source_id, own.loss, head_block)
        logger.error(
            "ledger.restored: the ledger is an older copy, and tasks without an answer are held back until their "
            "deadlines; see Restoring a backup in docs/service.md",
            reason=own.loss.reason,
            up_to_block=block,
        )
    path = sqlite_path(own.url)
    if path is not None and own.mark is not None:
        number = random.randint(1, restore.GENERATION_LIMIT)
        await asyncio.to_thread(restore.start_generation, path, own.mark, own.loss, number, head_block)
    if own.loss is not None:
        await asyncio.to_thread(move.forget_reopened, own.url)
    if release and await ledger.read(restore.held_to, ledger.source_id) >= 0:
        await ledger.write(restore.release, ledger.source_id)
        logger.warning("ledger.released: tasks that the restored ledger held back are answered (--release-held)")
    ledger.hold_to(await ledger.read(restore.held_to, ledger.source_id))


async def watch_file(own: OwnLedger, ledger: Ledger, stopping: asyncio.Event, clock: Clock) -> None:
    """Return when `stopping` is set. Raises TryLater once another file, or none, is at the ledger's path.

    On PostgreSQL follow what other daemons hold back, or release.
    """
    synced_s = clock.monotonic_s()
    while not stopping.is_set():
        ledger.check_file()
        if own.mark is not None and clock.monotonic_s() - synced_s >= _SYNC_EVERY_S:
            synced_s = clock.monotonic_s()
            await _sync(own.mark)
        if own.mark is None:  # another daemon may have noticed that commits were lost
            with contextlib.suppress(TryLater):
                ledger.hold_to(await ledger.read(restore.held_to, ledger.source_id))
        try:
            async with asyncio.timeout(_LOOK_EVERY_S):
                await stopping.wait()
        except TimeoutError:
            continue


async def _sync(mark: MarkFile) -> None:
    try:
        await asyncio.to_thread(mark.sync)
    except OSError as error:
        raise TryLater(f"the mark beside the ledger cannot be written: {error.strerror}") from None
