"""The pages by name."""

from collections.abc import Callable, Mapping

from watcher.dashboard.audit import audit_page
from watcher.dashboard.filters import BadQuery
from watcher.dashboard.health import health_page
from watcher.dashboard.lists import attempt_list, index_asked, task_list
from watcher.dashboard.overview import overview
from watcher.dashboard.shadow import shadow_page
from watcher.dashboard.task import task_page
from watcher.dashboard.view import Page, View

_PAGES: Mapping[str, Callable[[View], Page]] = {
    "overview": overview,
    "tasks": task_list,
    "attempts": attempt_list,
    "health": health_page,
    "audit": audit_page,
    "shadow": shadow_page,
}


def make(name: str, view: View, index: int | None = None) -> Page:
    """Return a page.

    Args:
        name: its name.
        view: what it is made from.
        index: the task that the page "task" shows.

    Raises:
        FixUsage: there is no such task.
    """
    try:
        if name == "task" and index is not None:
            return task_page(view, index)
        if name == "tasks" and (asked := index_asked(view.query)) is not None:
            return task_page(view, asked)
        return _PAGES[name](view)
    except BadQuery as error:
        return Page("message.html", {"text": str(error), "code": 400}, 400)
