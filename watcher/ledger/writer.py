"""The thread that writes. Verbs that wait at the same moment share one commit, which makes FULL durability cheap.

A batched verb takes many items at once: the items of it that wait at the same moment share one execution, too.

Invariant: an awaited verb returns only after its commit; a verb that raises has changed nothing and spoils no other,
and an item that has failed spoils no other item.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from watcher.clock import Clock, ClockStep
from watcher.errors import TryLater, WatcherError
from watcher.ledger.engine import database_reason
from watcher.ledger.transaction import Tx
from watcher.ledger.verb_call import BatchedVerb, Call, Verb, execute, executions
from watcher.ledger.write_connection import WriteConnection
from watcher.state import State

if TYPE_CHECKING:
    from watcher.ledger.cursor import Cursor

T = TypeVar("T")
Item = TypeVar("Item")

# Prefix of the reason when the database takes no writes; health recognises it.
NOT_WRITTEN = "the ledger could not be written"
_BATCH_LIMIT = 512
# A deferred commit reaches the disk within so long, if no durable one takes it there before.
SYNC_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Batch:
    """One commit, or one that failed; `verbs` 0: a sync of deferred commits that failed, or works again.

    `condition` is None if it is durable, else why the database was not written.
    """

    verbs: int
    seconds: float
    condition: str | None


Observe = Callable[[Batch], None]


class Writer:
    """The owner of the write connection.

    In the thread, `guard` is called before each transaction (its error reaches each waiter), `before_verbs` as its
    first part (with a reason from it the transaction has no verb, and each waiter gets TryLater), `before_commit` as
    its last part, and `on_durable` after the commit, before any waiter returns. In the event loop, `on_commit` is
    called after each commit that changed something, `on_cursor` after each with a new `Tx.cursor`, `observe` after each
    commit, also a failed one. `on_clock_step` is a verb that runs before all others once the wall clock has stepped
    back, by so many milliseconds.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        on_commit: Callable[[Tx], None] | None = None,
        observe: Observe = lambda _batch: None,
    ) -> None:
        self._connection = WriteConnection(engine)
        self._clock = clock
        self._on_commit = on_commit
        self._observe = observe
        self._queue: queue.SimpleQueue[Call[Any] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        self._follow_ups: dict[asyncio.Future[Any], tuple[frozenset[State], Call[Any]]] = {}
        self._deferred = False  # the last commit is not on the disk yet
        self._unsynced = False  # the last try to bring it there has failed
        self.replica_id: int | None = None  # as in `Tx`
        self.chain_moves = 0  # commits that have moved the cursor, or taken a mark back
        self.work_made = 0  # commits that have made work for a stage
        self.work_elsewhere = 0  # the same, of others, as far as they were announced
        self.mark_moves = 0  # those, and the commits that have moved the final block
        self._clock_step = ClockStep(clock)
        self.on_clock_step: Callable[[Tx, int], None] = lambda _tx, _back_ms: None
        self.guard: Callable[[], None] = lambda: None
        self.before_verbs: Callable[[Tx], str | None] = lambda _tx: None
        self.before_commit: Callable[[Tx], None] = lambda _tx: None
        self.on_durable: Callable[[Tx], None] = lambda _tx: None
        self.on_cursor: Callable[[Cursor], None] = lambda _cursor: None
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    async def do(self, verb: Verb[T], *, deferred: bool = False) -> T:
        """Run `verb` and return its result after the commit; a `deferred` one may reach the disk up to a second later.

        A verb may run a second time after a rollback, so it must touch nothing but its transaction.

        Raises:
            TryLater: the database cannot be written, or the ledger is closed.
            WatcherError: the errors of the verb.
        """
        return await self._queued(Call(self._loop.create_future(), verb, deferred=deferred))

    async def do_item(self, verb: BatchedVerb[Item, T], item: Item, *, deferred: bool = False) -> T:
        """Run a batched verb on all of its items that wait, and return the result of this one after the commit.

        The verb runs at the place of the first of them, and may run again after a rollback. Raises as `do`.
        """
        return await self._queued(Call(self._loop.create_future(), batched=verb, item=item, deferred=deferred))

    async def do_items(self, verb: BatchedVerb[Item, T], items: Sequence[Item]) -> list[T | WatcherError]:
        """Run a batched verb on many items, as `do_item` does on one. Return the result or the error of each.

        Raises:
            TryLater: the ledger is closed.
        """
        if self._stopped:
            raise TryLater("the ledger is closed")
        calls: list[Call[T]] = [Call(self._loop.create_future(), batched=verb, item=item) for item in items]
        for call in calls:
            self._queue.put(call)
        return [await _result_or_error(call.future) for call in calls]

    def follow_up(self, states: Iterable[State], verb: Verb[T]) -> "asyncio.Future[tuple[T, int]]":
        """Run `verb` as the last one of the next transaction in which a task enters one of `states`.

        Like any verb it may run again after a rollback. What it does is as durable as the commit that it comes with.
        Return the future of its result, and of `work_made` and `work_elsewhere` together as of its commit.
        """
        future: asyncio.Future[tuple[T, int]] = self._loop.create_future()
        call: Call[Any] = Call(future, verb, deferred=True, follows=True)
        self._follow_ups[future] = frozenset(states), call
        return future

    def withdraw(self, future: "asyncio.Future[Any]") -> bool:
        """Take back what `follow_up` was given. Return False if a transaction has it: await its future then."""
        return self._follow_ups.pop(future, None) is not None

    async def _queued(self, call: Call[T]) -> T:
        if self._stopped:
            raise TryLater("the ledger is closed")
        self._queue.put(call)
        return await call.future

    async def stop(self) -> None:
        """Run the queued verbs, then end the thread."""
        self._stopped = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            self._serve()
        finally:
            self._connection.close()

    def _serve(self) -> None:
        while (call := self._next()) is not None:
            batch = [call]
            last = False
            while len(batch) < _BATCH_LIMIT and not last:
                try:
                    extra = self._queue.get_nowait()
                except queue.Empty:
                    break
                if extra is None:
                    last = True
                else:
                    batch.append(extra)
            self._commit(batch)
            if last:
                return

    def _next(self) -> Call[Any] | None:
        """Wait for the next call, None at the end. Sync the deferred commits whenever it does not come soon."""
        while self._deferred:
            try:
                return self._queue.get(timeout=SYNC_WITHIN_S)
            except queue.Empty:
                self._sync()
        return self._queue.get()

    def _sync(self) -> None:
        """Sync the deferred commits. They stay deferred while that fails, which `observe` learns."""
        began_s, condition = self._clock.monotonic_s(), None
        try:
            self._connection.sync()
        except TryLater as error:
            condition = f"{NOT_WRITTEN} ({error})"
        if condition is not None or self._unsynced:
            seen = Batch(0, self._clock.monotonic_s() - began_s, condition)
            self._loop.call_soon_threadsafe(self._observe, seen)
        self._deferred = self._unsynced = condition is not None

    def _commit(self, batch: list[Call[Any]]) -> None:
        tx: Tx | None = None
        began_s = self._clock.monotonic_s()
        try:
            tx = self._together(batch)
        except OperationalError as error:
            # The database itself failed, perhaps after the commit: no verb runs a second time.
            for call in batch:
                call.error = _as_ours(error)
        except Exception as error:  # noqa: BLE001 - the error of a verb belongs to its waiter
            if len(batch) > 1:  # one verb failed the commit of all: each gets a commit of its own
                for call in batch:
                    self._commit([call])
                return
            batch[0].error = _as_ours(error)
        if tx is not None:
            self._mark(batch, tx)
        condition = next((str(call.error) for call in batch if isinstance(call.error, TryLater)), None)
        seen = Batch(len(batch), self._clock.monotonic_s() - began_s, condition)
        self._loop.call_soon_threadsafe(self._deliver, batch, tx, seen)

    def _mark(self, batch: list[Call[Any]], tx: Tx) -> None:
        """Call `on_durable`. If it fails, the commit stands, and every waiter gets TryLater, so that none sends."""
        try:
            self.on_durable(tx)
        except OSError as error:
            for call in batch:
                call.error = TryLater(f"{NOT_WRITTEN} (its mark: {error.strerror})")

    def _together(self, batch: list[Call[Any]]) -> Tx:
        self.guard()
        deferred = all(call.deferred for call in batch)
        with self._connection.begin(deferred=deferred) as conn:
            tx = Tx(conn, self._clock.now_ms(), replica_id=self.replica_id)
            refused = self.before_verbs(tx)
            back_ms = self._clock_step.ms()
            if refused is None:
                self._run_verbs(tx, batch, back_ms)
            self.before_commit(tx)
        self._deferred = deferred
        self._clock_step.taken(back_ms if refused is None else 0)
        if refused is not None:
            for call in batch:
                call.error = TryLater(f"{NOT_WRITTEN} ({refused})")
        return tx

    def _run_verbs(self, tx: Tx, batch: list[Call[Any]], back_ms: int) -> None:
        if back_ms:
            self.on_clock_step(tx, back_ms)
        for calls in executions(batch):
            execute(tx, calls)
        for call in self._awaited(tx.entered):
            call.known_elsewhere = self.work_elsewhere  # one that is announced later may have come after the claim
            batch.append(call)
            execute(tx, [call])

    def _awaited(self, entered: set[State]) -> Iterator[Call[Any]]:
        """Take the follow-ups that wait for one of these states."""
        for future, (states, call) in list(self._follow_ups.items()):
            if not states.isdisjoint(entered) and self.withdraw(future):
                yield call

    def _deliver(self, batch: list[Call[Any]], tx: Tx | None, seen: Batch) -> None:
        self._observe(seen)
        if tx is not None:
            self.chain_moves += tx.blocks_read or tx.cursor_moved
            self.work_made += bool(tx.entered or tx.due or tx.cursor_moved)
            self.mark_moves += tx.marks_moved
            if tx.cursor is not None:
                self.on_cursor(tx.cursor)
        for call in batch:
            if call.future.done():  # the waiter was cancelled; the commit stands
                continue
            if call.error is None:
                made = self.work_made + call.known_elsewhere
                call.future.set_result((call.result, made) if call.follows else call.result)
            else:
                call.future.set_exception(call.error)
        if tx is not None and self._on_commit is not None and (tx.entered or tx.due or tx.marks_moved):
            self._on_commit(tx)


async def _result_or_error(future: "asyncio.Future[Any]") -> Any:
    try:
        return await future
    except WatcherError as error:
        return error


def _as_ours(error: BaseException) -> BaseException:
    """Return TryLater for an error of the database (full, locked, gone), any other error as it is."""
    if isinstance(error, DBAPIError):
        return TryLater(f"{NOT_WRITTEN} ({database_reason(error)})")
    return error
