"""A group: runs that one worker is given in one write. It runs one at a time and answers each.

Invariant: replies come in the order of the runs, so at most one run can be at fault: the first without a reply. Runs
before it are answered; runs behind it go to another worker, at no cost to them.

The first run of a group begins in any case; the others not after `WINDOW_S`, which the worker checks between the reply
to one run and the begin of the next, by the monotonic clock that all processes share. So once that time is over, the
daemon knows which single run may have begun, and takes back those behind it, however long that one takes. Within that
time a worker may be killed with a run begun that the daemon does not know of; that one runs again, as after a crash.

Each run has a number that cannot be guessed: bytes that a child or a late thread of a hook writes to the channel are no
answer to another task. A hook that reads the memory of its own process finds the numbers of its group. That gains it
nothing: in that process it can replace the functions that answer all later tasks.
"""

import asyncio
import contextlib
import os
import struct
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from enum import Enum

from watcher.errors import AttemptFailed
from watcher.hook import messages, wire
from watcher.hook.messages import Reply, TaskRequest
from watcher.hook.process import WorkerProcess
from watcher.task import Later, Response, Skip, Task

# A number has 7 bytes, so that the mark of a run has 16.
_SPARE_BITS = 8
# The time in which the later runs of a group may begin.
WINDOW_S = 0.05
# The pause before a look at the replies of a group: quick ones then arrive together.
_PAUSE_S = 0.002


class Run:
    """One run of the hook on a task; its caller awaits `future`."""

    __slots__ = ("future", "order", "task")

    def __init__(self, task: Task, order: int) -> None:
        """`order` decides which of the waiting runs begins first."""
        self.task = task
        self.order = order
        self.future: asyncio.Future[Response | Skip | Later] = asyncio.get_running_loop().create_future()

    @property
    def is_over(self) -> bool:
        """Return True if the run has its result, or its caller has gone."""
        return self.future.done()

    def settle(self, verdict: Response | Skip | Later | AttemptFailed) -> None:
        """Give the caller the verdict."""
        if isinstance(verdict, AttemptFailed):
            self.fail(verdict)
        elif not self.future.done():
            self.future.set_result(verdict)

    def fail(self, error: Exception) -> None:
        """Raise `error` to the caller."""
        if not self.future.done():
            self.future.set_exception(error)


class NotBegun(Enum):
    """The result of a run that did not begin and never will on this worker."""

    NOT_BEGUN = 0


NOT_BEGUN = NotBegun.NOT_BEGUN
Result = Reply | AttemptFailed | NotBegun


class Group:
    """The runs that a worker is given in one write; `timeout_s` is the limit of each, in seconds."""

    def __init__(self, worker: WorkerProcess, runs: Sequence[Run], timeout_s: float) -> None:
        self._worker = worker
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._limit_s = self._began_s + timeout_s
        self._window_s = self._began_s + WINDOW_S
        # The runs without a reply and their numbers, in the order of the worker.
        self._pending = deque(zip(runs, _numbers(len(runs)), strict=True))
        self._taken_back: set[Run] = set()
        self._answered: set[int] = set()

    @property
    def running(self) -> Run | None:
        """Return the first run without a reply, which may have begun; None once all have one."""
        return self._pending[0][0] if self._pending else None

    def fail(self, error: Exception) -> None:
        """Raise `error` to the callers of all runs without a reply."""
        for run, _ in self._pending:
            run.fail(error)

    async def results(self) -> AsyncIterator[Sequence[tuple[Run, Result]]]:
        """Run the hook on the tasks; yield each run once, as soon as its result is known, with others of that moment.

        The worker survives only if well-formed replies come in time.
        """
        worker = self._worker
        if worker.usable:
            worker.begin([(run.task, messages.output_mark(number)) for run, number in self._pending])
            worker.channel.send(self._requests())
            while self._pending and not worker.is_stopping:
                yield await self._next()
            await worker.end()
        yield [(run, NOT_BEGUN) for run, _ in self._pending if run not in self._taken_back]

    async def _next(self) -> Sequence[tuple[Run, Result]]:
        """Wait for replies, or for the end of the window. Return the runs that have a result by that."""
        if self._has_queue and not await self._is_answered():
            return self._take_back()
        run, _ = self._pending[0]
        if run.future.cancelled() and run not in self._taken_back and not self._has_reply():
            self._worker.kill()
            return []
        settled = self._settled(await self._lost() or self._read())
        while self._pending and not self._worker.is_stopping and self._has_reply():
            settled += self._settled(self._read())
        return settled

    def _settled(self, result: Result) -> list[tuple[Run, Result]]:
        """Take the result of the first run, and begin the time of the next one. Kill the worker if the run failed."""
        worker = self._worker
        if isinstance(result, NotBegun):
            settled = self._take_back()  # Nor will those behind it begin.
        else:
            settled = []
            worker.runs += 1
            if isinstance(result, AttemptFailed):
                worker.kill()
            elif result.is_last:
                worker.stop()
        self._limit_s = self._loop.time() + self._timeout_s
        worker.output.end_run()
        run, number = self._pending.popleft()
        self._answered.add(number)
        if run not in self._taken_back:
            settled.append((run, result))
        return settled

    def _requests(self) -> Iterator[wire.Fields]:
        last = len(self._pending) - 1
        for position, (run, number) in enumerate(self._pending):
            begin_by_s = self._window_s if position else None
            yield messages.write_task(TaskRequest(number, run.task, begin_by_s, is_marked=position < last))

    @property
    def _has_queue(self) -> bool:
        """Return True if a run that is not taken back waits behind the first one."""
        return len(self._pending) > 1 and self._pending[1][0] not in self._taken_back

    async def _is_answered(self) -> bool:
        """Wait for the first run's reply while later ones may begin. Return False if none came in that time."""
        channel, output = self._worker.channel, self._worker.output
        with contextlib.suppress(OSError, wire.BrokenMessage):  # `_result` meets the error again.
            if not channel.has_message:
                output.pause()
                await asyncio.sleep(_PAUSE_S)
                output.resume()
            return await channel.arrives_by(min(self._window_s, self._limit_s))
        return True

    def _has_reply(self) -> bool:
        try:
            return self._worker.channel.has_message
        except wire.BrokenMessage:
            return False

    def _take_back(self) -> list[tuple[Run, Result]]:
        """Take back the runs behind the first one: their time to begin is over, so they never will."""
        behind = [run for run, _ in self._pending if run not in self._taken_back][1:]
        self._taken_back.update(behind)
        return [(run, NOT_BEGUN) for run in behind]

    async def _lost(self) -> AttemptFailed | None:
        """Wait for the reply of the first run. Return None once it is there, else why it never will be."""
        try:
            if await self._worker.channel.arrives_by(self._limit_s):
                return None
            return AttemptFailed(f"the hook took longer than timeout_s = {self._timeout_s:g} s and was killed")
        except OSError:
            return AttemptFailed(f"while the hook ran, {await self._worker.exit_reason()}")
        except wire.BrokenMessage as error:
            return _malformed(error)

    def _read(self) -> Result:
        """Read the reply of the first run, which has arrived."""
        try:
            return self._reply(self._worker.channel.take())
        except wire.BrokenMessage as error:
            return _malformed(error)

    def _reply(self, fields: wire.Fields) -> Reply | NotBegun:
        """Return the reply of the first run. Raises BrokenMessage if it is no reply to it."""
        run, number = self._pending[0]
        if (replied := messages.read_run(fields)) in self._answered:
            self._worker.kill()  # An earlier run has replied twice; this one is not at fault.
            return NOT_BEGUN
        if replied != number:
            raise wire.BrokenMessage("a reply to another run")
        reply = messages.read_reply(fields, self._worker.answer_limit_bytes)
        if reply.answer is None:
            if not self._answered or self._loop.time() < self._window_s:
                raise wire.BrokenMessage("a run in its time that did not begin")
            return NOT_BEGUN
        if run in self._taken_back:
            raise wire.BrokenMessage("a run that began too late")
        elapsed_us = round((self._loop.time() - self._began_s) * 1e6)
        return reply if 0 <= reply.duration_us <= elapsed_us else replace(reply, duration_us=elapsed_us)


def _numbers(count: int) -> Sequence[int]:
    """Return numbers that cannot be guessed."""
    return [number >> _SPARE_BITS for number in struct.unpack(f"{count}Q", os.urandom(8 * count))]


def _malformed(error: wire.BrokenMessage) -> AttemptFailed:
    return AttemptFailed(f"the worker sent a malformed reply ({error}) and was killed")
