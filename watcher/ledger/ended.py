"""The number of tasks in each end state: kept, so that no question reads the ended tasks.

Invariant: a transaction that moves tasks into or out of an end state changes the counts before its commit.
"""

from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, delete, func, insert, literal, not_, or_, select

from watcher.ledger.engine import insert_into
from watcher.ledger.tables import HAS_ENDED, HAS_EXPIRED, ended_counts, sources, tasks
from watcher.ledger.transaction import Tx
from watcher.state import State

_OVER_BY_BLOCK = tasks.c.deadline_block <= sources.c.begun_closed_block
_OVER_IN_TIME = tasks.c.deadline_s < sources.c.created_at_ms / 1000


def keep_counts(tx: Tx) -> None:
    """Add the changes of the transaction to the counts. Call it last in the transaction: it locks rows that all share.

    All tasks of a transaction are of one source, that of row `tx.ended_row`.
    """
    changes = [{"state_": state, "change": change} for state, change in sorted(tx.ended.items()) if change]
    tx.ended.clear()
    if not changes:
        return
    source = select(tasks.c.source_id, bindparam("state_", type_=tasks.c.state.type), bindparam("change", type_=_COUNT))
    statement = insert_into(ended_counts, tx.conn.dialect.name).from_select(
        ["source_id", "state", "tasks"], source.where(tasks.c.id == tx.ended_row)
    )
    tx.conn.execute(
        statement.on_conflict_do_update(
            index_elements=["source_id", "state"],
            set_={"tasks": ended_counts.c.tasks + statement.excluded.tasks},
        ),
        changes,
    )


_COUNT = ended_counts.c.tasks.type


def kept(conn: Connection, source_id: int) -> dict[State, int]:
    """Return the number of tasks in each end state that has any, from the kept counts."""
    rows = conn.execute(
        select(ended_counts.c.state, ended_counts.c.tasks)
        .where(ended_counts.c.source_id == source_id, ended_counts.c.tasks != 0)
        .order_by(ended_counts.c.state)
    )
    return {State(state): count for state, count in rows}


def expired_before(conn: Connection, source_id: int) -> int:
    """Return the number of tasks that expired before the ledger was begun (`history.IS_HISTORY`)."""
    expired = (
        select(func.count())
        .select_from(tasks.join(sources, sources.c.id == tasks.c.source_id))
        .where(tasks.c.source_id == source_id, HAS_EXPIRED, sources.c.begun_block.is_not(None))
    )
    by_block = conn.execute(expired.where(_OVER_BY_BLOCK)).scalar_one()
    not_by_block = or_(tasks.c.deadline_block.is_(None), sources.c.begun_closed_block.is_(None), not_(_OVER_BY_BLOCK))
    in_time = expired.where(tasks.c.deadline_s.is_not(None), _OVER_IN_TIME, not_by_block)
    return by_block + int(conn.execute(in_time).scalar_one())


def recounted(conn: Connection, source_id: int) -> Mapping[State, int]:
    """Return the number of tasks in each end state, counted in the table `tasks`: it reads an entry for each."""
    rows = conn.execute(
        select(tasks.c.state, func.count())
        .where(tasks.c.source_id == source_id, HAS_ENDED)
        .group_by(tasks.c.state)
        .order_by(tasks.c.state)
    )
    return {State(state): count for state, count in rows}


def miscounted(conn: Connection, of_source: int | None = None) -> list[str]:
    """Compare the kept counts of one source, or of all, with the tasks. Return the differences as sentences."""
    differences = []
    every = select(sources.c.id).order_by(sources.c.id)
    for source_id in conn.execute(every).scalars().all() if of_source is None else (of_source,):
        now, counted = kept(conn, source_id), recounted(conn, source_id)
        differences += [
            f"source {source_id} has {counted.get(state, 0)} tasks in state {state}, and keeps {now.get(state, 0)}"
            for state in sorted({*now, *counted})
            if now.get(state, 0) != counted.get(state, 0)
        ]
    return differences


def recount(tx: Tx, source_id: int) -> None:
    """Replace the kept counts by a new count."""
    tx.conn.execute(delete(ended_counts).where(ended_counts.c.source_id == source_id))
    counted = select(tasks.c.source_id, tasks.c.state, func.count() + literal(0)).where(
        tasks.c.source_id == source_id, HAS_ENDED
    )
    tx.conn.execute(
        insert(ended_counts).from_select(
            ["source_id", "state", "tasks"], counted.group_by(tasks.c.source_id, tasks.c.state)
        )
    )
