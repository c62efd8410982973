"""Calling a hook, whatever colour it has.

Invariant: this file alone knows that hooks may be async.
"""

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Self

from watcher.hook.load import Loaded
from watcher.task import Task

if TYPE_CHECKING:
    import asyncio


class Caller:
    """Calls the hook; an async one always on the same event loop, so that its clients survive from task to task."""

    def __init__(self, hook: Loaded) -> None:
        self._hook = hook
        self._runner: asyncio.Runner | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._runner is not None:
            self._runner.close()

    def __call__(self, task: Task) -> object:
        answer = self._hook.function(task)
        return self._wait(answer) if self._hook.is_async else answer  # type: ignore[arg-type]

    def _wait(self, answer: Coroutine[Any, Any, object]) -> object:
        if self._runner is None:
            import asyncio  # 50 ms that a sync hook need not pay

            self._runner = asyncio.Runner()
        return self._runner.run(answer)
