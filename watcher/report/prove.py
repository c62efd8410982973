"""The proof: at one pinned block the ledger holds every task, as the contract does, with the outcome on the chain.

The contract counts its tasks without gaps, so completeness can be proved. The hash that the chain stores for an answer
is computed again from the ledger's bytes; claims of the API play no part. For a contract that shows less, the proof
says how much less it proves.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

from sqlalchemy.engine import Row

from watcher.errors import FixConfiguration, Quarantine, RetryElsewhere, TryLater
from watcher.ledger import by_index, queries
from watcher.ledger.cursor import Cursor
from watcher.ledger.reader import Read
from watcher.ledger.rows import task_of
from watcher.report.proof import Proof
from watcher.state import State
from watcher.task import Header, Task

_CHUNK = 500
_STATES = frozenset(State)
_BY_US = frozenset({State.RESPONDED, State.FINAL})
_BY_OTHERS = frozenset({State.RESPONDED_OTHER, State.FINAL_OTHER})


class Unreadable(Protocol):
    """A failed reading. `reverted`: the contract itself reverts; otherwise no node answered."""

    @property
    def reason(self) -> str: ...

    @property
    def reverted(self) -> bool: ...


class Contract(Protocol):
    """The readings for a proof, each pinned to a block; `chain.contract.TaskManager` has them."""

    @property
    def counts_tasks(self) -> bool: ...

    @property
    def lowest_index(self) -> int: ...

    @property
    def proves_tasks(self) -> bool: ...

    @property
    def proves_answers(self) -> bool: ...

    @property
    def names_answers(self) -> bool: ...

    async def header(self, number: int) -> Header | None: ...

    async def latest_task_num(self, at: Header) -> int: ...

    async def first_index(self, start_block: int, at: Header, lowest: by_index.Place | None) -> int: ...

    def is_task(self, word: bytes | None, task_hash: bytes) -> bool: ...

    async def hashes_and_responses(
        self, indices: Sequence[int], at: Header
    ) -> Sequence[tuple[bytes | None, bytes | None] | Unreadable]: ...

    def response_hash(self, task_index: int, answer: bytes, log: bytes) -> bytes | None: ...

    def matches_log(self, task: Task) -> bool: ...


class Prover:
    """A comparison of one task manager's ledger with the contract."""

    def __init__(
        self,
        contract: Contract,
        ask: Read,
        source_id: int,
        chain_id: int,
        task_manager: bytes,
        contradiction: Callable[[Task], str | None] = lambda _task: None,
    ) -> None:
        """`contradiction` returns why a task's deadline is in another numbering than the blocks; None: it is not."""
        self._contradiction = contradiction
        self._contract = contract
        self._ask = ask
        self._source_id = source_id
        self._chain_id = chain_id
        self._task_manager = task_manager

    async def prove(self, progress: Callable[[int, int], None] = lambda _done, _total: None) -> Proof:
        """Compare ledger and contract at the cursor's block. `progress(done, total)` counts tasks.

        Raises:
            TryLater: the ledger has read nothing yet, or its cursor is on another fork than the chain.
            RetryElsewhere: no node can read that block.
            FixConfiguration: the deadline of a task is in another numbering than the blocks.
        """
        cursor = await self._ask(queries.cursor, self._source_id)
        at = await self._pinned(cursor)
        lowest = await self._ask(by_index.lowest, self._source_id)
        count, first = None, 0 if lowest is None else lowest.task_index
        if self._contract.counts_tasks:
            count = await self._contract.latest_task_num(at)
            first = min(await self._contract.first_index(cursor.start_block, at, lowest), count)
        proof = Proof(self._chain_id, "0x" + self._task_manager.hex(), at.number, "0x" + at.hash.hex(), count, first)
        proof.unproven = self._unproven()
        done = 0
        async for indices in self._indices(proof):
            await self._compare(proof, at, indices)
            done += len(indices)
            progress(done, done if count is None else count - first)
        if count is not None:
            await self._beyond(proof, count)
        return proof

    def _unproven(self) -> list[str]:
        contract = self._contract
        proven = {
            "completeness": contract.counts_tasks,
            "tasks": contract.proves_tasks,
            "answers": contract.proves_answers,
        }
        return [what for what, is_proven in proven.items() if not is_proven]

    async def _indices(self, proof: Proof) -> AsyncIterator[Sequence[int]]:
        """Yield, in pieces, all indices by the contract's count; without a count, those in the ledger."""
        if proof.latest_task_num is not None:
            for low in range(proof.first_index, proof.latest_task_num, _CHUNK):
                yield range(low, min(low + _CHUNK, proof.latest_task_num))
            return
        low = 0
        while known := await self._ask(by_index.canonical_from, self._source_id, low, _CHUNK):
            yield sorted(set(known))
            low = known[-1] + 1

    async def _pinned(self, cursor: Cursor) -> Header:
        if cursor.hash is None:
            raise TryLater("the ledger has read no block yet; let `watcher run` catch up first")
        at = await self._contract.header(cursor.block)
        if at is None or at.hash != cursor.hash:
            raise TryLater(f"the chain has changed at block {cursor.block} since; let `watcher run` catch up first")
        return at

    async def _compare(self, proof: Proof, at: Header, indices: Sequence[int]) -> None:
        low, high = indices[0], indices[-1]
        tasks = _by_index(await self._ask(by_index.canonical_between, self._source_id, low, high))
        events = _by_index(await self._ask(by_index.responses_between, self._source_id, low, high))
        on_chain = await self._contract.hashes_and_responses(indices, at)
        for index, reading in zip(indices, on_chain, strict=True):
            if not isinstance(reading, tuple):
                self._unreadable(proof, index, reading, known=index in tasks)
                continue
            rows = self._meant(tasks.get(index, []), reading[0])
            if not rows:
                proof.missing.append(index)
                continue
            for row, successor in zip(rows, [*rows[1:], None], strict=True):
                event = self._event(events.get(index, []), row, successor, reading[1])
                self._count(proof, row, reading, event, at)

    def _meant(self, rows: Sequence[Row[Any]], task_hash: bytes | None) -> Sequence[Row[Any]]:
        """Return the tasks of one index that count, in the order of the chain.

        If the contract holds hashes, one task: a forged log may have added another one at this index. If not, every
        canonical task, also several if the contract has used the index again.
        """
        if not self._contract.proves_tasks:
            return rows
        return (
            [next((row for row in rows if self._contract.is_task(task_hash, row.task_hash)), rows[0])] if rows else []
        )

    def _event(
        self, events: Sequence[Row[Any]], task: Row[Any], successor: Row[Any] | None, response_hash: bytes | None
    ) -> Row[Any] | None:
        """Return the event that answers `task`, chosen as `answer_events` does: none older than the task."""
        since = [event for event in events if _position(event) >= _position(task)]
        if self._contract.names_answers:
            return next((event for event in since if event.response_hash == response_hash), None)
        return next((event for event in since if successor is None or _position(event) < _position(successor)), None)

    def _count(
        self,
        proof: Proof,
        task: Row[Any],
        on_chain: tuple[bytes | None, bytes | None],
        event: Row[Any] | None,
        at: Header,
    ) -> None:
        task_hash, response_hash = on_chain
        proof.known += 1
        if (reason := self._contradiction(task_of(task))) is not None:
            raise FixConfiguration(reason)
        is_answered = response_hash is not None if self._contract.proves_answers else event is not None
        is_known = not self._contract.proves_tasks or self._contract.is_task(task_hash, task.task_hash)
        if not is_known or not self._holds_together(task):
            proof.mismatched.append(task.task_index)
        elif is_answered:
            self._answered(proof, task, event)
        else:
            self._unanswered(proof, task, at)

    def _unreadable(self, proof: Proof, index: int, reading: Unreadable, *, known: bool) -> None:
        """Count an index for which the contract reverts: it is not a task. Raises RetryElsewhere for other failures."""
        if not reading.reverted:
            raise RetryElsewhere(f"task {index}: {reading.reason}")
        proof.known += known
        (proof.mismatched if known else proof.missing).append(index)

    def _holds_together(self, task: Row[Any]) -> bool:
        """Return True if the row matches its own log, and is not orphaned while the contract holds the task."""
        known = task.state in _STATES and task.state != State.ORPHANED
        return known and self._contract.matches_log(task_of(task))

    def _unanswered(self, proof: Proof, task: Row[Any], at: Header) -> None:
        is_late = task.deadline_block is not None and task.deadline_block <= at.closed_block
        is_late |= task.deadline_s is not None and task.deadline_s <= at.timestamp_s
        if task.state in _BY_US | _BY_OTHERS or (task.state == State.EXPIRED and not is_late):
            proof.mismatched.append(task.task_index)
        elif is_late:
            proof.expired.append(task.task_index)
        else:
            proof.open.append(task.task_index)

    def _answered(self, proof: Proof, task: Row[Any], event: Row[Any] | None) -> None:
        """Count an answered task. `event` has the contract's hash; with our answer it must give that hash again."""
        try:
            ours = event is not None and self._is_ours(task, event)
        except Quarantine:  # the log in the ledger is none that the contract can have emitted
            event = None
        if event is None or task.state == State.EXPIRED:
            proof.mismatched.append(task.task_index)
            return
        settled = task.state in _BY_US | _BY_OTHERS
        elsewhere = (task.response_hash, task.responded_block) != (event.response_hash, event.block_number)
        if task.state in (_BY_OTHERS if ours else _BY_US) or (settled and elsewhere):
            proof.mismatched.append(task.task_index)
        elif ours:
            proof.answered_by_us += 1
        else:
            proof.answered_otherwise.append(task.task_index)

    def _is_ours(self, task: Row[Any], event: Row[Any]) -> bool:
        """Return True if our answer gives the hash of the event. Raises Quarantine for bytes that are no such log."""
        if task.response is None:
            return False
        computed = self._contract.response_hash(task.task_index, task.response, event.log)
        return computed is not None and computed == event.response_hash

    async def _beyond(self, proof: Proof, count: int) -> None:
        """Add canonical tasks whose index the contract has not assigned yet, or never assigns, to the mismatches."""
        if self._contract.lowest_index > 0:
            below = await self._ask(by_index.known_indices, self._source_id, 0, self._contract.lowest_index - 1)
            proof.mismatched += sorted(below)[:_CHUNK]
        extra = await self._ask(by_index.canonical_from, self._source_id, count, _CHUNK)
        proof.mismatched += extra


def _position(row: Row[Any]) -> tuple[int, int]:
    return row.block_number, row.log_index


def _by_index(rows: Sequence[Row[Any]]) -> dict[int, list[Row[Any]]]:
    """Return the rows by task index, each list in the order of the chain."""
    by_index: dict[int, list[Row[Any]]] = {}
    for row in sorted(rows, key=_position):
        by_index.setdefault(row.task_index, []).append(row)
    return by_index
