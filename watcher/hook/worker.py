"""The process that runs the hook: one load request, then one task after another, until the channel ends.

`supervisor` forks it; the daemon never imports it. Standard library only, so that a worker starts in a tenth of a
second. Invariant: after every run a reply has been sent, or this process has ended, before the next one begins.
"""

import fcntl
import os
import select
import signal
import socket
import sys
from collections.abc import Coroutine
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Self, TextIO

from watcher.errors import AttemptFailed, FixConfiguration, TryLater
from watcher.hook import background, memory, messages, sandbox, wire
from watcher.hook.error_line import describe
from watcher.hook.load import Loaded, load
from watcher.hook.protocol import PROGRAM_PREFIX, ReplaceWorker, checked_result
from watcher.hook.values import BYTES, Values
from watcher.task import Task

if TYPE_CHECKING:
    import asyncio


class Caller:
    """The calls of a hook. An async hook runs on one event loop, so that its clients survive from task to task."""

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
            import asyncio  # It costs 50 ms, which a sync hook need not pay.

            self._runner = asyncio.Runner()
        return self._runner.run(answer)


# The daemon is trusted, but a corrupt length must not become an allocation.
_REQUEST_LIMIT_BYTES = 1 << 30
_READ_BYTES = 65_536
_IGNORED_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Channel:
    """The socket to the daemon, closed to every process that the hook starts."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.set_inheritable(False)
        self._inode = os.fstat(fd).st_ino
        self._pid = os.getpid()
        self._arrived = wire.Splitter(_REQUEST_LIMIT_BYTES)
        os.register_at_fork(after_in_child=self._socket.close)

    def receive(self) -> wire.Fields | None:
        """Return the next message, or None if the daemon has closed the channel."""
        self._check_owner()
        while (body := self._arrived.next_body()) is None:
            if not (data := self._socket.recv(_READ_BYTES)):
                return None
            self._arrived.add(data)
        return wire.unpack_trusted(body)

    def send(self, fields: wire.Fields) -> None:
        self._check_owner()
        # If the hook has closed all descriptors and opened a file, the reply must not go to that file.
        if os.fstat(self._socket.fileno()).st_ino != self._inode:
            raise OSError("the hook closed the channel")
        self._socket.sendall(wire.pack(fields))

    def _check_owner(self) -> None:
        """Refuse in a child that forked past `register_at_fork`: it must neither reply nor take the next task."""
        if os.getpid() != self._pid:
            raise OSError("the channel belongs to the parent")


class OutputMarks:
    """Marks in the output of this process, so that the daemon knows which run has printed what."""

    def __init__(self) -> None:
        self._fd = os.dup(1)  # A hook may close or redirect its own.
        self._file = self._identity()

    def write(self, run: int) -> None:
        """Write the mark that follows the output of a run, unless the hook has taken the descriptor."""
        with suppress(OSError):
            if self._identity() == self._file:
                os.write(self._fd, messages.output_mark(run))

    def _identity(self) -> tuple[int, int]:
        status = os.fstat(self._fd)
        return status.st_dev, status.st_ino


def main(channel_fd: int, parent_fd: int) -> None:
    """Serve until the daemon closes the channel. Exit without a traceback if the channel is lost."""
    _die_with_daemon(parent_fd)
    _ignore_signals()
    for stream in (sys.stdout, sys.stderr):
        _buffer_lines(stream)
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
    request = messages.read_load(first)
    try:
        memory.limit(request.memory_mb)
        if request.background:
            background.enter()
        marks = OutputMarks()
        exposed = sandbox.enter(request.landlock, request.hidden, request.app_dir)
        hook, values = _load(request)
    except (FixConfiguration, TryLater) as error:
        hint = memory.hint(request.memory_mb) if "MemoryError" in str(error) else ""
        traceback = _traceback(error.__context__, request)
        refusal = messages.NotLoaded(f"{error}{hint}", isinstance(error, TryLater), traceback)
        channel.send(messages.write_start(refusal))
        return
    version = request.types.added_to(hook.version)
    channel.send(messages.write_start(messages.Ready(version, hook.new_files(), exposed, _label(hook, request))))
    with Caller(hook) as call:
        while (fields := channel.receive()) is not None:
            order = messages.read_task(fields)
            # Checked after the reply to the run before: see `watcher.hook.group`.
            if order.begin_by_s is not None and monotonic() >= order.begin_by_s:
                channel.send(messages.write_not_begun(order.run))
                continue
            began_s = monotonic()
            result = _run(call, values, order, request)
            duration_us = int((monotonic() - began_s) * 1e6)
            _flush()
            if order.is_marked:
                marks.write(order.run)
            channel.send(messages.write_reply(result, duration_us, hook.new_files()))
            if messages.is_last(result):
                return


def _load(request: messages.LoadRequest) -> tuple[Loaded, Values]:
    """Return the hook, and the values that it gets and returns in Python."""
    values = Values(request.types)
    if request.target.startswith(PROGRAM_PREFIX):
        from watcher.hook.program import load_program  # late: most hooks are no programs

        return load_program(request.target, request.app_dir, request.answer_limit_bytes, values), BYTES
    return load(request.target, request.app_dir), values


def _label(hook: Loaded, request: messages.LoadRequest) -> str:
    """Return the version to be recorded; no file or repository of the author's can make the start fail."""
    if not request.with_label:
        return ""
    try:
        return hook.origin().label(request.types)
    except Exception as error:  # noqa: BLE001  what stands in metadata and repositories is the author's
        print(f"watcher: the version of the hook is incomplete: {describe(error)}", file=sys.stderr)
        return request.types.added_to(hook.version)


def _run(call: Caller, values: Values, order: messages.TaskRequest, request: messages.LoadRequest) -> wire.Fields:
    run = order.run
    try:
        answer = values.encoded(call(values.decoded(order.task)))
        return messages.write_answer(run, checked_result(answer, request.answer_limit_bytes))
    except AttemptFailed as error:
        return messages.write_failure(run, str(error), is_last=isinstance(error, ReplaceWorker))
    except BaseException as error:  # noqa: BLE001  SystemExit and KeyboardInterrupt of a hook are failures too
        hint = sandbox.explain(error, request.hidden) + memory.explain(error, request.memory_mb)
        # The hook may keep the objects that filled the memory.
        is_full = request.memory_mb > 0 and isinstance(error, MemoryError)
        reason = f"the hook raised {describe(error, request.app_dir)}{hint}"
        return messages.write_failure(run, reason, is_last=is_full, traceback=_traceback(error, request))


def _traceback(error: BaseException | None, request: messages.LoadRequest) -> str:
    """Return the traceback of an error of the author's code; "" where nobody asked for it."""
    if error is None or not request.tracebacks:
        return ""
    from watcher.hook.tracebacks import own_traceback  # late: the daemon's workers never need it

    return own_traceback(error)


def _die_with_daemon(parent_fd: int) -> None:
    """Let the kernel kill this process group the moment the daemon is gone.

    The daemon holds the only other end of this pipe and never writes to it. When that end closes, even by SIGKILL of
    the daemon, the kernel signals the group (F_SETSIG, fcntl(2)). This works in the middle of a hook call, while a
    library holds the interpreter lock, and for the hook's children too.
    """
    fcntl.fcntl(parent_fd, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(parent_fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(parent_fd, fcntl.F_SETFL, fcntl.fcntl(parent_fd, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([parent_fd], [], [], 0)[0]:
        os._exit(wire.CHANNEL_LOST)  # The daemon was gone before the signal was set.
    os.set_inheritable(parent_fd, False)


def _ignore_signals() -> None:
    """Ignore a stop sent to every process of the service: the daemon decides when a running hook ends.

    The handlers do nothing; SIG_IGN would be inherited by programs that the hook starts. A child that is forked without
    an exec gets the default handlers; the signals are blocked during the fork, so that none arrives between the two.
    """
    for number in _IGNORED_SIGNALS:
        signal.signal(number, lambda *_: None)
    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED_SIGNALS),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED_SIGNALS),
        after_in_child=_default_signals,
    )


def _default_signals() -> None:
    for number in _IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED_SIGNALS)


def _buffer_lines(stream: TextIO) -> None:
    # Line by line, so that a killed hook leaves no output in a buffer.
    stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[attr-defined]


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:  # noqa: BLE001, S110  the hook may have closed or replaced the stream
            pass
