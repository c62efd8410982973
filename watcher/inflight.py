"""Jobs that run at the same time, within a limit: hook runs, requests. Imports nothing of ours.

Invariant: no failure is lost. An exception that a job does not handle is a bug; the owner's next call raises it, so
that the stage fails loudly.
"""

import asyncio
import contextlib
from collections.abc import Coroutine


class InFlight:
    """A bounded set of running coroutines; the owner reads `room` before it starts another.

    The limit counts jobs that wait for the outside world. A job that has called `release_slot` no longer counts, but
    `drain` still awaits it. The ledger bounds those jobs: a new task is claimed by a later commit than theirs.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running: set[asyncio.Task[None]] = set()
        self._writing: set[asyncio.Task[None]] = set()
        self._awaited_room, self._has_room = 0, asyncio.Event()
        self._bug: BaseException | None = None

    def __len__(self) -> int:
        return len(self._running)

    @property
    def room(self) -> int:
        """Return how many more jobs may start. Raises the exception of a job that failed since the last call."""
        self._raise()
        return self._limit - len(self._running)

    def start(self, job: Coroutine[None, None, None], name: str) -> None:
        """Start a job. `name` is its name in tracebacks."""
        task = asyncio.create_task(job, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)

    def release_slot(self) -> None:
        """Free the slot of the running job that calls it, because only its write to the ledger is left."""
        job = asyncio.current_task()
        assert job in self._running, "only a running job has a slot"
        self._running.discard(job)
        self._writing.add(job)
        self._wake()

    async def wait_for_room(self, timeout_s: float, room: int = 1) -> None:
        """Wait until `room` more jobs may start, `timeout_s` at most. `room` is at most the limit."""
        self._awaited_room = room
        self._has_room.clear()
        if self.room < room:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._has_room.wait()

    async def drain(self) -> None:
        """Wait until all jobs have ended; cancel them when cancelled. Raises the exception of a job that failed."""
        try:
            while jobs := self._running | self._writing:
                await asyncio.wait(jobs)
        except asyncio.CancelledError:
            for job in self._running | self._writing:
                job.cancel()
            raise
        self._raise()

    def _ended(self, job: asyncio.Task[None]) -> None:
        self._running.discard(job)
        self._writing.discard(job)
        self._wake()
        if not job.cancelled() and (error := job.exception()) is not None:
            self._bug = self._bug or error
            self._has_room.set()

    def _wake(self) -> None:
        if self._limit - len(self._running) >= self._awaited_room:
            self._has_room.set()

    def _raise(self) -> None:
        if self._bug is not None:
            bug, self._bug = self._bug, None
            raise bug
