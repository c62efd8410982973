"""The pool of worker processes that run one hook.

Invariant: a failure of one task's worker reaches no other task; a run that has not begun on it goes to another worker,
before all that came later.
"""

import asyncio
import heapq
import itertools
import math
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from loguru import logger

from watcher.errors import AttemptFailed, TryLater
from watcher.hook import sandbox
from watcher.hook.code import CodeChanged
from watcher.hook.group import WINDOW_S, Group, NotBegun, Result, Run
from watcher.hook.messages import LoadRequest, Reply
from watcher.hook.output import Log
from watcher.hook.pace import Pace
from watcher.hook.plan import PoolPlan
from watcher.hook.process import WorkerProcess
from watcher.hook.slots import Slots, Start
from watcher.hook.values import ValueTypes
from watcher.task import Later, Response, Skip, Task


class WorkerPool:
    """Warm worker processes that hold one hook; the `Runner` for Python functions.

        async with WorkerPool("squaring:respond", "/srv/hook", PoolPlan(workers=2), log=log) as pool:
            verdict = await pool.run(task)

    Entering loads the hook in a first worker. Later workers must load the same code (`watcher.hook.code`), until
    `reload` accepts another. `log` gets what the hook prints, line by line, cut and escaped.

    Runs that wait at the same time travel to a worker as a group (`watcher.hook.group`). Its size follows the pace of
    the hook, so that no run waits behind others while a worker is idle: a hook that takes long gets groups of one.
    """

    def __init__(
        self, target: str, app_dir: str | Path, plan: PoolPlan | None = None, *, log: Log | None = None
    ) -> None:
        self._plan = plan or PoolPlan()
        self._request = LoadRequest(
            target,
            str(Path(app_dir).absolute()),
            self._plan.answer_limit_bytes,
            self._plan.landlock,
            self._plan.hidden,
            self._plan.memory_mb,
            self._plan.tracebacks,
            self._plan.types.message,
            self._plan.types.response,
            background=self._plan.background,
        )
        self._log: Log = log or (lambda _task, _line: None)
        self._slots = Slots(self._plan.workers, self._put_idle, self._dispatch)
        self._idle: list[WorkerProcess] = []
        # A heap, first come, first served: callers come in the order of their deadlines.
        self._waiting: list[tuple[int, Run]] = []
        self._arrivals = itertools.count()
        self._groups: dict[WorkerProcess, Group] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._is_dispatch_due = False
        self._pace = Pace()
        self._temp_dir: tempfile.TemporaryDirectory[str] | None = None
        self.exposed = ""

    @property
    def alive(self) -> int:
        """Return the number of workers, idle or running."""
        return len(self._slots.workers)

    @property
    def supervisors(self) -> list[int]:
        """Return the process id of each worker's supervisor."""
        return [worker.pid for worker in self._slots.workers]

    @property
    def version(self) -> str:
        """Return the target and a short hash of the accepted source; "" before the start."""
        return self._slots.code.version

    async def __aenter__(self) -> Self:
        """Load the hook in a first worker, and start the others.

        Raises:
            FixConfiguration: the hook cannot be loaded.
            TryLater: it cannot be loaded now.
        """
        self._temp_dir = _own_temp_dir(self._plan)
        temp_dir = self._temp_dir.name if self._temp_dir else None
        try:
            first = await self._slots.open(Start(self._request, self._plan.start_timeout_s, self._log, temp_dir))
        except BaseException:
            self._remove_temp_dir()
            raise
        self.exposed = first.exposed
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._slots.close(lambda worker: worker in self._idle)
            await asyncio.gather(*self._serving, return_exceptions=True)
        finally:
            self._idle.clear()
            self._remove_temp_dir()
            self._dispatch()

    async def run(self, task: Task) -> Response | Skip | Later:
        """Return the hook's answer to one task. Cancelling kills the worker if the task runs.

        Raises:
            AttemptFailed: the hook gave no answer.
            TryLater: no worker can be started, or the worker loaded changed code; the task is not at fault.
        """
        run = Run(task, next(self._arrivals))
        self._wait(run)
        try:
            return await run.future
        except asyncio.CancelledError:
            for worker, group in self._groups.items():
                if group.running is run:
                    worker.kill()
            raise

    async def reload(self, types: ValueTypes | None = None) -> tuple[str, str]:
        """Load the code that is on the disk now; give every later task to workers that hold it.

        Running tasks end on their workers. If this raises, the old workers stay.

        Args:
            types: the types of messages and answers from now on; None: the present ones.

        Returns:
            The old version and the new one.

        Raises:
            FixConfiguration: the new code cannot be loaded.
            TryLater: it cannot be loaded now.
        """
        request = self._request
        if types is not None:
            request = replace(request, message_type=types.message, response_type=types.response)
        versions = await self._slots.reload(request)
        self._request = request
        for worker in [worker for worker in self._idle if self._slots.is_outdated(worker)]:
            self._idle.remove(worker)
            worker.stop()
        if self._groups:
            await asyncio.sleep(WINDOW_S)  # After that, no run of a group begins on an old worker.
        return versions

    async def changed_files(self) -> str:
        """Return the names of files whose content on the disk differs from the accepted code; "" if none do."""
        return await self._slots.changed_files()

    def _put_idle(self, worker: WorkerProcess) -> None:
        self._idle = [*filter(lambda idle: idle.usable, self._idle), worker]
        self._dispatch_soon()

    def _dispatch_soon(self) -> None:
        """Dispatch once all callers that are ready have come, so that their runs travel together."""
        if not self._is_dispatch_due:
            self._is_dispatch_due = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Give waiting runs to idle workers, a group to each. Refuse them if there is no worker and will be none."""
        self._is_dispatch_due = False
        while self._idle and self._has_waiting():
            worker = self._take_idle()
            if not worker.usable:
                continue
            if not worker.channel.is_quiet:
                logger.warning("hook.channel_abused: a hook wrote to its worker's channel; the worker is killed")
                worker.kill()
                continue
            if self._plan.room is not None and not self._plan.room.take(self._dispatch):
                self._idle.append(worker)
                return
            group = self._groups[worker] = Group(worker, self._take_runs(worker), self._plan.timeout_s)
            serving = asyncio.create_task(self._serve(worker, group), name="hook worker")
            self._serving.add(serving)
            serving.add_done_callback(self._serving.discard)
        if self._slots.failure and not self._slots.workers:
            while self._waiting:
                self._waiting.pop()[1].fail(TryLater(self._slots.failure))

    def _take_idle(self) -> WorkerProcess:
        """Take the idle worker that has given most answers since a run failed on it, if one did.

        The interpreter makes code faster while it runs; and a failed run may have left something behind.
        """
        worker = max(self._idle, key=lambda idle: idle.answers)
        self._idle.remove(worker)
        return worker

    def _has_waiting(self) -> bool:
        """Drop the first runs that nobody waits for any more. Return True if another one waits."""
        while self._waiting and self._waiting[0][1].is_over:
            heapq.heappop(self._waiting)
        return bool(self._waiting)

    def _take_runs(self, worker: WorkerProcess) -> list[Run]:
        """Take the first waiting runs for a worker: its share, and no more than fit into a group."""
        share = math.ceil(len(self._waiting) / (len(self._idle) + 1))
        size = min(share, self._pace.group_size)
        if self._plan.tasks_per_worker:
            size = min(size, max(1, self._plan.tasks_per_worker - worker.runs))
        runs: list[Run] = []
        while len(runs) < size and self._has_waiting():
            runs.append(heapq.heappop(self._waiting)[1])
        return runs

    def _wait(self, run: Run) -> None:
        """Put a run into the queue, at the place of its order."""
        heapq.heappush(self._waiting, (run.order, run))
        self._dispatch_soon()

    async def _serve(self, worker: WorkerProcess, group: Group) -> None:
        try:
            async for settled in group.results():
                for run, result in settled:
                    self._settle(worker, run, result)
        except Exception as bug:
            worker.kill()
            group.fail(bug)
            raise
        finally:
            del self._groups[worker]
            if self._plan.room is not None:
                self._plan.room.give_back()
        await self._give_back(worker)

    def _settle(self, worker: WorkerProcess, run: Run, result: Result) -> None:
        """Give a run its verdict, or put it back."""
        if isinstance(result, NotBegun):
            self._wait(run)
            return
        if isinstance(result, AttemptFailed):
            run.fail(result)
            return
        self._pace.add(result.duration_us)
        worker.answers = 0 if isinstance(result.answer, AttemptFailed) else worker.answers + 1
        try:
            self._slots.check_code(worker, result.files)
        except CodeChanged as error:
            run.fail(error)
        else:
            run.settle(_verdict(result, worker.version))

    async def _give_back(self, worker: WorkerProcess) -> None:
        # While the code on the disk differs, no new worker would be accepted: a worker then stays beyond its share.
        is_due = 0 < self._plan.tasks_per_worker <= worker.runs
        if is_due and worker.usable and not self._slots.is_outdated(worker) and not self._slots.code.changed_on_disk():
            await self._slots.renew(worker)
        if self._slots.is_outdated(worker):
            worker.stop()
        if worker.usable:
            self._put_idle(worker)

    def _remove_temp_dir(self) -> None:
        if self._temp_dir is not None:
            self._temp_dir.cleanup()
            self._temp_dir = None


def _verdict(reply: Reply, version: str) -> Response | Skip | Later | AttemptFailed:
    if isinstance(reply.answer, bytes):
        return Response(reply.answer, version, round(reply.duration_us / 1000))
    assert reply.answer is not None, "a run that has not begun has no verdict"
    return reply.answer


def _own_temp_dir(plan: PoolPlan) -> tempfile.TemporaryDirectory[str] | None:
    """Make a temporary folder for the workers if the usual one contains a hidden path."""
    usual = os.path.realpath(tempfile.gettempdir())
    if plan.landlock == sandbox.OFF or usual not in sandbox.HiddenPaths(plan.hidden).folders:
        return None
    return tempfile.TemporaryDirectory(prefix="watcher-hook-", ignore_cleanup_errors=True)
