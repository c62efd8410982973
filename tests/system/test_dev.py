"""`watcher dev` as a process: edits are taken over, errors keep the last good hook, and Ctrl-C leaves nothing."""

import asyncio
import os
import pty
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

LIMIT_S = 90
HOOK = """
from watcher import Task

def respond(task: Task) -> bytes:
    return {answer}
"""


class Session:
    """A running `watcher dev`, and all that it has printed."""

    def __init__(self, process: asyncio.subprocess.Process, stream: asyncio.StreamReader) -> None:
        self.process, self.text = process, ""
        self._stream = stream
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with suppress(OSError):  # a terminal whose other side is closed
            while chunk := await self._stream.read(65536):
                self.text += chunk.decode(errors="replace")

    async def until(self, pattern: str, after: int = 0) -> int:
        """Wait for a text after a place of the output; return the place behind it."""
        deadline_s = time.monotonic() + LIMIT_S
        while not (match := re.compile(pattern).search(self.text, after)):
            assert self.process.returncode is None and time.monotonic() < deadline_s, self.text
            await asyncio.sleep(0.05)
        return match.end()

    async def end(self) -> int:
        async with asyncio.timeout(LIMIT_S):
            code = await self.process.wait()
            await self._reading
        return code


def write(folder: Path, answer: str) -> None:
    (folder / "hook.py").write_text(HOOK.format(answer=answer))


def descendants(pid: int) -> set[int]:
    """Return the processes that a process has started, also those that changed their group."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
    started = {pid}
    while new := {child for child, parent in parents.items() if parent in started and child not in started}:
        started |= new
    return started - {pid}


@asynccontextmanager
async def running(folder: Path, *line: str, terminal: bool = False) -> AsyncIterator[Session]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WATCHER_")}
    if anvil := os.environ.get("WATCHER_ANVIL"):
        environ["WATCHER_ANVIL"] = anvil
    command = [sys.executable, "-m", "watcher", "dev", "--block-time", "0.3", *line]
    close: Callable[[], None] = lambda: None  # noqa: E731
    if terminal:
        ours, theirs = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env={**environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(theirs)
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(ours), "rb", 0)
        )
        close = lambda: os.close(ours)  # noqa: E731
    else:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=environ, start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdout is not None
        reader = process.stdout
    session = Session(process, reader)
    try:
        yield session
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        close()


async def gone(pids: set[int]) -> bool:
    for _ in range(200):
        if not any(os.path.exists(f"/proc/{pid}") for pid in pids):  # noqa: ASYNC240, PTH110
            return True
        await asyncio.sleep(0.05)
    return False


async def test_edits_are_taken_over_and_the_last_good_hook_goes_on(tmp_path: Path) -> None:
    (tmp_path / "watcher.toml").write_text('[hook]\ntarget = "hook:respond"\n')
    write(tmp_path, "(")
    async with running(tmp_path, "--tasks-every", "0.5", "--message", "0x2a") as session:
        place = await session.until("! .*SyntaxError")
        await session.until("edit the hook to try again")
        write(tmp_path, 'b"first"')
        place = await session.until("the daemon runs", place)
        place = await session.until(r"task \d+ final: text . -> text first", place)
        write(tmp_path, 'b"second"')
        place = await session.until("the hook has new code: hook:respond@", place)
        place = await session.until("-> text second", place)
        write(tmp_path, "oops oops")
        place = await session.until("! the hook cannot be loaded, and the last good one goes on: .*SyntaxError", place)
        place = await session.until(r"task (\d+) final: text . -> text second", place)
        assert "Traceback" not in session.text
        # A second one must not take the folder.
        async with running(tmp_path) as other:
            assert await other.end() == 75
        assert "another `watcher dev` runs" in other.text
        pids = descendants(session.process.pid)
        assert len(pids) >= 4, "anvil, the daemon, a supervisor and a worker at least"
        session.process.send_signal(signal.SIGINT)
        assert await session.end() == 0
    assert await gone(pids)


PROGRAM = """#!/bin/sh
while IFS= read -r request <&3; do
    id=$(printf '%s' "$request" | sed 's/.*"id":"\\([^"]*\\)".*/\\1/')
    printf '{"id":"%s","verdict":"answer","response":"0xWORD"}\\n' "$id" >&4
done
"""
BUILD = 'set -e; grep -q . word; sed "s/WORD/$(cat word)/" program.in > made; chmod +x made; mv made program'


async def test_a_program_is_built_before_each_take_over(tmp_path: Path) -> None:
    (tmp_path / "program.in").write_text(PROGRAM)
    (tmp_path / "build.sh").write_text(BUILD)
    (tmp_path / "word").write_text("6f6e65")  # one
    async with running(tmp_path, "exec:./program", "--build", "sh build.sh", "--tasks-every", "0.5") as session:
        place = await session.until(r"task \d+ final: .* -> text one")
        (tmp_path / "word").write_text("")
        place = await session.until("! the build failed with exit code 1; the last good hook goes on", place)
        place = await session.until(r"task \d+ final: .* -> text one", place)
        (tmp_path / "word").write_text("74776f")  # two
        place = await session.until("changed: word", place)
        await session.until(r"task \d+ final: .* -> text two", place)
        session.process.send_signal(signal.SIGINT)
        assert await session.end() == 0


async def test_a_terminal_shows_a_table_until_ctrl_c(tmp_path: Path) -> None:
    write(tmp_path, 'b"answer"')
    async with running(tmp_path, "hook:respond", "--tasks-every", "0.5", terminal=True) as session:
        await session.until(r"text answer")
        pids = descendants(session.process.pid)
        if session.process.returncode is None:
            os.kill(session.process.pid, signal.SIGINT)
        assert await session.end() == 0
    assert "task" in session.text and "Ctrl-C ends all" in session.text
    assert await gone(pids)


@pytest.mark.parametrize(
    ("line", "code", "reason"),
    [
        ((), 78, "write a project with `watcher init --template DIR`"),
        (("hook:respond", "--message", "2a"), 64, "two hex digits for each"),
        (("hook:respond", "--anvil", "/no/anvil"), 64, "/no/anvil is not an executable file"),
        (("http:nonsense",), 78, "hook.target"),
    ],
)
async def test_what_cannot_run_is_refused(tmp_path: Path, line: tuple[str, ...], code: int, reason: str) -> None:
    write(tmp_path, "b''")
    async with running(tmp_path, *line) as session:
        assert await session.end() == code
    assert reason in session.text and "Traceback" not in session.text
