"""The verbs for a wall clock that stepped back: due times and leases are times of day, and move with it."""

from sqlalchemy import case, update

from watcher.ledger.postgres import AWAITED
from watcher.ledger.source import note_event
from watcher.ledger.tables import OPEN, tasks
from watcher.ledger.transaction import Tx


def shift_pending(tx: Tx, source_id: int, back_ms: int) -> None:
    """Shift every pending due time and lease by -back_ms, because the wall clock stepped back by so much."""
    for column in (tasks.c.due_at_ms, tasks.c.lease_until_ms):
        pending = (tasks.c.source_id == source_id, OPEN, column > tx.now_ms)
        tx.conn.execute(update(tasks).where(*pending).values({column: column - back_ms}))
    # The time since a reading counts, so the times of readings shift in the past, too.
    absent = (tasks.c.source_id == source_id, OPEN, tasks.c.absent_at_ms.is_not(None))
    tx.conn.execute(update(tasks).where(*absent).values(absent_at_ms=tasks.c.absent_at_ms - back_ms))
    # The event explains why the times of the journal go backwards here.
    note_event(tx, source_id, "clock set back", None, f"the clock was set back by {back_ms / 1000:.0f} s")


def restart_pauses(tx: Tx, source_id: int) -> int:
    """Restart the pauses that a clock ahead of this one has written. Return their number.

    The clock may have stepped back while no daemon ran. The size of that step is unknown; restarted, no pause is longer
    than it was meant to be.
    """
    # A reading of zero postpones a task without an update of `updated_at_ms`.
    absent_later = tasks.c.absent_at_ms > tasks.c.updated_at_ms
    began_ms = case((absent_later, tasks.c.absent_at_ms), else_=tasks.c.updated_at_ms)
    ahead = (tasks.c.source_id == source_id, OPEN, tasks.c.due_at_ms > tx.now_ms, began_ms > tx.now_ms)
    pause_ms = tasks.c.due_at_ms - began_ms
    restart = update(tasks).where(*ahead).values(due_at_ms=pause_ms + tx.now_ms)
    return tx.conn.execute(restart, execution_options={AWAITED: True}).rowcount
