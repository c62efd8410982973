"""The tasks that were over when a ledger was begun: answered by then, or past their deadline.

Invariant: the journal marks each such end by `BEFORE` at the end of its reason, and no alert is sent for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, case, exists, func, or_, select

from watcher.ledger.rows import chunks, of_source
from watcher.ledger.tables import responses, sources, tasks
from watcher.task import OpenTask

BEFORE = "before this ledger was begun"

_LATE = or_(
    tasks.c.deadline_block <= sources.c.begun_closed_block,
    tasks.c.deadline_s < sources.c.created_at_ms / 1000,
)
_BEGUN = select(tasks.c.id, sources.c.begun_block, _LATE.label("late")).join(sources, sources.c.id == tasks.c.source_id)
IS_HISTORY: ColumnElement[bool] = case(
    (sources.c.begun_block.is_(None), False),
    (tasks.c.responded_block <= sources.c.begun_block, True),
    (and_(tasks.c.responded_block.is_(None), _LATE), True),
    else_=False,
)
"""True for a task that was over when its ledger was begun; for a statement that joins tasks with sources."""
_ANSWERED = exists().where(
    responses.c.source_id == tasks.c.source_id,
    responses.c.task_index == tasks.c.task_index,
    responses.c.block_number <= sources.c.begun_block,
)


def over_before(
    conn: Connection, batch: Sequence[OpenTask], responded: Mapping[int, int] | None = None
) -> frozenset[int]:
    """Return the row ids of the tasks that were over when their ledger was begun.

    `responded` maps row ids to the block of the response. A ledger without its begun block (an older one) has none.
    """
    blocks = responded or {}
    over: set[int] = set()
    for chunk in chunks([task.row_id for task in batch]):
        for row in conn.execute(_BEGUN.where(tasks.c.id.in_(chunk), sources.c.begun_block.is_not(None))):
            answered = row.id in blocks and blocks[row.id] <= row.begun_block
            if answered or (row.late and row.id not in blocks):
                over.add(row.id)
    return frozenset(over)


@dataclass(frozen=True, slots=True)
class History:
    """The number of tasks that were over when the ledger was begun at block `block`."""

    block: int
    answered: int
    late: int


def history(conn: Connection, source_id: int) -> History | None:
    """Return those numbers, None for a ledger without its begun block (an older one)."""
    block = conn.execute(select(sources.c.begun_block).where(sources.c.id == source_id)).scalar()
    if block is None:
        return None
    mine = and_(of_source(tasks, source_id), tasks.c.canonical, tasks.c.block_number <= block)
    count = select(func.count()).select_from(tasks.join(sources, sources.c.id == tasks.c.source_id)).where(mine)
    answered = conn.execute(count.where(_ANSWERED)).scalar_one()
    return History(block, answered, conn.execute(count.where(_LATE, ~_ANSWERED)).scalar_one())
