"""A runner whose hook can be replaced by another one while it runs, without losing a task."""

import asyncio
from collections import Counter
from types import TracebackType
from typing import Self

from watcher.hook.runner import Runner
from watcher.hook.values import ValueTypes
from watcher.task import Later, Response, Skip, Task


class HookSwitch:
    """Runs every new task with the present runner. A replaced one ends its tasks and is closed after the last."""

    def __init__(self, runner: Runner) -> None:
        """`runner` is entered and closed by this one."""
        self._runner = runner
        self._busy: Counter[Runner] = Counter()
        self._idle = asyncio.Condition()
        self._retiring: dict[Runner, asyncio.Task[None]] = {}

    @property
    def version(self) -> str:
        """Return the name of the code that answers new tasks."""
        return self._runner.version

    @property
    def exposed(self) -> str:
        """Return why the present hook can reach secrets; "" if it cannot."""
        return self._runner.exposed

    async def __aenter__(self) -> Self:
        """Load the hook. Raises FixConfiguration or TryLater as the runner does."""
        await self._runner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        retiring = dict(self._retiring)
        for task in retiring.values():
            task.cancel()
        await asyncio.gather(*retiring.values(), return_exceptions=True)
        await asyncio.gather(*(runner.__aexit__(None, None, None) for runner in retiring), return_exceptions=True)
        await self._runner.__aexit__(kind, error, trace)

    async def run(self, task: Task) -> Response | Skip | Later:
        """Return the hook's answer to one task. Raises as `Runner.run` does."""
        runner = self._runner
        self._busy[runner] += 1
        try:
            return await runner.run(task)
        finally:
            self._busy[runner] -= 1
            if runner is not self._runner:
                async with self._idle:
                    self._idle.notify_all()

    async def replace(self, runner: Runner) -> tuple[str, str]:
        """Load another hook and run every later task with it. If this raises, the present one stays.

        Returns:
            The old version and the new one.

        Raises:
            FixConfiguration: the new hook cannot be loaded.
            TryLater: it cannot be loaded now.
        """
        await runner.__aenter__()
        old, self._runner = self._runner, runner
        retiring = self._retiring[old] = asyncio.create_task(self._retire(old), name="replaced hook")
        retiring.add_done_callback(lambda _: self._retiring.pop(old, None))
        return old.version, runner.version

    async def reload(self, types: ValueTypes | None = None) -> tuple[str, str]:
        """Load the code of the present hook anew. Returns and raises as `Runner.reload` does."""
        return await self._runner.reload(types)

    async def changed_files(self) -> str:
        """Return the names of source files that differ from the loaded code; "" if none do."""
        return await self._runner.changed_files()

    async def _retire(self, runner: Runner) -> None:
        async with self._idle:
            await self._idle.wait_for(lambda: not self._busy[runner])
        self._busy.pop(runner, None)
        await runner.__aexit__(None, None, None)
