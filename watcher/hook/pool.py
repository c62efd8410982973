"""The pool of worker processes that run one hook.

Invariants: a failure of one task's worker reaches no other task, and every slot of the pool is filled again; all
workers that take tasks hold the same code, the one accepted at the start or by the last `reload`.
"""

import asyncio
import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from loguru import logger

from watcher.backoff import doubled_s
from watcher.errors import FixConfiguration, TryLater
from watcher.hook import sandbox
from watcher.hook.code import CodeChanged, HookCode, names
from watcher.hook.output import Log
from watcher.hook.process import WorkerProcess
from watcher.hook.protocol import ANSWER_LIMIT_BYTES
from watcher.hook.wire import LoadRequest
from watcher.task import Later, Response, Skip, Task

START_TIMEOUT_S = 60.0
_BACKOFF_FIRST_S = 0.2
_BACKOFF_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """The numbers and limits of a pool.

    Attributes:
        workers: the number of worker processes.
        timeout_s: the limit of one run, in seconds.
        tasks_per_worker: a worker is replaced after so many runs; 0: never.
        answer_limit_bytes: the longest answer.
        start_timeout_s: the limit of loading the hook, in seconds.
        landlock: the mode of `watcher.hook.sandbox`.
        hidden: the paths that the sandbox closes to the hook.
        memory_mb: the limit of each process of a worker in MiB; 0: none.
    """

    workers: int = 2
    timeout_s: float = 30.0
    tasks_per_worker: int = 1000
    answer_limit_bytes: int = ANSWER_LIMIT_BYTES
    start_timeout_s: float = START_TIMEOUT_S
    landlock: str = sandbox.AUTO
    hidden: tuple[str, ...] = ()
    memory_mb: int = 0


class WorkerPool:
    """Warm worker processes that hold one hook; the `Runner` for Python functions.

        async with WorkerPool("squaring:respond", "/srv/hook", PoolPlan(workers=2), log=log) as pool:
            verdict = await pool.run(task)

    Entering loads the hook in a first worker. Later workers must load the same code (`watcher.hook.code`), until
    `reload` accepts another. `log` gets what the hook prints, line by line, cut and escaped.
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
        )
        self._log: Log = log or (lambda _task, _line: None)
        self._workers: set[WorkerProcess] = set()
        self._idle: list[WorkerProcess] = []
        self._slots: list[asyncio.Task[None]] = []
        self._queue = asyncio.Lock()
        self._changed = asyncio.Event()
        self._failure: str | None = None  # why no worker can be started
        self._code = HookCode("", {})
        self._outdated: set[WorkerProcess] = set()
        self._reserve: list[WorkerProcess] = []  # started by `reload`, not in a slot yet
        self._reloaded = asyncio.Event()
        self._temp_dir: tempfile.TemporaryDirectory[str] | None = None
        self.exposed = ""

    @property
    def alive(self) -> int:
        """Return the number of workers, idle or running."""
        return len(self._workers)

    @property
    def version(self) -> str:
        """Return the target and a short hash of the accepted source; "" before the start."""
        return self._code.version

    async def __aenter__(self) -> Self:
        """Load the hook in a first worker, and start the others.

        Raises:
            FixConfiguration: the hook cannot be loaded.
            TryLater: it cannot be loaded now.
        """
        self._temp_dir = _own_temp_dir(self._plan)
        try:
            first = await self._start()
        except BaseException:
            self._remove_temp_dir()
            raise
        self.exposed = first.exposed
        self._code = HookCode(first.version, first.files)
        workers: list[WorkerProcess | None] = [first, *[None] * (self._plan.workers - 1)]
        self._slots = [asyncio.create_task(self._fill_slot(worker), name="hook worker slot") for worker in workers]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for slot in self._slots:
            slot.cancel()
        workers = [*self._workers, *self._reserve]
        self._failure = "the hook workers have been stopped"
        try:
            await asyncio.gather(*self._slots, return_exceptions=True)
            for worker in workers:
                worker.stop() if worker in self._idle else worker.kill()
            await asyncio.gather(*(worker.ended.wait() for worker in workers))
        finally:
            for worker in workers:
                worker.kill()
            self._idle.clear()
            self._workers.clear()
            self._reserve.clear()
            self._remove_temp_dir()
            self._changed.set()

    async def run(self, task: Task) -> Response | Skip | Later:
        """Wait for an idle worker and return the hook's answer to one task. Cancelling kills the worker.

        Raises:
            AttemptFailed: the hook gave no answer.
            TryLater: no worker can be started, or the worker loaded changed code; the task is not at fault.
        """
        worker = await self._take()
        began_s = asyncio.get_running_loop().time()
        try:
            answer = await worker.run(task, self._plan.timeout_s)
            self._check_code(worker)
        finally:
            self._give_back(worker)
        if isinstance(answer, Skip | Later):
            return answer
        duration_ms = round((asyncio.get_running_loop().time() - began_s) * 1000)
        return Response(answer, worker.version, duration_ms)

    async def reload(self) -> tuple[str, str]:
        """Load the code that is on the disk now; give every later task to workers that hold it.

        Running tasks end on their workers. If this raises, the old workers stay.

        Returns:
            The old version and the new one.

        Raises:
            FixConfiguration: the new code cannot be loaded.
            TryLater: it cannot be loaded now.
        """
        worker = await self._start()
        before, self._code = self._code, HookCode(worker.version, worker.files)
        while self._reserve:
            self._reserve.pop().kill()
        self._reserve.append(worker)
        self._outdated = set(self._workers)
        self._failure = None
        for idle in [idle for idle in self._idle if idle in self._outdated]:
            self._idle.remove(idle)
            idle.stop()
        self._reloaded.set()
        return before.version, worker.version

    async def changed_files(self) -> str:
        """Return the names of files whose content on the disk differs from the accepted code; "" if none do."""
        changed = await asyncio.to_thread(self._code.changed_on_disk)
        return names(changed) if changed else ""

    def _check_code(self, worker: WorkerProcess) -> None:
        try:
            if worker not in self._outdated:
                self._code.add(worker.new_files)
        except CodeChanged:
            worker.kill()
            raise

    async def _take(self) -> WorkerProcess:
        async with self._queue:  # First come, first served: callers come in the order of their deadlines.
            while True:
                while self._idle:
                    worker = self._idle.pop()
                    if worker.usable and worker.is_quiet:
                        return worker
                    if worker.usable:
                        logger.warning(
                            "hook.channel_abused: a hook wrote to its worker's channel; the worker is killed"
                        )
                        worker.kill()
                if self._failure and not self._workers:
                    raise TryLater(self._failure)
                self._changed.clear()
                await self._changed.wait()

    def _give_back(self, worker: WorkerProcess) -> None:
        # While the code on the disk differs, no new worker would be accepted: a worker then stays beyond its share.
        if worker in self._outdated or (
            0 < self._plan.tasks_per_worker <= worker.runs and not self._code.changed_on_disk()
        ):
            worker.stop()
        if worker.usable and worker in self._workers:
            self._idle.append(worker)
            self._changed.set()

    async def _fill_slot(self, worker: WorkerProcess | None) -> None:
        """Keep one slot filled: replace its worker whenever that ends, until cancelled."""
        while True:
            worker = worker or await self._replacement()
            self._workers.add(worker)
            self._idle.append(worker)
            self._failure = None
            self._changed.set()
            await worker.ended.wait()
            self._workers.discard(worker)
            self._outdated.discard(worker)
            with contextlib.suppress(ValueError):
                self._idle.remove(worker)
            worker = None

    async def _replacement(self) -> WorkerProcess:
        """Return a worker that holds the accepted code; retry until there is one."""
        failures = 0
        while True:
            self._reloaded.clear()
            try:
                return await self._start_accepted()
            except (FixConfiguration, TryLater) as error:
                if self._failure != str(error):
                    logger.warning("hook.no_worker: a hook worker cannot be started; retrying", reason=str(error))
                self._failure = str(error)
                self._changed.set()
            failures += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(doubled_s(failures, _BACKOFF_FIRST_S, _BACKOFF_LIMIT_S)):
                    await self._reloaded.wait()

    async def _start_accepted(self) -> WorkerProcess:
        """Return a worker that holds the accepted code, from the reserve or newly started."""
        while self._reserve:
            worker = self._reserve.pop()
            if worker.usable:
                return worker
        worker = await self._start()
        try:
            self._code.check_start(worker.version, worker.files)
        except CodeChanged:
            worker.kill()
            await worker.ended.wait()
            raise
        return worker

    async def _start(self) -> WorkerProcess:
        return await WorkerProcess.start(
            self._request,
            timeout_s=self._plan.start_timeout_s,
            log=self._log,
            temp_dir=self._temp_dir.name if self._temp_dir else None,
        )

    def _remove_temp_dir(self) -> None:
        if self._temp_dir is not None:
            self._temp_dir.cleanup()
            self._temp_dir = None


def _own_temp_dir(plan: PoolPlan) -> tempfile.TemporaryDirectory[str] | None:
    """Make a temporary folder for the workers if the usual one contains a hidden path."""
    usual = os.path.realpath(tempfile.gettempdir())
    if plan.landlock == sandbox.OFF or usual not in sandbox.HiddenPaths(plan.hidden).folders:
        return None
    return tempfile.TemporaryDirectory(prefix="watcher-hook-", ignore_cleanup_errors=True)
