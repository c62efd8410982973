"""A task manager as a whole: where the ledger stands with it, and what happened to it."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, insert, select
from sqlalchemy.engine import Row

from watcher.errors import FixConfiguration
from watcher.ledger.engine import insert_into
from watcher.ledger.tables import events, sources
from watcher.ledger.writer import Tx
from watcher.task import Header


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far the ledger has read, and what it knows of the chain's head. Heights in blocks of the chain.

    `head_l1_block` and `final_l1_block` are those of the parent chain, None where contracts do not count them.
    `begun_block` is the head when the ledger was begun.
    `firm_block` is the newest final block that enough nodes call final: only there a change breaks a promise.
    """

    source_id: int
    start_block: int
    block: int
    hash: bytes | None
    head_block: int
    final_block: int
    final_hash: bytes | None
    firm_block: int = -1
    firm_hash: bytes | None = None
    head_l1_block: int | None = None
    final_l1_block: int | None = None
    begun_block: int | None = None

    @property
    def head_closed_block(self) -> int:
        """As `Header.closed_block`, of the head."""
        return self.head_block if self.head_l1_block is None else self.head_l1_block - 1

    @property
    def final_closed_block(self) -> int:
        """As `Header.closed_block`, of the final block."""
        return self.final_block if self.final_l1_block is None else self.final_l1_block - 1

    @property
    def firm(self) -> Header:
        """The newest firm block; its hash is empty while there is none."""
        return Header(self.firm_block, self.firm_hash or b"", b"")


def open_source(
    tx: Tx,
    chain_id: int,
    task_manager: bytes,
    start_block: int,
    genesis_hash: bytes | None = None,
    head: Header | None = None,
) -> Cursor:
    """The cursor of a task manager, made at its first use: it then stands just before `start_block`.

    `genesis_hash` is block 0's, None where no node shows it. `head` is the chain's, kept as that of the
    beginning. Raises FixConfiguration when the ledger was begun on a chain with another one.
    """
    where = and_(sources.c.chain_id == chain_id, sources.c.task_manager == task_manager)
    row = tx.conn.execute(select(sources).where(where)).one_or_none()
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
        row = tx.conn.execute(select(sources).where(where)).one()
    if genesis_hash is not None and row.genesis_hash not in (None, genesis_hash):
        raise FixConfiguration(
            f"ledger.url: this ledger was begun on a chain whose block 0 is 0x{row.genesis_hash.hex()}, the nodes of "
            f"chain.rpc_urls have 0x{genesis_hash.hex()}; a chain that was reset needs a new ledger"
        )
    return cursor_of(row)


def cursor_of(row: Row[Any]) -> Cursor:
    """The cursor in a row of `sources`."""
    return Cursor(
        row.id,
        row.start_block,
        row.cursor_block,
        row.cursor_hash,
        row.head_block,
        row.final_block,
        row.final_hash,
        -1 if row.firm_block is None else row.firm_block,
        row.firm_hash,
        row.head_l1_block,
        row.final_l1_block,
        row.begun_block,
    )


def note_event(tx: Tx, source_id: int, kind: str, block_number: int | None, words: str) -> None:
    """Append something that happened to the source as a whole."""
    tx.conn.execute(
        insert(events).values(source_id=source_id, at_ms=tx.now_ms, kind=kind, block_number=block_number, words=words)
    )
