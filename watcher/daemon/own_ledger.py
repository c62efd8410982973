"""The ledger as the daemon takes it into use: locked, whole, upgraded, compared with its mark, watched while open.

Invariant: a ledger that knows less than it once did is noticed before anything is sent from it, and the hold it leads
to is in the ledger before the mark forgets the loss.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from random import Random

from loguru import logger
from sqlalchemy.engine import URL

from watcher.clock import Clock
from watcher.errors import FixConfiguration, TryLater
from watcher.ledger import restore, schema
from watcher.ledger.engine import integrity, sqlite_path
from watcher.ledger.high_water import MarkFile
from watcher.ledger.lock import open_mark, sole_writer
from watcher.ledger.queries import Beginning
from watcher.ledger.restore import Loss
from watcher.ledger.store import Ledger, open_ledger
from watcher.ledger.writer import Observe, Tx
from watcher.settings.model import Settings
from watcher.task import Header

_LOOK_EVERY_S = 5.0
_SYNC_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class OwnLedger:
    """A ledger held by this process. `mark` is None for PostgreSQL, `loss` where nothing is known to be missing."""

    url: URL
    mark: MarkFile | None
    loss: Loss | None


@contextmanager
def own_ledger(url: URL) -> Iterator[OwnLedger]:
    """Hold the ledger, upgraded, inside this block. Raises FixConfiguration, TryLater."""
    path = sqlite_path(url)
    with sole_writer(url):
        if (damage := integrity(url, quick=True)) is not None:
            raise FixConfiguration(f"ledger.url: the ledger is damaged ({damage}); restore a copy of it")
        loss = None if path is None else restore.loss_of(path)
        before = schema.upgrade(url)
        if not before.is_current and before.current is not None:
            logger.info("the ledger was upgraded from schema {} to {}", before.current, before.wanted)
        with open_mark(url) as mark:
            yield OwnLedger(url, mark, loss)


@asynccontextmanager
async def open_own(
    own: OwnLedger,
    settings: Settings,
    clock: Clock,
    begun: Beginning | None,
    head: Header,
    genesis: bytes | None,
    on_commit: Callable[[Tx], None],
    observe: Observe,
) -> AsyncIterator[Ledger]:
    """Open the ledger for the task manager of the settings; `begun` is how it was begun, None when it is now.

    start_block = "latest" means the block it was begun at, or `head`.
    """
    wanted = settings.task_manager
    latest = begun.start_block if begun else head.number
    start_block = latest if wanted.start_block == "latest" else wanted.start_block
    async with open_ledger(
        own.url,
        clock,
        settings.chain.chain_id,
        wanted.address_bytes,
        start_block,
        genesis,
        on_commit,
        observe,
        own.mark,
        head,
    ) as ledger:
        yield ledger


async def hold_back(own: OwnLedger, ledger: Ledger, head_block: int, random: Random, *, release: bool) -> None:
    """Write into the ledger what it must hold back, or with `release` that it need not. Raises TryLater."""
    if own.loss is not None:
        block = await ledger.write(restore.note_loss, ledger.source_id, own.loss, head_block)
        logger.error(
            "{}: tasks up to block {} that it has no answer for are held back until their deadlines; "
            "docs/service.md says what to do (Restoring a backup)",
            own.loss.words,
            block,
        )
    path = sqlite_path(own.url)
    if path is not None and own.mark is not None:
        number = random.randint(1, restore.GENERATION_LIMIT)
        await asyncio.to_thread(restore.start_generation, path, own.mark, own.loss, number, head_block)
    if release and await ledger.read(restore.held_to, ledger.source_id) >= 0:
        await ledger.write(restore.release, ledger.source_id)
        logger.warning("--release-held: tasks that a restored ledger held back are answered")
    ledger.held_to_block = await ledger.read(restore.held_to, ledger.source_id)


async def watch_file(own: OwnLedger, ledger: Ledger, stopping: asyncio.Event, clock: Clock) -> None:
    """Return when `stopping` is set. Raises TryLater once another file, or none, is at the ledger's path."""
    synced_s = clock.monotonic_s()
    while not stopping.is_set():
        ledger.check_file()
        if own.mark is not None and clock.monotonic_s() - synced_s >= _SYNC_EVERY_S:
            synced_s = clock.monotonic_s()
            await _sync(own.mark)
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
