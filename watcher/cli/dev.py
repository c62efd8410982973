"""`watcher dev`: devnet, daemon and hook together, with the hook taken over at each edit."""

import asyncio
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from watcher.cli.options import DEFAULT_CONFIG, Config
from watcher.daemon import log
from watcher.devnet.conventions import Name
from watcher.errors import FixUsage, TryLater
from watcher.text import escape

if TYPE_CHECKING:
    from watcher.project.own_hook import Project

_MESSAGE_LIMIT_CHARS = 256 * 1024
# Quick where the defaults are for real networks.
_QUICK = {
    "WATCHER_LOG__FORMAT": "json",
    "WATCHER_CHAIN__POLL_INTERVAL_S": "0.5",
    "WATCHER_HOOK__RETRY_BASE_S": "0.5",
}


def dev(
    hook: Annotated[
        str | None, typer.Argument(help="The hook, as hook.target names one; that of the settings if left out.")
    ] = None,
    config: Config = DEFAULT_CONFIG,
    tasks_every: Annotated[float, typer.Option(min=0, help="Seconds between two tasks; 0 makes none.")] = 3.0,
    message: Annotated[
        list[str] | None, typer.Option(help="What the tasks ask (0x hex), in turn; may be repeated.")
    ] = None,
    build: Annotated[
        str, typer.Option(help="The command that makes the hook's program, run before each take-over.")
    ] = "",
    convention: Annotated[Name, typer.Option(help="The ABI of the task manager.")] = "wizard",
    block_time: Annotated[float, typer.Option(min=0.1, help="Seconds between blocks.")] = 1.0,
    directory: Annotated[Path, typer.Option(help="Folder for logs, ledgers, settings and env.")] = Path(".watcher-dev"),
    anvil: Annotated[
        Path | None, typer.Option(envvar="WATCHER_ANVIL", help="The anvil program; found or fetched otherwise.")
    ] = None,
) -> None:
    """Run devnet, daemon and hook, show the tasks, and take over the hook at each edit. Ctrl-C ends all.

    A hook that cannot be loaded is reported, and the last good one goes on.
    """
    from watcher.cli.dev_session import Plan, Session, loop_hook
    from watcher.cli.dev_view import open_view
    from watcher.devnet.local_loop import LocalLoop, LoopOptions
    from watcher.devnet.world import DevnetOptions
    from watcher.project.own_hook import open_project

    log.set_up("warning")
    messages = [_message(text) for text in message or ()]

    def project() -> "Project":
        return open_project(config, hook)

    first = project()
    with _own_folder(directory):
        devnet = DevnetOptions(
            anvil=anvil, directory=directory, mining=block_time, convention=convention, persist=False
        )
        ledger = f"watcher-{time.strftime('%Y%m%d-%H%M%S')}.db"
        loop = LocalLoop(LoopOptions(directory, devnet, ledger, _QUICK), loop_hook(first))
        folders = {Path(first.hook.app_dir).resolve(), *([config.parent.resolve()] if config.exists() else [])}
        outermost = [folder for folder in sorted(folders) if not folders.intersection(folder.parents)]
        plan = Plan(project, outermost, build, tasks_every, messages)

        async def main() -> None:
            stopped = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                asyncio.get_running_loop().add_signal_handler(number, stopped.set)
            with open_view() as view:
                await Session(loop, plan, view).run(stopped)

        asyncio.run(main())


def _message(text: str) -> bytes:
    try:
        if text[:2] in ("0x", "0X") and len(text) <= _MESSAGE_LIMIT_CHARS:
            return bytes.fromhex(text[2:])
    except ValueError:
        pass
    raise FixUsage(f"--message {escape(text[:80])}: must be bytes, as 0x and two hex digits for each")


@contextmanager
def _own_folder(directory: Path) -> Iterator[None]:
    """Make the folder and hold it. Raises TryLater while another session has it, FixUsage if it cannot be made."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FixUsage(f"{escape(str(directory))} cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise TryLater(f"another `watcher dev` runs in {escape(str(directory))}; name another --directory") from None
    finally:
        os.close(handle)
