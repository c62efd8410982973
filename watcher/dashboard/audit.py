"""The page of the audit: what became of all tasks, the chain that binds the records, and its published roots."""

from typing import Any

from watcher.dashboard.view import Page, View
from watcher.ledger import by_index, overview, queries
from watcher.ledger.audit import chain
from watcher.ledger.audit.past import progress
from watcher.ledger.coverage import covered
from watcher.state import ENDED, State

_ENTRIES = 20  # the newest
_ROOTS = 60  # the newest
_ANSWERED = (State.RESPONDED, State.FINAL)
_OTHERWISE = (State.RESPONDED_OTHER, State.FINAL_OTHER)


def audit_page(view: View) -> Page:
    """Return the page of the audit. It shows the records; only the commands that it names check them."""
    conn, source_id = view.conn, view.source_id
    counts = queries.count_by_state(conn, source_id)
    lowest = by_index.lowest(conn, source_id)
    head = chain.head(conn, source_id)
    values: dict[str, Any] = {
        "answered": sum(counts.get(state, 0) for state in _ANSWERED),
        "otherwise": sum(counts.get(state, 0) for state in _OTHERWISE),
        "missed": counts.get(State.EXPIRED, 0),
        "open_tasks": sum(count for state, count in counts.items() if state not in ENDED),
        "lowest": lowest,
        "next_index": None if lowest is None else covered(conn, source_id, lowest.task_index).next_index,
        "head": head,
        "entries": [] if head is None else chain.entries(conn, source_id, below=head[0] + 1, limit=_ENTRIES),
        "is_bound": _is_bound(view),
        "roots": overview.published_roots(conn, source_id, _ROOTS),
        "cursor": queries.cursor(conn, source_id),
    }
    return Page("audit.html", values)


def _is_bound(view: View) -> bool | None:
    """Return True if the rows older than the chain are bound, too; None if its first entries do not read."""
    try:
        past = progress(view.conn, view.source_id)
    except (ValueError, KeyError, TypeError):
        return None  # edited: `watcher audit verify` says where
    return past is not None and past.table is None
