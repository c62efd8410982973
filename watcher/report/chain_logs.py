"""The logs of the chain beside rows of the ledger, read in as few requests as their blocks allow.

A row names the blocks of its logs. Logs that are not there are searched, for a row may name a wrong block.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy.engine import Row

from watcher.task import Responded, Task

_REQUESTS_LIMIT = 2_000
_SEARCHES_LIMIT = 20
_SPANS_SEARCHED = 10
_SILENT = "no node shows the logs"
_TOO_MANY = f"a proof asks at most {_REQUESTS_LIMIT} times for logs"
_NOT_THERE = "the nodes show no such log"


class Logs(Protocol):
    """The questions for logs; `chain.past_logs.PastLogs` has them."""

    requests: int

    @property
    def span_blocks(self) -> int: ...

    async def read(self, first: int, last: int) -> tuple[list[Task], list[Responded]] | None: ...

    async def find(self, index: int, first: int, last: int) -> list[Task]: ...


@dataclass(frozen=True, slots=True)
class Pair:
    """A task's row, with the log of its creation and of its answer. `lacks` says why one that the row names is None."""

    row: Row[Any]
    task: Task | None
    answer: Responded | None
    lacks: str = ""


@dataclass(slots=True)
class _Read:
    """Logs by task index, and the ranges of blocks that were read in full."""

    tasks: dict[int, list[Task]] = field(default_factory=lambda: defaultdict(list))
    responses: dict[int, list[Responded]] = field(default_factory=lambda: defaultdict(list))
    ranges: list[tuple[int, int]] = field(default_factory=list)
    failure: str = ""

    def covers(self, block: int | None) -> bool:
        return block is not None and any(first <= block <= last for first, last in self.ranges)


class ChainLogs:
    """The logs of the blocks from `first_block` to `last_block`, both included."""

    def __init__(self, logs: Logs, first_block: int, last_block: int) -> None:
        self._logs = logs
        self._first, self._last = first_block, last_block
        self._searches = 0

    async def pairs(self, rows: Sequence[Row[Any]], events: Sequence[Row[Any]]) -> list[Pair]:
        """Return each row of `tasks` with its logs; `events` are the rows of `responses` with the same indices."""
        heights = {row.block_number for row in rows} | {event.block_number for event in events}
        heights |= {row.responded_block for row in rows if row.responded_block is not None}
        read = await self._read(height for height in heights if self._first <= height <= self._last)
        by_index: dict[int, list[Row[Any]]] = defaultdict(list)
        for row in sorted(rows, key=lambda row: (row.block_number, row.log_index)):
            by_index[row.task_index].append(row)
        return [
            await self._pair(row, successor, read, {other.task_hash for other in same})
            for same in by_index.values()
            for row, successor in zip(same, [*same[1:], None], strict=True)
        ]

    async def _read(self, heights: Iterable[int]) -> _Read:
        read = _Read()
        for first, last in _ranges(sorted(heights), self._logs.span_blocks):
            if self._logs.requests >= _REQUESTS_LIMIT:
                read.failure = _TOO_MANY
                break
            page = await self._logs.read(first, last)
            if page is None:
                read.failure = _SILENT
                continue
            read.ranges.append((first, last))
            for task in page[0]:
                read.tasks[task.task_index].append(task)
            for response in page[1]:
                read.responses[response.task_index].append(response)
        return read

    async def _pair(
        self, row: Row[Any], successor: Row[Any] | None, read: _Read, task_hashes: Collection[bytes]
    ) -> Pair:
        task = _created(row, read.tasks[row.task_index], task_hashes)
        if task is None and self._is_known_absent(row.block_number, read):
            task = _created(row, await self._search_task(row.task_index), task_hashes)
        since = (row.block_number, row.log_index) if task is None else _place(task)
        until = None if successor is None else (successor.block_number, successor.log_index)
        answer = _answer(row, read.responses[row.task_index], since, until)
        if answer is None and is_answered(row) and self._is_known_absent(row.responded_block, read):
            answer = _answer(row, await self._search_answers(row.task_index, since[0]), since, until)
        lacks = task is None or (answer is None and is_answered(row))
        return Pair(row, task, answer, (read.failure or _NOT_THERE) if lacks else "")

    def _is_known_absent(self, block: int | None, read: _Read) -> bool:
        """Return True if there is no such log at the block that a row names, and it may be searched elsewhere."""
        is_outside = block is None or not self._first <= block <= self._last
        return (is_outside or read.covers(block)) and self._searches < _SEARCHES_LIMIT

    async def _search_task(self, index: int) -> list[Task]:
        self._searches += 1
        return await self._logs.find(index, self._first, self._last)

    async def _search_answers(self, index: int, since_block: int) -> list[Responded]:
        """Return the responses to a task in some spans of blocks behind it."""
        self._searches += 1
        first = max(since_block, self._first)
        page = await self._logs.read(first, min(self._last, first + _SPANS_SEARCHED * self._logs.span_blocks - 1))
        return [] if page is None else [response for response in page[1] if response.task_index == index]


def is_answered(row: Row[Any]) -> bool:
    """Return True if the row says that the chain shows an answer."""
    return row.response_hash is not None or row.responded_block is not None or row.responded_tx_hash is not None


def _created(row: Row[Any], tasks: Sequence[Task], task_hashes: Collection[bytes]) -> Task | None:
    """Return the log of a row: of its hash, at its place if there are several; else the only one of no other row."""
    same = [task for task in tasks if task.task_hash == row.task_hash]
    at_place = (task for task in same if (task.seen_at.block_number, task.seen_at.tx_hash) == _named(row))
    if (best := next(at_place, next(iter(same), None))) is not None:
        return best
    others = [task for task in tasks if task.task_hash not in task_hashes]
    return others[0] if len(others) == 1 else None


def _named(row: Row[Any]) -> tuple[int, bytes]:
    return row.block_number, row.created_tx_hash


def _answer(
    row: Row[Any], responses: Sequence[Responded], since: tuple[int, int], until: tuple[int, int] | None
) -> Responded | None:
    """Return the log that answers a task: at the place that the row names, else with its hash, else the first one."""
    possible = [response for response in responses if since <= _place(response) and not _is_behind(response, until)]
    same = [response for response in possible if response.response_hash == row.response_hash]
    named = (row.responded_block, row.responded_tx_hash)
    at_place = (response for response in same if (response.seen_at.block_number, response.seen_at.tx_hash) == named)
    return next(at_place, next(iter(same or possible), None))


def _is_behind(response: Responded, until: tuple[int, int] | None) -> bool:
    return until is not None and _place(response) >= until


def _place(log: Task | Responded) -> tuple[int, int]:
    return log.seen_at.block_number, log.seen_at.log_index


def _ranges(heights: Sequence[int], span_blocks: int) -> list[tuple[int, int]]:
    """Return ranges of at most `span_blocks` that hold all heights, each from one of them to another."""
    ranges: list[tuple[int, int]] = []
    for height in heights:
        if ranges and height < ranges[-1][0] + span_blocks:
            ranges[-1] = (ranges[-1][0], height)
        else:
            ranges.append((height, height))
    return ranges
