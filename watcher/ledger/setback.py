"""When the machine's clock is set back: what is due, or leased, by the clock must not wait until it is there again.

Invariant: no pause and no lease lasts longer than it was meant to, whatever the clock does; it may be cut short.
"""

from sqlalchemy import update

from watcher.ledger.source import note_event
from watcher.ledger.tables import OPEN, tasks
from watcher.ledger.writer import Tx


def follow(tx: Tx, source_id: int, back_ms: int) -> None:
    """The clock was set back by so much just now: what is still to come moves along with it."""
    for column in (tasks.c.due_at_ms, tasks.c.lease_until_ms):
        to_come = (tasks.c.source_id == source_id, OPEN, column > tx.now_ms)
        tx.conn.execute(update(tasks).where(*to_come).values({column: column - back_ms}))
    # Times in the journal go backwards here, and somebody may want to know why.
    note_event(tx, source_id, "clock set back", None, f"the clock was set back by {back_ms / 1000:.0f} s")


def at_start(tx: Tx, source_id: int) -> int:
    """Begin the pauses anew that were written by a clock ahead of this one. Returns how many there were.

    By how much it was set back while nobody looked is not known; that no pause is longer than it was meant to be is.
    """
    ahead = (
        tasks.c.source_id == source_id, OPEN, tasks.c.due_at_ms > tx.now_ms, tasks.c.updated_at_ms > tx.now_ms
    )  # fmt: skip
    pause = tasks.c.due_at_ms - tasks.c.updated_at_ms
    return tx.conn.execute(update(tasks).where(*ahead).values(due_at_ms=pause + tx.now_ms)).rowcount
