"""The page of the shadow: its newest runs beside those of the live hook, as `watcher shadow report` compares them."""

from typing import Any

from watcher.dashboard.view import Page, View
from watcher.ledger import shadow as runs
from watcher.report.shadow import ShadowReport

# A page reads so many runs, and shows so many differences; the command has no limit.
RUNS_LIMIT = 2000
_DIFFERENCES = 50


def shadow_page(view: View) -> Page:
    """Return the page of the newest version of the shadow that has run."""
    conn, source_id = view.conn, view.source_id
    version = runs.newest_version(conn, source_id)
    report = ShadowReport(runs.dropped_runs(conn, source_id), kept=_DIFFERENCES)
    before_id: int | None = None
    while version is not None and report.runs < RUNS_LIMIT:
        page = runs.stored_runs(conn, source_id, version, None, before_id)
        if not page:
            break
        report.add(page, view.plan.decoder)
        before_id = page[-1].id
    values: dict[str, Any] = {
        "report": report.as_json(),
        "differences": report.differences,
        "is_bound": report.runs >= RUNS_LIMIT,
    }
    return Page("shadow.html", values)
