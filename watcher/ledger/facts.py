"""What was last read of the contract itself: who may answer, for how long, and which code decides.

Invariant: a fact and the event that tells of its change are written in one transaction.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from watcher.ledger.engine import insert_into
from watcher.ledger.source import note_event
from watcher.ledger.tables import OPEN, contract_facts, tasks
from watcher.ledger.writer import Tx

CHANGED = "contract changed"


@dataclass(frozen=True, slots=True)
class Fact:
    """A value as text, None where the contract has no such thing; and the block it was first read at."""

    value: str | None
    block_number: int


@dataclass(frozen=True, slots=True)
class Change:
    """A fact that is another one now."""

    name: str
    before: str | None
    now: str | None

    def __str__(self) -> str:
        return f"its {self.name} was {self.before or 'none'}, and is {self.now or 'none'} now"


def known(conn: Connection, source_id: int) -> dict[str, Fact]:
    """The facts by name, as they were read last."""
    rows = conn.execute(select(contract_facts).where(contract_facts.c.source_id == source_id))
    return {row.name: Fact(row.value, row.block_number) for row in rows}


def learn(tx: Tx, source_id: int, found: Mapping[str, str | None], block_number: int) -> list[Change]:
    """Keep what was read at a block. Returns what has changed; what is read for the first time has not."""
    before = known(tx.conn, source_id)
    fresh = {name: value for name, value in found.items() if name not in before or before[name].value != value}
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


def retime(tx: Tx, source_id: int, window_blocks: int, *, shorten: bool) -> int:
    """Give the open tasks the deadlines of this window: later ones at once, earlier ones only with `shorten`.

    Returns how many have another deadline now.
    """
    wanted = tasks.c.created_block + window_blocks
    wrong = tasks.c.deadline_block != wanted if shorten else tasks.c.deadline_block < wanted
    moved = tx.conn.execute(
        update(tasks).where(tasks.c.source_id == source_id, OPEN, wrong).values(deadline_block=wanted)
    ).rowcount
    tx.cursor_moved |= moved > 0
    return moved
