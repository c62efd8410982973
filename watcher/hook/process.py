"""One worker process, seen from the daemon: started, asked, killed, reaped.

The daemon's child is the worker's supervisor (`watcher.hook.supervisor`). It ends with the worker, once everything the
worker started has ended too, and with the worker's exit status. Closing the life line, a pipe, ends them all; so does
the end of the daemon. Invariant: a reply counts only with the number of its run, which no other run can know.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Mapping

from watcher.errors import AttemptFailed, FixConfiguration, TryLater
from watcher.hook import memory, wire
from watcher.hook.output import Log, Output
from watcher.hook.protocol import Answer
from watcher.hook.spawn import spawn
from watcher.task import Task
from watcher.text import setting

_CHANNEL_CLOSED = "the hook closed the worker's channel to the daemon"
_RUN_BYTES = 7
_EXIT_GRACE_S = 2.0  # for a dismissed worker's exit handlers
_KILL_GRACE_S = 10.0  # for a supervisor to end everything, before it is killed itself
_STATUS_GRACE_S = 1.0  # between a closed channel and the news of the exit


class WorkerProcess:
    """A running worker. Made by `start`; gone when `ended` is set. Runs one task at a time."""

    def __init__(self, order: wire.LoadRequest, log: Log, temp_dir: str | None = None) -> None:
        self._limit_bytes = wire.frame_limit_bytes(order.answer_limit_bytes)
        self._order = order
        self._loop = asyncio.get_running_loop()
        spawned = spawn(temp_dir)
        self._popen, self._pidfd = spawned.popen, spawned.pidfd
        self._channel, self._life_fd = spawned.channel, spawned.life_fd
        self._output = Output(spawned.output_fd, log)
        self._loop.add_reader(self._pidfd, self._reap)
        self._busy = True  # with loading the hook: what it says of that may still have to be read when it has ended
        self._doomed = False
        self._grace: asyncio.TimerHandle | None = None
        self._last_resort: asyncio.TimerHandle | None = None
        self.ended = asyncio.Event()
        self.version = ""
        self.exposed = ""
        self.files: Mapping[str, str] = {}
        self.new_files: dict[str, str] = {}
        self.runs = 0

    @classmethod
    async def start(
        cls, order: wire.LoadRequest, *, timeout_s: float, log: Log, temp_dir: str | None = None
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
        """That of the supervisor."""
        return self._popen.pid

    @property
    def usable(self) -> bool:
        """True while it may be given another task."""
        return not self.ended.is_set() and not self._doomed

    async def run(self, task: Task, timeout_s: float) -> Answer:
        """Have the hook answer. Raises AttemptFailed; the worker survives only what the hook said in good order."""
        self.runs += 1
        # Not a counter: what a hook writes into the channel during one run must not pass for the reply to a later one.
        run = int.from_bytes(os.urandom(_RUN_BYTES))
        self._busy = True
        self._output.begin(task)
        unharmed = False
        try:
            async with asyncio.timeout(timeout_s):
                await self._send(wire.write_task(run, task))
                reply = await self._receive()
            if wire.read_run(reply) != run:
                raise wire.BrokenMessage("an answer to another run")
            self.new_files |= wire.read_files(reply)
            unharmed = True
            if wire.is_last(reply):
                self.stop()
            return wire.read_answer(reply, self._order.answer_limit_bytes)
        except TimeoutError:
            raise AttemptFailed(f"the hook took longer than timeout_s = {timeout_s:g} s and was killed") from None
        except OSError:
            raise AttemptFailed(f"while the hook ran, {await self._how_it_ended()}") from None
        except wire.BrokenMessage as nonsense:
            unharmed = False
            raise AttemptFailed(f"the worker sent something that is no answer ({nonsense}) and was killed") from None
        finally:
            self._output.end()
            if not unharmed:
                self.kill()
            self._busy = False
            self._close_if_over()

    def kill(self) -> None:
        """End the worker and everything it started, now. `ended` follows."""
        self._doomed = True
        if self._life_fd >= 0:
            os.close(self._life_fd)
            self._life_fd = -1
            self._last_resort = self._loop.call_later(_KILL_GRACE_S, self._popen.kill)

    @property
    def is_quiet(self) -> bool:
        """Return True if nothing waits in the channel, as it must be between two runs."""
        try:
            self._channel.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def stop(self) -> None:
        """Let an idle worker end by itself, with its exit handlers, and kill it if that takes too long."""
        if self.usable:
            self._doomed = True
            self._grace = self._loop.call_later(_EXIT_GRACE_S, self.kill)
            with contextlib.suppress(OSError):
                self._channel.shutdown(socket.SHUT_WR)

    async def _load(self, timeout_s: float) -> wire.Ready:
        name = setting(self._order.target)
        try:
            async with asyncio.timeout(timeout_s):
                await self._send(wire.write_load(self._order))
                start = wire.read_start(await self._receive())
        except TimeoutError:
            raise TryLater(f"{name}: importing the module took longer than {timeout_s:g} s") from None
        except (OSError, wire.BrokenMessage):
            how = await self._how_it_ended()
            last = f"; it last printed: {self._output.last_line}" if self._output.last_line else ""
            words = f"{name}: while importing the module, {how}{last}"
            is_killed = self._popen.returncode == -signal.SIGKILL  # by the system, for want of memory
            raise (TryLater if is_killed else FixConfiguration)(words) from None
        finally:
            self._busy = False
            self._close_if_over()
        if isinstance(start, wire.NotLoaded):
            raise TryLater(start.words) if start.may_pass else FixConfiguration(start.words)
        return start

    async def _send(self, fields: wire.Fields) -> None:
        await self._loop.sock_sendall(self._channel, wire.pack(fields))

    async def _receive(self) -> wire.Fields:
        size = wire.length(await self._read(wire.LENGTH.size), self._limit_bytes)
        return wire.unpack(await self._read(size))

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
        limit = memory.hint(self._order.memory_mb)
        if status == wire.CHANNEL_LOST:
            return _CHANNEL_CLOSED
        if status == wire.NO_MEMORY:
            return f"the worker process had no memory left{limit}"
        if status >= 0:
            return f"the worker process ended with exit code {status}"
        name = _signal_name(-status)
        hint = " (out of memory, or killed by hand)" if -status == signal.SIGKILL else ""
        # Libraries in C end the process where memory is refused.
        why = limit if -status in (signal.SIGABRT, signal.SIGSEGV) else ""
        return f"the worker process was killed by {name}{hint}{why}"

    def _reap(self) -> None:
        """The processes have ended: reap the supervisor, and wake whoever waits for a reply."""
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._popen.wait()
        if self._life_fd >= 0:
            os.close(self._life_fd)
            self._life_fd = -1
        self._output.close()
        # A reply already sent can still be read; after it comes the end, whoever else holds the other side.
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        for timer in (self._grace, self._last_resort):
            if timer:
                timer.cancel()
        self.ended.set()
        self._close_if_over()

    def _close_if_over(self) -> None:
        if self.ended.is_set() and not self._busy:
            self._channel.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # the real-time signals between the first and the last have no names
        return f"signal {number}"
