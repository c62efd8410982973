"""The way of single tasks through the stages, a log line for each step: `watcher run --trace`."""

from collections import OrderedDict
from collections.abc import Callable, Iterable

from loguru import logger

_TASKS = 1000  # whose times are remembered


class Trace:
    """The times of the steps, by task index. Off, a step costs the test of a flag."""

    def __init__(self, now_s: Callable[[], float] = lambda: 0.0, *, on: bool = False) -> None:
        """`now_s` is a monotonic clock in seconds."""
        self.on = on
        self._now_s = now_s
        self._times_s: OrderedDict[int, tuple[float, float]] = OrderedDict()  # of the beginning, and of the last step

    def step(self, name: str, indices: Iterable[int], began_s: float | None = None) -> None:
        """Log that tasks have come one step further.

        Args:
            name: the step that is done.
            indices: the tasks.
            began_s: when the way of these tasks began, by the clock; None: with this step, or before.
        """
        if not self.on:
            return
        now_s = self._now_s()
        for index in indices:
            start_s = now_s if began_s is None else began_s
            first_s, last_s = self._times_s.setdefault(index, (start_s, start_s))
            self._times_s[index] = first_s, now_s
            logger.info(
                "task.step: the task has come one step further",
                task=index,
                step=name,
                ms=round((now_s - last_s) * 1000, 1),
                total_ms=round((now_s - first_s) * 1000, 1),
            )
        while len(self._times_s) > _TASKS:
            self._times_s.popitem(last=False)
