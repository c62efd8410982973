"""The later looks at blocks the cursor has passed: how far they are, and what they find.

A node may have shown a block before it had all of its logs. What a second look finds is stored as the first would have.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, select, update

from watcher.ledger.engine import insert_into
from watcher.ledger.ingest import store_responses, store_tasks
from watcher.ledger.source import note_event
from watcher.ledger.tables import passes, responses
from watcher.ledger.writer import Tx
from watcher.task import Responded, Task

CONFIRMED = "confirmed"
FINAL = "final"


def reached(conn: Connection, source_id: int, name: str) -> int | None:
    """The last block this pass has looked at, None before its first look."""
    return conn.execute(select(passes.c.block).where(passes.c.source_id == source_id, passes.c.name == name)).scalar()


def repeat(tx: Tx, source_id: int, name: str, first_block: int) -> None:
    """Have a pass look once more at the blocks from `first_block` on: they hold something no look has shown."""
    again = update(passes).where(passes.c.source_id == source_id, passes.c.name == name)
    tx.conn.execute(again.where(passes.c.block >= first_block).values(block=first_block - 1))
    tx.cursor_moved = True


def look(
    tx: Tx, source_id: int, name: str, found: Sequence[Task], answered: Sequence[Responded], upto_block: int
) -> tuple[list[Task], list[Responded]]:
    """Store what a later look has found, and how far it has come. Return the tasks and responses that are new."""
    known = {
        (row.block_hash, row.tx_hash, row.log_index, row.task_index, row.response_hash)
        for row in tx.conn.execute(
            select(
                responses.c.block_hash,
                responses.c.tx_hash,
                responses.c.log_index,
                responses.c.task_index,
                responses.c.response_hash,
            ).where(
                responses.c.source_id == source_id,
                responses.c.task_index.in_(sorted({one.task_index for one in answered})),
            )
        )
    }
    late = [one for one in answered if _identity(one) not in known]
    new = store_tasks(tx, source_id, found)
    store_responses(tx, source_id, late)
    statement = insert_into(passes, tx.conn.dialect.name).values(source_id=source_id, name=name, block=upto_block)
    tx.conn.execute(
        statement.on_conflict_do_update(index_elements=["source_id", "name"], set_={"block": statement.excluded.block})
    )
    if count := len(new) + len(late):
        note_event(tx, source_id, "late logs", upto_block, f"the {name} look found {count} logs the first had not")
    return new, late


def _identity(event: Responded) -> tuple[bytes, bytes, int, int, bytes]:
    """What tells two response events apart: some nodes give two logs of a block one index."""
    seen = event.seen_at
    return seen.block_hash, seen.tx_hash, seen.log_index, event.task_index, event.response_hash
