"""The check of a ledger against its audit chain: every entry, and every bound row against the newest entry that has it.

The chain is read from its end, so that the first leaf of a row is its newest one. Memory is flat: a bit for each row,
and a page of entries. Invariant: all is read from one commit.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, or_, select
from sqlalchemy.engine import Row

from watcher.ledger.audit.chain import TABLES, digests, entries, head
from watcher.ledger.audit.changes import Bound
from watcher.ledger.audit.past import progress
from watcher.ledger.audit.record import Leaf, entry_hash, genesis_hash, unpack_leaves
from watcher.ledger.postgres import take_snapshot
from watcher.ledger.tables import sources, tasks

_PAGE = 500
_IDS_PAGE = 5000
_BITS_PER_PAGE = 1 << 9
_PROBLEMS_KEPT = 1000
_LAST_ROW_ID = 2**63 - 1  # an edited entry may name rows that no database can have


@dataclass(frozen=True, slots=True)
class Problem:
    """One contradiction: what is wrong, and the entry or row that it is about.

    `kind`: "entry changed", "entry missing", "entry added", "row changed", "row missing", "row added", "root",
    "count" (what is kept of the rows contradicts them), "structure" (a table, an index, a view or a trigger).
    `table` and `row_id` name the row, `task_index` its task where it is known, `seq` the entry.
    """

    kind: str
    message: str
    table: str | None = None
    row_id: int | None = None
    task_index: int | None = None
    seq: int | None = None


@dataclass(slots=True)
class Check:
    """The result. `unbound` are rows of the past that no entry has yet, `removed` those that retention or a reorg took.

    `structure_compared`: False for a ledger of a newer program. `problems` are the first thousand, `problem_count` all.
    """

    entries: int = 0
    first_at_ms: int | None = None
    last_seq: int = 0
    last_hash: bytes = b""
    rows: int = 0
    unbound: int = 0
    removed: int = 0
    structure_compared: bool = True
    problem_count: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.problem_count == 0

    def add(self, problem: Problem) -> None:
        """Add a problem to the list, or count it alone once the list is full."""
        self.problem_count += 1
        if len(self.problems) < _PROBLEMS_KEPT:
            self.problems.append(problem)


class _Bits:
    """A set of row ids as bits, in pages of 64 bytes: an edited entry may name rows that lie far apart."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}

    def add(self, number: int) -> bool:
        """Add a number. Return False if it was there."""
        page, bit = divmod(number, _BITS_PER_PAGE)
        bits = self._pages.setdefault(page, bytearray(_BITS_PER_PAGE // 8))
        if bits[bit >> 3] & (1 << (bit & 7)):
            return False
        bits[bit >> 3] |= 1 << (bit & 7)
        return True

    def __contains__(self, number: int) -> bool:
        page, bit = divmod(number, _BITS_PER_PAGE)
        bits = self._pages.get(page)
        return bits is not None and bool(bits[bit >> 3] & (1 << (bit & 7)))


class Checker:
    """One check of one source, in one read transaction."""

    def __init__(
        self, conn: Connection, source_id: int, follow: Callable[[int, int], None] = lambda _done, _total: None
    ) -> None:
        """`follow` is called with the number of entries read so far, and their number."""
        take_snapshot(conn)  # else each statement would read another commit
        self._conn = conn
        self._source_id = source_id
        self._follow = follow
        self.check = Check()
        self._seen: dict[Bound, _Bits] = {table: _Bits() for table in Bound}
        self._pending: dict[Bound, list[tuple[Leaf, int]]] = {table: [] for table in Bound}

    def run(self) -> Check:
        """Return what the chain says of the ledger."""
        check = self.check
        newest = head(self._conn, self._source_id)
        if newest is None:
            check.add(Problem("entry missing", "the ledger has no audit chain: its first entry is missing", seq=1))
            return check
        check.last_seq, check.last_hash = newest
        self._walk()
        for table in Bound:
            self._compare(table)
        self._search_additions()
        return check

    def _walk(self) -> None:
        check, newer = self.check, None
        below = check.last_seq + 1
        while page := entries(self._conn, self._source_id, below=below, limit=_PAGE):
            for entry in page:
                self._examine(entry, newer)
                newer = entry
            below = page[-1].seq
            check.entries += len(page)
            self._follow(check.entries, check.last_seq)
        assert newer is not None, "the chain has a newest entry"
        check.first_at_ms = newer.at_ms
        self._check_beginning(newer)

    def _examine(self, entry: Row[Any], newer: Row[Any] | None) -> None:
        check, seq = self.check, entry.seq
        computed = _hash_of(entry)
        if computed != entry.hash:
            check.add(Problem("entry changed", f"entry {seq} does not have the hash of its content", seq=seq))
        if newer is not None and newer.seq != seq + 1:
            first, last = seq + 1, newer.seq - 1
            missing = f"entry {first} is missing" if first == last else f"the entries {first} to {last} are missing"
            check.add(Problem("entry missing", missing, seq=first))
        elif newer is not None and newer.prev_hash != entry.hash:
            message = f"entry {newer.seq} does not follow entry {seq}: one of them was changed, added or moved"
            check.add(Problem("entry changed", message, seq=seq))
        try:
            for leaf in unpack_leaves(entry.leaves):
                self._take(leaf, seq)
        except ValueError:
            check.add(Problem("entry changed", f"entry {seq} holds no leaves that can be read", seq=seq))

    def _take(self, leaf: Leaf, seq: int) -> None:
        if not self._seen[leaf.table].add(leaf.row_id):
            return  # a newer entry has this row
        pending = self._pending[leaf.table]
        pending.append((leaf, seq))
        if len(pending) >= _PAGE:
            self._compare(leaf.table)

    def _check_beginning(self, oldest: Row[Any]) -> None:
        check = self.check
        source = self._conn.execute(
            select(sources.c.chain_id, sources.c.task_manager).where(sources.c.id == self._source_id)
        ).one()
        if oldest.seq != 1:
            message = f"the entries before entry {oldest.seq} are missing"
            check.add(Problem("entry missing", message, seq=oldest.seq - 1))
        elif oldest.prev_hash != genesis_hash(source.chain_id, source.task_manager):
            check.add(Problem("entry changed", "the chain begins as one of another contract", seq=1))

    def _compare(self, table: Bound) -> None:
        """Compare the pending leaves of a table with its rows."""
        pending, self._pending[table] = self._pending[table], []
        present = self._digests(table, [leaf.row_id for leaf, _ in pending if leaf.row_id <= _LAST_ROW_ID])
        for leaf, seq in pending:
            digest = present.get(leaf.row_id)
            self.check.removed += leaf.digest is None
            self.check.rows += leaf.digest is not None
            if digest == leaf.digest:
                continue
            if digest is None:
                kind, what = "row missing", f"is missing; entry {seq} has it"
            elif leaf.digest is None:
                kind, what = "row added", f"is there again; entry {seq} removed it"
            else:
                kind, what = "row changed", f"is not as entry {seq} has it"
            self._report(kind, table, leaf.row_id, what, seq)

    def _digests(self, table: Bound, ids: Sequence[int]) -> dict[int, bytes]:
        """Return the digests of rows. A row that cannot be read, as it holds another type, has an empty one."""
        try:
            return digests(self._conn, table, ids)
        except (TypeError, ValueError, OverflowError):
            if len(ids) == 1:
                return {ids[0]: b""}
        halves = (ids[: len(ids) // 2], ids[len(ids) // 2 :])
        return {row_id: digest for half in halves for row_id, digest in self._digests(table, half).items()}

    def _search_additions(self) -> None:
        """Search for rows that no entry has."""
        try:
            past = progress(self._conn, self._source_id)
        except (ValueError, KeyError, TypeError):
            past = None  # the entry was changed, which is a problem already
        for table in Bound:
            for row_id in self._ids(table):
                if row_id > 0 and row_id in self._seen[table]:
                    continue
                if past is not None and past.is_unbound(table, row_id):
                    self.check.unbound += 1
                else:
                    self._report("row added", table, row_id, "is in no entry", None)

    def _ids(self, table: Bound) -> Iterator[int]:
        """Yield the ids of all rows of the source; of journal and attempts also those without a task."""
        id_ = TABLES[table].c.id
        query = select(id_)
        if table in (Bound.JOURNAL, Bound.ATTEMPTS):
            owner = tasks.c.source_id
            query = query.outerjoin(tasks, tasks.c.id == TABLES[table].c.task_id)
            query = query.where(or_(owner == self._source_id, owner.is_(None)))
        elif table is Bound.SOURCES:
            query = query.where(id_ == self._source_id)
        else:
            query = query.where(TABLES[table].c.source_id + 0 == self._source_id)
        above = None
        while True:
            after = query if above is None else query.where(id_ > above)
            page = self._conn.execute(after.order_by(id_).limit(_IDS_PAGE)).scalars().all()
            yield from page
            if len(page) < _IDS_PAGE:
                return
            above = page[-1]

    def _report(self, kind: str, table: Bound, row_id: int, what: str, seq: int | None) -> None:
        index = self._task_index(table, row_id)
        of_task = "" if index is None else f" (of task {index})"
        name = table.name.lower()
        self.check.add(Problem(kind, f"row {row_id} of {name}{of_task} {what}", name, row_id, index, seq))

    def _task_index(self, table: Bound, row_id: int) -> int | None:
        """Return the index of the task that a row is about, None where it is not known."""
        if row_id > _LAST_ROW_ID:
            return None
        try:
            if table in (Bound.TASKS, Bound.RESPONSES):
                index = TABLES[table].c.task_index
                return self._conn.execute(select(index).where(TABLES[table].c.id == row_id)).scalar()
            if table in (Bound.JOURNAL, Bound.ATTEMPTS):
                owner = select(TABLES[table].c.task_id).where(TABLES[table].c.id == row_id).scalar_subquery()
                return self._conn.execute(select(tasks.c.task_index).where(tasks.c.id == owner)).scalar()
        except (TypeError, ValueError, OverflowError):
            pass
        return None


def _hash_of(entry: Row[Any]) -> bytes | None:
    try:
        return entry_hash(entry.prev_hash, entry.seq, entry.at_ms, entry.kind, entry.note, entry.leaves)
    except (TypeError, OverflowError):
        return None
