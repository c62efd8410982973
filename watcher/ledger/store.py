"""The open ledger, seen from the event loop: `do` a verb and have it committed, `ask` a question.

Invariant: a stage holds no connection and no query. The verbs are the functions of `intake`, `work`, `answers` and
`outcome`, the questions those of `reading` and the `to_...` functions; all take their transaction or connection first.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection, case, update
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from watcher.clock import Clock, SystemClock
from watcher.errors import TryLater
from watcher.ledger.engine import database_reason, open_engine, parse_url
from watcher.ledger.high_water import MarkFile
from watcher.ledger.lock import guard_of
from watcher.ledger.source import note_event, open_source
from watcher.ledger.tables import OPEN, tasks
from watcher.ledger.writer import Observe, Tx, Writer
from watcher.task import Header


def follow(tx: Tx, source_id: int, back_ms: int) -> None:
    """The clock was set back by so much just now: what is still to come moves along with it."""
    for column in (tasks.c.due_at_ms, tasks.c.lease_until_ms):
        to_come = (tasks.c.source_id == source_id, OPEN, column > tx.now_ms)
        tx.conn.execute(update(tasks).where(*to_come).values({column: column - back_ms}))
    # The time since a reading is measured, so these move wherever they are.
    kept = (tasks.c.source_id == source_id, OPEN, tasks.c.absent_at_ms.is_not(None))
    tx.conn.execute(update(tasks).where(*kept).values(absent_at_ms=tasks.c.absent_at_ms - back_ms))
    # Times in the journal go backwards here, and somebody may want to know why.
    note_event(tx, source_id, "clock set back", None, f"the clock was set back by {back_ms / 1000:.0f} s")


def at_start(tx: Tx, source_id: int) -> int:
    """Begin the pauses anew that were written by a clock ahead of this one. Returns how many there were.

    By how much it was set back while nobody looked is not known; that no pause is longer than it was meant to be is.
    """
    # A reading of zero puts a task off and is no update.
    absent_later = tasks.c.absent_at_ms > tasks.c.updated_at_ms
    put_off_ms = case((absent_later, tasks.c.absent_at_ms), else_=tasks.c.updated_at_ms)
    ahead = (tasks.c.source_id == source_id, OPEN, tasks.c.due_at_ms > tx.now_ms, put_off_ms > tx.now_ms)
    pause = tasks.c.due_at_ms - put_off_ms
    return tx.conn.execute(update(tasks).where(*ahead).values(due_at_ms=pause + tx.now_ms)).rowcount


P = ParamSpec("P")
T = TypeVar("T")


class Read(Protocol):
    """Answers questions of `reading` from the last commit."""

    async def __call__(self, question: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Raises TryLater when the database cannot be read."""


class Reader:
    """The ledger for those who only read."""

    def __init__(self, url: URL) -> None:
        self._engine = open_engine(url, read_only=True)

    async def read(self, question: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Answer a question from the last commit. Raises TryLater when the database cannot be read."""
        return await asyncio.to_thread(lambda: self.read_now(question, *args, **kwargs))

    def read_now(self, question: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same, for a command that has no event loop."""
        try:
            with self._engine.connect() as conn:
                return question(conn, *args, **kwargs)
        except SQLAlchemyError as error:
            raise TryLater(f"the ledger could not be read ({database_reason(error)})") from None

    def stream(
        self, question: Callable[Concatenate[Connection, P], Iterator[T]], *args: P.args, **kwargs: P.kwargs
    ) -> Iterator[T]:
        """The same for an answer of any length, row by row."""
        with self._engine.connect() as conn:
            yield from question(conn, *args, **kwargs)

    def close(self) -> None:
        self._engine.dispose()


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
        self.source_id = source_id

    def hold_to(self, block: int) -> None:
        """Answer tasks up to `block` with what the ledger holds, or not at all; -1 holds nothing back."""
        self.held_to_block = block

    async def write(self, verb: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a verb and return after its commit.

        Raises what the verb raises (LostLease, IllegalMove), TryLater when the database cannot be written.
        """
        return await self._writer.do(lambda tx: verb(tx, *args, **kwargs))


def write_once(url: str, verb: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run one verb from a command, beside a daemon that may run. Raises TryLater when the ledger stays locked."""
    engine = open_engine(parse_url(url))
    try:
        with engine.begin() as conn:
            return verb(Tx(conn, SystemClock().now_ms()), *args, **kwargs)
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
) -> AsyncIterator[Ledger]:
    """Open an upgraded ledger for one task manager, with its writer thread; close it after the last commit.

    `mark` is raised with each attempt. `head` is the chain's, for a ledger that is begun now.
    """
    engine, reader = open_engine(url), Reader(url)
    writer = Writer(engine, clock, on_commit, observe)
    try:
        cursor = await writer.do(lambda tx: open_source(tx, chain_id, task_manager, start_block, genesis_hash, head))
        guard = guard_of(url)
        writer.guard = guard
        if mark is not None:
            writer.on_durable = mark.follow
        writer.on_setback = lambda tx, back_ms: follow(tx, cursor.source_id, back_ms)
        await writer.do(lambda tx: at_start(tx, cursor.source_id))
        yield Ledger(writer, reader, cursor.source_id, guard)
    finally:
        await writer.stop()
        # The last connection to go empties the write-ahead log into the file, and one that only reads cannot.
        reader.close()
        engine.dispose()
