"""The mark beside a SQLite ledger: the last attempt to send, which the ledger must contain.

Invariant: the mark is raised after the commit of an attempt and before its POST, so a ledger without that attempt is an
older copy, or has lost its write-ahead log. A raise is one write of fixed length into the page cache: it survives the
process and needs no fsync. `sync` makes it survive a power cut.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from watcher.ledger.transaction import Tx

_LIMIT_BYTES = 4096
_FIELDS = re.compile(r"generation=([0-9]{10}) attempt=([0-9]{20}) block=([0-9]{20})")
_BLOCK_LIMIT = 10**20  # what the field holds


@dataclass(frozen=True, slots=True)
class HighWater:
    """The content of a mark: the least that the ledger beside it contains.

    `generation` is the number of this line of the ledger, 0 in a mark of an older program; `attempt` the row id of the
    last attempt to send; `block` the highest block of the tasks with such attempts.
    """

    generation: int = 0
    attempt: int = 0
    block: int = 0


def mark_of(path: Path) -> Path:
    """Return the path of the mark beside a SQLite ledger."""
    return path.with_name(path.name + ".begun")


def read_mark(path: Path) -> HighWater | None:
    """Return the mark beside the ledger at `path`, None if there is none. Raises OSError."""
    try:
        number = os.open(mark_of(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        text = os.read(number, _LIMIT_BYTES).decode("ascii", "replace")
    finally:
        os.close(number)
    match = _FIELDS.search(text)
    return HighWater() if match is None else HighWater(*map(int, match.groups()))


class MarkFile:
    """The mark, open for the life of the daemon. The writer thread raises it; `sync` runs in another thread."""

    def __init__(self, path: Path) -> None:
        """Open or create the mark beside the ledger at `path`. Raises OSError, also for a symbolic link."""
        self._name = path.name
        self._number = os.open(
            mark_of(path), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o640
        )
        self._now = read_mark(path) or HighWater()

    def begin(self, now: HighWater) -> None:
        """Start a new line of the ledger with the mark `now`, on the disk. Raises OSError."""
        self._now = now
        self._write()
        os.ftruncate(self._number, len(self._text()))
        os.fsync(self._number)

    def follow(self, tx: Tx) -> None:
        """Raise the mark to the attempts of a commit. Raises OSError."""
        if tx.attempt > self._now.attempt:
            block = min(max(self._now.block, tx.attempt_block), _BLOCK_LIMIT - 1)
            self._now = HighWater(self._now.generation, tx.attempt, block)
            self._write()

    def sync(self) -> None:
        """Write the mark to the disk. Raises OSError."""
        os.fdatasync(self._number)

    def close(self) -> None:
        os.close(self._number)

    def _write(self) -> None:
        os.pwrite(self._number, self._text(), 0)

    def _text(self) -> bytes:
        now = self._now
        note = f"A ledger was begun at {self._name}. Remove this file only together with it."
        return f"generation={now.generation:010} attempt={now.attempt:020} block={now.block:020}\n{note}\n".encode()
