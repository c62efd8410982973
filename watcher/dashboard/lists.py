"""The lists: tasks, and attempts over all tasks, newest first and paged by key."""

import re
from collections.abc import Mapping
from typing import Any

from watcher.dashboard.filters import SEARCHED_TASKS, BadQuery, asked, bounded
from watcher.dashboard.urgency import causes_of
from watcher.dashboard.view import Page, View
from watcher.ledger import overview, queries
from watcher.ledger.finding import listed_rows, matching
from watcher.ledger.shadow import newest_version
from watcher.ledger.tables import attempts
from watcher.report.story import blocks_left
from watcher.state import ENDED, State

INDEX_LIMIT = 2**256  # contracts count in uint256
_PAGE = 50  # lines
_KEY = re.compile(r"([0-9]{1,78})\.([0-9]{1,18})")
_ROW = re.compile(r"[0-9]{1,18}")
ATTEMPT_KINDS = ("post", "hook")
_OUTCOME_LIMIT_CHARS = attempts.c.outcome.type.length  # type: ignore[attr-defined]


def task_list(view: View) -> Page:
    """Return a page of tasks, newest first."""
    what = asked(view.query, view.now_ms)
    before = _before(view.query.get("before"))
    task_filter, is_bound = bounded(view.conn, view.source_id, what.task_filter)
    ids = matching(view.conn, view.source_id, task_filter, _PAGE + 1, reverse=True, below=before)
    rows = [] if what.problem else listed_rows(view.conn, ids[:_PAGE])
    cursor = queries.cursor(view.conn, view.source_id)
    rest = f"{rows[-1].task_index}.{rows[-1].id}" if rows and len(ids) > _PAGE else None
    values: dict[str, Any] = {
        "rows": [
            (row, None if row.state in ENDED else blocks_left(row, cursor), cause)
            for row, cause in zip(rows, causes_of(view, rows), strict=True)
        ],
        "asked": what,
        "searched": SEARCHED_TASKS if is_bound else None,
        "states": list(State),
        "before": rest,
        "is_first": before is None,
    }
    return Page("tasks.html", values, 400 if what.problem else 200)


def attempt_list(view: View) -> Page:
    """Return a page of attempts of all tasks, newest first."""
    kind = view.query.get("kind") or None
    if kind is not None and kind not in ATTEMPT_KINDS:
        raise BadQuery(f"there are attempts of the kinds {' and '.join(ATTEMPT_KINDS)} alone")
    outcome = view.query.get("outcome") or None
    if outcome is not None and (len(outcome) > _OUTCOME_LIMIT_CHARS or not outcome.isidentifier()):
        raise BadQuery("an outcome is one word, such as accepted, refused or unknown")
    before = view.query.get("before")
    if before and not _ROW.fullmatch(before):
        raise BadQuery("the page to go on from is not one of this list")
    page = overview.attempts_page(view.conn, view.source_id, int(before) if before else None, kind, outcome, _PAGE)
    values = {
        "rows": page.rows,
        "before": page.before,
        "kind": kind,
        "outcome": outcome,
        "is_first": not before,
        "shadow": newest_version(view.conn, view.source_id),
    }
    return Page("attempts.html", values)


def index_asked(query: Mapping[str, str]) -> int | None:
    """Return the index of a task that a person typed, None if there is none.

    Raises:
        BadQuery: it is no number.
    """
    text = query.get("index", "").strip()
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,78}", text):
        raise BadQuery("the index of a task is a whole number")
    return int(text)


def _before(text: str | None) -> tuple[int, int] | None:
    if not text:
        return None
    match = _KEY.fullmatch(text)
    if match is None or int(match[1]) >= INDEX_LIMIT:
        raise BadQuery("the page to go on from is not one of this list")
    return int(match[1]), int(match[2])
