"""The workers together: always as many as asked for, whatever a hook does to one of them.

Invariant: what happens to the worker of one task reaches no other task. A pool that breaks for good when one of its
processes dies would not do; here every place has a keeper that fills it again.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from watcher.errors import FixConfiguration, TryLater
from watcher.hook.frame import Order
from watcher.hook.output import Log
from watcher.hook.process import WorkerProcess
from watcher.hook.protocol import ANSWER_LIMIT_BYTES
from watcher.task import Later, Response, Skip, Task

START_TIMEOUT_S = 60.0
_BACKOFF_FIRST_S = 0.2
_BACKOFF_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class CrewPlan:
    """How a crew works. `timeout_s` is for one run, `tasks_per_worker` bounds what a leaking hook can leak."""

    workers: int = 2
    timeout_s: float = 30.0
    tasks_per_worker: int = 1000
    answer_limit_bytes: int = ANSWER_LIMIT_BYTES
    start_timeout_s: float = START_TIMEOUT_S


class Crew:
    """Warm worker processes that hold one hook.

        async with Crew("squaring:respond", "/srv/hook", CrewPlan(workers=2), log=log) as crew:
            verdict = await crew.run(task)

    Entering loads the hook in a first worker and raises FixConfiguration when that fails. `log` gets what the hook
    prints, line by line, cut and escaped.
    """

    def __init__(
        self, target: str, app_dir: str | Path, plan: CrewPlan | None = None, *, log: Log | None = None
    ) -> None:
        self._plan = plan or CrewPlan()
        self._order = Order(target, str(Path(app_dir).absolute()), self._plan.answer_limit_bytes)
        self._log: Log = log or (lambda _task, _line: None)
        self._staff: set[WorkerProcess] = set()
        self._idle: list[WorkerProcess] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._turn = asyncio.Lock()
        self._news = asyncio.Event()
        self._trouble: str | None = None
        self.version = ""

    @property
    def alive(self) -> int:
        """How many workers there are at the moment, at rest or at work."""
        return len(self._staff)

    async def __aenter__(self) -> Self:
        first = await self._start()
        self.version = first.version
        places: list[WorkerProcess | None] = [first, *[None] * (self._plan.workers - 1)]
        self._keepers = [asyncio.create_task(self._keep(worker), name="hook keeper") for worker in places]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        staff = list(self._staff)
        self._trouble = "the hook workers have been stopped"
        try:
            await asyncio.gather(*self._keepers, return_exceptions=True)
            for worker in staff:
                worker.dismiss() if worker in self._idle else worker.kill()
            await asyncio.gather(*(worker.ended.wait() for worker in staff))
        finally:
            for worker in staff:
                worker.kill()
            self._idle.clear()
            self._staff.clear()
            self._news.set()

    async def run(self, task: Task) -> Response | Skip | Later:
        """Have the hook answer one task, waiting for a free worker first.

        Raises AttemptFailed when the hook gave no answer, and TryLater, which is not the task's fault, when no worker
        can be started. Cancelling kills the worker.
        """
        worker = await self._take()
        began_s = asyncio.get_running_loop().time()
        try:
            answer = await worker.run(task, self._plan.timeout_s)
        finally:
            self._give_back(worker)
        if isinstance(answer, Skip | Later):
            return answer
        duration_ms = round((asyncio.get_running_loop().time() - began_s) * 1000)
        return Response(answer, worker.version, duration_ms)

    async def _take(self) -> WorkerProcess:
        async with self._turn:  # first come, first served: callers come in the order of their deadlines
            while True:
                while self._idle:
                    worker = self._idle.pop()
                    if worker.usable:
                        return worker
                if self._trouble and not self._staff:
                    raise TryLater(self._trouble)
                self._news.clear()
                await self._news.wait()

    def _give_back(self, worker: WorkerProcess) -> None:
        if worker.runs >= self._plan.tasks_per_worker:
            worker.dismiss()
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
            with contextlib.suppress(ValueError):
                self._idle.remove(worker)
            worker = None

    async def _replacement(self) -> WorkerProcess:
        backoff_s = _BACKOFF_FIRST_S
        while True:
            try:
                worker = await self._start()
            except (FixConfiguration, TryLater) as problem:
                self._trouble = str(problem)
                self._log(None, f"no new hook worker, next try in {backoff_s:g} s: {problem}")
                self._news.set()
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, _BACKOFF_LIMIT_S)
                continue
            if worker.version != self.version:
                self._log(
                    None, f"the hook's source has changed since it was loaded: {self.version} is now {worker.version}"
                )
                self.version = worker.version
            return worker

    async def _start(self) -> WorkerProcess:
        return await WorkerProcess.start(self._order, timeout_s=self._plan.start_timeout_s, log=self._log)


async def check_hook(
    target: str, app_dir: str | Path, *, timeout_s: float = START_TIMEOUT_S, log: Log | None = None
) -> str:
    """Load the hook in a worker process of its own and return its version. Raises FixConfiguration, TryLater."""
    async with Crew(target, app_dir, CrewPlan(workers=1, start_timeout_s=timeout_s), log=log) as crew:
        return crew.version
