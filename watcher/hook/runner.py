"""The place where a hook runs, as stages and commands see it, and the one function that makes it.

A transport is one file with a class of the shape of `Runner`; `open_runner` chooses it by the form of the target.
"""

import re
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from watcher.errors import FixConfiguration
from watcher.hook.output import Log
from watcher.hook.plan import PoolPlan
from watcher.hook.pool import WorkerPool
from watcher.hook.target import setting
from watcher.hook.twice import TwiceRunner
from watcher.hook.values import ValueTypes
from watcher.task import Later, Response, Skip, Task

_URL = re.compile(r"https?:", re.IGNORECASE)


class Runner(Protocol):
    """A hook that is loaded while the runner is entered, as an async context manager."""

    @property
    def version(self) -> str:
        """Return the name of the code that answers; "" before it is loaded."""

    @property
    def exposed(self) -> str:
        """Return why the hook can reach secrets; "" if it cannot."""

    async def run(self, task: Task) -> Response | Skip | Later:
        """Return the hook's answer to one task.

        Raises:
            AttemptFailed: the hook gave no answer.
            TryLater: the runner cannot run hooks now; the task is not at fault.
        """

    async def reload(self, types: ValueTypes | None = None) -> tuple[str, str]:
        """Load the code anew; return the old version and the new one. The old code stays if this raises.

        Args:
            types: the types of messages and answers from now on; None: the present ones.

        Raises:
            FixConfiguration: the new code cannot be loaded.
            TryLater: it cannot be loaded now.
        """

    async def changed_files(self) -> str:
        """Return the names of source files that differ from the loaded code; "" if none do."""

    async def __aenter__(self) -> Self:
        """Load the hook.

        Raises:
            FixConfiguration: the hook cannot be loaded.
            TryLater: it cannot be loaded now.
        """

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the hook; runs that are not finished are killed."""


def open_runner(target: str, plan: PoolPlan, *, app_dir: str | Path = ".", log: Log | None = None) -> Runner:
    """Return the runner for a target, to be entered with `async with`.

    Args:
        target: the setting hook.target.
        plan: the numbers and limits of runs; a transport uses those that apply to it.
        app_dir: the folder that modules are imported from.
        log: gets what the hook prints, line by line, escaped and cut.

    Raises:
        FixConfiguration: the URLs are wrong, or a package is missing; a program or a module is checked on entering.
    """
    if plan.run_twice:
        single = replace(plan, run_twice=False, workers=workers_of_each(plan.workers))
        return TwiceRunner(lambda: open_runner(target, single, app_dir=app_dir, log=log), plan.types)
    if _URL.match(target):
        from watcher.hook.http import HttpRunner  # late: it loads aiohttp, which the tests of hooks need not pay for

        return HttpRunner(target, plan)
    if target.lower().startswith("grpc:"):
        return _open_performer(target, plan)
    return WorkerPool(target, app_dir, plan, log=log)


def workers_of_each(workers: int) -> int:
    """Return the workers of each of two runners that share so many."""
    return (workers + 1) // 2


def _open_performer(target: str, plan: PoolPlan) -> Runner:
    try:
        from watcher.hook.performer import PerformerRunner
    except ModuleNotFoundError as error:
        if error.name != "grpc":
            raise
        raise FixConfiguration(
            f"{setting(target)}: grpc is not installed; add the extra: avs-task-watcher[grpc]"
        ) from None
    return PerformerRunner(target, plan)
