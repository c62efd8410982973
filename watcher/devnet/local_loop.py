"""The whole loop on this machine: a devnet, and a real `watcher run` beside it that answers its tasks with a hook."""

import asyncio
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from watcher.devnet.world import Devnet, DevnetOptions
from watcher.errors import FixUsage, TryLater
from watcher.ledger import known_sources, queries
from watcher.ledger.engine import parse_url
from watcher.ledger.reader import Reader
from watcher.report.listing import task_fields

_START_LIMIT_S = 60.0
_STOP_LIMIT_S = 20.0
_POLL_S = 0.05
_TAIL_LINES = 15


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """The options of a loop.

    Attributes:
        folder: where settings, ledger, logs and the devnet's files go; it exists.
        devnet: the devnet; its directory is the folder.
        ledger: the name of the ledger's file. The chain is a new one at each start, and needs a new ledger.
        settings: settings of the daemon by the names of the environment, such as WATCHER_CHAIN__POLL_INTERVAL_S.
    """

    folder: Path
    devnet: DevnetOptions = field(default_factory=DevnetOptions)
    ledger: str = "watcher.db"
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoopHook:
    """The hook of a loop.

    Attributes:
        target: the hook, as hook.target names it.
        app_dir: its folder.
        settings: its other settings by the names of the environment, such as WATCHER_HOOK__TIMEOUT_S.
    """

    target: str
    app_dir: Path
    settings: Mapping[str, str] = field(default_factory=dict)


class LocalLoop:
    """A devnet and a daemon, as an async context manager.

    Entering raises the errors of `Devnet`, and TryLater if the daemon does not start.
    """

    def __init__(self, options: LoopOptions, hook: LoopHook) -> None:
        self.options = options
        self.hook = hook
        self.net = Devnet(options.devnet)
        self.config = options.folder / "watcher.toml"
        self.log_file = options.folder / "watcher.log"
        self._ledger = options.folder / options.ledger
        self._reader: Reader | None = None
        self._daemon: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        """True while the daemon runs."""
        return self._daemon is not None and self._daemon.returncode is None

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that a command needs beside the configuration file."""
        return {**self.net.environment, **self.options.settings, **self.hook.settings}

    def write_config(self) -> None:
        """Write the daemon's watcher.toml, with the hook as it is now."""
        toml = self.net.toml(
            target=self.hook.target,
            app_dir=str(self.hook.app_dir.absolute()),
            ledger_url=f"sqlite:///{self._ledger.absolute()}",
        )
        self.config.touch(mode=0o600)
        self.config.write_text(toml, encoding="utf-8")

    def write_env(self) -> Path:
        """Write and return a file for the shell that makes other commands use this devnet."""
        variables = {"WATCHER_CONFIG": str(self.config.absolute()), **self.net.environment, **self.hook.settings}
        path = self.options.folder / "env"
        path.touch(mode=0o600)
        path.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()), "utf-8")
        return path

    async def start_daemon(self) -> None:
        """Start `watcher run`, and return once it reads the chain.

        Raises:
            TryLater: it does not start; shows the end of its log.
        """
        with self.log_file.open("ab") as log:
            self._daemon = await asyncio.create_subprocess_exec(
                *_ends_with_parent(),
                *(sys.executable, "-m", "watcher", "run", "--config", str(self.config)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,  # Ctrl-C goes to this program, which stops the daemon in its turn
                env={**_without_settings(os.environ), **self.environment},
            )
        deadline_s = time.monotonic() + _START_LIMIT_S
        while not await self._has_begun():
            if not self.running or time.monotonic() > deadline_s:
                await self.stop_daemon()
                raise TryLater(f"`watcher run` did not start:\n{self.log_tail()}")
            await asyncio.sleep(_POLL_S)

    async def _has_begun(self) -> bool:
        if not self._ledger.exists():
            return False
        try:
            return await self._source_id() is not None
        except TryLater:
            return False

    async def stop_daemon(self) -> None:
        """Stop the daemon by SIGTERM as systemd does, and by SIGKILL when its time is up."""
        process = self._daemon
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_LIMIT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def reload(self) -> None:
        """Have the daemon load settings and hook again (SIGHUP)."""
        if self._daemon is not None and self.running:
            self._daemon.send_signal(signal.SIGHUP)

    async def ask(self, messages: Sequence[bytes]) -> list[int]:
        """Create a task for each message, and return their indices."""
        return await self.net.create_tasks(messages)

    async def tasks(self) -> list[dict[str, Any]]:
        """Return all tasks of the ledger, as `tasks list --json` prints them."""
        source_id = await self._source_id()
        if source_id is None:
            return []
        return [task_fields(row) for row in await self._read(lambda conn: list(queries.list_tasks(conn, source_id)))]

    async def task(self, index: int) -> dict[str, Any] | None:
        """Return one task as `tasks list --json` prints it, None while the ledger does not have it."""
        source_id = await self._source_id()
        if source_id is None:
            return None
        try:
            rows = await self._read(queries.tasks_at, source_id, index)
        except FixUsage:
            return None
        return task_fields(rows[0])

    async def _source_id(self) -> int | None:
        address = bytes.fromhex(self.net.task_manager[2:])
        cursor = await self._read(known_sources.find_source, self.net.chain_id, address)
        return None if cursor is None else cursor.source_id

    async def _read(self, question: Any, *arguments: Any) -> Any:
        if self._reader is None:
            self._reader = Reader(parse_url(f"sqlite:///{self._ledger}"))
        return await self._reader.read(question, *arguments)

    def log_tail(self) -> str:
        """Return the last lines of the daemon's log."""
        text = self.log_file.read_text("utf-8", "replace") if self.log_file.exists() else ""
        return "\n".join(text.splitlines()[-_TAIL_LINES:])

    async def start(self) -> None:
        """Start devnet and daemon."""
        await self.net.start()
        try:
            self.write_config()
            await self.start_daemon()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop daemon and devnet."""
        try:
            await self.stop_daemon()
        finally:
            if self._reader is not None:
                self._reader.close()
            await self.net.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def _without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the settings of another daemon, which would win over this one's file."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith("WATCHER_") and name not in ("CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "STATE_DIRECTORY")
    }


def _ends_with_parent() -> list[str]:
    """Return a command prefix with which the kernel ends the daemon when this process is killed. Linux only."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
