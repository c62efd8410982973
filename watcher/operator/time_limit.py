"""One time limit for many requests that begin one after the other, with one timer for all of them."""

import asyncio
from types import TracebackType


class TimeLimit:
    """The limit of each `with` block, as of `asyncio.timeout`: one that takes longer is cancelled, with TimeoutError.

    All blocks have the same limit, so the one that began first is over first: the timer is set for it. A timer for each
    request would cost a tenth of a POST. For use within one event loop; a task is in one block at a time.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._ends_s: dict[asyncio.Task[object], float] = {}  # by the loop's time, the first one first
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        task, end_s = _task(), asyncio.get_running_loop().time() + self._limit_s
        assert task not in self._ends_s, "a task is in one block at a time"
        self._ends_s[task] = end_s
        if self._timer is None:
            self._set_timer(end_s)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = _task()
        is_over = self._ends_s.pop(task, None) is None
        # Whoever else has cancelled the task gets its CancelledError.
        if is_over and task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _set_timer(self, end_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(end_s, self._expire)

    def _expire(self) -> None:
        """Cancel the blocks whose time is over, and set the timer for the next one."""
        self._timer, now_s = None, asyncio.get_running_loop().time()
        for task, end_s in list(self._ends_s.items()):
            if end_s > now_s:
                self._set_timer(end_s)
                return
            del self._ends_s[task]
            task.cancel()


def _task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None, "a limit is of a task"
    return task
