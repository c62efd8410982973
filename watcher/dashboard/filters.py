"""The filters of the list of tasks: those of `watcher tasks list`, in a query string."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from sqlalchemy import Connection

from watcher.ledger.finding import TaskFilter
from watcher.ledger.overview import block_of_newest
from watcher.report.selection import block_range, moment_ms, responder_of
from watcher.state import State

NAMES = ("state", "since", "until", "blocks", "answered_by", "reason")
_VALUE_LIMIT_CHARS = 200
# The tasks that a search for a text looks through, where nothing else narrows it.
SEARCHED_TASKS = 30_000


class BadQuery(Exception):
    """A query string that asks for something that cannot be; its text is for the person who asked."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asked for: the filter, and the texts in its form. `problem`: why a text does not read."""

    task_filter: TaskFilter
    texts: Mapping[str, str]
    problem: str = ""

    @property
    def query(self) -> str:
        """Return the filter as a query string that another page of the same list takes, "" without a filter."""
        return urlencode({name: text for name, text in self.texts.items() if text})


def asked(query: Mapping[str, str], now_ms: int) -> Asked:
    """Return what a query string asks for; `now_ms` is the present time in milliseconds since 1970."""
    texts = {name: query.get(name, "").strip()[:_VALUE_LIMIT_CHARS] for name in NAMES}
    try:
        return Asked(_filter(texts, now_ms), texts)
    except ValueError as error:
        return Asked(TaskFilter(), texts, str(error))


def bounded(conn: Connection, source_id: int, task_filter: TaskFilter) -> tuple[TaskFilter, bool]:
    """Return the filter, bound to the newest tasks where it would look for a text in all, and True if it was bound."""
    narrowed = (task_filter.since_ms, task_filter.first_block)
    if task_filter.reason is None or any(value is not None for value in narrowed):
        return task_filter, False
    first_block = block_of_newest(conn, source_id, SEARCHED_TASKS)
    return (task_filter, False) if first_block is None else (replace(task_filter, first_block=first_block), True)


def _filter(texts: Mapping[str, str], now_ms: int) -> TaskFilter:
    state = texts["state"]
    if state and state not in set(State):
        raise ValueError("there is no such state")
    since_ms, until_ms = (moment_ms(texts[name], now_ms) if texts[name] else None for name in ("since", "until"))
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise ValueError("since is not before until")
    first, last = block_range(texts["blocks"]) if texts["blocks"] else (None, None)
    responder = responder_of(texts["answered_by"]) if texts["answered_by"] else None
    return TaskFilter(
        State(state) if state else None, since_ms, until_ms, first, last, responder, texts["reason"] or None
    )
