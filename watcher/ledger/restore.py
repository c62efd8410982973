"""A ledger that knows less than it once did: a restored copy, or one whose write-ahead log is gone.

Invariant: what such a ledger may have sent an answer for is not given to the hook again before its deadline, unless a
person releases it. A task whose answer is in the ledger is not held: that answer was never changed, so the same bytes
are sent again.
"""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, case, func, select

from watcher.errors import FixConfiguration, TryLater
from watcher.ledger.engine import generation_of, set_generation
from watcher.ledger.high_water import HighWater, MarkFile, mark_of, read_mark
from watcher.ledger.source import note_event
from watcher.ledger.tables import events
from watcher.ledger.writer import Tx

_RESTORED, _RELEASED = "restored", "restored released"
GENERATION_LIMIT = 2**31 - 1  # of SQLite's user_version
_BUSY_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Loss:
    """Why the ledger may not know all it has sent, in words.

    `block`: no task of a later block was sent an answer; None where nobody knows.
    """

    words: str
    block: int | None


def loss_of(path: Path) -> Loss | None:
    """Compare a SQLite ledger with its mark. None: it knows all that was sent, or nothing ever was.

    Raises FixConfiguration where the file holds no ledger any more, TryLater where it cannot be read.
    """
    if not path.exists():
        return None
    try:
        mark = read_mark(path)
    except OSError as error:
        raise TryLater(f"{mark_of(path)} cannot be read: {error.strerror}") from None
    found = generation_of(path)
    if found is None:
        if mark is not None and mark.attempt:
            raise FixConfiguration(
                f"ledger.url: {path} holds no ledger any more, and answers were sent from it (its write-ahead log may "
                f"be gone). Restore a copy; or, if a second answer to a task does no harm, remove {mark_of(path)}"
            )
        return None
    generation, attempt = found
    if mark is None:
        begun = generation != 0 or attempt > 0
        return Loss(f"{_copy(generation)}, and has no mark beside it", None) if begun else None
    if not generation:  # by an older program, or the first start was cut short
        return _less(mark, attempt)
    if mark.generation != abs(generation):
        # A mark of an older program says nothing; a ledger of this one has given it numbers at its first start.
        is_old = mark.generation == 0 and generation > 0 and not mark.attempt and not attempt
        return None if is_old else Loss(f"{_copy(generation)}, and its mark is that of another ledger", None)
    return _less(mark, attempt)


def _copy(generation: int) -> str:
    if generation < 0:
        return "the ledger is a copy made by `watcher db backup`"
    return "the ledger was moved or copied here"


def _less(mark: HighWater, attempt: int) -> Loss | None:
    if attempt >= mark.attempt:
        return None
    words = f"the ledger knows attempt {attempt}, and attempt {mark.attempt} was sent: it is an older copy, or its"
    return Loss(f"{words} write-ahead log is gone", mark.block)


def start_generation(path: Path, mark: MarkFile, loss: Loss | None, number: int, head_block: int) -> None:
    """Begin a new line of the ledger at its first start and after a loss: `number` goes into mark and ledger.

    What was sent so far was for tasks up to `head_block`. Raises TryLater.
    """
    generation, attempt = generation_of(path) or (0, 0)
    if generation > 0 and loss is None:
        return
    try:
        mark.begin(HighWater(number, attempt, max(0, head_block)))
        with closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)) as connection:
            set_generation(connection, number)
    except (OSError, sqlite3.Error) as error:
        raise TryLater(f"the ledger or its mark could not be written ({error})") from None


def note_loss(tx: Tx, source_id: int, loss: Loss, head_block: int) -> int:
    """Hold back what was not answered yet up to the block of the loss, or up to `head_block`. Returns that block."""
    block = head_block if loss.block is None else loss.block
    note_event(tx, source_id, _RESTORED, block, f"{loss.words}; tasks up to block {block} are held back")
    return block


def release(tx: Tx, source_id: int) -> None:
    """Hold nothing back any more: a person says that the lost ledger cannot have answered it."""
    note_event(tx, source_id, _RELEASED, None, "a person released the tasks that were held back")


def held_to(conn: Connection, source_id: int) -> int:
    """The block up to which tasks without an answer are held back, -1 where none is."""
    released = select(func.max(case((events.c.kind == _RELEASED, events.c.id), else_=0))).where(
        events.c.source_id == source_id
    )
    block = conn.execute(
        select(func.max(events.c.block_number)).where(
            events.c.source_id == source_id,
            events.c.kind == _RESTORED,
            events.c.id > func.coalesce(released.scalar_subquery(), 0),
        )
    ).scalar()
    return -1 if block is None else block
