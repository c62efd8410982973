"""The overview: what is wrong and what to do, what is most urgent, what the last blocks brought."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from watcher.dashboard.charts import RANGES, chart_of, range_of
from watcher.dashboard.urgency import Urgent, urgent_tasks
from watcher.dashboard.view import Page, View
from watcher.health.conditions import KINDS
from watcher.ledger import queries
from watcher.state import ENDED, State

# The states as people look for them: what goes on, what waits for somebody, what is done.
_GROUPS: Sequence[tuple[str, Sequence[State]]] = (
    ("On the way", (State.SEEN, State.READY, State.COMPUTED, State.SENDING, State.ACCEPTED, State.RESPONDED)),
    ("Waiting or in doubt", (State.WAITING, State.BLOCKED, State.UNKNOWN, State.RESPONDED_OTHER)),
    ("Done", (State.FINAL, State.DELIVERED, State.FINAL_OTHER)),
    ("Without an answer", (State.EXPIRED, State.FAILED, State.SKIPPED, State.QUARANTINED, State.ORPHANED)),
)


@dataclass(frozen=True, slots=True)
class ExplainedCondition:
    """A condition as a page shows it. `since_ms` in milliseconds since 1970."""

    key: str
    title: str
    message: str
    advice: str
    since_ms: int


def overview(view: View) -> Page:
    """Return the overview."""
    cursor = queries.cursor(view.conn, view.source_id)
    counts = queries.count_by_state(view.conn, view.source_id)
    blocks = range_of(view.query.get("blocks"))
    urgent: Sequence[Urgent] = urgent_tasks(view, cursor)
    values: dict[str, Any] = {
        "conditions": explained_conditions(view),
        "groups": [(title, [(state, counts.get(state, 0)) for state in states]) for title, states in _GROUPS],
        "open_tasks": sum(count for state, count in counts.items() if state not in ENDED),
        "all_tasks": sum(counts.values()),
        "cursor": cursor,
        "lag_blocks": max(0, cursor.head_block - cursor.block),
        "urgent": urgent,
        "chart": chart_of(view, cursor, blocks),
        "ranges": RANGES,
    }
    return Page("overview.html", values)


def explained_conditions(view: View) -> list[ExplainedCondition]:
    """Return what is wrong now, with the advice of the table of conditions."""
    return [
        ExplainedCondition(each.key, KINDS[each.key].title, each.message, KINDS[each.key].advice, each.since_ms)
        for each in view.health.conditions
    ]
