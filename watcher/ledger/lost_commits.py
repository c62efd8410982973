"""Commits that a PostgreSQL ledger has lost: it failed over to a standby that lacked them, or is a restored backup.

The audit chain gives each commit a number and a hash that stands for all before it. The daemon remembers the newest
entry of its own that holds an attempt to send, in memory and in a file, and asks for it with each new connection.
Invariant: a database without that entry sends no answer of the hook for a task up to the block of that attempt, as
`restore` has it for SQLite.
"""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from loguru import logger
from sqlalchemy import Connection, bindparam, extract, func, select
from sqlalchemy.engine import URL

from watcher.clock import Clock
from watcher.ledger.audit.tables import audit_entries
from watcher.ledger.database_clock import DatabaseClock
from watcher.ledger.move import name_of
from watcher.ledger.postgres import session_of
from watcher.ledger.restore import Loss, note_loss
from watcher.ledger.tables import sources
from watcher.ledger.transaction import Tx

_ASK_EVERY_S = 10.0
# A pooler may connect us to another server at any time; so often we ask whether it is still the same ledger.
_ASK_POOLER_EVERY_S = 1.0
_LIMIT_BYTES = 4096
_FIELDS = re.compile(r"seq=([0-9]{20}) hash=([0-9a-f]{64}) block=([0-9]{20})")
_BLOCK_LIMIT = 10**20
_QUESTION = select(
    func.floor(extract("epoch", func.clock_timestamp()) * 1000),
    select(audit_entries.c.hash)
    .where(audit_entries.c.source_id == bindparam("source"), audit_entries.c.seq == bindparam("seq"))
    .scalar_subquery(),
)


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest own entry of the audit chain with an attempt, and the highest block of the tasks of such attempts."""

    seq: int
    hash: bytes
    block: int


class EntryFile:
    """The file that remembers the newest entry over a stop of the daemon. One write of fixed length for each commit.

    It survives the process. Without it, as in a folder that is not writable, the memory of the process is all.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raises OSError, also for a symbolic link."""
        self._number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o640)

    def read(self) -> Newest | None:
        """Return the entry, None if there is none. Raises OSError."""
        match = _FIELDS.search(os.pread(self._number, _LIMIT_BYTES, 0).decode("ascii", "replace"))
        return None if match is None else Newest(int(match[1]), bytes.fromhex(match[2]), int(match[3]))

    def write(self, newest: Newest) -> None:
        """Replace the entry. Raises OSError."""
        line = f"seq={newest.seq:020} hash={newest.hash.hex()} block={newest.block:020}\n"
        os.pwrite(self._number, line.encode(), 0)

    def clear(self) -> None:
        """Forget the entry. Raises OSError."""
        os.ftruncate(self._number, 0)

    def close(self) -> None:
        os.close(self._number)


def read_clock(tx: Tx, clock: Clock) -> None:
    """Read the database's time for the first time, where the clock is the shared one."""
    if isinstance(clock, DatabaseClock):
        clock.read(int(tx.conn.execute(_QUESTION, {"source": 0, "seq": 0}).one()[0]))


def entry_file_of(url: URL, folder: Path, chain_id: int, task_manager: bytes) -> Path:
    """Return the path of the file for one contract's ledger on PostgreSQL."""
    name = f"{name_of(url)} {chain_id} {task_manager.hex()}"
    return folder / f"watcher-{hashlib.sha256(name.encode()).hexdigest()[:12]}.newest"


class LostCommits:
    """What the writer of one source asks the database before the verbs of a transaction, and what it remembers."""

    def __init__(
        self,
        clock: Clock,
        source_id: int,
        on_loss: Callable[[int], None] = lambda _block: None,
        file: EntryFile | None = None,
    ) -> None:
        """`on_loss` gets the block up to which tasks are held back. Raises OSError if the file cannot be read."""
        self._clock = clock
        self._source_id = source_id
        self._on_loss = on_loss
        self._file = file
        self._newest = None if file is None else file.read()
        self._asked_s: WeakKeyDictionary[Any, float] = WeakKeyDictionary()  # by connection
        self._hold_block: int | None = None

    def before_verbs(self, tx: Tx) -> str | None:
        """Ask what is due. Return the reason if commits were lost: the transaction then holds the hold, and no verb."""
        if not self._is_due(tx.conn):
            return None
        newest = self._newest
        asked = {"source": self._source_id, "seq": 0 if newest is None else newest.seq}
        at_ms, present_hash = tx.conn.execute(_QUESTION, asked).one()
        if isinstance(self._clock, DatabaseClock):
            self._clock.read(int(at_ms))
            tx.now_ms = self._clock.now_ms()
        self._asked_s[session_of(tx.conn)] = self._clock.monotonic_s()
        if newest is None or present_hash == newest.hash:
            return None
        return self._note(tx, newest)

    def _note(self, tx: Tx, newest: Newest) -> str:
        head_block = tx.conn.execute(select(sources.c.head_block).where(sources.c.id == self._source_id)).scalar() or 0
        reason = (
            f"the database has lost commits of this daemon (entry {newest.seq} of the audit chain): it is a standby "
            "that lacked them, or an older copy"
        )
        self._hold_block = note_loss(tx, self._source_id, Loss(reason, max(newest.block, head_block)), head_block)
        logger.error(
            "ledger.restored: the database has lost commits, and tasks without an answer are held back until their "
            "deadlines; see Restoring a backup in docs/service.md",
            reason=reason,
            up_to_block=self._hold_block,
        )
        return reason

    def follow(self, tx: Tx) -> None:
        """Remember the entry of a commit with attempts, and take over a hold. Raises OSError."""
        if self._hold_block is not None:
            self._newest, block, self._hold_block = None, self._hold_block, None
            if self._file is not None:
                self._file.clear()
            self._on_loss(block)
        if tx.attempt and self._source_id in tx.bound:
            before = 0 if self._newest is None else self._newest.block
            seq, hash_ = tx.bound[self._source_id]
            self._newest = Newest(seq, hash_, min(max(before, tx.attempt_block), _BLOCK_LIMIT - 1))
            if self._file is not None:
                self._file.write(self._newest)

    def _is_due(self, conn: Connection) -> bool:
        asked_s = self._asked_s.get(session_of(conn))
        every_s = _ASK_POOLER_EVERY_S if conn.info.get("pooled") else _ASK_EVERY_S
        return asked_s is None or self._clock.monotonic_s() - asked_s >= every_s
