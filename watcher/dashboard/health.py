"""The page of health: services, what is wrong with its meaning and the advice, and the events of the ledger."""

from watcher.dashboard.overview import explained_conditions
from watcher.dashboard.view import Page, View
from watcher.health.conditions import KINDS
from watcher.ledger import queries
from watcher.ledger.replicas import list_replicas

_EVENTS = 50  # the newest


def health_page(view: View) -> Page:
    """Return the page of health."""
    leader_id, live = list_replicas(view.conn, view.source_id)
    values = {
        "services": view.health.services,
        "conditions": explained_conditions(view),
        "kinds": KINDS,
        "cursor": queries.cursor(view.conn, view.source_id),
        "events": queries.recent_events(view.conn, view.source_id, _EVENTS),
        "next_probe_s": view.next_probe_s,
        "replicas": live,
        "leader_id": leader_id,
    }
    return Page("health.html", values)
