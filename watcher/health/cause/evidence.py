"""The evidence that a cause rests on, and the questions that all states ask of it. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Row

from watcher.health.conditions import KINDS, STORE
from watcher.health.readyz import NOT_ASKED, Daemon
from watcher.ledger.cursor import Cursor
from watcher.ledger.story import SourceRecord, TaskRecord
from watcher.report.story import Cause, blocks_left

# Commands in the advice of the table name a task by this letter.
_ANY_TASK = " N`"
_ANY_TASK_JSON = " N --json`"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that is known about one task at one moment.

    Attributes:
        record: the task as the ledger holds it.
        source: the facts that the tasks of its source share.
        now_ms: the present time in milliseconds since 1970.
        confirmations: the setting chain.confirmations, in blocks.
        max_attempts: the setting hook.max_attempts.
        daemon: the daemon, as its /readyz shows it.
        is_running: whether a daemon holds the ledger; None: unknown.
        storage: why the ledger cannot be written, as this process sees it; "": it can.
    """

    record: TaskRecord
    source: SourceRecord
    now_ms: int
    confirmations: int = 0
    max_attempts: int = 1
    daemon: Daemon = NOT_ASKED
    is_running: bool | None = None
    storage: str = ""

    @property
    def row(self) -> Row[Any]:
        return self.record.task

    @property
    def cursor(self) -> Cursor:
        return self.source.cursor

    @property
    def error(self) -> str:
        return self.row.error or ""

    @property
    def is_past_deadline(self) -> bool:
        """True if no block can bring a response in time any more, as far as the ledger has read."""
        left = blocks_left(self.row, self.cursor)
        if left is not None and left <= 0:
            return True
        return self.row.deadline_s is not None and self.row.deadline_s * 1000 <= self.now_ms

    @property
    def is_leased(self) -> bool:
        return self.is_running is not False and bool(self.row.lease_until_ms > self.now_ms)

    @property
    def due_ms(self) -> int | None:
        """Return the due time of the task, None where it is due."""
        return self.row.due_at_ms if self.row.due_at_ms > self.now_ms else None

    @property
    def due_block(self) -> int | None:
        """Return the block at which the task is due, None where the head has reached it."""
        return self.row.due_block if self.row.due_block > self.cursor.head_block else None


def advice(key: str, index: int) -> str:
    """Return the advice of a condition for one task."""
    text = KINDS[key].advice
    return text.replace(_ANY_TASK, f" {index}`").replace(_ANY_TASK_JSON, f" {index} --json`")


def held_up(evidence: Evidence, phrase: str, *keys: str) -> Cause | None:
    """Return the first of these conditions of the daemon that holds as the cause of a wait, None where none holds.

    Args:
        evidence: what is known of the task.
        phrase: what the task waits for, with the verb.
        keys: the conditions that can hold the task up, the most likely first.
    """
    for key in (STORE, *keys):
        condition = evidence.daemon.condition(key)
        if condition is not None:
            reason = f"{phrase}: {KINDS[key].title}: {condition.message}"
            return Cause(reason, condition.since_ms, None, None, key, advice(key, evidence.row.task_index))
    if evidence.storage:
        return Cause(f"{phrase}: {evidence.storage}", condition=STORE, advice=advice(STORE, evidence.row.task_index))
    return None


def first(causes: Iterator[Cause | None]) -> Cause:
    """Return the first cause that there is; the last of them always is one."""
    return next(cause for cause in causes if cause is not None)


def off_chain(evidence: Evidence) -> Cause | None:
    """Return the cause of a task whose block the chain does not contain at the moment."""
    if evidence.row.canonical:
        return None
    return Cause(
        f"waits for the chain: its block {evidence.row.block_number} is not on it at the moment (a reorg)",
        advice="Nothing: the task goes on when the chain brings it back, and ends as orphaned at finality if not.",
    )


def past_deadline(evidence: Evidence) -> Cause | None:
    """Return the cause of an unanswered task whose window is closed, while no final block is past it."""
    if not evidence.is_past_deadline:
        return None
    row, final_block = evidence.row, evidence.cursor.final_closed_block
    deadline = f"block {row.deadline_block}" if row.deadline_block is not None else "a time"
    reason = f"waits for its end: its deadline, {deadline}, is past; nothing is sent any more, and the final block"
    return Cause(
        f"{reason} ({final_block}) decides" + (f". Before: {evidence.error}" if evidence.error else ""),
        next_block=row.deadline_block + 1
        if row.deadline_block is not None and row.deadline_block >= final_block
        else None,
        advice="Nothing can be sent any more. The attempts below show where the time went.",
    )
