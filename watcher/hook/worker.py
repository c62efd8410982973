"""The child process that runs the hook: one order, then one task after another, until the channel ends.

Forked by `supervisor`, never imported by the daemon. Standard library only, so that a worker starts in a tenth of a
second. Invariant: after every task either a reply has been sent or this process has ended.
"""

import fcntl
import os
import select
import signal
import socket
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Self, TextIO

from watcher.errors import AttemptFailed, FixConfiguration, TryLater
from watcher.hook import memory, sandbox, wire
from watcher.hook.load import Loaded, load
from watcher.hook.protocol import checked_result
from watcher.task import Task
from watcher.text import describe

if TYPE_CHECKING:
    import asyncio


class Caller:
    """Calls the hook; an async one always on the same event loop, so that its clients survive from task to task."""

    def __init__(self, hook: Loaded) -> None:
        self._hook = hook
        self._runner: asyncio.Runner | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._runner is not None:
            self._runner.close()

    def __call__(self, task: Task) -> object:
        answer = self._hook.function(task)
        return self._wait(answer) if self._hook.is_async else answer  # type: ignore[arg-type]

    def _wait(self, answer: Coroutine[Any, Any, object]) -> object:
        if self._runner is None:
            import asyncio  # 50 ms that a sync hook need not pay

            self._runner = asyncio.Runner()
        return self._runner.run(answer)


# The daemon is trusted, but a length that is not one must not become an allocation.
_ORDER_LIMIT_BYTES = 1 << 30
_HELD_BACK = (signal.SIGINT, signal.SIGTERM)


class Channel:
    """The socket to the daemon. It is not inherited by anything the hook starts."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.set_inheritable(False)
        self._inode = os.fstat(fd).st_ino
        self._pid = os.getpid()
        os.register_at_fork(after_in_child=self._socket.close)

    def receive(self) -> wire.Fields | None:
        """Return the next frame, or None when the daemon has closed the channel."""
        self._check_owner()
        head = self._read(wire.LENGTH.size)
        return wire.unpack(self._read(wire.length(head, _ORDER_LIMIT_BYTES))) if head else None

    def send(self, fields: wire.Fields) -> None:
        self._check_owner()
        # A hook that closes all descriptors and opens a file must not find our reply in that file.
        if os.fstat(self._socket.fileno()).st_ino != self._inode:
            raise OSError("the hook took the channel away")
        self._socket.sendall(wire.pack(fields))

    def _check_owner(self) -> None:
        """A child forked past `register_at_fork` must neither answer nor take the next task."""
        if os.getpid() != self._pid:
            raise OSError("the channel is the parent's")

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._socket.recv(min(size - len(data), 1 << 20))
            if not part:
                return b""
            data += part
        return bytes(data)


def main(channel_fd: int, life_fd: int) -> None:
    """Serve until the daemon closes the channel. Exits without a traceback when the channel is lost."""
    _die_with_the_daemon(life_fd)
    _leave_signals_to_the_daemon()
    for stream in (sys.stdout, sys.stderr):
        _write_lines(stream)
    channel = Channel(channel_fd)
    try:
        _serve(channel)
    except (OSError, wire.BrokenMessage):
        os._exit(wire.CHANNEL_LOST)
    except MemoryError:
        os._exit(wire.NO_MEMORY)


def _serve(channel: Channel) -> None:
    first = channel.receive()
    if first is None:
        return
    order = wire.read_load(first)
    try:
        memory.limit(order.memory_mb)
        exposed = sandbox.enter(order.landlock, order.hidden, order.app_dir)
        hook = load(order.target, order.app_dir)
    except (FixConfiguration, TryLater) as problem:
        why = memory.hint(order.memory_mb) if "MemoryError" in str(problem) else ""
        channel.send(wire.write_start(wire.NotLoaded(f"{problem}{why}", may_pass=isinstance(problem, TryLater))))
        return
    channel.send(wire.write_start(wire.Ready(hook.version, hook.new_files(), exposed)))
    with Caller(hook) as call:
        while (fields := channel.receive()) is not None:
            run, task = wire.read_task(fields)
            reply = _run(call, run, task, order)
            _flush()
            channel.send({**reply, **wire.write_files(hook.new_files())})


def _run(call: Caller, run: int, task: Task, order: wire.LoadRequest) -> wire.Fields:
    try:
        return wire.write_answer(run, checked_result(call(task), order.answer_limit_bytes))
    except AttemptFailed as refused:
        return wire.write_failure(run, str(refused))
    except BaseException as error:  # noqa: BLE001  SystemExit and KeyboardInterrupt of a hook are failures like any other
        why = sandbox.explain(error, order.hidden) + memory.explain(error, order.memory_mb)
        # What has filled the memory may still be held.
        is_full = order.memory_mb > 0 and isinstance(error, MemoryError)
        return wire.write_failure(run, f"the hook raised {describe(error, order.app_dir)}{why}", is_last=is_full)


def _die_with_the_daemon(life_fd: int) -> None:
    """Have the kernel kill this process group the moment the daemon is gone.

    The daemon holds the only other end of this pipe and never writes to it. Its close, even by SIGKILL, signals the
    group: it works in the middle of a hook call, with the interpreter lock held, and for the hook's children too.
    """
    fcntl.fcntl(life_fd, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(life_fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(life_fd, fcntl.F_SETFL, fcntl.fcntl(life_fd, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([life_fd], [], [], 0)[0]:
        os._exit(wire.CHANNEL_LOST)  # it was gone before we asked
    os.set_inheritable(life_fd, False)


def _leave_signals_to_the_daemon() -> None:
    """Ignore a stop sent to every process of the service: the daemon decides when a running hook is cut short.

    Handlers that do nothing, not SIG_IGN, which programs started by the hook would inherit. What it forks without an
    exec gets the defaults back; the signals are held meanwhile, so that none falls between the two.
    """
    for number in _HELD_BACK:
        signal.signal(number, lambda *_: None)
    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK),
        after_in_child=_default_signals,
    )


def _default_signals() -> None:
    for number in _HELD_BACK:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)


def _write_lines(stream: TextIO) -> None:
    # Line by line, so that the last words of a hook that is killed are not lost in a buffer.
    stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[attr-defined]


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:  # noqa: BLE001, S110  the hook may have closed or replaced it
            pass
