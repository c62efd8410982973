"""The start of a worker's processes: descriptors, environment, first lines of code."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from watcher.errors import TryLater

# -P keeps the current folder off the import path. The package comes from the folder the daemon imported it from.
_BOOT = """
import sys
folder, channel_fd, parent_fd = sys.argv[1:]
if folder not in sys.path:
    sys.path.insert(0, folder)
from watcher.hook.supervisor import main
main(int(channel_fd), int(parent_fd))
"""
_PACKAGE_FOLDER = str(Path(__file__).resolve().parents[2])

# Variables of the daemon alone: secrets, and the sockets and descriptors of the service manager.
_HIDDEN_VARIABLES = ("WATCHER_", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_", "JOURNAL_STREAM", "LISTEN_")


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the daemon's environment without the variables a hook must not see. Names count in any case."""
    return {name: value for name, value in environ.items() if not name.upper().startswith(_HIDDEN_VARIABLES)}


@dataclass(frozen=True, slots=True)
class Spawned:
    """A new supervisor and the daemon's ends of its channel, parent pipe and output.

    Closing `parent_fd` ends all processes of the worker.
    """

    popen: subprocess.Popen[bytes]
    pidfd: int
    channel: socket.socket
    parent_fd: int
    output_fd: int


def spawn(temp_dir: str | None) -> Spawned:
    """Start a supervisor and its worker, with `temp_dir` as the worker's TMPDIR.

    Raises:
        TryLater: the system gives no process or descriptor.
    """
    environment = worker_environment(os.environ) | ({"TMPDIR": temp_dir} if temp_dir else {})
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        try:
            channel, their_channel = socket.socketpair()
            ours.callback(channel.close)
            theirs.callback(their_channel.close)
            their_parent_fd, parent_fd = os.pipe()
            ours.callback(os.close, parent_fd)
            theirs.callback(os.close, their_parent_fd)
            output_fd, their_output_fd = os.pipe()
            ours.callback(os.close, output_fd)
            theirs.callback(os.close, their_output_fd)
            their_fds = (their_channel.fileno(), their_parent_fd)
            popen = subprocess.Popen(  # noqa: S603  the daemon's own interpreter and arguments
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
            raise TryLater(f"the system cannot start a hook worker: {error.strerror}") from None
        channel.setblocking(False)
        ours.pop_all()
    return Spawned(popen, pidfd, channel, parent_fd, output_fd)


def _watch(popen: subprocess.Popen[bytes]) -> int:
    try:
        return os.pidfd_open(popen.pid)
    except OSError:
        popen.kill()
        popen.wait()
        raise
