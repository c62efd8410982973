"""The rescans of blocks below the cursor, one of confirmed and one of final blocks: their progress and their finds.

A node may show a block before it has all of its logs. A rescan stores the missing ones as the first read would have.
"""

from collections.abc import Sequence
from functools import cache

from sqlalchemy import Connection, bindparam, select, update

from watcher.ledger.engine import insert_into
from watcher.ledger.ingest import store_responses, store_tasks
from watcher.ledger.prepared import Prepared
from watcher.ledger.rows import chunks
from watcher.ledger.source import note_event
from watcher.ledger.tables import rescans, responses
from watcher.ledger.transaction import Tx
from watcher.task import Responded, Task

CONFIRMED = "confirmed"
FINAL = "final"


def rescanned_to(conn: Connection, source_id: int, name: str) -> int | None:
    """Return the last block of a rescan, None before its first block."""
    return conn.execute(_RESCANNED_TO, {"source": source_id, "name": name}).scalar()


_RESCANNED_TO = select(rescans.c.block).where(
    rescans.c.source_id == bindparam("source"), rescans.c.name == bindparam("name")
)


@cache
def _progress(dialect: str) -> Prepared:
    statement = insert_into(rescans, dialect)
    names = ("source_id", "name", "block")
    return Prepared(
        statement.on_conflict_do_update(index_elements=names[:2], set_={"block": statement.excluded.block}),
        names,
        names,
    )


def request_rescan(tx: Tx, source_id: int, name: str, first_block: int) -> None:
    """Set a rescan back to `first_block`, because the contract proves an event there that no read has shown."""
    progress = update(rescans).where(rescans.c.source_id == source_id, rescans.c.name == name)
    tx.conn.execute(progress.where(rescans.c.block >= first_block).values(block=first_block - 1))
    tx.cursor_moved = True


def record_rescan(
    tx: Tx, source_id: int, name: str, decoded: Sequence[Task], answered: Sequence[Responded], upto_block: int
) -> tuple[list[Task], list[Responded]]:
    """Store the logs of a rescan and its progress.

    Args:
        tx: the transaction.
        source_id: the task manager.
        name: the rescan, CONFIRMED or FINAL.
        decoded: the tasks in its blocks.
        answered: the response events in its blocks.
        upto_block: its last block.

    Returns:
        The tasks and the response events that the ledger did not have.
    """
    known = _known(tx.conn, source_id, sorted({response.task_index for response in answered}))
    late = [response for response in answered if _identity(response) not in known]
    new = store_tasks(tx, source_id, decoded)
    store_responses(tx, source_id, late)
    _progress(tx.conn.dialect.name).run(tx.conn, [(source_id, name, upto_block)])
    if count := len(new) + len(late):
        note_event(tx, source_id, "late logs", upto_block, f"the {name} look found {count} logs the first had not")
    return new, late


def _known(conn: Connection, source_id: int, indices: Sequence[int]) -> set[tuple[bytes, bytes, int, int, bytes]]:
    """Return the keys of the response events that the ledger has at these indices."""
    key = (
        responses.c.block_hash,
        responses.c.tx_hash,
        responses.c.log_index,
        responses.c.task_index,
        responses.c.response_hash,
    )
    of_source = select(*key).where(responses.c.source_id == source_id)
    return {
        tuple(row)
        for chunk in chunks(indices)
        for row in conn.execute(of_source.where(responses.c.task_index.in_(chunk)))
    }


def _identity(event: Responded) -> tuple[bytes, bytes, int, int, bytes]:
    """Return the key of a response event. The log index alone is no key: some nodes give two logs of a block one."""
    seen = event.seen_at
    return seen.block_hash, seen.tx_hash, seen.log_index, event.task_index, event.response_hash
