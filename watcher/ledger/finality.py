"""The verb for a final block, which decides deadlines that are times, pauses behind a window, and orphaned tasks."""

from itertools import groupby

from sqlalchemy import bindparam, delete, exists, select, update

from watcher.ledger.audit.changes import Bound
from watcher.ledger.prepared import Prepared, Question
from watcher.ledger.tables import OPEN, blocks, sources, tasks
from watcher.ledger.transaction import Tx
from watcher.ledger.transitions import transition_rows
from watcher.ledger.wakes import wake_due
from watcher.state import State
from watcher.task import Header

_HASHES_KEPT = 4096  # recent blocks whose hashes are remembered

# Built once: building a statement costs more than running it, and these run for each block.
_SOURCE = sources.c.id == bindparam("source")
_TASKS = tasks.c.source_id == bindparam("source")
_FINAL = Prepared(
    update(sources)
    .where(_SOURCE, sources.c.final_block <= bindparam("number"))
    .values(final_block=bindparam("number"), final_hash=bindparam("hash"), final_l1_block=bindparam("l1_block")),
    ["source", "number", "hash", "l1_block"],
)
_FIRM = Prepared(
    update(sources).where(_SOURCE).values(firm_block=bindparam("number"), firm_hash=bindparam("hash")),
    ["source", "number", "hash"],
)
_IS_DATED = (_TASKS, OPEN, tasks.c.deadline_block.is_(None), tasks.c.deadline_s < bindparam("timestamp_s"))
_IS_PAUSED = (
    _TASKS,
    OPEN,
    tasks.c.deadline_block < bindparam("closed_block"),
    tasks.c.due_at_ms > bindparam("now_ms"),
    tasks.c.absent.is_(None),
)
_IS_GONE = (
    _TASKS,
    tasks.c.canonical.is_(False),
    tasks.c.block_number <= bindparam("number"),
    OPEN,
    tasks.c.lease_until_ms <= bindparam("now_ms"),
)
# A deadline that is a time becomes a block: no block after this one is within it.
_DATE = update(tasks).where(*_IS_DATED).values(deadline_block=bindparam("last_block")).returning(tasks.c.id)
# A pause ends with the response window. The time between two readings of zero is not a pause.
_END_PAUSES = update(tasks).where(*_IS_PAUSED).values(due_at_ms=0, due_block=0)
_GONE = select(tasks.c.id, tasks.c.state).where(*_IS_GONE).order_by(tasks.c.state).with_for_update()
_OLDEST_HASH = (
    select(blocks.c.number)
    .where(blocks.c.source_id == bindparam("source"), blocks.c.number <= bindparam("number"))
    .order_by(blocks.c.number.desc())
    .offset(bindparam("kept"))
    .limit(1)
)
# The only question of most blocks: none of these has anything to do.
_CONCERNED = Question(
    select(
        exists().where(*_IS_DATED),
        exists().where(*_IS_PAUSED),
        exists().where(*_IS_GONE),
        _OLDEST_HASH.scalar_subquery(),
    ),
    ["source", "number", "timestamp_s", "closed_block", "now_ms", "kept"],
)


def finalise(tx: Tx, source_id: int, final: Header, *, firm: bool = True) -> None:
    """Store a final block, and orphan the tasks up to it that have no canonical block.

    `firm`: enough nodes call the block final. A later change of a block that is not firm is an ordinary reorg.
    """
    store_final(tx, source_id, final, firm)
    wake_due(tx, source_id)


def store_final(tx: Tx, source_id: int, final: Header, firm: bool) -> None:
    """Do what `finalise` does, in a transaction that asks for due tasks at its end."""
    tx.final_moved = True
    if firm:
        _FIRM.run(tx.conn, [(source_id, final.number, final.hash)])
    _FINAL.run(tx.conn, [(source_id, final.number, final.hash, final.l1_block)])
    at_block = (source_id, final.number, final.timestamp_s, final.closed_block, tx.now_ms, _HASHES_KEPT)
    ((is_dated, is_paused, is_gone, oldest_hash),) = _CONCERNED.rows(tx.conn, *at_block)
    if is_dated:
        dated = {"timestamp_s": final.timestamp_s, "last_block": final.closed_block - 1}
        tx.changes.write(Bound.TASKS, tx.conn.execute(_DATE, {"source": source_id, **dated}).scalars())
    if is_dated or is_paused:  # a deadline that has just become a block ends a pause, too
        tx.conn.execute(_END_PAUSES, {"source": source_id, "closed_block": final.closed_block, "now_ms": tx.now_ms})
    if is_gone:
        _orphan(tx, source_id, final.number)
    if oldest_hash is not None:  # the newest hash at or below finality stays, to detect a deep reorg
        tx.conn.execute(delete(blocks).where(blocks.c.source_id == source_id, blocks.c.number <= oldest_hash))


def _orphan(tx: Tx, source_id: int, final_block: int) -> None:
    gone = tx.conn.execute(_GONE, {"source": source_id, "number": final_block, "now_ms": tx.now_ms}).all()
    for state, rows in groupby(gone, key=lambda row: State(row.state)):
        why = f"block {final_block} is final and the chain no longer holds it"
        transition_rows(tx, [row.id for row in rows], state, State.ORPHANED, why)
