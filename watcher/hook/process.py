"""One worker process as the daemon sees it: start, kill, reap.

The daemon's child is the worker's supervisor (`watcher.hook.supervisor`). It ends after the worker and all processes
that the worker started, with the worker's exit status. Closing the parent pipe ends them all; so does the end of the
daemon. A worker that has done its share is renewed: its supervisor forks the next one. What it runs is a
`watcher.hook.group.Group`.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping, Sequence

from watcher.errors import FixConfiguration, TryLater
from watcher.hook import memory, messages, wire
from watcher.hook.channel import Channel
from watcher.hook.output import Log, Output
from watcher.hook.spawn import Ends, renewal_ends, spawn
from watcher.hook.target import setting
from watcher.task import Task

_CHANNEL_CLOSED = "the hook closed the worker's channel to the daemon"
_EXIT_GRACE_S = 2.0  # for the exit handlers of a stopped worker
_KILL_GRACE_S = 10.0  # for a supervisor to end all processes, before it is killed itself
_STATUS_GRACE_S = 1.0  # between a closed channel and the exit status


class WorkerProcess:
    """A running worker, made by `start`. Runs one group at a time; `ended` is set once it and its parent are gone."""

    def __init__(self, request: messages.LoadRequest, log: Log, temp_dir: str | None = None) -> None:
        self.answer_limit_bytes = request.answer_limit_bytes
        self._request = request
        self._log = log
        self._loop = asyncio.get_running_loop()
        spawned = spawn(temp_dir)
        self._popen, self._pidfd = spawned.popen, spawned.pidfd
        self._parent_fd, self._renewals = spawned.parent_fd, spawned.renewals
        self._take(spawned.ends)
        self._loop.add_reader(self._pidfd, self._reap)
        self._stopping = False
        self._stop_timer: asyncio.TimerHandle | None = None
        self._kill_timer: asyncio.TimerHandle | None = None
        self.ended = asyncio.Event()
        self.code = ""
        self.version = ""  # as the ledger records it
        self.exposed = ""
        self.files: Mapping[str, str] = {}

    def _take(self, ends: Ends) -> None:
        """Begin with a worker that has not loaded the hook yet."""
        self.channel = Channel(ends.channel, messages.message_limit_bytes(self.answer_limit_bytes))
        self.output = Output(ends.output_fd, self._log)
        self._busy = True  # loading: its reply may still have to be read after the process has ended
        self.runs = 0
        self.answers = 0  # since the last run that failed

    @classmethod
    async def start(
        cls, request: messages.LoadRequest, *, timeout_s: float, log: Log, temp_dir: str | None = None
    ) -> "WorkerProcess":
        """Start a worker and return it once it has loaded the hook.

        Args:
            request: the hook, and the limits of its process.
            timeout_s: the limit of loading, in seconds.
            log: gets the output, line by line.
            temp_dir: the worker's folder for temporary files; None: the usual one.

        Raises:
            FixConfiguration: the hook cannot be loaded.
            TryLater: it cannot be loaded now, or the system has no process.
        """
        worker = cls(request, log, temp_dir)
        async with worker._killed_on_error():
            await worker._load(timeout_s)
        return worker

    async def renew(self, request: messages.LoadRequest, *, timeout_s: float) -> None:
        """Let an idle worker exit, with its exit handlers, and go on with a new one, which its supervisor forks.

        Args:
            request: the hook, and the limits of the process.
            timeout_s: the limit of loading, in seconds.

        Raises:
            FixConfiguration: the hook cannot be loaded. The supervisor is gone, too.
            TryLater: it cannot be loaded now, or the worker was not renewed. The supervisor is gone, too.
        """
        async with self._killed_on_error():
            self._busy = True
            ends = await self._next_ends()
            self.output.close()
            self.channel.close()
            self._take(ends)
            self._request = request
            await self._load(timeout_s)

    @property
    def pid(self) -> int:
        """Return the process id of the supervisor."""
        return self._popen.pid

    @property
    def usable(self) -> bool:
        """Return True while the worker may be given another task."""
        return not self.ended.is_set() and not self._stopping

    @property
    def is_stopping(self) -> bool:
        """Return True once the worker has been asked to stop, or killed."""
        return self._stopping

    def begin(self, marked_tasks: Sequence[tuple[Task, bytes]]) -> None:
        """Expect the replies, and the output, of these tasks; the bytes of a mark follow the output of its task."""
        self._busy = True
        self.output.begin(marked_tasks)

    async def end(self) -> None:
        """Expect no more replies."""
        await self.channel.stop_sending()
        self.output.end()
        self._busy = False
        self._close_if_over()

    def kill(self) -> None:
        """Kill the worker and every process it started, now. `ended` follows."""
        self._stopping = True
        if self._parent_fd >= 0:
            os.close(self._parent_fd)
            self._parent_fd = -1
            with contextlib.suppress(OSError):
                self._renewals.shutdown(socket.SHUT_RDWR)
            self._kill_timer = self._loop.call_later(_KILL_GRACE_S, self._popen.kill)

    def stop(self) -> None:
        """Let an idle worker exit, with its exit handlers; kill it if that takes too long."""
        was_usable, self._stopping = self.usable, True  # it may be gone already: no run is to wait for it
        if was_usable:
            self._stop_timer = self._loop.call_later(_EXIT_GRACE_S, self.kill)
            with contextlib.suppress(OSError):
                self.channel.end_requests()

    @contextlib.asynccontextmanager
    async def _killed_on_error(self) -> AsyncIterator[None]:
        try:
            yield
        except BaseException:
            self.kill()
            await self.ended.wait()
            await self.end()
            raise

    async def _next_ends(self) -> Ends:
        """End the worker, and return the ends of the next one."""
        self._stop_timer = self._loop.call_later(_EXIT_GRACE_S, self.kill)
        try:
            self._renewals.send(b".")
            self.channel.end_requests()
            if not await self._loop.sock_recv(self._renewals, 1):
                raise ConnectionResetError
            return renewal_ends(self._renewals)
        except OSError:
            raise TryLater("the worker did not end as it should, so its supervisor forks no other") from None
        finally:
            self._stop_timer.cancel()

    async def _load(self, timeout_s: float) -> None:
        name = setting(self._request.target)
        try:
            self.channel.send([messages.write_load(self._request)])
            if not await self.channel.arrives_by(self._loop.time() + timeout_s):
                raise TimeoutError
            reply = messages.read_start(self.channel.take())
        except TimeoutError:
            raise TryLater(f"{name}: importing the module took longer than {timeout_s:g} s") from None
        except (OSError, wire.BrokenMessage):
            reason = await self.exit_reason()
            last = f"; it last printed: {self.output.last_line}" if self.output.last_line else ""
            message = f"{name}: while importing the module, {reason}{last}"
            is_killed = self._popen.returncode == -signal.SIGKILL  # by the kernel, which was out of memory
            raise (TryLater if is_killed else FixConfiguration)(message) from None
        finally:
            await self.end()
        if isinstance(reply, messages.NotLoaded):
            raise reply.error
        self.code, self.files, self.exposed, self.version = reply.version, reply.files, reply.exposed, reply.label

    async def exit_reason(self) -> str:
        """Return why the worker ended, as the end of a sentence."""
        try:
            async with asyncio.timeout(_STATUS_GRACE_S):
                await self.ended.wait()
        except TimeoutError:
            return _CHANNEL_CLOSED
        status = self._popen.returncode
        limit = memory.hint(self._request.memory_mb)
        if status == wire.CHANNEL_LOST:
            return _CHANNEL_CLOSED
        if status == wire.NO_MEMORY:
            return f"the worker process had no memory left{limit}"
        if status >= 0:
            return f"the worker process ended with exit code {status}"
        name = _signal_name(-status)
        hint = " (out of memory, or killed by hand)" if -status == signal.SIGKILL else ""
        # Libraries in C abort or crash when memory is refused.
        limit_hint = limit if -status in (signal.SIGABRT, signal.SIGSEGV) else ""
        return f"the worker process was killed by {name}{hint}{limit_hint}"

    def _reap(self) -> None:
        """Reap the ended supervisor, and end the wait for a reply."""
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._popen.wait()
        if self._parent_fd >= 0:
            os.close(self._parent_fd)
            self._parent_fd = -1
        self.output.close()
        # A reply already sent can still be read; then the channel ends, even if another process holds the other side.
        with contextlib.suppress(OSError):
            self.channel.shut_down()
        for timer in (self._stop_timer, self._kill_timer):
            if timer:
                timer.cancel()
        self.ended.set()
        self._close_if_over()

    def _close_if_over(self) -> None:
        if self.ended.is_set() and not self._busy:
            self.channel.close()
            self._renewals.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # the real-time signals between the first and the last have no names
        return f"signal {number}"
