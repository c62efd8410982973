"""A source, that is one task manager: its cursor and marks, its events, and the last known state of the contract."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, and_, func, insert, select, update

from watcher.errors import FixConfiguration
from watcher.ledger.audit.changes import Bound
from watcher.ledger.cursor import Cursor
from watcher.ledger.engine import insert_into
from watcher.ledger.row_ids import new_ids
from watcher.ledger.tables import OPEN, contract_facts, events, sources, tasks
from watcher.ledger.transaction import Tx
from watcher.task import Header

# In the order of the fields of `Cursor`.
CURSOR_COLUMNS = (
    sources.c.id,
    sources.c.start_block,
    sources.c.cursor_block,
    sources.c.cursor_hash,
    sources.c.head_block,
    sources.c.final_block,
    sources.c.final_hash,
    func.coalesce(sources.c.firm_block, -1),
    sources.c.firm_hash,
    sources.c.head_l1_block,
    sources.c.final_l1_block,
    sources.c.begun_block,
)


def open_source(
    tx: Tx,
    chain_id: int,
    task_manager: bytes,
    start_block: int,
    genesis_hash: bytes | None = None,
    head: Header | None = None,
) -> Cursor:
    """Return the cursor of a task manager. Create it at the first use, just before `start_block`.

    Args:
        tx: the transaction.
        chain_id: the chain.
        task_manager: the address of the contract, 20 bytes.
        start_block: the first block to read.
        genesis_hash: the hash of block 0, None if no node shows it.
        head: the head of the chain, kept as the head of the beginning.

    Raises:
        FixConfiguration: the ledger was begun on a chain with another block 0.
    """
    where = and_(sources.c.chain_id == chain_id, sources.c.task_manager == task_manager)
    known = select(sources.c.genesis_hash, *CURSOR_COLUMNS).where(where)
    row = tx.conn.execute(known).one_or_none()
    if row is None:
        before = start_block - 1
        tx.conn.execute(
            insert_into(sources, tx.conn.dialect.name)
            .values(
                chain_id=chain_id,
                task_manager=task_manager,
                start_block=start_block,
                cursor_block=before,
                head_block=before,
                final_block=-1,
                genesis_hash=genesis_hash,
                created_at_ms=tx.now_ms,
                begun_block=None if head is None else head.number,
                begun_closed_block=None if head is None else head.closed_block,
            )
            .on_conflict_do_nothing(index_elements=["chain_id", "task_manager"])
        )
        row = tx.conn.execute(known).one()
        tx.changes.write(Bound.SOURCES, [row.id])
        tx.changes.source_id = row.id
    begun_on, *marks = row
    if genesis_hash is not None and begun_on not in (None, genesis_hash):
        raise FixConfiguration(
            f"ledger.url: this ledger was begun on a chain whose block 0 is 0x{begun_on.hex()}, the nodes of "
            f"chain.rpc_urls have 0x{genesis_hash.hex()}; a chain that was reset needs a new ledger"
        )
    return Cursor(*marks)


def note_event(tx: Tx, source_id: int, kind: str, block_number: int | None, message: str) -> None:
    """Append an event of the source as a whole."""
    ids = new_ids(tx.conn, events, 1)
    tx.conn.execute(
        insert(events).values(
            id=ids[0], source_id=source_id, at_ms=tx.now_ms, kind=kind, block_number=block_number, words=message
        )
    )
    tx.changes.write(Bound.EVENTS, ids)
    tx.changes.source_id = source_id


CHANGED = "contract changed"


@dataclass(frozen=True, slots=True)
class Fact:
    """A property of the contract as text (None: it has none), and the block at which it was first read."""

    value: str | None
    block_number: int


@dataclass(frozen=True, slots=True)
class Change:
    """A changed property of the contract."""

    name: str
    before: str | None
    now: str | None

    def __str__(self) -> str:
        return f"its {self.name} was {self.before or 'none'}, and is {self.now or 'none'} now"


def known_facts(conn: Connection, source_id: int) -> dict[str, Fact]:
    """Return the last read properties of the contract by name."""
    rows = conn.execute(select(contract_facts).where(contract_facts.c.source_id == source_id))
    return {row.name: Fact(row.value, row.block_number) for row in rows}


def record_contract(tx: Tx, source_id: int, properties: Mapping[str, str | None], block_number: int) -> list[Change]:
    """Store properties of the contract, read at a block. Return the changes; a first reading is none."""
    before = known_facts(tx.conn, source_id)
    fresh = {name: value for name, value in properties.items() if name not in before or before[name].value != value}
    for name, value in fresh.items():
        statement = insert_into(contract_facts, tx.conn.dialect.name).values(
            source_id=source_id, name=name, value=value, block_number=block_number
        )
        new = {"value": statement.excluded.value, "block_number": statement.excluded.block_number}
        tx.conn.execute(statement.on_conflict_do_update(index_elements=["source_id", "name"], set_=new))
    changes = [Change(name, before[name].value, value) for name, value in fresh.items() if name in before]
    for change in changes:
        note_event(tx, source_id, CHANGED, block_number, str(change))
    return changes


def reset_deadlines(tx: Tx, source_id: int, window_blocks: int, *, shorten: bool) -> int:
    """Set the deadlines of the open tasks by a response window of so many blocks. Return the number of changes.

    Later deadlines apply at once, earlier ones only with `shorten`.
    """
    deadline = tasks.c.created_block + window_blocks
    differs = tasks.c.deadline_block != deadline if shorten else tasks.c.deadline_block < deadline
    reset = update(tasks).where(tasks.c.source_id == source_id, OPEN, differs).values(deadline_block=deadline)
    rows = list(tx.conn.execute(reset.returning(tasks.c.id)).scalars())
    tx.changes.write(Bound.TASKS, rows)
    tx.cursor_moved |= bool(rows)
    return len(rows)
