"""Log lines about single tasks: their fields, and a bound on their number.

Invariant: a history of thousands of tasks, read at once, costs the lines of a `LineBudget` and one line per batch.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar

from loguru import logger

from watcher.clock import Clock
from watcher.once import LineBudget
from watcher.task import Task

T = TypeVar("T")

# 9999-12-31 23:59:59 UTC, the last second a date can show; contracts name later ones.
_LAST_TIME_S = 253_402_300_799


class TaskLines:
    """The budget of lines for one event."""

    def __init__(self, clock: Clock) -> None:
        self._budget = LineBudget(clock.monotonic_s)

    def split(self, tasks: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
        """Return the tasks that have a line each, and the others, which the caller reports in one line."""
        count = self._budget.take(len(tasks))
        return tasks[:count], tasks[count:]


class SeenLines:
    """The lines about new tasks."""

    def __init__(self, clock: Clock) -> None:
        self._lines = TaskLines(clock)

    def seen(self, tasks: Sequence[Task], begun_block: int | None) -> None:
        """Log new tasks. Those up to `begun_block`, where the ledger was begun, are history and share one line."""
        fresh = [task for task in tasks if begun_block is None or task.seen_at.block_number > begun_block]
        logged, _ = self._lines.split(fresh)
        for task in logged:
            logger.info(
                "task.seen: a new task is on the chain",
                **fields(task),
                block=task.seen_at.block_number,
                tx=task.seen_at.tx_hash,
            )
        if len(logged) < len(tasks):
            keys = {(task.task_index, task.task_hash) for task in logged}
            rest = [task for task in tasks if (task.task_index, task.task_hash) not in keys]
            blocks = [task.seen_at.block_number for task in rest]
            logger.info(
                "task.seen_more: new tasks are on the chain",
                **summary(rest),
                first_block=min(blocks),
                last_block=max(blocks),
            )


def fields(task: Task) -> dict[str, object]:
    """Return the fields of a line about a task: its index, and its deadline if it has one.

    `deadline_block` is in the contract's numbering; `deadline_at` is a time, where the contract names one.
    """
    line: dict[str, object] = {"task": task.task_index}
    if task.deadline_s is not None:
        at = datetime.fromtimestamp(min(task.deadline_s, _LAST_TIME_S), UTC)
        line["deadline_at"] = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    elif task.deadline_block is not None:
        line["deadline_block"] = task.deadline_block
    return line


def summary(tasks: Sequence[Task]) -> dict[str, object]:
    """Return the fields of a line about several tasks: their number, the lowest and the highest index."""
    indices = [task.task_index for task in tasks]
    return {"tasks": len(indices), "lowest": min(indices), "highest": max(indices)}
