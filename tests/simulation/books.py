"""The real ledger code on a SQLite database in memory, written in step with the loop instead of by a thread.

A crash is: nobody is there any more, and the database is as of the last commit. Invariant: between two awaits a verb is
committed or it is not, and only afterwards does chance decide whether whoever asked still hears of it.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import StaticPool

from watcher.errors import LostLease, TryLater
from watcher.ledger import queries
from watcher.ledger.audit.check import Checker
from watcher.ledger.cursor import Cursor
from watcher.ledger.ended import miscounted
from watcher.ledger.reader import Reader
from watcher.ledger.store import Ledger, complete
from watcher.ledger.tables import metadata
from watcher.ledger.transaction import Tx
from watcher.ledger.writer import Writer
from watcher.state import State

if TYPE_CHECKING:
    from tests.simulation.world import World

P = ParamSpec("P")
T = TypeVar("T")

_ENDED_FOR_GOOD = "('final', 'final_other')"
# What no code of the daemon may do, noted by the database itself.
_TRIGGERS = f"""
CREATE TABLE wrongs (words TEXT);
CREATE TRIGGER answer_changed AFTER UPDATE OF response ON tasks
  WHEN OLD.response IS NOT NULL AND NEW.response IS NOT OLD.response
  BEGIN INSERT INTO wrongs VALUES ('the answer of task ' || OLD.task_index || ' was changed'); END;
CREATE TRIGGER ended_changed AFTER UPDATE OF state ON tasks
  WHEN OLD.state IN {_ENDED_FOR_GOOD} AND NEW.state IS NOT OLD.state
  BEGIN INSERT INTO wrongs VALUES ('task ' || OLD.task_index || ' left ' || OLD.state); END;
CREATE TRIGGER fence_lowered AFTER UPDATE OF fence ON tasks WHEN NEW.fence < OLD.fence
  BEGIN INSERT INTO wrongs VALUES ('the fence of task ' || OLD.task_index || ' fell'); END;
"""


class Database:
    """One database per process, emptied for each scenario: making one takes longer than a scenario."""

    def __init__(self) -> None:
        self.raw = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        shared: dict[str, Any] = {"creator": lambda: self.raw, "poolclass": StaticPool, "hide_parameters": False}
        writing = create_engine("sqlite://", **shared)
        event.listen(writing, "begin", lambda _: self.raw.execute("BEGIN IMMEDIATE"))
        self.to_write: Connection = writing.connect()
        self.to_read: Connection = create_engine("sqlite://", **shared, isolation_level="AUTOCOMMIT").connect()
        metadata.create_all(self.to_write)
        self.to_write.commit()
        self.raw.executescript(_TRIGGERS)
        self._tables = [table.name for table in reversed(metadata.sorted_tables)] + ["wrongs", "sqlite_sequence"]

    def empty(self) -> None:
        for name in self._tables:
            self.raw.execute(f"DELETE FROM {name}")

    def wrongs(self) -> list[str]:
        wrongs = [row[0] for row in self.raw.execute("SELECT words FROM wrongs")]
        return wrongs + miscounted(self.to_read) + self._unbound()

    def _unbound(self) -> list[str]:
        """What the audit chain does not have, once a daemon has begun the ledger."""
        if not self.raw.execute("SELECT 1 FROM sources").fetchone():
            return []
        return [problem.message for problem in Checker(self.to_read, 1).run().problems]


class StepWriter:
    """Plays `Writer` for one life of the daemon."""

    def __init__(self, world: "World", on_commit: Callable[[Tx], None]) -> None:
        self._world = world
        self._life = world.life
        self._on_commit = on_commit
        self.chain_moves = 0
        self.mark_moves = 0
        self.work_made = 0
        self.work_elsewhere = 0
        self.replica_id = None
        self._follow_ups: dict[asyncio.Future[Any], tuple[frozenset[State], Callable[[Tx], Any]]] = {}
        self._waiting: dict[Any, list[list[Any]]] = {}  # per batched verb: [item], then [item, result]

    async def do_item(
        self, verb: Callable[[Tx, Sequence[Any]], Sequence[Any]], item: Any, *, deferred: bool = False
    ) -> Any:
        """The first call that runs takes the items of all that wait; each of them still has a failure of its own."""
        call = [item]
        self._waiting.setdefault(verb, []).append(call)
        try:
            await self.do(lambda tx: self._execute(tx, verb), deferred=deferred)
        finally:
            self._waiting[verb] = [waiting for waiting in self._waiting[verb] if waiting is not call]
        result = call[1]
        if isinstance(result, LostLease):
            raise result
        return result

    async def do_items(self, verb: Callable[[Tx, Sequence[Any]], Sequence[Any]], items: Sequence[Any]) -> list[Any]:
        return await asyncio.gather(*(self.do_item(verb, item) for item in items), return_exceptions=True)

    def _execute(self, tx: Tx, verb: Callable[[Tx, Sequence[Any]], Sequence[Any]]) -> None:
        calls, self._waiting[verb] = self._waiting[verb], []
        for call, result in zip(calls, verb(tx, [call[0] for call in calls]) if calls else [], strict=True):
            call.append(result)

    def follow_up(self, states: Iterable[State], verb: Callable[[Tx], Any]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._follow_ups[future] = frozenset(states), verb
        return future

    def withdraw(self, future: asyncio.Future[Any]) -> bool:
        return self._follow_ups.pop(future, None) is not None

    async def do(self, verb: Callable[[Tx], T], *, deferred: bool = False) -> T:
        """Run and commit at once. A power cut that takes deferred commits back is a crash some commits earlier."""
        world = self._world
        await world.pause()
        world.alive(self._life)
        if world.happens("ledger"):
            raise TryLater("the ledger could not be written (before)")
        conn = world.database.to_write
        with conn.begin():
            tx = Tx(conn, world.clock.now_ms())
            result = verb(tx)
            follows = [
                (future, claim(tx))
                for future, (states, claim) in list(self._follow_ups.items())
                if states & tx.entered and self.withdraw(future)
            ]
            complete(tx)
        self.chain_moves += tx.blocks_read or tx.cursor_moved
        self.mark_moves += tx.blocks_read or tx.cursor_moved or tx.final_moved
        self.work_made += bool(tx.entered or tx.due or tx.cursor_moved)
        for future, claimed in follows:
            future.set_result((claimed, self.work_made))
        world.committed(bool(tx.entered))
        if tx.entered or tx.due or tx.cursor_moved:
            asyncio.get_running_loop().call_soon(self._on_commit, tx)
        if world.happens("ledger"):
            raise TryLater("the ledger could not be written (and yet it was)")
        await world.pause()
        return result


class StepReader:
    """Plays `Reader`. What a stage was told of the head is remembered: its readings of the chain are held to it."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._life = world.life

    async def read(self, question: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        await self._world.pause()
        self._world.alive(self._life)
        return question(self._world.database.to_read, *args, **kwargs)


class StepLedger(Ledger):
    """The real ledger, which notes what each stage was told of the head. It remembers what the database holds."""

    def __init__(self, world: "World", writer: StepWriter, source_id: int) -> None:
        super().__init__(cast("Writer", writer), cast("Reader", StepReader(world)), source_id)
        self._world = world

    async def cursor(self) -> Cursor:
        cursor = await super().cursor()
        stored = queries.cursor(self._world.database.to_read, self.source_id)
        assert cursor == stored, f"a stage was told {cursor}, and the ledger holds {stored}"
        self._world.told_head[_whoever()] = cursor.head_block
        return cursor


def _whoever() -> str:
    piece = asyncio.current_task()
    return piece.get_name() if piece else ""


def open_ledger(world: "World", source_id: int, on_commit: Callable[[Tx], None]) -> Ledger:
    return StepLedger(world, StepWriter(world, on_commit), source_id)
