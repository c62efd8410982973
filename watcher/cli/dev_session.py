"""The work of `watcher dev`: devnet and daemon, the files of the hook, and what the daemon's log says about it."""

import asyncio
import os
import shlex
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watcher import files
from watcher.abi.layout import layout
from watcher.abi.sample import sample_message
from watcher.cli.dev_view import View
from watcher.devnet.local_loop import LocalLoop, LoopHook
from watcher.errors import FixConfiguration, TryLater
from watcher.project.own_hook import Project

_REFRESH_S = 0.25
_BUILD_LIMIT_S = 300.0
_BUILD_TAIL_LINES = 12
_LOG_CHUNK_BYTES = 256 * 1024
_LOUD = frozenset({"warning", "error", "critical"})
# Folders that hold no source: tools and the watcher itself write there.
_IGNORED = (".git", ".hg", ".venv", "venv", "node_modules", "__pycache__", "devnet", "target")


@dataclass(frozen=True, slots=True)
class Plan:
    """The choices of one session.

    Attributes:
        project: reads the hook's settings again; raises FixConfiguration.
        folders: the folders whose files are watched.
        build: the command that makes the hook's program; "": there is none. It runs in the current folder.
        tasks_every_s: the pause between two tasks; 0: none are made.
        messages: the messages of the tasks, in turn; empty: samples of hook.message.
    """

    project: Callable[[], Project]
    folders: Sequence[Path]
    build: str = ""
    tasks_every_s: float = 0.0
    messages: Sequence[bytes] = ()


class Session:
    """A devnet with the daemon beside it. An edit of the hook is taken over; the last good one answers meanwhile."""

    def __init__(self, loop: LocalLoop, plan: Plan, view: View) -> None:
        self._loop, self._plan, self._view = loop, plan, view
        self._log_read_bytes = 0
        self._built_ns = (0, 0)
        self._one_take_over = asyncio.Lock()

    async def run(self, stopped: asyncio.Event) -> None:
        """Work until `stopped` is set, then stop everything. Raises what the devnet's start raises."""
        self._view.note("starting a chain, a contract, operators and the EMULATED hosted operator")
        await self._loop.net.start()
        env = self._loop.write_env()
        self._view.note(f"for other commands, in another terminal: . {shlex.quote(str(env))} && watcher tasks list")
        jobs = [self._follow_files(stopped), self._make_tasks(), self._refresh()]
        tasks = [asyncio.create_task(job) for job in jobs]
        waiting = asyncio.create_task(stopped.wait())
        try:
            await self._take_over()
            self._view.note(f"the files below {', '.join(map(str, self._plan.folders))} are watched")
            done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            stopped.set()
            for task in (*tasks, waiting):
                task.cancel()
            await asyncio.gather(*tasks, waiting, return_exceptions=True)
            await self._loop.stop()

    # -- the hook --

    async def _take_over(self) -> None:
        """Build the hook and have the daemon load it; where that fails, the old one goes on."""
        async with self._one_take_over:
            await self._build_and_load()

    async def _build_and_load(self) -> None:
        if not await self._build():
            return
        try:
            hook = loop_hook(self._plan.project())
        except FixConfiguration as error:
            self._view.note(f"the settings are wrong, and the old ones stay: {error}", is_bad=True)
            return
        if self._loop.running and hook == self._loop.hook:
            self._loop.reload()  # the log says what comes of it
            return
        self._loop.hook = hook
        await self._restart()

    async def _restart(self) -> None:
        await self._loop.stop_daemon()
        self._loop.write_config()
        try:
            await self._loop.start_daemon()
        except TryLater as error:
            self._read_log()
            self._view.note(str(error).splitlines()[0].rstrip(":") + "; edit the hook to try again", is_bad=True)
        else:
            self._view.note("the daemon runs")

    async def _build(self) -> bool:
        """Run the build command. Return False if it failed."""
        if not self._plan.build:
            return True
        begun_ns = time.time_ns()
        code, output = await _run(shlex.split(self._plan.build))
        self._built_ns = (begun_ns, time.time_ns())
        if code != 0:
            for line in output.splitlines()[-_BUILD_TAIL_LINES:]:
                self._view.note(line, is_bad=True)
            self._view.note(f"the build failed with exit code {code}; the last good hook goes on", is_bad=True)
        return code == 0

    async def _follow_files(self, stopped: asyncio.Event) -> None:
        from watchfiles import DefaultFilter, awatch

        own = {str(self._loop.options.folder.absolute())}
        chosen = DefaultFilter(ignore_dirs=(*DefaultFilter.ignore_dirs, *_IGNORED), ignore_paths=tuple(own))
        try:
            async for changes in awatch(
                *self._plan.folders, watch_filter=chosen, step=50, debounce=400, stop_event=stopped
            ):
                paths = sorted({path for _, path in changes if not self._is_output(path)})
                if paths:
                    names = ", ".join(Path(path).name for path in paths[:3])
                    self._view.note(f"changed: {names}{' and others' if len(paths) > 3 else ''}")
                    await self._take_over()
        except OSError as error:
            raise TryLater(f"the folder of the hook cannot be watched: {error}") from None

    def _is_output(self, path: str) -> bool:
        """Return True for a file that the last build wrote, or removed: its folder has the time of that."""
        changed_ns = 0
        for place in (Path(path), *Path(path).parents):
            with suppress(OSError):
                changed_ns = place.stat().st_mtime_ns
                break
        begun_ns, ended_ns = self._built_ns
        return begun_ns <= changed_ns <= ended_ns

    # -- the tasks --

    async def _make_tasks(self) -> None:
        number = 0
        while self._plan.tasks_every_s:
            await asyncio.sleep(self._plan.tasks_every_s)
            if self._loop.running:
                own, number = self._plan.messages, number + 1
                await self._loop.ask([own[(number - 1) % len(own)] if own else self._sample(number)])
        await asyncio.Event().wait()

    def _sample(self, number: int) -> bytes:
        """Return a message of the hook's types, without types that of the convention's example."""
        form = layout("message", self._loop.hook.settings.get("WATCHER_HOOK__MESSAGE", ""))
        return self._loop.net.convention.question(number) if form is None else sample_message(form, number)

    async def _refresh(self) -> None:
        while True:
            self._read_log()
            if self._loop.running:
                try:
                    self._view.tasks(await self._loop.tasks())
                except TryLater:
                    pass  # the ledger is being made
            await asyncio.sleep(_REFRESH_S)

    # -- the log --

    def _read_log(self) -> None:
        """Show what the daemon's log says about the hook."""
        try:
            with self._loop.log_file.open("rb") as log:
                log.seek(self._log_read_bytes)
                chunk = log.read(_LOG_CHUNK_BYTES)
        except FileNotFoundError:
            return
        whole, end, _ = chunk.rpartition(b"\n")
        if not end and len(chunk) == _LOG_CHUNK_BYTES:
            whole = chunk  # one line longer than a chunk is skipped
        self._log_read_bytes += len(whole) + len(end)
        for line in whole.splitlines():
            self._show_line(line)

    def _show_line(self, line: bytes) -> None:
        try:
            record = files.parse(line)
            event, level = str(record["event"]), str(record["level"]).lower()
        except (ValueError, KeyError, TypeError):
            text = line.decode(errors="replace").strip()
            if text.startswith("watcher: "):  # why it did not start
                self._view.note(text.removeprefix("watcher: "), is_bad=True)
            return
        if text := _note(event, record, level):
            self._view.note(text, is_bad=level in _LOUD)


def _note(event: str, record: Mapping[str, Any], level: str) -> str:
    """Return what a record of the log says to the author of a hook; "" for nothing."""
    task = f"task {record['task']}: " if "task" in record else ""
    match event:
        case "hook.reloaded":
            return f"the hook has new code: {record['version']}" if "before" in record else ""
        case "hook.reload_failed":
            return f"the hook cannot be loaded, and the last good one goes on: {record.get('reason')}"
        case "hook.no_worker":
            return ""  # between an edit and its reload
        case "hook.output":
            return f"{task}{record.get('line')}"
        case "hook.failed" | "task.failed" | "settings.reload_failed":
            return f"{task}{record.get('message')}: {record.get('reason')}"
        case _ if level in _LOUD and event.startswith(("hook.", "settings.", "daemon.")):
            return f"{task}{record.get('message')} {record.get('reason', '')}".rstrip()
        case _:
            return ""


def loop_hook(project: Project) -> LoopHook:
    """Return the hook of a project as a loop takes it."""
    return LoopHook(project.hook.target, Path(project.hook.app_dir), project.environment())


async def _run(command: Sequence[str]) -> tuple[int, str]:
    """Run a command to its end, and return its exit code and output. Nothing that it started is left."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return 127, f"{command[0]}: {error.strerror}"
    try:
        async with asyncio.timeout(_BUILD_LIMIT_S):
            output, _ = await process.communicate()
    except TimeoutError:
        return 124, f"not done within {_BUILD_LIMIT_S:g} s"
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return process.returncode or 0, output.decode(errors="replace")
