"""The contracts that a ledger holds, and how the reading of each began."""

from dataclasses import dataclass

from sqlalchemy import Connection, select

from watcher.ledger.cursor import Cursor
from watcher.ledger.source import CURSOR_COLUMNS
from watcher.ledger.tables import blocks, sources


def find_source(conn: Connection, chain_id: int, task_manager: bytes) -> Cursor | None:
    """Return the cursor of a task manager, None if the ledger does not know it."""
    row = conn.execute(
        select(*CURSOR_COLUMNS).where(sources.c.chain_id == chain_id, sources.c.task_manager == task_manager)
    ).one_or_none()
    return None if row is None else Cursor(*row)


@dataclass(frozen=True, slots=True)
class KnownSource:
    """A contract in the ledger: the row id of its source, its chain, and its address (20 bytes)."""

    id: int
    chain_id: int
    task_manager: bytes


def all_sources(conn: Connection) -> list[KnownSource]:
    """Return the contracts that the ledger holds, the first one first."""
    rows = conn.execute(select(sources.c.id, sources.c.chain_id, sources.c.task_manager).order_by(sources.c.id))
    return [KnownSource(*row) for row in rows]


def is_empty(conn: Connection) -> bool:
    """Return True if the ledger knows no contract, because its first start was cut short."""
    return conn.execute(select(sources.c.id).limit(1)).first() is None


@dataclass(frozen=True, slots=True)
class Beginning:
    """The block at which the reading of a contract's tasks began, and the identity of the chain.

    `genesis_hash` is the hash of block 0, None if unknown. `final_blocks` are the oldest and the newest final block
    with a stored hash, as (number, hash).
    """

    start_block: int
    genesis_hash: bytes | None
    final_blocks: tuple[tuple[int, bytes], ...] = ()

    def mismatch(self, start_block: int | str) -> str | None:
        """Return the problem with `task_manager.start_block`, or None. "latest" applies to the first start only."""
        if start_block in ("latest", self.start_block):
            return None
        return (
            f"task_manager.start_block: this ledger was begun at block {self.start_block}, not {start_block}; "
            "use that number, or name a new ledger"
        )


def beginning(conn: Connection, chain_id: int, task_manager: bytes) -> Beginning | None:
    """Return the beginning of a contract's ledger, None if the ledger does not know the contract."""
    row = conn.execute(
        select(sources).where(sources.c.chain_id == chain_id, sources.c.task_manager == task_manager)
    ).one_or_none()
    if row is None:
        return None
    if row.final_hash is None:
        return Beginning(row.start_block, row.genesis_hash)
    oldest = conn.execute(
        select(blocks.c.number, blocks.c.hash)
        .where(blocks.c.source_id == row.id, blocks.c.number < row.final_block)
        .order_by(blocks.c.number)
        .limit(1)
    ).one_or_none()
    newest = (row.final_block, row.final_hash)
    finals = (newest,) if oldest is None else ((oldest.number, oldest.hash), newest)
    return Beginning(row.start_block, row.genesis_hash, finals)
