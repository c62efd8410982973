"""The cursor of a source and its marks, as a value."""

from dataclasses import dataclass

from watcher.task import Header


@dataclass(frozen=True, slots=True)
class Cursor:
    """The cursor of a source and its marks, as heights of the chain.

    `head_l1_block` and `final_l1_block` are blocks of the parent chain, None if contracts do not count those.
    `begun_block` is the head at the time the ledger was begun. `firm_block` is the newest final block that enough nodes
    call final: a change there breaks a promise of the chain.
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
        """Return `Header.closed_block` of the head."""
        return self.head_block if self.head_l1_block is None else self.head_l1_block - 1

    @property
    def final_closed_block(self) -> int:
        """Return `Header.closed_block` of the final block."""
        return self.final_block if self.final_l1_block is None else self.final_l1_block - 1

    @property
    def firm(self) -> Header:
        """Return the newest firm block; its hash is empty if there is none."""
        return Header(self.firm_block, self.firm_hash or b"", b"")
