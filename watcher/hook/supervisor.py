"""The parent of a worker, which kills all processes that the worker has started as soon as the worker ends.

Only its parent can find a process that made a session of its own. So this process stands between daemon and worker: it
is a subreaper (PR_SET_CHILD_SUBREAPER, prctl(2)), orphans become its children, and it kills its children until there
are none. Standard library only.

It runs no code of the hook, so that it can fork a new worker, too, which saves that one the start of an interpreter.
Invariants: no process of the worker before is left then, and the new one has a channel and an output of its own.
Without a renewal it ends with the worker's exit status, after the worker and all descendants, or `_SWEEP_LIMIT_S` after
the worker.
"""

import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from watcher.hook import worker
from watcher.hook.syscalls import die_with_parent, keep_memory_private, open_memory, reap_orphans

_SWEEP_LIMIT_S = 5.0  # A fork bomb may outrun this; the limits of the service unit end it.
_SWEEP_POLL_MS = 20
_KILLED = 128 + signal.SIGKILL
_SIGNALS = (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(channel_fd: int, parent_fd: int, renewals_fd: int) -> None:
    """Fork the worker, and wait until it ends or the daemon closes the other end of `parent_fd`; then renew it, or end.

    `renewals_fd` is a socket. A byte on it asks for a renewal before the worker ends, and a byte is the reply once it
    has ended; then come the channel and the output of the next worker.
    """
    wake_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)  # The daemon decides when a worker ends.
    with suppress(OSError):
        reap_orphans()
        keep_memory_private()  # from the hook, where there is no sandbox
    parent = os.getpid()
    renewals = socket.socket(fileno=renewals_fd)
    output_fd = os.dup(1)
    gc.freeze()  # Otherwise the last collection of each worker would copy the pages of all objects that live here.
    while True:
        child = os.fork()
        if child == 0:
            renewals.close()
            _become_worker(parent, output_fd, (wake_fd, write_fd))
            worker.main(channel_fd, parent_fd)
            return
        null_fd = os.open(os.devnull, os.O_RDWR)
        for fd in (1, 2):
            os.dup2(null_fd, fd)
        for fd in (null_fd, channel_fd, output_fd):
            os.close(fd)
        status = _sweep(child, _wait(child, parent_fd, wake_fd), wake_fd)
        ends = _next_ends(renewals) if status == 0 and not _has_children() else None
        if ends is None:
            _exit_as(status)
        channel_fd, output_fd = ends


def _become_worker(parent: int, output_fd: int, fds: tuple[int, ...]) -> None:
    signal.set_wakeup_fd(-1)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    for fd in (1, 2):
        os.dup2(output_fd, fd)
    for fd in (output_fd, *fds):
        os.close(fd)
    os.setsid()
    with suppress(OSError):
        die_with_parent()
        open_memory()
    if os.getppid() != parent:
        sys.exit(_KILLED)


def _next_ends(renewals: socket.socket) -> tuple[int, int] | None:
    """Return the channel and the output of the next worker, None if the daemon asks for none."""
    try:
        if not renewals.recv(1, socket.MSG_DONTWAIT):
            return None
        renewals.send(b".")
        _, fds, _, _ = socket.recv_fds(renewals, 1, 2)
    except OSError:
        return None
    return (fds[0], fds[1]) if len(fds) == 2 else None


def _wait(child: int, parent_fd: int, wake_fd: int) -> int | None:
    """Return the wait status of the worker, or None as soon as the daemon has closed the parent pipe."""
    poll = select.poll()
    for fd in (parent_fd, wake_fd):
        poll.register(fd, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == parent_fd:
                return None
            os.read(wake_fd, 4096)
        for pid, status in _reaped():
            if pid == child:
                return status


def _sweep(child: int, status: int | None, wake_fd: int) -> int | None:
    """Kill children until there are none. Return the wait status of the worker; None: it did not end."""
    poll = select.poll()
    poll.register(wake_fd, select.POLLIN)
    end_s = time.monotonic() + _SWEEP_LIMIT_S
    while time.monotonic() < end_s:
        for pid in _children():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for pid, child_status in _reaped():
            status = child_status if pid == child else status
        if not _has_children():
            break
        if poll.poll(_SWEEP_POLL_MS):
            os.read(wake_fd, 4096)
    return status


def _reaped() -> Iterator[tuple[int, int]]:
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _children() -> list[int]:
    pid = os.getpid()
    try:
        return [int(child) for child in Path(f"/proc/self/task/{pid}/children").read_text().split()]
    except FileNotFoundError:  # The kernel is built without this file.
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and _parent_of(name) == pid]  # noqa: PTH208


def _parent_of(pid: str) -> int | None:
    try:
        return int(Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _exit_as(status: int | None) -> NoReturn:
    """End this process the way the worker ended, so that the daemon sees its exit code or signal."""
    if status is None or not os.WIFSIGNALED(status):
        os._exit(_KILLED if status is None else os.WEXITSTATUS(status))
    number = os.WTERMSIG(status)
    with suppress(OSError, ValueError):  # SIGKILL has no handler to reset
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)
