"""The open ledger, as the event loop uses it: `write` runs a verb and commits, `read` answers a question.

Invariant: a stage holds no connection and no query. Verbs take a transaction (`Tx`) first, questions a connection; the
table of contents is in `watcher/ledger/__init__.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from loguru import logger
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from watcher.clock import Clock, SystemClock
from watcher.errors import TryLater, WatcherError
from watcher.ledger import queries
from watcher.ledger.audit.chain import bind
from watcher.ledger.cursor import Cursor
from watcher.ledger.durability import DEFERRED
from watcher.ledger.ended import keep_counts
from watcher.ledger.engine import database_reason, open_engine, parse_url
from watcher.ledger.high_water import MarkFile
from watcher.ledger.lock import guard_of
from watcher.ledger.lost_commits import EntryFile, LostCommits, read_clock
from watcher.ledger.move import refuse_moved
from watcher.ledger.pauses import restart_pauses, shift_pending
from watcher.ledger.reader import Read, Reader
from watcher.ledger.source import open_source
from watcher.ledger.transaction import Tx
from watcher.ledger.verb_call import BatchedVerb
from watcher.ledger.writer import Observe, Writer
from watcher.state import State
from watcher.task import Header

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")


class Ledger:
    """The ledger of one (chain, task manager), for the daemon."""

    def __init__(
        self, writer: Writer, reader: Reader, source_id: int, check_file: Callable[[], None] = lambda: None
    ) -> None:
        """`check_file` raises TryLater once the file of the ledger is not at its path any more; so does every verb."""
        self._writer = writer
        self.check_file = check_file
        # Tasks up to this block are answered with what the ledger holds, or not at all (see `restore`).
        self.held_to_block = -1
        self.read: Read = reader.read
        self.reader = reader
        self.source_id = source_id
        self._cursor: tuple[int, Cursor] | None = None  # behind so many moves of the marks
        writer.on_cursor = self._keep_cursor
        # Moves of the marks by others, as far as they are known here.
        self._moves_elsewhere = 0
        # True while this process alone moves the marks.
        self.moves_marks: Callable[[], bool] = lambda: True
        # True while every commit of others that makes work is announced here.
        self._is_told: Callable[[], bool] = lambda: True

    async def cursor(self) -> Cursor:
        """Return the cursor and the marks as of the last commit, read again once a commit has moved them.

        While another replica moves them, they are read each time. Raises TryLater if the database cannot be read.
        """
        version = self._mark_version
        if self._cursor is None or self._cursor[0] != version or not self.moves_marks():
            self._cursor = version, await self.read(queries.cursor, self.source_id)
        return self._cursor[1]

    @property
    def _mark_version(self) -> int:
        return self._writer.mark_moves + self._moves_elsewhere

    def _keep_cursor(self, cursor: Cursor) -> None:
        """Keep the cursor as the newest commit has left it: it need not be read."""
        self._cursor = self._mark_version, cursor

    @property
    def chain_moves(self) -> int:
        """Return how many commits have moved the cursor: a reading of the chain before the last one is of the past."""
        return self._writer.chain_moves + self._moves_elsewhere

    def moved_elsewhere(self) -> None:
        """Note that another replica has moved the marks."""
        self._moves_elsewhere += 1

    def work_elsewhere(self) -> None:
        """Note that another replica has made work for a stage."""
        self._writer.work_elsewhere += 1

    def join(
        self,
        replica_id: int,
        require_lead: Callable[[Tx], None],
        moves_marks: Callable[[], bool],
        is_told: Callable[[], bool] = lambda: False,
    ) -> None:
        """Write as one of several replicas.

        Args:
            replica_id: the replica, for the claims of tasks.
            require_lead: raises NotLeading in a transaction that only the leader may commit.
            moves_marks: returns True while this replica leads.
            is_told: returns True while `work_elsewhere` is called for each commit of others that makes work.
        """
        self._writer.replica_id = replica_id
        self._writer.before_commit = lambda tx: _complete_led(tx, require_lead)
        self.moves_marks = moves_marks
        self._is_told = is_told

    def hold_to(self, block: int) -> None:
        """Answer tasks up to `block` with what the ledger holds, or not at all; -1 holds nothing back."""
        self.held_to_block = block

    async def write(self, verb: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a verb and return its result after the commit.

        Raises:
            TryLater: the database cannot be written.
            WatcherError: the errors of the verb, such as LostLease.
        """
        return await self._writer.do(lambda tx: verb(tx, *args, **kwargs), deferred=verb in DEFERRED)

    @property
    def work_made(self) -> int | None:
        """Return how many commits have made work for a stage; None while those of other daemons are not announced."""
        return self._writer.work_made + self._writer.work_elsewhere if self._is_told() else None

    def follow_up(self, states: Iterable[State], verb: Callable[[Tx], T]) -> asyncio.Future[tuple[T, int]]:
        """Run a verb with the next commit in which a task enters one of `states`, as `Writer.follow_up` does."""
        return self._writer.follow_up(states, verb)

    def withdraw(self, future: asyncio.Future[T]) -> bool:
        """Take back what `follow_up` was given. Return False if a commit has it: then the future is awaited."""
        return self._writer.withdraw(future)

    async def write_item(self, verb: BatchedVerb[Item, T], item: Item) -> T:
        """Run a batched verb on this item, together with its other items that wait. Return the result of this item.

        Raises:
            TryLater: the database cannot be written.
            LostLease: this item has failed; the others have not.
        """
        return await self._writer.do_item(verb, item, deferred=verb in DEFERRED)

    async def write_items(self, verb: BatchedVerb[Item, T], items: Sequence[Item]) -> list[T | WatcherError]:
        """Run a batched verb on many items, as `write_item` does on one. Return the result or the error of each.

        In contrast to `write`, an item for which the verb raises spoils no other. Raises TryLater if the ledger is
        closed.
        """
        return await self._writer.do_items(verb, items)


def complete(tx: Tx) -> None:
    """Do what every transaction ends with: count the ends, and bind the changes. Both lock rows that all share."""
    keep_counts(tx)
    bind(tx)


def _complete_alone(tx: Tx, source_id: int) -> None:
    """Complete a transaction of the only daemon: the cursor is read where it costs no way to a server."""
    if tx.marks_moved:
        tx.cursor = queries.cursor(tx.conn, source_id)
    complete(tx)


def _complete_led(tx: Tx, require_lead: Callable[[Tx], None]) -> None:
    if tx.marks_moved:
        require_lead(tx)
    complete(tx)


def write_once(url: str, verb: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run one verb from a command, possibly beside a daemon.

    Raises:
        FixConfiguration: the ledger was left for another one.
        TryLater: the ledger stays locked.
    """
    engine = open_engine(parse_url(url))
    try:
        with engine.begin() as conn:
            refuse_moved(conn)
            tx = Tx(conn, SystemClock().now_ms())
            result = verb(tx, *args, **kwargs)
            complete(tx)
            return result
    except SQLAlchemyError as error:
        raise TryLater(f"the ledger could not be written ({database_reason(error)}); try again") from None
    finally:
        engine.dispose()


@asynccontextmanager
async def open_ledger(
    url: URL,
    clock: Clock,
    chain_id: int,
    task_manager: bytes,
    start_block: int,
    genesis_hash: bytes | None = None,
    on_commit: Callable[[Tx], None] | None = None,
    observe: Observe = lambda _batch: None,
    mark: MarkFile | None = None,
    head: Header | None = None,
    entry_file: Path | None = None,
) -> AsyncIterator[Ledger]:
    """Open an upgraded ledger for one task manager, with its writer thread; close it after the last commit.

    Args:
        url: the database.
        clock: times of records, due times and leases.
        chain_id: the chain of the task manager.
        task_manager: its address, 20 bytes.
        start_block: the first block to read, for a new ledger.
        genesis_hash: the hash of block 0, None if no node shows it.
        on_commit: called in the event loop after each commit that changed something.
        observe: called in the event loop after each commit, also a failed one.
        mark: the file beside a SQLite ledger that is raised with each attempt to send.
        head: the head of the chain, for a new ledger.
        entry_file: remembers the newest entry of the audit chain beside a ledger on PostgreSQL.

    Raises:
        FixConfiguration: the ledger belongs to another chain.
        TryLater: the database cannot be read or written.
    """
    engine, reader = open_engine(url), Reader(url)
    writer = Writer(engine, clock, on_commit, observe)
    writer.before_commit = complete
    stack = ExitStack()
    try:
        if url.get_backend_name() == "postgresql":
            await writer.do(lambda tx: read_clock(tx, clock))
        cursor = await writer.do(lambda tx: open_source(tx, chain_id, task_manager, start_block, genesis_hash, head))
        guard = guard_of(url)
        writer.guard = guard
        ledger = Ledger(writer, reader, cursor.source_id, guard)
        if url.get_backend_name() == "sqlite":
            writer.before_commit = lambda tx: _complete_alone(tx, cursor.source_id)
        else:
            lost = LostCommits(clock, cursor.source_id, ledger.hold_to, _opened(entry_file, stack))
            writer.before_verbs, writer.on_durable = lost.before_verbs, lost.follow
            with suppress(TryLater):  # a loss is noted in this transaction, and is no reason to stop
                await writer.do(lambda _tx: None)
        if mark is not None:
            writer.on_durable = mark.follow
        writer.on_clock_step = lambda tx, back_ms: shift_pending(tx, cursor.source_id, back_ms)
        await writer.do(lambda tx: restart_pauses(tx, cursor.source_id))
        yield ledger
    finally:
        await writer.stop()
        # The last connection to close moves the write-ahead log into the file, which a read-only one cannot do.
        reader.close()
        engine.dispose()
        stack.close()


def _opened(path: Path | None, stack: ExitStack) -> EntryFile | None:
    """Open the file beside a ledger on PostgreSQL, until `stack` is closed. None, and a warning, if that fails."""
    if path is None:
        return None
    try:
        file = EntryFile(path)
    except OSError as error:
        logger.warning(
            "ledger.not_remembered: the newest entry of the audit chain is remembered in this process alone, so that a "
            "database that is replaced while the daemon is stopped is not noticed",
            file=str(path),
            reason=error.strerror,
        )
        return None
    stack.callback(file.close)
    return file
