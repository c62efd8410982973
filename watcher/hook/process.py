"""One worker process, seen from the daemon: started, asked, killed, buried.

The worker leads a session and process group of its own, so that a Ctrl-C in the terminal does not reach it and one
signal ends it together with everything it forked. (A child that makes a session of its own escapes that signal; under
systemd the service's cgroup still ends it.) Invariant: the group is signalled only while its leader is not reaped, so
the number can never mean another process.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from watcher.errors import AttemptFailed, FixConfiguration, TryLater
from watcher.hook import frame
from watcher.hook.output import Log, Output
from watcher.hook.protocol import Answer
from watcher.hook.words import setting
from watcher.task import Task

# -P: nothing of the current folder on the import path. The package is imported from where the daemon has it.
_BOOT = """
import sys
folder, channel_fd, life_fd = sys.argv[1:]
if folder not in sys.path:
    sys.path.insert(0, folder)
from watcher.hook.worker import main
main(int(channel_fd), int(life_fd))
"""
_PACKAGE_FOLDER = str(Path(__file__).resolve().parents[2])

# Ours alone: secrets, and the descriptors and sockets by which the service manager knows the daemon.
_KEPT_FROM_HOOKS = ("WATCHER_", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_", "JOURNAL_STREAM", "LISTEN_")

_CHANNEL_CLOSED = "the hook closed the worker's channel to the daemon"
_EXIT_GRACE_S = 2.0  # for a dismissed worker's exit handlers
_STATUS_GRACE_S = 1.0  # between a closed channel and the news of the exit


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the daemon's environment without what a hook must not see. Names are compared in upper case."""
    return {name: value for name, value in environ.items() if not name.upper().startswith(_KEPT_FROM_HOOKS)}


class WorkerProcess:
    """A running worker. Made by `start`; gone when `ended` is set. Runs one task at a time."""

    def __init__(self, order: frame.Order, log: Log, temp_dir: str | None = None) -> None:
        self._limit_bytes = frame.frame_limit_bytes(order.answer_limit_bytes)
        self._order = order
        self._loop = asyncio.get_running_loop()
        spawned = _spawn(temp_dir)
        self._popen, self._pidfd = spawned.popen, spawned.pidfd
        self._channel, self._life_fd = spawned.channel, spawned.life_fd
        self._output = Output(spawned.output_fd, log)
        self._loop.add_reader(self._pidfd, self._bury)
        self._busy = True  # with loading the hook: what it says of that may still have to be read when it has ended
        self._doomed = False
        self._grace: asyncio.TimerHandle | None = None
        self.ended = asyncio.Event()
        self.version = ""
        self.exposed = ""
        self.files: Mapping[str, str] = {}
        self.new_files: dict[str, str] = {}
        self.runs = 0

    @classmethod
    async def start(
        cls, order: frame.Order, *, timeout_s: float, log: Log, temp_dir: str | None = None
    ) -> "WorkerProcess":
        """Start a worker and have it load the hook. `temp_dir` takes the place of the folder for temporary files.

        Raises FixConfiguration when the hook cannot be loaded, TryLater when that may pass or there is no process.
        """
        worker = cls(order, log, temp_dir)
        try:
            start = await worker._load(timeout_s)
            worker.version, worker.files, worker.exposed = start.version, start.files, start.exposed
        except BaseException:
            worker.kill()
            await worker.ended.wait()
            raise
        worker._output.end()
        return worker

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def usable(self) -> bool:
        """True while it may be given another task."""
        return not self.ended.is_set() and not self._doomed

    async def run(self, task: Task, timeout_s: float) -> Answer:
        """Have the hook answer. Raises AttemptFailed; the worker survives only what the hook said in good order."""
        self.runs += 1
        self._busy = True
        self._output.begin(task)
        unharmed = False
        try:
            async with asyncio.timeout(timeout_s):
                await self._send(frame.write_task(self.runs, task))
                reply = await self._receive()
            if frame.read_run(reply) != self.runs:
                raise frame.BrokenFrame("an answer to another run")
            self.new_files |= frame.read_files(reply)
            unharmed = True
            return frame.read_answer(reply, self._order.answer_limit_bytes)
        except TimeoutError:
            raise AttemptFailed(f"the hook took longer than timeout_s = {timeout_s:g} s and was killed") from None
        except OSError:
            raise AttemptFailed(f"while the hook ran, {await self._how_it_ended()}") from None
        except frame.BrokenFrame as nonsense:
            unharmed = False
            raise AttemptFailed(f"the worker sent something that is no answer ({nonsense}) and was killed") from None
        finally:
            self._output.end()
            if not unharmed:
                self.kill()
            self._busy = False
            self._close_if_over()

    def kill(self) -> None:
        """End the worker and everything it forked, now. `ended` follows."""
        self._doomed = True
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def dismiss(self) -> None:
        """Let an idle worker end by itself, with its exit handlers, and kill it if that takes too long."""
        if self.usable:
            self._doomed = True
            self._grace = self._loop.call_later(_EXIT_GRACE_S, self.kill)
            with contextlib.suppress(OSError):
                self._channel.shutdown(socket.SHUT_WR)

    async def _load(self, timeout_s: float) -> frame.Ready:
        name = setting(self._order.target)
        try:
            async with asyncio.timeout(timeout_s):
                await self._send(frame.write_order(self._order))
                start = frame.read_start(await self._receive())
        except TimeoutError:
            raise TryLater(f"{name}: importing the module took longer than {timeout_s:g} s") from None
        except (OSError, frame.BrokenFrame):
            how = await self._how_it_ended()
            last = f"; it last printed: {self._output.last_line}" if self._output.last_line else ""
            words = f"{name}: while importing the module, {how}{last}"
            is_killed = self._popen.returncode == -signal.SIGKILL  # by the system, for want of memory
            raise (TryLater if is_killed else FixConfiguration)(words) from None
        finally:
            self._busy = False
            self._close_if_over()
        if isinstance(start, frame.NotLoaded):
            raise TryLater(start.words) if start.may_pass else FixConfiguration(start.words)
        return start

    async def _send(self, fields: frame.Fields) -> None:
        await self._loop.sock_sendall(self._channel, frame.pack(fields))

    async def _receive(self) -> frame.Fields:
        size = frame.length(await self._read(frame.LENGTH.size), self._limit_bytes)
        return frame.unpack(await self._read(size))

    async def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = await self._loop.sock_recv(self._channel, min(size - len(data), 65_536))
            if not part:
                raise ConnectionResetError("the channel is closed")
            data += part
        return bytes(data)

    async def _how_it_ended(self) -> str:
        try:
            async with asyncio.timeout(_STATUS_GRACE_S):
                await self.ended.wait()
        except TimeoutError:
            return _CHANNEL_CLOSED
        status = self._popen.returncode
        if status == frame.CHANNEL_LOST:
            return _CHANNEL_CLOSED
        if status >= 0:
            return f"the worker process ended with exit code {status}"
        name = _signal_name(-status)
        hint = " (out of memory, or killed by hand)" if -status == signal.SIGKILL else ""
        return f"the worker process was killed by {name}{hint}"

    def _bury(self) -> None:
        """The process has ended: end what it left behind, then reap it, and wake whoever waits for its reply."""
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()
        os.close(self._life_fd)
        self._output.close()
        # A reply already sent can still be read; after it comes the end, whoever else holds the other side.
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        if self._grace:
            self._grace.cancel()
        self.ended.set()
        self._close_if_over()

    def _close_if_over(self) -> None:
        if self.ended.is_set() and not self._busy:
            self._channel.close()


def _watch(popen: subprocess.Popen[bytes]) -> int:
    try:
        return os.pidfd_open(popen.pid)
    except OSError:
        popen.kill()
        popen.wait()
        raise


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # the real-time signals between the first and the last have no names
        return f"signal {number}"


@dataclass(frozen=True, slots=True)
class _Spawned:
    """A new process and our ends: the channel, the life line to hold, its output to read."""

    popen: subprocess.Popen[bytes]
    pidfd: int
    channel: socket.socket
    life_fd: int
    output_fd: int


def _spawn(temp_dir: str | None) -> _Spawned:
    environment = worker_environment(os.environ) | ({"TMPDIR": temp_dir} if temp_dir else {})
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        try:
            channel, their_channel = socket.socketpair()
            ours.callback(channel.close)
            theirs.callback(their_channel.close)
            their_life_fd, life_fd = os.pipe()
            ours.callback(os.close, life_fd)
            theirs.callback(os.close, their_life_fd)
            output_fd, their_output_fd = os.pipe()
            ours.callback(os.close, output_fd)
            theirs.callback(os.close, their_output_fd)
            their_fds = (their_channel.fileno(), their_life_fd)
            popen = subprocess.Popen(  # noqa: S603  our own interpreter, our own arguments
                [sys.executable, "-P", "-c", _BOOT, _PACKAGE_FOLDER, *map(str, their_fds)],
                stdin=subprocess.DEVNULL,
                stdout=their_output_fd,
                stderr=their_output_fd,
                pass_fds=their_fds,
                start_new_session=True,
                env=environment,
            )
            pidfd = _watch(popen)
        except OSError as error:
            raise TryLater(f"the system gives no process for a hook worker: {error.strerror}") from None
        channel.setblocking(False)
        ours.pop_all()
    return _Spawned(popen, pidfd, channel, life_fd, output_fd)
