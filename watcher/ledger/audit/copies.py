"""What a ledger keeps beside its bound rows, made of them: the counts of ended tasks, and the part without a hole.

Both show a deletion that took the entries of its rows with it: whoever removes the last day has to change these, too.
"""

from sqlalchemy import Connection, select

from watcher.ledger import ended
from watcher.ledger.audit.check import Check, Problem
from watcher.ledger.by_index import count_indices
from watcher.ledger.tables import coverage


def compare_copies(conn: Connection, source_id: int, check: Check) -> None:
    """Compare the copies with the rows, and add the differences to `check`."""
    for difference in ended.miscounted(conn, source_id):
        check.add(Problem("count", difference, "ended_counts"))
    row = conn.execute(select(coverage).where(coverage.c.source_id == source_id)).one_or_none()
    if row is None or row.next_index <= row.first_index:
        return
    known = count_indices(conn, source_id, row.first_index, row.next_index - 1)
    missing = row.next_index - row.first_index - known
    if missing:
        indices = f"from {row.first_index} to {row.next_index - 1}"
        message = f"the ledger had a task of every index {indices}, and holds {known} of them: {missing} are missing"
        check.add(Problem("count", message, "coverage"))
