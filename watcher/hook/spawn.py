"""Starting the processes of a worker: their descriptors, their environment, their first lines of code."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from watcher.errors import TryLater

# -P: nothing of the current folder on the import path. The package is imported from where the daemon has it.
_BOOT = """
import sys
folder, channel_fd, life_fd = sys.argv[1:]
if folder not in sys.path:
    sys.path.insert(0, folder)
from watcher.hook.supervisor import main
main(int(channel_fd), int(life_fd))
"""
_PACKAGE_FOLDER = str(Path(__file__).resolve().parents[2])

# Ours alone: secrets, and the descriptors and sockets by which the service manager knows the daemon.
_KEPT_FROM_HOOKS = ("WATCHER_", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_", "JOURNAL_STREAM", "LISTEN_")


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the daemon's environment without what a hook must not see. Names are compared in upper case."""
    return {name: value for name, value in environ.items() if not name.upper().startswith(_KEPT_FROM_HOOKS)}


@dataclass(frozen=True, slots=True)
class Spawned:
    """A new process and our ends: the channel, the life line to hold, its output to read."""

    popen: subprocess.Popen[bytes]
    pidfd: int
    channel: socket.socket
    life_fd: int
    output_fd: int


def spawn(temp_dir: str | None) -> Spawned:
    """Start a supervisor and its worker. `temp_dir`: TMPDIR of the worker. Raises TryLater when there is no process."""
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
    return Spawned(popen, pidfd, channel, life_fd, output_fd)


def _watch(popen: subprocess.Popen[bytes]) -> int:
    try:
        return os.pidfd_open(popen.pid)
    except OSError:
        popen.kill()
        popen.wait()
        raise
