"""An event loop whose time is made up: when nothing can run, time jumps to the next timer. No clock, socket or thread.

Invariant: the order in which things happen depends on nothing but the program and its random numbers.
"""

import asyncio
from asyncio.base_events import BaseEventLoop
from collections.abc import Coroutine
from typing import Any, cast


class Stuck(Exception):
    """Everybody waits for somebody, and there is no timer that would end it."""


class _NoSelector:
    now_s = 0.0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stuck("nothing will ever happen again")
        self.now_s += max(timeout, 0.0)
        return []


class VirtualLoop(BaseEventLoop):
    """`jobs` are all tasks in the order of their creation, so that a crash ends them in the same order each time."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _NoSelector()
        self.jobs: list[asyncio.Task[Any]] = []
        self.set_task_factory(cast("Any", self._make))

    def time(self) -> float:
        return self._selector.now_s

    def _make(self, loop: asyncio.AbstractEventLoop, piece: Coroutine[Any, Any, Any], **kwargs: Any) -> Any:
        made = asyncio.Task(piece, loop=loop, **kwargs)
        if len(self.jobs) > 512:
            self.jobs = [job for job in self.jobs if not job.done()]
        self.jobs.append(made)
        return made

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


class VirtualClock:
    """The loop's time as the daemon's clock; the wall clock starts at a fixed date."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now_ms(self) -> int:
        return 1_700_000_000_000 + int(self._loop.time() * 1000)

    def monotonic_s(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
