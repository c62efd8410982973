"""Rows, leaves and entries of the audit chain as bytes and hashes. Pure; docs/audit-format.md is the specification.

Invariant: two different rows never have the same bytes. A row is the MessagePack array of its columns' values in a
fixed order, each value in its shortest form, without the nulls at the end: a column that is added later, at the end,
changes no digest of a row that lacks it. Source: https://github.com/msgpack/msgpack/blob/master/spec.md.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from watcher.ledger.audit.changes import Bound

HASH_BYTES = 32
GENESIS = b"avs-task-watcher audit chain 1"
# The columns of each bound table in the order of their digest; new ones are added at the end, and may be null.
COLUMNS: dict[Bound, tuple[str, ...]] = {
    # Marks of a source move with the chain, and are not bound.
    Bound.SOURCES: ("id", "chain_id", "task_manager", "start_block", "genesis_hash", "created_at_ms"),
    # Not leases, due times, and readings that prove nothing alone.
    Bound.TASKS: (
        "id",
        "source_id",
        "task_index",
        "task_hash",
        "created_block",
        "message",
        "quorum_numbers",
        "quorum_threshold",
        "deadline_block",
        "deadline_s",
        "log",
        "block_number",
        "block_hash",
        "created_tx_hash",
        "log_index",
        "canonical",
        "state",
        "hook_attempts",
        "attempts",
        "response",
        "hook_version",
        "sig_hash",
        "tx_hash",
        "responded_block",
        "responded_tx_hash",
        "response_hash",
        "error",
        "seen_at_ms",
        "updated_at_ms",
        "block_time_s",
        "responded_time_s",
        "responded_by",
    ),
    Bound.JOURNAL: ("id", "task_id", "at_ms", "from_state", "to_state", "why", "attempt_id"),
    Bound.ATTEMPTS: (
        "id",
        "task_id",
        "kind",
        "number",
        "fence",
        "api",
        "request_digest",
        "began_at_ms",
        "ended_at_ms",
        "duration_ms",
        "outcome",
        "http_status",
        "code",
        "answer",
        "words",
        "tx_hash",
        "sig_hash",
    ),
    Bound.RESPONSES: (
        "id",
        "source_id",
        "task_index",
        "message",
        "log",
        "response_hash",
        "block_number",
        "block_hash",
        "tx_hash",
        "log_index",
        "block_time_s",
    ),
    Bound.EVENTS: ("id", "source_id", "at_ms", "kind", "block_number", "words"),
}

_WRITTEN_BYTES = 1 + 8 + HASH_BYTES
_REMOVED_BYTES = 1 + 8
_REMOVED = 0x80  # added to the number of the table
_pack = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Leaf:
    """One row in an entry: its table, its id, and the SHA-256 digest of its new content; None: it was removed."""

    table: Bound
    row_id: int
    digest: bytes | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One link of the chain: what one transaction changed.

    `kind` is "begun" (the first), "commit" or "past" (rows older than the chain). `note` is JSON, "" as a
    rule. `leaves` are packed (`pack_leaves`). `hash` covers everything else.
    """

    seq: int
    at_ms: int
    kind: str
    note: str
    leaves: bytes
    prev_hash: bytes
    hash: bytes


def row_digest(values: Sequence[Any]) -> bytes:
    """Return the SHA-256 digest of a row, whose values are in the order of `COLUMNS`."""
    kept: Sequence[Any] = values if type(values) in _PACKED else tuple(values)
    if kept and kept[-1] is None:
        end = len(kept) - 1
        while end and kept[end - 1] is None:
            end -= 1
        kept = kept[:end]
    try:
        packed = _pack(kept)
    except OverflowError:  # an index of more than 64 bits is packed as its 32 bytes
        packed = _pack(tuple(map(_bounded, kept)))
    return hashlib.sha256(packed).digest()


_PACKED = (tuple, list)  # other sequences, such as rows of SQLAlchemy, are copied into one


def _bounded(value: Any) -> Any:
    return value.to_bytes(HASH_BYTES) if isinstance(value, int) and value >= 2**64 else value


def pack_leaf(table: Bound, row_id: int, digest: bytes | None) -> bytes:
    """Return a leaf as bytes: number of the table (+ 0x80: removed), row id in 8 bytes, digest unless removed."""
    if digest is None:
        return _REMOVED_NUMBERS[table] + row_id.to_bytes(8)
    return _NUMBERS[table] + row_id.to_bytes(8) + digest


_NUMBERS = [bytes((number,)) for number in range(_REMOVED)]
_REMOVED_NUMBERS = [bytes((number | _REMOVED,)) for number in range(_REMOVED)]


def pack_leaves(leaves: Iterable[Leaf]) -> bytes:
    """Return leaves as bytes, one after the other."""
    return b"".join(pack_leaf(leaf.table, leaf.row_id, leaf.digest) for leaf in leaves)


def unpack_leaves(packed: bytes) -> Iterator[Leaf]:
    """Yield the leaves. Raises ValueError for bytes that are none."""
    at = 0
    while at < len(packed):
        number = packed[at]
        table = Bound(number & ~_REMOVED)
        size = _REMOVED_BYTES if number & _REMOVED else _WRITTEN_BYTES
        if at + size > len(packed):
            raise ValueError("the leaves are cut off")
        digest = None if number & _REMOVED else packed[at + _REMOVED_BYTES : at + size]
        yield Leaf(table, int.from_bytes(packed[at + 1 : at + _REMOVED_BYTES]), digest)
        at += size


def genesis_hash(chain_id: int, task_manager: bytes) -> bytes:
    """Return the previous hash of a chain's first entry: the chain is of this contract alone."""
    return hashlib.sha256(GENESIS + chain_id.to_bytes(HASH_BYTES) + task_manager).digest()


def link(prev_hash: bytes, seq: int, at_ms: int, kind: str, note: str, leaves: bytes) -> Entry:
    """Return the next entry of a chain."""
    return Entry(seq, at_ms, kind, note, leaves, prev_hash, entry_hash(prev_hash, seq, at_ms, kind, note, leaves))


def entry_hash(prev_hash: bytes, seq: int, at_ms: int, kind: str, note: str, leaves: bytes) -> bytes:
    """Return the SHA-256 hash of an entry: of the MessagePack array of these values."""
    return hashlib.sha256(_pack((prev_hash, seq, at_ms, kind, note, leaves))).digest()
