"""The page of one task: its story, as `watcher explain` tells it, and what a person can do."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from watcher.dashboard.lists import INDEX_LIMIT
from watcher.dashboard.view import Page, View
from watcher.errors import FixUsage
from watcher.health.cause.cause import cause_of
from watcher.health.cause.evidence import Evidence
from watcher.ledger.manual import may_retry, may_skip
from watcher.ledger.story import source_record, task_records
from watcher.report.story import Story, tell
from watcher.state import State

_ENDS = 50  # lines from each end of a long list
_FIELDS_LIMIT = 64
T = TypeVar("T")


def stories(view: View, index: int) -> list[Story]:
    """Return the story of each task that the ledger knows at an index, the canonical one first.

    Raises FixUsage if there is none.
    """
    if index >= INDEX_LIMIT:
        raise FixUsage(f"the ledger knows no task {index}: no contract counts so far")
    source, plan = source_record(view.conn, view.source_id), view.plan
    known = []
    for record in task_records(view.conn, view.source_id, index):
        evidence = Evidence(
            record, source, view.now_ms, plan.confirmations, plan.max_attempts, view.daemon, is_running=True
        )
        known.append(tell(record, source.cursor, cause_of(evidence), plan.decoder, view.now_ms))
    return known


def task_page(view: View, index: int) -> Page:
    """Return the page of the tasks at an index. Raises FixUsage if there is none."""
    known = stories(view, index)
    state = State(known[0].state)
    values: dict[str, Any] = {
        "index": index,
        "stories": [(story, _Shortened(story)) for story in known],
        "may_retry": may_retry(state),
        "may_skip": may_skip(state),
    }
    return Page("task.html", values)


class _Shortened:
    """The parts of a story that a page shortens."""

    def __init__(self, story: Story) -> None:
        self.timeline, self.timeline_hidden = _ends(story.timeline)
        self.attempts, self.attempts_hidden = _ends(story.attempts)
        self.fields = [pair for pair, _ in zip(_named(story.fields), range(_FIELDS_LIMIT), strict=False)]


def _ends(lines: Sequence[T]) -> tuple[Sequence[T], int]:
    """Return the first and the last lines of a long list, and the number of those between."""
    hidden = len(lines) - 2 * _ENDS
    return (lines, 0) if hidden <= 0 else ([*lines[:_ENDS], *lines[-_ENDS:]], hidden)


def _named(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the named values of an event with their paths."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _named(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", str(value)
