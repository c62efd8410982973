"""Conditions of the work: deadlines, responses that do not appear, a wrong convention, a changed hook. Pure."""

from collections.abc import Iterator

from watcher.health.conditions import CONVENTION, DEADLINE, HOOK_CHANGED, REPLICAS, RESTORED, UNSHOWN
from watcher.health.readings import Limits, Observations, WorkSeen

_REASON_LIMIT_CHARS = 300


def conditions_of_tasks(seen: Observations, limits: Limits) -> dict[str, str]:
    """Return the conditions by their keys, each with a message for a person."""
    conditions: dict[str, str] = {}
    work = seen.work if seen.reports_tasks else None
    if seen.has_deadlines and work is not None and (work.endangered or work.endangered_by_time):
        conditions[DEADLINE] = "; ".join(_deadlines(work, limits))
    if seen.hook is not None and seen.hook.changed:
        conditions[HOOK_CHANGED] = (
            f"the hook's code has changed since it was loaded ({seen.hook.changed}): "
            "SIGHUP (systemctl reload) accepts the new code; putting the old one back ends this"
        )
    if seen.has_deadlines and seen.reports_tasks and seen.store.held_back:
        conditions[RESTORED] = seen.store.held_back
    if seen.contradictions:
        conditions[CONVENTION] = "; ".join(seen.contradictions)
    if work is not None and work.unshown >= limits.unshown:
        conditions[UNSHOWN] = _unshown(work)
    if seen.replica is not None and seen.replica.missing_s > limits.missing_role_s:
        missing = ", ".join(seen.replica.missing)
        since = f"for {seen.replica.missing_s:.0f} s"
        conditions[REPLICAS] = f"no live replica of this ledger has had these roles {since}: {missing}"
    return conditions


def _deadlines(work: WorkSeen, limits: Limits) -> Iterator[str]:
    if work.endangered:
        left = work.blocks_left or 0
        within = f"within {limits.danger_blocks} blocks of the deadline"
        yield f"{_tasks(work.endangered)} {within} and unanswered, {left} block{'' if left == 1 else 's'} left"
    if work.endangered_by_time:
        within = f"within {limits.danger_s:.0f} s of the deadline"
        yield f"{_tasks(work.endangered_by_time)} {within} and unanswered, {work.seconds_left or 0:.0f} s left"


def _tasks(count: int) -> str:
    return "1 task is" if count == 1 else f"{count} tasks are"


def _unshown(work: WorkSeen) -> str:
    message = f"the API accepted {work.unshown} answers in a row, and the chain shows none of them"
    reason = f" ({work.unshown_reason[:_REASON_LIMIT_CHARS]})" if work.unshown_reason else ""
    return f"{message}{reason}; compare [signed] with the contract"
