"""A comparison of the ledger's rows with the chain's logs, column by column, and the senders of answers.

Invariant: a value that no node shows is reported as not checked; it is no difference, and fails no proof.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from sqlalchemy.engine import Row

from watcher.ledger import by_index
from watcher.ledger.reader import Read
from watcher.report.chain_logs import ChainLogs, Logs, Pair, is_answered
from watcher.report.listing import hexed
from watcher.report.proof import LISTED_LIMIT, Difference, Proof, Sender, Unchecked
from watcher.state import State
from watcher.task import Responded, Sighting, Task

_CHUNK = 500
_TIMES_LIMIT = 5_000
_SENDERS_LIMIT = 1_000
_WINDOWS_LIMIT = 100
_NO_TIME = f"no node shows the block, or it is beyond the {_TIMES_LIMIT} that a proof asks for"
_NO_SENDER = f"no node shows the transaction, or it is beyond the {_SENDERS_LIMIT} that a proof asks for"
_NO_WINDOW = "the response window has changed, or no node shows the state of that block"
_OWN_WINDOW = "the response window is in the settings, and has changed; the chain does not show it"


class PastLogs(Logs, Protocol):
    """The questions for a comparison; `chain.past_logs.PastLogs` has them."""

    @property
    def has_window(self) -> bool: ...

    @property
    def shows_window(self) -> bool: ...

    async def window(self, block: int) -> int | None: ...

    async def times(self, heights: Collection[int]) -> dict[tuple[int, bytes], int]: ...

    async def senders(self, tx_hashes: Collection[bytes]) -> dict[bytes, tuple[bytes, int]]: ...


class Comparison:
    """A comparison of one ledger, recorded in its proof. The newest tasks come first: nodes forget old logs."""

    def __init__(self, proof: Proof, ask: Read, source_id: int, logs: PastLogs, first_block: int) -> None:
        """Keep the parts.

        Args:
            proof: the finished proof of this ledger.
            ask: reads the ledger.
            source_id: the task manager in the ledger.
            logs: reads the chain.
            first_block: the first block that is watched.
        """
        self._proof, self._ask, self._source_id, self._chain = proof, ask, source_id, logs
        self._blocks = range(first_block, proof.block_number + 1)
        self._logs = ChainLogs(logs, first_block, proof.block_number)
        self._otherwise = frozenset(proof.answered_otherwise)
        self._uncounted = frozenset((*proof.mismatched, *proof.expired, *proof.open))
        self._differences: list[Difference] = []
        self._unchecked: Counter[tuple[str, str]] = Counter()
        self._senders: dict[bytes | None, Counter[str]] = defaultdict(Counter)
        self._windows: dict[int, int | None] = {}
        self._times_asked = self._senders_asked = 0

    async def run(self, progress: Callable[[int, int], None] = lambda _done, _total: None) -> None:
        """Compare all tasks; `progress` is called with the pieces done and their number. Raises TryLater."""
        chunks = await self._chunks()
        for done, (low, high) in enumerate(reversed(chunks), 1):
            rows = await self._ask(by_index.canonical_between, self._source_id, low, high)
            events = await self._ask(by_index.responses_between, self._source_id, low, high)
            pairs = await self._logs.pairs([row for row in rows if self._is_compared(row)], events)
            await self._compare(pairs)
            await self._name_senders(pairs)
            progress(done, len(chunks))
        self._record()

    async def _chunks(self) -> list[tuple[int, int]]:
        """Return the lowest and the highest index of each piece of the ledger."""
        chunks: list[tuple[int, int]] = []
        low = 0
        while indices := await self._ask(by_index.canonical_from, self._source_id, low, _CHUNK):
            chunks.append((indices[0], indices[-1]))
            low = indices[-1] + 1
        return chunks

    def _is_compared(self, row: Row[Any]) -> bool:
        """Return False for an orphan, whose log is on no chain, and for a task above the block of the proof."""
        count = self._proof.latest_task_num
        is_orphan: bool = row.state == State.ORPHANED
        return not is_orphan and (count is None or int(row.task_index) < count)

    async def _compare(self, pairs: Sequence[Pair]) -> None:
        times = await self._times(pairs)
        for pair in pairs:
            if pair.lacks:
                self._unchecked["logs", pair.lacks] += 1
            if pair.task is not None:
                self._proof.compared += 1
                self._compare_task(pair.row, pair.task, times)
                await self._compare_deadline(pair.row, pair.task, pair.answer)
            if pair.answer is not None and is_answered(pair.row):
                self._compare_answer(pair.row, pair.answer, times)

    def _compare_task(self, row: Row[Any], task: Task, times: dict[tuple[int, bytes], int]) -> None:
        seen = task.seen_at
        self._column(row, "task_hash", task.task_hash)
        self._column(row, "created_block", task.created_block)
        self._column(row, "block_number", seen.block_number)
        self._column(row, "block_hash", seen.block_hash)
        self._column(row, "created_tx_hash", seen.tx_hash)
        self._time(row, "block_time_s", seen, times)

    def _compare_answer(self, row: Row[Any], answer: Responded, times: dict[tuple[int, bytes], int]) -> None:
        seen = answer.seen_at
        self._column(row, "response_hash", answer.response_hash)
        self._column(row, "responded_block", seen.block_number)
        self._column(row, "responded_tx_hash", seen.tx_hash)
        self._time(row, "responded_time_s", seen, times)

    async def _compare_deadline(self, row: Row[Any], task: Task, answer: Responded | None) -> None:
        """Compare the deadline: that of the log, or one by the response window.

        Where the window has changed, the ledger may rightly follow any window of its time.
        """
        if row.deadline_s is not None or task.deadline_s is not None:
            self._column(row, "deadline_s", task.deadline_s)  # the block follows from it, once one is past it
            return
        if not self._chain.has_window:
            self._column(row, "deadline_block", task.deadline_block)
            return
        heights = [self._proof.block_number, task.seen_at.block_number]
        heights += [answer.seen_at.block_number] if answer is not None else []
        deadlines: list[int] = []
        for height in heights:
            window = await self._window(height) if height in self._blocks else None
            if window is not None and task.created_block + window == row.deadline_block:
                return
            deadlines += [] if window is None else [task.created_block + window]
        if not self._chain.shows_window:
            self._unchecked["deadlines", _OWN_WINDOW] += 1
        elif any(self._windows.get(height) is None for height in heights) or len(set(deadlines)) > 1:
            self._unchecked["deadlines", _NO_WINDOW] += 1
        else:
            self._column(row, "deadline_block", deadlines[0])

    async def _window(self, height: int) -> int | None:
        if height not in self._windows and len(self._windows) < _WINDOWS_LIMIT:
            self._windows[height] = await self._chain.window(height)
        return self._windows.get(height)

    async def _times(self, pairs: Sequence[Pair]) -> dict[tuple[int, bytes], int]:
        """Return the times of the blocks whose logs show none, as far as the ledger has them."""
        logs = [(pair.task.seen_at, pair.row.block_time_s) for pair in pairs if pair.task is not None]
        logs += [(pair.answer.seen_at, pair.row.responded_time_s) for pair in pairs if pair.answer is not None]
        heights = {seen.block_number for seen, time_s in logs if time_s is not None and not seen.block_time_s}
        asked = sorted(heights)[: _TIMES_LIMIT - self._times_asked]
        self._times_asked += len(asked)
        return await self._chain.times(asked) if asked else {}

    def _time(self, row: Row[Any], column: str, seen: Sighting, times: dict[tuple[int, bytes], int]) -> None:
        time_s = seen.block_time_s or times.get((seen.block_number, seen.block_hash))
        if getattr(row, column) is None:
            return  # until a node shows it, the ledger has none
        if time_s is None:
            self._unchecked["times", _NO_TIME] += 1
        else:
            self._column(row, column, time_s)

    def _column(self, row: Row[Any], column: str, on_chain: bytes | int | None) -> None:
        in_ledger = getattr(row, column)
        if in_ledger == on_chain:
            return
        self._proof.differences_found += 1
        if len(self._differences) < LISTED_LIMIT:
            self._differences.append(Difference(row.task_index, column, _value(in_ledger), _value(on_chain)))

    async def _name_senders(self, pairs: Sequence[Pair]) -> None:
        """Count the senders of the answers that the proof counts, by the chain's transactions, else by the ledger."""
        answered = [
            pair
            for pair in pairs
            if pair.row.task_index not in self._uncounted and (pair.answer is not None or is_answered(pair.row))
        ]
        tx_hashes = sorted({pair.answer.seen_at.tx_hash for pair in answered if pair.answer is not None})
        asked = tx_hashes[: _SENDERS_LIMIT - self._senders_asked]
        self._senders_asked += len(asked)
        by_transaction = await self._chain.senders(asked) if asked else {}
        for pair in answered:
            kind = "answered_otherwise" if pair.row.task_index in self._otherwise else "answered_by_us"
            sender = None if pair.answer is None else _sender(pair.answer, by_transaction)
            if sender is None:
                self._unchecked["senders", _NO_SENDER] += 1
            elif pair.row.responded_by is not None:
                self._column(pair.row, "responded_by", sender)
            self._senders[sender or pair.row.responded_by].update([kind, *(["read"] if sender else [])])

    def _record(self) -> None:
        """Record in the proof what was found, the lowest task and the most frequent sender first."""
        self._proof.differences = sorted(self._differences)
        self._proof.unchecked = [
            Unchecked(what, tasks, reason) for (what, reason), tasks in sorted(self._unchecked.items())
        ]
        senders = [
            Sender(hexed(address), counts["answered_by_us"], counts["answered_otherwise"], counts["read"])
            for address, counts in self._senders.items()
        ]
        senders.sort(key=lambda sender: (-sender.answered_by_us - sender.answered_otherwise, sender.address or ""))
        self._proof.senders = senders[:LISTED_LIMIT]


def _value(value: bytes | int | None) -> int | str | None:
    return hexed(value) if isinstance(value, bytes) else value


def _sender(answer: Responded, by_transaction: dict[bytes, tuple[bytes, int]]) -> bytes | None:
    """Return the sender of an answer, if the transaction is in the answer's block."""
    address, block_number = by_transaction.get(answer.seen_at.tx_hash, (None, -1))
    return address if block_number == answer.seen_at.block_number else None
