"""The local devnet of a test: chain, contract, operators, hosted API and daemon, seen from a plain function."""

import asyncio
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from watcher.devnet.anvil_binary import find_anvil
from watcher.devnet.local_loop import LocalLoop, LoopHook, LoopOptions
from watcher.devnet.world import DevnetOptions
from watcher.project.own_hook import Project
from watcher.state import ENDED, State
from watcher.testing.portal import Portal

_BLOCK_TIME_S = 0.2
_POLL_S = 0.05
# Quick where the defaults are for real networks.
_QUICK = {
    "WATCHER_CHAIN__POLL_INTERVAL_S": "0.2",
    "WATCHER_HOOK__RETRY_BASE_S": "0.1",
    "WATCHER_OPERATOR__RETRY_BASE_S": "0.1",
}


def check_anvil(portal: Portal) -> None:
    """Raise FixConfiguration where no anvil is found and none can be fetched; it lists what was tried."""
    portal.call(find_anvil())


class LocalDevnet:
    """A devnet with a daemon that answers its tasks, as a context manager.

    Entering raises FixConfiguration where no anvil is found or the hook cannot be used, and TryLater where something
    does not start.
    """

    def __init__(self, portal: Portal, project: Project, folder: Path, options: DevnetOptions | None = None) -> None:
        self._portal = portal
        devnet = options or DevnetOptions(directory=folder, mining=_BLOCK_TIME_S, persist=False)
        hook = LoopHook(project.hook.target, Path(project.hook.app_dir), project.environment())
        self._loop = LocalLoop(LoopOptions(folder, devnet, settings=_QUICK), hook)

    @property
    def rpc_url(self) -> str:
        """The URL of the chain."""
        return self._loop.net.rpc_url

    @property
    def task_manager(self) -> str:
        """The address of the contract."""
        return self._loop.net.task_manager

    @property
    def config(self) -> Path:
        """The daemon's watcher.toml; `environment` goes with it."""
        return self._loop.config

    @property
    def environment(self) -> dict[str, str]:
        """The variables that commands need beside `config`."""
        return dict(self._loop.environment)

    @property
    def log(self) -> str:
        """The last lines of the daemon's log."""
        return self._loop.log_tail()

    def create(self, *messages: bytes) -> list[int]:
        """Create a task for each message and return their indices, without waiting for answers."""
        return self._portal.call(self._loop.ask(messages))

    def ask(self, message: bytes, *, timeout_s: float = 30.0) -> dict[str, Any]:
        """Create a task, follow it to its end, and return it as `watcher tasks list --json` prints it.

        Raises:
            TimeoutError: it has not ended in time; shows its state and the end of the log.
        """
        (index,) = self.create(message)
        return self.outcome(index, timeout_s=timeout_s)

    def outcome(self, index: int, *, timeout_s: float = 30.0) -> dict[str, Any]:
        """Wait until a task has ended, and return it. Raises TimeoutError as `ask` does."""
        return self._portal.call(self._outcome(index, timeout_s))

    async def _outcome(self, index: int, timeout_s: float) -> dict[str, Any]:
        deadline_s = time.monotonic() + timeout_s
        while True:
            task = await self._loop.task(index)
            if task is not None and State(task["state"]) in ENDED:
                return task
            if time.monotonic() > deadline_s or not self._loop.running:
                state = "not seen" if task is None else task["state"]
                raise TimeoutError(f"task {index} is {state} after {timeout_s:g} s\n{self.log}")
            await asyncio.sleep(_POLL_S)

    def tasks(self) -> list[dict[str, Any]]:
        """Return all tasks, as `watcher tasks list --json` prints them."""
        return self._portal.call(self._loop.tasks())

    def __enter__(self) -> Self:
        self._portal.call(self._loop.start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.call(self._loop.stop())
