"""Old final tasks: which they are, and how their stories leave the ledger.

Invariant: what a proof compares with the contract (the row of the task, its answer, the response events) is never
removed, and what stays open, or may still be decided by a person, is never touched.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, or_, select
from sqlalchemy.engine import Row

from watcher.ledger.rows import WITH_SOURCE
from watcher.ledger.source import note_event
from watcher.ledger.tables import attempts, journal, sources, tasks
from watcher.ledger.writer import Tx
from watcher.state import State

BATCH = 500
# Decided by the chain, in a final block. The other ended states can still be taken up by a person or by a reorg.
RETIRED = (State.FINAL, State.FINAL_OTHER, State.EXPIRED)
# Finality that one node alone names can be taken back, and a task that is reopened needs its story.
_FOR_GOOD = or_(
    and_(tasks.c.state != State.EXPIRED, tasks.c.responded_block <= sources.c.firm_block),
    and_(tasks.c.state == State.EXPIRED, sources.c.final_block <= sources.c.firm_block),
)


@dataclass(frozen=True, slots=True)
class Age:
    """How old a task must be: created so many blocks below the final one, or unchanged since that moment."""

    blocks: int | None = None
    before_ms: int | None = None

    def _clause(self) -> ColumnElement[bool]:
        old = []
        if self.blocks is not None:
            old.append(tasks.c.block_number + self.blocks <= sources.c.final_block)
        if self.before_ms is not None:
            old.append(tasks.c.updated_at_ms < self.before_ms)
        assert old, "an age names blocks or a moment"
        return and_(*old)


@dataclass(frozen=True, slots=True)
class Mark:
    """The last lines of the ledger when a story was read; what is written after them has not been exported."""

    journal_id: int
    attempt_id: int


@dataclass(frozen=True, slots=True)
class Story:
    """One task with all that happened to it."""

    task: Row[Any]
    journal: Sequence[Row[Any]]
    attempts: Sequence[Row[Any]]


def mark(conn: Connection) -> Mark:
    """The last lines now."""
    return Mark(
        conn.execute(select(func.coalesce(func.max(journal.c.id), 0))).scalar_one(),
        conn.execute(select(func.coalesce(func.max(attempts.c.id), 0))).scalar_one(),
    )


def stories(conn: Connection, source_id: int, age: Age, upto: Mark, after_id: int, limit: int = BATCH) -> list[Story]:
    """The next old final tasks that still have a story, by row id, with what happened to them up to a mark."""
    has_story = or_(
        exists().where(journal.c.task_id == tasks.c.id, journal.c.id <= upto.journal_id),
        exists().where(attempts.c.task_id == tasks.c.id, attempts.c.id <= upto.attempt_id),
    )
    found = conn.execute(
        WITH_SOURCE.where(
            tasks.c.source_id == source_id,
            tasks.c.id > after_id,
            tasks.c.state.in_(RETIRED),
            _FOR_GOOD,
            tasks.c.look_again.is_(False),
            age._clause(),
            has_story,
        )
        .order_by(tasks.c.id)
        .limit(limit)
    ).all()
    ids = [row.id for row in found]
    lines = _by_task(conn, select(journal).where(journal.c.id <= upto.journal_id), journal.c.task_id, journal.c.id, ids)
    tries = _by_task(
        conn, select(attempts).where(attempts.c.id <= upto.attempt_id), attempts.c.task_id, attempts.c.id, ids
    )
    return [Story(row, lines.get(row.id, []), tries.get(row.id, [])) for row in found]


def remove(tx: Tx, rows: Sequence[int], upto: Mark) -> int:
    """Remove the exported stories of these tasks (at most `BATCH`). Returns how many lines went.

    A task that has left its final state since keeps everything: it is looked at again in this very transaction.
    """
    assert len(rows) <= BATCH, "one transaction is bounded"
    still = list(
        tx.conn.execute(
            select(tasks.c.id).where(tasks.c.id.in_(rows), tasks.c.state.in_(RETIRED)).with_for_update()
        ).scalars()
    )
    lines = delete(journal).where(journal.c.task_id.in_(still), journal.c.id <= upto.journal_id)
    # A line that was written since may name an attempt; that one stays with it.
    named = exists().where(journal.c.attempt_id == attempts.c.id, journal.c.task_id == attempts.c.task_id)
    tries = delete(attempts).where(attempts.c.task_id.in_(still), attempts.c.id <= upto.attempt_id, ~named)
    return tx.conn.execute(lines).rowcount + tx.conn.execute(tries).rowcount


def note_export(tx: Tx, source_id: int, block_number: int, words: str) -> None:
    """Leave in the ledger where the stories went, before the first of them goes."""
    note_event(tx, source_id, "retained", block_number, words)


def _by_task(
    conn: Connection, statement: Any, owner: ColumnElement[int], order: ColumnElement[int], ids: Sequence[int]
) -> dict[int, list[Row[Any]]]:
    found: dict[int, list[Row[Any]]] = {}
    for row in conn.execute(statement.where(owner.in_(ids)).order_by(order)) if ids else ():
        found.setdefault(row.task_id, []).append(row)
    return found
