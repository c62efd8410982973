"""The workers together: always as many as asked for, whatever a hook does to one of them.

Invariants: what happens to the worker of one task reaches no other task, and every place has a keeper that fills it
again; all workers that take tasks hold the same code, the one that was accepted at the start or by the last `reload`.
"""

import asyncio
import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

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
    """How a crew works. `timeout_s` is for one run; after `tasks_per_worker` runs a worker is replaced, 0: never.

    `landlock` and the paths `hidden` from the hook are those of `watcher.hook.sandbox`; `memory_mb` is the limit of
    each process of a worker in MiB, 0: none.
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
    """Warm worker processes that hold one hook.

        async with Crew("squaring:respond", "/srv/hook", CrewPlan(workers=2), log=log) as crew:
            verdict = await crew.run(task)

    Entering loads the hook in a first worker and raises FixConfiguration, or TryLater where the reason may pass. Later
    workers must load the same code (`watcher.hook.code`), until `reload` accepts another. `log` gets what the hook
    prints, line by line, cut and escaped.
    """

    def __init__(
        self, target: str, app_dir: str | Path, plan: PoolPlan | None = None, *, log: Log | None = None
    ) -> None:
        self._plan = plan or PoolPlan()
        self._order = LoadRequest(
            target,
            str(Path(app_dir).absolute()),
            self._plan.answer_limit_bytes,
            self._plan.landlock,
            self._plan.hidden,
            self._plan.memory_mb,
        )
        self._log: Log = log or (lambda _task, _line: None)
        self._staff: set[WorkerProcess] = set()
        self._idle: list[WorkerProcess] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._turn = asyncio.Lock()
        self._news = asyncio.Event()
        self._trouble: str | None = None
        self._code = HookCode("", {})
        self._outdated: set[WorkerProcess] = set()
        self._fresh: list[WorkerProcess] = []
        self._reloaded = asyncio.Event()
        self._temp_dir: tempfile.TemporaryDirectory[str] | None = None
        self.exposed = ""

    @property
    def alive(self) -> int:
        """How many workers there are at the moment, at rest or at work."""
        return len(self._staff)

    @property
    def version(self) -> str:
        """The code that answers: the target and a short hash of its source. Empty before the start."""
        return self._code.version

    async def __aenter__(self) -> Self:
        self._temp_dir = _own_temp_dir(self._plan)
        try:
            first = await self._start()
        except BaseException:
            self._remove_temp_dir()
            raise
        self.exposed = first.exposed
        self._code = HookCode(first.version, first.files)
        places: list[WorkerProcess | None] = [first, *[None] * (self._plan.workers - 1)]
        self._keepers = [asyncio.create_task(self._keep(worker), name="hook keeper") for worker in places]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        staff = [*self._staff, *self._fresh]
        self._trouble = "the hook workers have been stopped"
        try:
            await asyncio.gather(*self._keepers, return_exceptions=True)
            for worker in staff:
                worker.stop() if worker in self._idle else worker.kill()
            await asyncio.gather(*(worker.ended.wait() for worker in staff))
        finally:
            for worker in staff:
                worker.kill()
            self._idle.clear()
            self._staff.clear()
            self._fresh.clear()
            self._remove_temp_dir()
            self._news.set()

    async def run(self, task: Task) -> Response | Skip | Later:
        """Have the hook answer one task, waiting for a free worker first.

        Raises AttemptFailed when the hook gave no answer, and TryLater, which is not the task's fault, when no worker
        can be started or the worker loaded changed code meanwhile. Cancelling kills the worker.
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
        """Load the code that is on the disk now, and give every later task to workers that hold it.

        Running tasks end on the worker they began on. Returns the old version and the new one. Raises
        FixConfiguration or TryLater when the new code cannot be loaded: the old workers stay.
        """
        fresh = await self._start()
        before, self._code = self._code, HookCode(fresh.version, fresh.files)
        while self._fresh:
            self._fresh.pop().kill()
        self._fresh.append(fresh)
        self._outdated = set(self._staff)
        self._trouble = None
        for worker in [one for one in self._idle if one in self._outdated]:
            self._idle.remove(worker)
            worker.stop()
        self._reloaded.set()
        return before.version, fresh.version

    async def changed_files(self) -> str:
        """Name the files whose content on the disk is no longer what the workers loaded; empty where none is."""
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
        async with self._turn:  # first come, first served: callers come in the order of their deadlines
            while True:
                while self._idle:
                    worker = self._idle.pop()
                    if worker.usable and worker.is_quiet:
                        return worker
                    if worker.usable:
                        self._log(None, "a hook wrote into its worker's channel between two tasks: worker killed")
                        worker.kill()
                if self._trouble and not self._staff:
                    raise TryLater(self._trouble)
                self._news.clear()
                await self._news.wait()

    def _give_back(self, worker: WorkerProcess) -> None:
        # A worker that no other could replace stays on beyond its share.
        if worker in self._outdated or (
            0 < self._plan.tasks_per_worker <= worker.runs and not self._code.changed_on_disk()
        ):
            worker.stop()
        if worker.usable and worker in self._staff:
            self._idle.append(worker)
            self._news.set()

    async def _keep(self, worker: WorkerProcess | None) -> None:
        """Keep one place filled, for as long as the crew lives."""
        while True:
            worker = worker or await self._replacement()
            self._staff.add(worker)
            self._idle.append(worker)
            self._trouble = None
            self._news.set()
            await worker.ended.wait()
            self._staff.discard(worker)
            self._outdated.discard(worker)
            with contextlib.suppress(ValueError):
                self._idle.remove(worker)
            worker = None

    async def _replacement(self) -> WorkerProcess:
        failures = 0
        while True:
            self._reloaded.clear()
            try:
                return await self._started()
            except (FixConfiguration, TryLater) as problem:
                if self._trouble != str(problem):
                    self._log(None, f"no new hook worker, tried again until there is one: {problem}")
                self._trouble = str(problem)
                self._news.set()
            failures += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(doubled_s(failures, _BACKOFF_FIRST_S, _BACKOFF_LIMIT_S)):
                    await self._reloaded.wait()

    async def _started(self) -> WorkerProcess:
        """Return a worker that holds the accepted code. Raises FixConfiguration, TryLater."""
        while self._fresh:
            worker = self._fresh.pop()
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
            self._order,
            timeout_s=self._plan.start_timeout_s,
            log=self._log,
            temp_dir=self._temp_dir.name if self._temp_dir else None,
        )

    def _remove_temp_dir(self) -> None:
        if self._temp_dir is not None:
            self._temp_dir.cleanup()
            self._temp_dir = None


def _own_temp_dir(plan: PoolPlan) -> tempfile.TemporaryDirectory[str] | None:
    """Make a folder for the workers' temporary files where the usual one is on the way to a hidden path."""
    if plan.landlock == sandbox.OFF or os.path.realpath(tempfile.gettempdir()) not in sandbox.Way(plan.hidden).folders:
        return None
    return tempfile.TemporaryDirectory(prefix="watcher-hook-", ignore_cleanup_errors=True)


async def check_hook(
    target: str, app_dir: str | Path, *, timeout_s: float = START_TIMEOUT_S, log: Log | None = None
) -> str:
    """Load the hook in a worker process of its own and return its version. Raises FixConfiguration, TryLater."""
    async with WorkerPool(target, app_dir, PoolPlan(workers=1, start_timeout_s=timeout_s), log=log) as pool:
        return pool.version
