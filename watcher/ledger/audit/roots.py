"""The Merkle roots of the audit chain, one for each day, and their comparison with published ones.

A root covers the entries in a row whose times are of one day in UTC; a clock that was set back over midnight gives a
day two of them. Whoever edits the ledger can make a chain anew, and cannot change a root that others have seen.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from watcher.ledger.audit.check import Check, Problem
from watcher.ledger.audit.merkle import root_of
from watcher.ledger.audit.tables import audit_entries, audit_roots
from watcher.ledger.transaction import Tx

_DAY_MS = 24 * 3600 * 1000
_PAGE = 5000
_LAST_DAY = 2_932_896  # 9999-12-31, the last that a date can hold
CALLDATA_MARK = b"AVSAUDIT\x01"


@dataclass(frozen=True, slots=True)
class Root:
    """The root over the entries `first_seq` to `last_seq`, with the hash of the last one.

    `is_complete`: the day is over, so that no entry follows in it.
    """

    day: str
    first_seq: int
    last_seq: int
    root: bytes
    head_hash: bytes
    is_complete: bool = True

    @property
    def calldata(self) -> bytes:
        """Return the data of a transaction that anchors this root; any account can send it to any address."""
        return CALLDATA_MARK + self.first_seq.to_bytes(8) + self.last_seq.to_bytes(8) + self.root + self.head_hash


def day_of(at_ms: int) -> str:
    """Return the day of a time in UTC, such as 2026-11-30."""
    days = max(0, min(at_ms // _DAY_MS, _LAST_DAY))
    return datetime.fromtimestamp(days * _DAY_MS // 1000, UTC).date().isoformat()


def roots(conn: Connection, source_id: int, now_ms: int, above: int = 0) -> Iterator[Root]:
    """Yield the roots over the entries above a sequence number, the oldest first."""
    pending: Root | None = None
    for day, entries in groupby(_hashes(conn, source_id, above), key=lambda entry: day_of(entry.at_ms)):
        if pending is not None:
            yield pending
        pending = _root(day, entries)
    if pending is not None:
        yield replace(pending, is_complete=pending.day != day_of(now_ms))


def _root(day: str, entries: Iterator[Row[Any]]) -> Root:
    numbers: list[Row[Any]] = []

    def hashes() -> Iterator[bytes]:
        for entry in entries:
            numbers[1:] = [entry]  # the first and the last
            yield entry.hash

    root = root_of(hashes())
    return Root(day, numbers[0].seq, numbers[-1].seq, root, numbers[-1].hash)


def _hashes(conn: Connection, source_id: int, above: int, upto: int | None = None) -> Iterator[Any]:
    query = select(audit_entries.c.seq, audit_entries.c.at_ms, audit_entries.c.hash).where(
        audit_entries.c.source_id == source_id
    )
    if upto is not None:
        query = query.where(audit_entries.c.seq <= upto)
    while page := conn.execute(
        query.where(audit_entries.c.seq > above).order_by(audit_entries.c.seq).limit(_PAGE)
    ).all():
        yield from page
        above = page[-1].seq


def published(conn: Connection, source_id: int) -> Sequence[Row[Any]]:
    """Return the roots that this ledger has published, the oldest first."""
    query = select(audit_roots).where(audit_roots.c.source_id == source_id)
    return conn.execute(query.order_by(audit_roots.c.first_seq)).all()


def unpublished(conn: Connection, source_id: int, now_ms: int) -> list[Root]:
    """Return the roots of past days that this ledger has not published."""
    known = published(conn, source_id)
    above = known[-1].last_seq if known else 0
    return [root for root in roots(conn, source_id, now_ms, above) if root.is_complete]


def note_published(tx: Tx, source_id: int, root: Root) -> None:
    """Store that a root is published."""
    tx.conn.execute(
        insert(audit_roots).values(
            source_id=source_id,
            first_seq=root.first_seq,
            last_seq=root.last_seq,
            day=root.day,
            root=root.root,
            head_hash=root.head_hash,
            published_at_ms=tx.now_ms,
        )
    )


def compare(conn: Connection, source_id: int, check: Check, known: Mapping[str, Root]) -> None:
    """Compare published roots with the chain, and add the differences to `check`. The keys say where a root is from."""
    for origin, root in known.items():
        if (difference := _difference(conn, source_id, check.last_seq, root)) is not None:
            check.add(Problem("root", f"{origin}: {difference}", seq=root.first_seq))
    next_seq = 1
    for row in published(conn, source_id):
        if row.first_seq != next_seq:
            message = f"the ledger has published roots of the entries from 1 on, and lacks the one of entry {next_seq}"
            check.add(Problem("root", message, "audit_roots", seq=next_seq))
        next_seq = row.last_seq + 1


def _difference(conn: Connection, source_id: int, last_seq: int, root: Root) -> str | None:
    covered = f"the root of {root.day} over the entries {root.first_seq} to {root.last_seq}"
    if root.last_seq > last_seq:
        return f"{covered} was published, and the ledger ends with entry {last_seq}: it is cut off, or an older copy"
    days: set[str] = set()
    hashes: list[bytes] = [b""]

    def present() -> Iterator[bytes]:
        for entry in _hashes(conn, source_id, root.first_seq - 1, root.last_seq):
            days.add(day_of(entry.at_ms))
            hashes[0] = entry.hash
            yield entry.hash

    computed = root_of(present())
    if computed != root.root:
        return (
            f"{covered} is not the one that was published: an entry up to {root.last_seq} was changed, added or removed"
        )
    if hashes[0] != root.head_hash:
        return f"{covered} was published with another hash of its last entry"
    return None if days == {root.day} else f"{covered} covers entries of {', '.join(sorted(days))}"
