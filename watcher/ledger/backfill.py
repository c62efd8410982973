"""What logs did not show and a node is asked for later: the times of blocks, and the senders of responses.

Invariant: a time is stored only with the very block (height and hash) that a row names, a sender only with the
transaction and the block of the response.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, select, union, update

from watcher.ledger.audit.changes import Bound
from watcher.ledger.rows import of_source
from watcher.ledger.tables import HAS_RESPONSE, IS_FINAL, UNTIMED, UNTIMED_RESPONSE, responses, tasks
from watcher.ledger.transaction import Tx
from watcher.task import Header


@dataclass(frozen=True, slots=True)
class Unsent:
    """A final response without a known sender: its transaction, and the height of its block."""

    tx_hash: bytes
    block_number: int


_AT = (tasks.c.block_number == bindparam("number"), tasks.c.block_hash == bindparam("hash"))
_TIME_TASKS = update(tasks).where(*_AT).values(block_time_s=bindparam("time_s")).returning(tasks.c.id)
_TIME_RESPONSES = (
    update(responses)
    .where(responses.c.block_number == bindparam("number"), responses.c.block_hash == bindparam("hash"))
    .values(block_time_s=bindparam("time_s"))
    .returning(responses.c.id)
)
_TIME_ANSWERED = update(tasks).where(tasks.c.id == bindparam("row")).values(responded_time_s=bindparam("time_s"))
_SEND = (
    update(tasks)
    .where(
        HAS_RESPONSE,
        tasks.c.responded_by.is_(None),
        tasks.c.responded_block == bindparam("number"),
        tasks.c.responded_tx_hash == bindparam("transaction"),
    )
    .values(responded_by=bindparam("sender"))
    .returning(tasks.c.id)
)


def untimed(conn: Connection, source_id: int, above_block: int, limit: int) -> list[tuple[int, bytes]]:
    """Return the next blocks above a height whose time is unknown, as (number, hash), the lowest first."""
    pages: list[Select[Any]] = [
        select(table.c.block_number, table.c.block_hash)
        .where(condition, of_source(table, source_id), table.c.block_number > above_block)
        .order_by(table.c.block_number)
        .limit(limit * _ROWS_PER_BLOCK)
        for table, condition in ((tasks, UNTIMED), (responses, UNTIMED_RESPONSE))
    ]
    # A limited part of a union stands in a subquery: SQLite takes no LIMIT within one.
    both = union(*(select(page.subquery()) for page in pages)).subquery()
    rows = conn.execute(select(both).order_by(both.c.block_number).limit(limit))
    return [(row.block_number, row.block_hash) for row in rows]


# A block with more tasks shortens the page, and no more.
_ROWS_PER_BLOCK = 20


def unsent(conn: Connection, source_id: int, above_block: int, limit: int) -> list[Unsent]:
    """Return the next final responses above a height without a known sender, the lowest block first."""
    rows = conn.execute(
        select(tasks.c.responded_tx_hash, tasks.c.responded_block)
        .where(
            HAS_RESPONSE,
            tasks.c.responded_by.is_(None),
            tasks.c.responded_block > above_block,
            of_source(tasks, source_id),
            IS_FINAL,
        )
        .order_by(tasks.c.responded_block)
        .limit(limit)
    )
    return [Unsent(row.responded_tx_hash, row.responded_block) for row in rows]


def record_times(tx: Tx, source_id: int, blocks: Sequence[Header]) -> None:
    """Store the times of these blocks with their tasks and responses, of every source on the chain."""
    rows = [{"number": block.number, "hash": block.hash, "time_s": block.timestamp_s} for block in blocks]
    if not rows:
        return
    for row in rows:  # one by one: of many at once, no database returns the rows
        tx.changes.write(Bound.TASKS, tx.conn.execute(_TIME_TASKS, row).scalars())
        tx.changes.write(Bound.RESPONSES, tx.conn.execute(_TIME_RESPONSES, row).scalars())
    answered = [
        {"row": row.id, "time_s": block.timestamp_s}
        for block in blocks
        for row in tx.conn.execute(_ANSWERED_IN, {"number": block.number, "hash": block.hash, "source": source_id})
    ]
    if answered:
        tx.conn.execute(_TIME_ANSWERED, answered)
        tx.changes.write(Bound.TASKS, (row["row"] for row in answered))


_ANSWERED_IN = (
    select(tasks.c.id)
    .join(
        responses,
        and_(
            responses.c.source_id == tasks.c.source_id,
            responses.c.task_index == tasks.c.task_index,
            responses.c.tx_hash == tasks.c.responded_tx_hash,
        ),
    )
    .where(
        responses.c.block_number == bindparam("number"),
        responses.c.block_hash == bindparam("hash"),
        responses.c.source_id + 0 == bindparam("source"),
        tasks.c.responded_block == bindparam("number"),
    )
)


def record_senders(tx: Tx, senders: Mapping[Unsent, bytes]) -> None:
    """Store who sent these responses, 20 bytes each."""
    for response, sender in senders.items():
        answer = {"number": response.block_number, "transaction": response.tx_hash, "sender": sender}
        tx.changes.write(Bound.TASKS, tx.conn.execute(_SEND, answer).scalars())
