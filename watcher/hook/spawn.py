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
folder, *fds = sys.argv[1:]
if folder not in sys.path:
    sys.path.insert(0, folder)
from watcher.hook.supervisor import main
main(*map(int, fds))
"""
_PACKAGE_FOLDER = str(Path(__file__).resolve().parents[2])

# Variables of the daemon alone: secrets, and the sockets and descriptors of the service manager.
_HIDDEN_VARIABLES = ("WATCHER_", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_", "JOURNAL_STREAM", "LISTEN_")


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the daemon's environment without the variables a hook must not see. Names count in any case."""
    return {name: value for name, value in environ.items() if not name.upper().startswith(_HIDDEN_VARIABLES)}


@dataclass(frozen=True, slots=True)
class Ends:
    """Channel and output of one worker: the daemon's ends, or the worker's."""

    channel: socket.socket
    output_fd: int


@dataclass(frozen=True, slots=True)
class Spawned:
    """A new supervisor, and the daemon's ends of what connects it.

    Closing `parent_fd` ends all processes of the worker. `renewals` asks for the next worker (`renewal_ends`).
    """

    popen: subprocess.Popen[bytes]
    pidfd: int
    parent_fd: int
    renewals: socket.socket
    ends: Ends


def spawn(temp_dir: str | None) -> Spawned:
    """Start a supervisor and its worker, with `temp_dir` as the worker's TMPDIR.

    Raises:
        TryLater: the system gives no process or descriptor.
    """
    environment = worker_environment(os.environ) | ({"TMPDIR": temp_dir} if temp_dir else {})
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        try:
            our_ends, their_ends = _ends(ours, theirs)
            their_parent_fd, parent_fd = os.pipe()
            ours.callback(os.close, parent_fd)
            theirs.callback(os.close, their_parent_fd)
            renewals, their_renewals = _socket_pair(ours, theirs)
            their_fds = (their_ends.channel.fileno(), their_parent_fd, their_renewals.fileno())
            popen = subprocess.Popen(  # noqa: S603  the daemon's own interpreter and arguments
                [sys.executable, "-P", "-c", _BOOT, _PACKAGE_FOLDER, *map(str, their_fds)],
                stdin=subprocess.DEVNULL,
                stdout=their_ends.output_fd,
                stderr=their_ends.output_fd,
                pass_fds=their_fds,
                start_new_session=True,
                env=environment,
            )
            pidfd = _watch(popen)
        except OSError as error:
            raise TryLater(f"the system cannot start a hook worker: {error.strerror}") from None
        ours.pop_all()
    return Spawned(popen, pidfd, parent_fd, renewals, our_ends)


def renewal_ends(renewals: socket.socket) -> Ends:
    """Give a supervisor whose worker has ended the ends of the next one. Return the daemon's.

    Raises:
        OSError: the system gives no descriptor, or the supervisor has ended.
    """
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        our_ends, their_ends = _ends(ours, theirs)
        socket.send_fds(renewals, [b"."], [their_ends.channel.fileno(), their_ends.output_fd])
        ours.pop_all()
    return our_ends


def _ends(ours: contextlib.ExitStack, theirs: contextlib.ExitStack) -> tuple[Ends, Ends]:
    channel, their_channel = _socket_pair(ours, theirs)
    output_fd, their_output_fd = os.pipe()
    ours.callback(os.close, output_fd)
    theirs.callback(os.close, their_output_fd)
    return Ends(channel, output_fd), Ends(their_channel, their_output_fd)


def _socket_pair(ours: contextlib.ExitStack, theirs: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets, the first of which never blocks."""
    our_socket, their_socket = socket.socketpair()
    ours.enter_context(our_socket)
    theirs.enter_context(their_socket)
    our_socket.setblocking(False)
    return our_socket, their_socket


def _watch(popen: subprocess.Popen[bytes]) -> int:
    try:
        return os.pidfd_open(popen.pid)
    except OSError:
        popen.kill()
        popen.wait()
        raise
