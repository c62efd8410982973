"""The slots of a pool: each holds one worker, which is renewed in it, and is filled again when that ends.

Invariant: all workers that take tasks hold the same code, the one accepted at the start or by the last `reload`.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from loguru import logger

from watcher.backoff import doubled_s
from watcher.errors import FixConfiguration, TryLater
from watcher.hook.code import CodeChanged, HookCode, names
from watcher.hook.messages import LoadRequest
from watcher.hook.output import Log
from watcher.hook.process import WorkerProcess

_BACKOFF_FIRST_S = 0.2
_BACKOFF_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Start:
    """The parameters of a worker's start.

    Attributes:
        request: the hook, and the limits of its process.
        timeout_s: the limit of loading, in seconds.
        log: gets the output, line by line.
        temp_dir: the worker's folder for temporary files; None: the usual one.
    """

    request: LoadRequest
    timeout_s: float
    log: Log
    temp_dir: str | None = None

    async def worker(self) -> WorkerProcess:
        """Return a new worker. Raises FixConfiguration or TryLater if it cannot load the hook."""
        return await WorkerProcess.start(self.request, timeout_s=self.timeout_s, log=self.log, temp_dir=self.temp_dir)


class Slots:
    """Some slots with their workers, and the accepted code.

    `on_ready` gets each worker that is put into a slot; `on_failure` is called when one cannot be started.
    """

    def __init__(self, count: int, on_ready: Callable[[WorkerProcess], None], on_failure: Callable[[], None]) -> None:
        self._count = count
        self._on_ready = on_ready
        self._on_failure = on_failure
        self._start: Start | None = None
        self._slots: list[asyncio.Task[None]] = []
        self._outdated: set[WorkerProcess] = set()
        self._reserve: list[WorkerProcess] = []  # started by `reload`, not in a slot yet
        self._reloaded = asyncio.Event()
        self.workers: set[WorkerProcess] = set()
        self.failure: str | None = None  # why no worker can be started
        self.code = HookCode("", "", {})

    async def open(self, start: Start) -> WorkerProcess:
        """Load the hook in a first worker, accept its code, and start the others. Return the first.

        Raises:
            FixConfiguration: the hook cannot be loaded.
            TryLater: it cannot be loaded now.
        """
        self._start = start
        first = await start.worker()
        self.code = HookCode(first.version, first.code, first.files)
        workers: list[WorkerProcess | None] = [first, *[None] * (self._count - 1)]
        self._slots = [asyncio.create_task(self._keep(worker), name="hook worker slot") for worker in workers]
        return first

    async def close(self, is_idle: Callable[[WorkerProcess], bool]) -> None:
        """Fill no slot any more; stop the idle workers, kill the others, and wait until all have ended."""
        for slot in self._slots:
            slot.cancel()
        workers = [*self.workers, *self._reserve]
        self.failure = "the hook workers have been stopped"
        try:
            await asyncio.gather(*self._slots, return_exceptions=True)
            for worker in workers:
                worker.stop() if is_idle(worker) else worker.kill()
            await asyncio.gather(*(worker.ended.wait() for worker in workers))
        finally:
            for worker in workers:
                worker.kill()
            self.workers.clear()
            self._reserve.clear()

    async def reload(self, request: LoadRequest) -> tuple[str, str]:
        """Load the code that is on the disk now, and accept it. If this raises, the old workers stay.

        Args:
            request: the hook, as new workers load it from now on.

        Returns:
            The old version and the new one.

        Raises:
            FixConfiguration: the new code cannot be loaded.
            TryLater: it cannot be loaded now.
        """
        assert self._start is not None, "`open` comes first"
        start = replace(self._start, request=request)
        worker = await start.worker()
        self._start = start
        before, self.code = self.code, HookCode(worker.version, worker.code, worker.files)
        while self._reserve:
            self._reserve.pop().kill()
        self._reserve.append(worker)
        self._outdated = set(self.workers)
        self.failure = None
        self._reloaded.set()
        return before.version, worker.version

    def is_outdated(self, worker: WorkerProcess) -> bool:
        """Return True if the worker holds code from before the last reload."""
        return worker in self._outdated

    def check_code(self, worker: WorkerProcess, files: Mapping[str, str]) -> None:
        """Accept the files that a worker has loaded during a run.

        Raises:
            CodeChanged: one differs from the accepted code; the worker is killed.
        """
        try:
            if files and worker not in self._outdated:
                self.code.add(files)
        except CodeChanged:
            worker.kill()
            raise

    async def renew(self, worker: WorkerProcess) -> None:
        """Renew an idle worker. If it does not hold the accepted code then, kill it: its slot starts another."""
        start = self._unlabelled_start()
        try:
            await worker.renew(start.request, timeout_s=start.timeout_s)
            self._accept(worker)
        except (FixConfiguration, TryLater):
            worker.kill()

    async def changed_files(self) -> str:
        """Return the names of files whose content on the disk differs from the accepted code; "" if none do."""
        changed = await asyncio.to_thread(self.code.changed_on_disk)
        return names(changed) if changed else ""

    async def _keep(self, worker: WorkerProcess | None) -> None:
        """Keep one slot filled: replace its worker whenever that ends, until cancelled."""
        while True:
            worker = worker or await self._replacement()
            self.workers.add(worker)
            self.failure = None
            self._on_ready(worker)
            await worker.ended.wait()
            self.workers.discard(worker)
            self._outdated.discard(worker)
            worker = None

    async def _replacement(self) -> WorkerProcess:
        """Return a worker that holds the accepted code; retry until there is one."""
        failures = 0
        while True:
            self._reloaded.clear()
            try:
                return await self._start_accepted()
            except (FixConfiguration, TryLater) as error:
                if self.failure != str(error):
                    logger.warning("hook.no_worker: a hook worker cannot be started; retrying", reason=str(error))
                self.failure = str(error)
                self._on_failure()
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
        worker = await self._unlabelled_start().worker()
        try:
            self._accept(worker)
        except CodeChanged:
            worker.kill()
            await worker.ended.wait()
            raise
        return worker

    def _accept(self, worker: WorkerProcess) -> None:
        """Accept a worker that has just loaded the hook. Raises CodeChanged if that is not the accepted code."""
        self.code.check_start(worker.code, worker.files)
        worker.version = self.code.version

    def _unlabelled_start(self) -> Start:
        """Return the start of a worker without a label: the accepted code has one."""
        assert self._start is not None, "`open` comes first"
        return replace(self._start, request=replace(self._start.request, with_label=False))
