"""The hooks of a test run: each is loaded once, and kept for the tests that follow."""

from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Any, Self

from watcher.errors import FixUsage
from watcher.hook.protocol import Answer
from watcher.hook.runner import Runner
from watcher.project.own_hook import Project, answer_of
from watcher.task import Task
from watcher.testing.portal import Portal
from watcher.testing.tasks import make_task


class Runners:
    """Runners by hook, as a context manager that stops them all."""

    def __init__(self, portal: Portal, project: Callable[[Any], Project]) -> None:
        self._portal, self._project = portal, project
        self._runners: dict[Hashable, Runner] = {}

    def run(self, *hook_and_task: Any) -> Answer:
        """Return the answer to a task: `run(task)`, or `run(hook, task)`. A message stands for a task that has it.

        Raises:
            AttemptFailed: the daemon would count the run as a failure.
            FixConfiguration: the daemon would not accept the hook.
            FixUsage: the arguments are no hook and no task.
        """
        if len(hook_and_task) not in (1, 2):
            raise FixUsage("run_hook takes a task, or a hook and a task")
        *hooks, task = hook_and_task
        if isinstance(task, bytes):
            task = make_task(task)
        if not isinstance(task, Task):
            raise FixUsage(f"run_hook takes a Task or bytes, not {type(task).__name__}")
        return self._portal.call(answer_of(self._opened(hooks[0] if hooks else None), task))

    def _opened(self, hook: Any) -> Runner:
        runner = self._runners.get(hook)
        if runner is None:
            runner = self._portal.call(self._project(hook).runner().__aenter__())
            self._runners[hook] = runner
        return runner

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for runner in self._runners.values():
            self._portal.call(runner.__aexit__(None, None, None))
