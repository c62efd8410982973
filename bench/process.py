"""A child process under measure: its start, its log, its CPU and memory, and its end with all of its children."""

import asyncio
import os
import resource
import shutil
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.errors import Failed

_STOP_TIMEOUT_S = 60
_LOG_END_BYTES = 2_000


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds and resident MiB of a process, and of all processes below it together."""

    cpu_s: float
    resident_mib: float
    children_cpu_s: float
    children_mib: float

    @property
    def whole_cpu_s(self) -> float:
        return self.cpu_s + self.children_cpu_s

    @property
    def whole_mib(self) -> float:
        return self.resident_mib + self.children_mib


class Child:
    """A running process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name, self.process, self._log = name, process, log

    @property
    def running(self) -> bool:
        return self.process.returncode is None

    def log_end(self) -> str:
        """Return the end of what it has printed."""
        return self._log.read_bytes()[-_LOG_END_BYTES:].decode(errors="replace")

    def usage(self) -> Usage:
        """Return what it has used so far (proc(5)). The kernel counts CPU in ticks of 10 ms."""
        below = [_counts(pid) for pid in _descendants(self.process.pid)]
        own = _counts(self.process.pid)
        children_cpu_s = own.ended_cpu_s + sum(counts.cpu_s + counts.ended_cpu_s for counts in below)
        return Usage(own.cpu_s, own.resident_mib, children_cpu_s, sum(counts.resident_mib for counts in below))

    def require_running(self) -> None:
        """Raise Failed if it has ended."""
        if not self.running:
            raise Failed(f"{self.name} ended with code {self.process.returncode}: {self.log_end()}")

    async def stop(self) -> None:
        """Send SIGTERM and wait for the end; whatever is left is killed."""
        if self.running:
            self.process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOP_TIMEOUT_S):
                    await self.process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()


@asynccontextmanager
async def child(
    name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Child]:
    """Run a command in a session of its own, and stop it at the end.

    Args:
        name: for messages.
        command: the program and its arguments.
        folder: its working directory; its output goes to a file there.
        environment: added to the environment of this process.
    """
    log = folder / f"{name.replace(' ', '-').replace('/', '-')}.log"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *_end_with_parent(),
            *command,
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "NO_COLOR": "1", **(environment or {})},
        )
    running = Child(name, process, log)
    try:
        yield running
    finally:
        await running.stop()


def _end_with_parent() -> Sequence[str]:
    """Return a command prefix with which the kernel ends the process when the benchmark is killed. Linux only."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "TERM", "--") if setpriv else ()


def cpu_s() -> float:
    """Return the CPU seconds of this process so far, user and system, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@dataclass(frozen=True, slots=True)
class _Counts:
    """CPU seconds of a process, and of its children that have ended; its resident MiB."""

    cpu_s: float
    ended_cpu_s: float
    resident_mib: float


def _counts(pid: int) -> _Counts:
    """Return the counts of one process; zeros once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return _Counts(0.0, 0.0, 0.0)
    utime, stime, cutime, cstime = map(int, fields[11:15])
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    resident_mib = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return _Counts((utime + stime) * tick_s, (cutime + cstime) * tick_s, resident_mib)


def _descendants(pid: int) -> Iterator[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for number in map(int, children):
        yield number
        yield from _descendants(number)
