"""One write transaction: what a verb works with, and what its commit has to tell the stages."""

from collections import Counter
from dataclasses import dataclass, field

from sqlalchemy import Connection

from watcher.ledger.audit.changes import Changes
from watcher.ledger.cursor import Cursor
from watcher.state import ENDED, State


@dataclass(slots=True)
class Tx:
    """One write transaction, as a verb sees it."""

    conn: Connection
    now_ms: int
    entered: set[State] = field(default_factory=set)  # the states that tasks entered, to wake the stages
    due: set[State] = field(default_factory=set)  # the states with tasks that a new head or final block makes due
    taken: set[State] = field(default_factory=set)  # the states whose due tasks were all claimed, after they entered
    blocks_read: bool = False  # the cursor moved on: readings of the chain before this commit are of the past
    cursor_moved: bool = False  # marks went back, or due times changed: every stage looks again
    final_moved: bool = False  # the final block is another one
    attempt: int = 0  # the highest row id of an attempt to send that was begun
    attempt_block: int = 0  # the highest block of the tasks of those attempts
    ended: Counter[State] = field(default_factory=Counter)  # the change of the number of tasks in each end state
    ended_row: int = 0  # a task among those, for their source
    changes: Changes = field(default_factory=Changes)  # the rows that the audit chain binds
    cursor: Cursor | None = None  # after a move of the marks, if `before_commit` has read them
    bound: dict[int, tuple[int, bytes]] = field(default_factory=dict)  # by source: number and hash of the new entry
    replica_id: int | None = None  # the replica that claims tasks in it; None where one daemon has the ledger

    @property
    def marks_moved(self) -> bool:
        """Return True if cursor, head or final block are others now."""
        return self.blocks_read or self.cursor_moved or self.final_moved

    def count_ends(self, row_id: int, from_: State | None, to: State, count: int = 1) -> None:
        """Count `count` tasks, of which `row_id` is one, that left `from_` for `to`, if one of these is an end."""
        if to in ENDED:
            self.ended[to] += count
            self.ended_row = row_id
        if from_ is not None and from_ in ENDED:
            self.ended[from_] -= count
            self.ended_row = row_id
