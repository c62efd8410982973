"""The demo's show: a real `watcher run` beside a devnet, with its ledger shown while it works."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.progress import Progress
from rich.table import Table
from rich.text import Text
from sqlalchemy.engine import Row

from watcher.cli.prove import prove_now
from watcher.devnet.world import Devnet
from watcher.errors import TryLater
from watcher.files import shipped
from watcher.ledger import known_sources, queries
from watcher.ledger.engine import parse_url
from watcher.ledger.reader import Reader
from watcher.report.proof import Proof
from watcher.settings import load
from watcher.settings.model import Settings
from watcher.state import State

_LOOK_EVERY_S = 0.25
_ROWS_SHOWN = 24
_BATCHES = 4
_START_LIMIT_S = 30.0
_COLOURS = {
    State.SEEN: "bright_black",
    State.READY: "cyan",
    State.COMPUTED: "cyan",
    State.SENDING: "yellow",
    State.ACCEPTED: "yellow",
    State.RESPONDED: "blue",
    State.FINAL: "green",
}


class Show:
    """A run of `count` tasks, made in several blocks and followed to the end."""

    def __init__(self, net: Devnet, folder: Path, count: int) -> None:
        self._net = net
        self._count = count
        self._log = folder / "watcher.log"
        self._config = folder / "watcher.toml"
        hook = str(shipped("examples") / "squaring")
        self._config.write_text(net.toml(app_dir=hook, ledger_url=f"sqlite:///{folder / 'watcher.db'}"), "utf-8")
        self._settings: Settings = load.load(self._config, environ=dict(net.environment))
        self._rows: list[Row[Any]] = []
        self._process: asyncio.subprocess.Process | None = None

    @property
    def all_final(self) -> bool:
        """True once every task is in the ledger and final."""
        return len(self._rows) == self._count and all(row.state == State.FINAL for row in self._rows)

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[None]:
        """Run `watcher run` inside this block, then stop it by SIGTERM as systemd does. Raises TryLater if it fails."""
        with self._log.open("wb") as log:
            command = [sys.executable, "-m", "watcher", "run", "--config", str(self._config)]
            environ = {**os.environ, **self._net.environment}
            self._process = process = await asyncio.create_subprocess_exec(*command, stderr=log, env=environ)
            try:
                yield
            finally:
                if process.returncode is None:
                    process.send_signal(signal.SIGTERM)
                code = await process.wait()
        if code != 0:
            raise TryLater(f"`watcher run` ended with code {code}")

    async def follow(self, show: Callable[[Group], None]) -> None:
        """Make the tasks, then show them until all are final."""
        making = asyncio.create_task(self._make())
        reader = await self._reader()
        try:
            while not self.all_final:
                assert self._process is not None
                if self._process.returncode is not None:
                    return
                self._rows = await self._read(reader)
                show(self.table())
                await asyncio.sleep(_LOOK_EVERY_S)
        finally:
            reader.close()
            making.cancel()

    async def prove(self) -> Proof:
        """Return the proof that `watcher prove` prints."""
        return await prove_now(self._settings, Progress(disable=True))

    def log_tail(self) -> str:
        """Return the last lines of the daemon's log."""
        return "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-10:])

    def table(self) -> Group:
        """Return the newest tasks as a table, and the number of tasks in each state."""
        table = Table("task", "asks", "state", "block", "deadline", "answer", "answered in block", expand=False)
        for row in self._rows[-_ROWS_SHOWN:]:
            table.add_row(
                str(row.task_index),
                f"{int.from_bytes(row.message, 'big')} squared",
                Text(row.state, style=_COLOURS.get(State(row.state), "red")),
                str(row.block_number),
                str(row.deadline_block),
                "" if row.response is None else str(int.from_bytes(row.response, "big")),
                str(row.responded_block or ""),
            )
        counts = {state: sum(row.state == state for row in self._rows) for state in State}
        states = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        return Group(
            table, Text(f"{len(self._rows)} of {self._count} tasks seen: {states or 'waiting for the first task'}")
        )

    async def _make(self) -> None:
        size = -(-self._count // _BATCHES)
        for first in range(0, self._count, size):
            numbers = range(first, min(first + size, self._count))
            await self._net.create_tasks([(number + 2).to_bytes(32, "big") for number in numbers])
            await asyncio.sleep(1.5)

    async def _read(self, reader: Reader) -> list[Row[Any]]:
        chain_id, address = self._settings.chain.chain_id, self._settings.task_manager.address_bytes
        cursor = await reader.read(known_sources.find_source, chain_id, address)
        if cursor is None:
            return []
        source_id = cursor.source_id
        return await reader.read(lambda conn: list(queries.list_tasks(conn, source_id)))

    async def _reader(self) -> Reader:
        """Open the ledger once the daemon has made it. Raises TryLater if the daemon ends before."""
        reader = Reader(parse_url(self._settings.ledger.url))
        async with asyncio.timeout(_START_LIMIT_S):
            while True:
                assert self._process is not None
                if self._process.returncode is not None:
                    raise TryLater("`watcher run` did not start")
                try:
                    await self._read(reader)
                except TryLater:
                    await asyncio.sleep(_LOOK_EVERY_S)
                    continue
                return reader
