"""A program as a child process, with a pipe for the lines to it and one for the lines from it. Standard library only.

Requests and replies have descriptors of their own, so that output cannot mix with them.
"""

import fcntl
import os
import select
import signal
import struct
import termios
from contextlib import suppress

from watcher.hook import schema

REQUEST_FD, REPLY_FD = 3, 4

_FREE_FD = 10  # above the two
_READ_BYTES = 65_536


class Child:
    """One program at a time: `start` after `kill`, or after the end of the one before.

    `limit_bytes` bounds a line of its replies.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._data = bytearray()
        self._written_bytes = 0  # of the last line to it
        self._pid = self._pidfd = self._requests = self._replies = -1

    @property
    def runs(self) -> bool:
        """True from the start until the end was waited for."""
        return self._pid >= 0

    def start(self, path: str, args: tuple[str, ...]) -> None:
        """Start a program. Raises OSError, MemoryError."""
        their_requests, self._requests = _pipe()
        self._replies, their_replies = _pipe()
        self._data.clear()
        variables = {"HOOK_REQUEST_FD": str(REQUEST_FD), "HOOK_REPLY_FD": str(REPLY_FD)}
        try:
            self._pid = os.posix_spawn(
                path,
                args,
                os.environ | variables | {"HOOK_WIRE_VERSION": str(schema.VERSION)},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, their_requests, REQUEST_FD),
                    (os.POSIX_SPAWN_DUP2, their_replies, REPLY_FD),
                ],
                # Python ignores these, and an ignored signal stays ignored in a new program.
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
            self._pidfd = os.pidfd_open(self._pid)
        except BaseException:
            self._close()
            raise
        finally:
            os.close(their_requests)
            os.close(their_replies)

    def has_ended(self, within_s: float = 0.0) -> bool:
        """Return True if it ends within so many seconds."""
        return bool(select.select([self._pidfd], [], [], within_s)[0])

    def reap(self) -> int:
        """Wait for the end. Return the exit code, or the signal as a negative number."""
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        self._close()
        return status

    def kill(self) -> None:
        """Kill it, if it runs."""
        if self._pid >= 0:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self.reap()

    def stop(self, grace_s: float) -> None:
        """Close the pipe to it, and kill it if it does not exit within so many seconds."""
        if self._pid >= 0:
            os.close(self._requests)
            self._requests = -1
            self.has_ended(grace_s)
            self.kill()

    def is_quiet(self) -> bool:
        """Return False if it ended, or wrote a line that is not read yet. Empty lines do not count."""
        has_ended = self.has_ended()
        while not has_ended and select.select([self._replies], [], [], 0)[0] and len(self._data) <= _READ_BYTES:
            part = os.read(self._replies, _READ_BYTES)
            has_ended = not part
            self._data += part
        is_quiet = not has_ended and not self._data.strip()
        self._data.clear()
        return is_quiet

    def write(self, line: bytes) -> None:
        """Write a line to it. Raises OSError if it ended, or closed the pipe."""
        rest = memoryview(line)
        self._written_bytes = 0
        while rest:
            count = os.write(self._requests, rest)
            self._written_bytes += count
            rest = rest[count:]

    def has_read_nothing(self) -> bool:
        """Return True if the pipe to it still holds every byte of the last line, and no byte came back."""
        count = fcntl.ioctl(self._requests, termios.FIONREAD, bytes(struct.calcsize("i")))
        return not self._data and struct.unpack("i", count)[0] >= self._written_bytes

    def read_line(self) -> bytes:
        """Return the next line from it that is not empty.

        Raises:
            OSError: it ended, or closed the pipe.
            BrokenReply: the line is too long.
        """
        searched = 0
        while True:
            end = self._data.find(b"\n", searched)
            if end < 0:
                searched = len(self._data)
                self._read_part()
                continue
            line = bytes(self._data[:end]).strip()
            del self._data[: end + 1]
            searched = 0
            if line:
                return line

    def _read_part(self) -> None:
        if len(self._data) > self._limit_bytes:
            raise schema.BrokenReply(f"the hook's reply is longer than {self._limit_bytes:,} bytes")
        # A child of a program that has ended may hold the pipe open.
        part = b""
        if self._replies in select.select([self._replies, self._pidfd], [], [])[0]:
            part = os.read(self._replies, _READ_BYTES)
        if not part:
            raise ConnectionResetError("the program closed its replies")
        self._data += part

    def _close(self) -> None:
        for fd in (self._requests, self._replies, self._pidfd):
            if fd >= 0:
                os.close(fd)
        self._pid = self._pidfd = self._requests = self._replies = -1


def _pipe() -> tuple[int, int]:
    """Return the ends of a pipe, clear of the descriptors that the program gets."""
    ends = os.pipe()
    try:
        return (
            fcntl.fcntl(ends[0], fcntl.F_DUPFD_CLOEXEC, _FREE_FD),
            fcntl.fcntl(ends[1], fcntl.F_DUPFD_CLOEXEC, _FREE_FD),
        )
    finally:
        for fd in ends:
            os.close(fd)
