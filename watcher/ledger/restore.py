"""A ledger that has lost attempts to send: a restored copy, or one without its write-ahead log.

Invariant: a task for which such a ledger may have sent an answer does not go to the hook again before its deadline,
unless a person releases it. A task whose answer is in the ledger is not held back: an answer never changes, so the same
bytes are sent again.
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
from watcher.ledger.transaction import Tx

_RESTORED, _RELEASED = "restored", "restored released"
GENERATION_LIMIT = 2**31 - 1  # of SQLite's user_version
_BUSY_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss of attempts, and the `reason` for a person.

    `block`: the last block with a task for which an answer was sent; None: unknown.
    """

    reason: str
    block: int | None


def loss_of(path: Path) -> Loss | None:
    """Compare a SQLite ledger with its mark. Return None if nothing is lost.

    Raises:
        FixConfiguration: the file holds no ledger any more, although answers were sent from it.
        TryLater: ledger or mark cannot be read.
    """
    if not path.exists():
        return None
    try:
        mark = read_mark(path)
    except OSError as error:
        raise TryLater(f"{mark_of(path)} cannot be read: {error.strerror}") from None
    identity = generation_of(path)
    if identity is None:
        if mark is not None and mark.attempt:
            raise FixConfiguration(
                f"ledger.url: {path} holds no ledger any more, and answers were sent from it (its write-ahead log may "
                f"be gone). Restore a copy; or, if a second answer to a task does no harm, remove {mark_of(path)}"
            )
        return None
    generation, attempt = identity
    if mark is None:
        begun = generation != 0 or attempt > 0
        return Loss(f"{_copy(generation)}, and has no mark beside it", None) if begun else None
    if not generation:  # made by an older program, or the first start was cut short
        return _less(mark, attempt)
    if mark.generation != abs(generation):
        # A mark of an older program is empty; this program fills it at its first start.
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
    reason = f"the ledger knows attempt {attempt}, and attempt {mark.attempt} was sent: it is an older copy, or its"
    return Loss(f"{reason} write-ahead log is gone", mark.block)


def start_generation(path: Path, mark: MarkFile, loss: Loss | None, number: int, head_block: int) -> None:
    """Begin a new line of the ledger, at its first start and after a loss.

    Args:
        path: the file of the ledger.
        mark: the mark beside it.
        loss: the loss, if there is one.
        number: the generation for ledger and mark, 1 to `GENERATION_LIMIT`.
        head_block: the head of the chain; answers so far were for tasks up to it.

    Raises:
        TryLater: ledger or mark cannot be written.
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
    """Hold back the unanswered tasks up to the block of the loss, or up to `head_block`. Return that block."""
    block = head_block if loss.block is None else loss.block
    note_event(tx, source_id, _RESTORED, block, f"{loss.reason}; tasks up to block {block} are held back")
    return block


def release(tx: Tx, source_id: int) -> None:
    """End the hold: a person says that the lost ledger cannot have answered those tasks."""
    note_event(tx, source_id, _RELEASED, None, "a person released the tasks that were held back")


def held_to(conn: Connection, source_id: int) -> int:
    """Return the block up to which unanswered tasks are held back, -1 without a hold."""
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
