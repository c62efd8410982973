"""`watcher run`: the daemon."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from loguru import logger

from watcher.cli.options import DEFAULT_CONFIG, Config, Roles, load_all, role_overrides
from watcher.loading import loading
from watcher.settings import load as settings_load
from watcher.settings.credentials import exposed, exposure_message

if TYPE_CHECKING:
    from rich.progress import TaskID

# Fewer blocks are read before a bar could be seen.
_WORTH_A_BAR = 200


def run(
    config: Config = DEFAULT_CONFIG,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="Stop once nothing is left to do until the chain moves.")
    ] = False,
    release_held: Annotated[
        bool,
        typer.Option("--release-held", help="Answer the tasks that a restored ledger holds back; see docs/service.md."),
    ] = False,
    role: Roles = None,
    trace: Annotated[
        bool, typer.Option("--trace", help="Log each step of each task with its duration; see docs/monitoring.md.")
    ] = False,
) -> None:
    """Watch the chain, answer every task, follow each answer to its outcome. SIGTERM drains, and exits 0."""
    overrides = role_overrides(role)
    avss = load_all(config, overrides)
    if names := exposed(os.environ.get("CREDENTIALS_DIRECTORY", "")):
        logger.warning("settings.exposed: other users can read credentials", reason=exposure_message(names))
    with loading():
        from watcher.daemon.daemon import Daemon
        from watcher.daemon.run_options import RunOptions

    async def main() -> None:
        with _catching_up(is_alone=len(avss) == 1) as progress:
            options = RunOptions(until_idle, release_held, progress, config, trace)
            await Daemon(avss, options, lambda: settings_load.load_all(config, overrides)).run()

    asyncio.run(main())


class _Bar:
    """A progress bar on a terminal while the daemon is far behind the head."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from watcher.cli.console import PlainConsole

        self._bar = Progress(
            TextColumn("reading blocks", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=PlainConsole(to_stderr=True),
            transient=True,
        )
        self._first = 0
        self._task: TaskID | None = None

    def update(self, block: int, head: int) -> None:
        if self._task is None:
            if head - block < _WORTH_A_BAR:
                return
            self._first = block
            self._bar.start()
            self._task = self._bar.add_task("")
        self._bar.update(self._task, completed=block - self._first, total=head - self._first)
        if block >= head:
            self.close()

    def close(self) -> None:
        if self._task is not None:
            self._bar.stop()
            self._bar.remove_task(self._task)
            self._task = None


@contextmanager
def _catching_up(*, is_alone: bool) -> Iterator[Callable[[int, int], None]]:
    if not sys.stderr.isatty() or not is_alone:
        yield lambda _block, _head: None
        return
    bar = _Bar()
    try:
        yield bar.update
    finally:
        bar.close()
