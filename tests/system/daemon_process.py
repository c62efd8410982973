"""The watcher as a real process: the daemon with its service manager's socket, and the other commands."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.system.fork_server import Forked, fork, fork_with_pipes, may_fork

STOP_TIMEOUT_S = 40.0


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout, decoded. Raises AssertionError with all that the command left when it is no JSON."""
        try:
            return json.loads(self.out)
        except ValueError:
            raise AssertionError(f"no JSON on stdout: {self}") from None


class Daemon:
    """One `watcher run`, in a session of its own so that no worker of it can be left behind."""

    def __init__(
        self, process: asyncio.subprocess.Process | Forked, manager: socket.socket, log: Path, begin: int
    ) -> None:
        self.process, self._manager, self._log, self._begin = process, manager, log, begin
        self.log_once: list[str] = []

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.returncode is None

    @property
    def log(self) -> str:
        """What this run has written to stderr (and stdout) so far."""
        with self._log.open("rb") as file:
            file.seek(self._begin)
            return file.read().decode(errors="replace")

    def notices(self) -> list[str]:
        """Every field it has sent to its service manager so far, in order: READY=1, STATUS=..., WATCHDOG=1, ..."""
        with suppress(BlockingIOError):
            while True:
                self.log_once += self._manager.recv(65536).decode().splitlines()
        return self.log_once

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Tell it to stop, and its exit code."""
        self.send(number)
        return await self.wait()

    async def kill(self) -> None:
        """SIGKILL: no line of it runs any more. Its workers must end by themselves."""
        self.process.kill()
        await self.process.wait()

    async def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        try:
            async with asyncio.timeout(timeout_s):
                return await self.process.wait()
        except TimeoutError:
            raise AssertionError(f"the daemon did not end within {timeout_s:g} s:\n{self.log[-4000:]}") from None

    def group(self) -> list[int]:
        """The processes of its session that are still alive."""
        numbers = (entry.name for entry in Path("/proc").iterdir())
        return [pid for pid in map(int, filter(str.isdigit, numbers)) if _session(pid) == self.pid]

    async def reap(self) -> None:
        """End whatever is left of it. For the end of a test, however that came."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await self.process.wait()
        self._manager.close()


async def launch(
    arguments: Sequence[str], environment: Mapping[str, str], log: Path, *, own_interpreter: bool = False
) -> Daemon:
    """Start `watcher run` with these arguments, in the folder of its log.

    Args:
        arguments: what follows `watcher run`.
        environment: all variables of the process.
        log: the file that gets its stdout and stderr.
        own_interpreter: start `python -m watcher` also where the process might be forked from one that has imported it.
    """
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind("")  # an abstract address, chosen by the kernel
    manager.setblocking(False)
    variables = {"NOTIFY_SOCKET": "@" + manager.getsockname()[1:].decode(), **environment}
    with log.open("ab") as output:
        begin = output.tell()
        if may_fork(variables) and not own_interpreter:
            process = await fork(["run", *arguments], variables, log.parent, output.fileno())
            return Daemon(process, manager, log, begin)
        started = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "watcher", "run", *arguments,
            cwd=log.parent, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            env=variables,
        )  # fmt: skip
    return Daemon(started, manager, log, begin)


async def start_command(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, *, own_interpreter: bool = False
) -> asyncio.subprocess.Process | Forked:
    """Start any `watcher ...` in a session of its own, with pipes for stdout and stderr."""
    if may_fork(environment) and not own_interpreter:
        return await fork_with_pipes(arguments, environment, folder)
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "watcher", *arguments,
        cwd=folder, stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=dict(environment),
    )  # fmt: skip


async def run_command(arguments: Sequence[str], environment: Mapping[str, str], folder: Path, timeout_s: float) -> Done:
    """Any other `watcher ...`, to its end."""
    process = await start_command(arguments, environment, folder)
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


def _session(pid: int) -> int | None:
    """The session of a process that is alive, None when it is gone or only waits to be collected."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] in "ZX" else int(fields[3])
