"""Standard error as a stream of whole lines that never blocks and never raises."""

import contextlib
import os
import select
import sys
from typing import Protocol

PATIENCE_MS = 200
# A pipe that is ready takes this much at once (PIPE_BUF), so that a write after poll does not block.
_CHUNK_BYTES = 4096


class Stream(Protocol):
    """Anything with a file descriptor."""

    def fileno(self) -> int: ...


class Stderr:
    """A file descriptor for whole lines; without one, lines are dropped."""

    def __init__(self, stream: Stream | None = None) -> None:
        """`stream` is only asked for its descriptor; None takes sys.stderr."""
        self._handle = _handle_of(sys.stderr if stream is None else stream)
        self._lost_lines = 0
        self._stalled = False
        self._torn = False  # the last line was cut in the middle

    def is_terminal(self) -> bool:
        """Return True if the stream is a TTY."""
        try:
            return self._handle is not None and os.isatty(self._handle)
        except OSError:
            return False

    def is_journal(self, named: str) -> bool:
        """Return True if `named`, the value of JOURNAL_STREAM (device and inode), is this stream.

        A child process inherits the variable, and may have another standard error.
        """
        try:
            status = None if self._handle is None else os.fstat(self._handle)
        except OSError:
            return False
        return status is not None and named == f"{status.st_dev}:{status.st_ino}"

    def write(self, line: str) -> bool:
        """Write one line. Return False if all or a part of it was lost."""
        if self._handle is None:
            return False
        data = (line.rstrip("\n") + "\n").encode("utf-8", "backslashreplace")
        try:
            if self._lost_lines or self._torn:
                note = f"{self._lost_lines} log lines were lost: nobody was reading standard error\n".encode()
                if not self._put((b"\n" if self._torn else b"") + note):
                    return self._lose()
                self._lost_lines, self._torn = 0, False
            return self._put(data) or self._lose()
        except (OSError, ValueError):  # closed, broken, full
            return self._lose()

    def _lose(self) -> bool:
        self._lost_lines += 1
        return False

    def _put(self, data: bytes) -> bool:
        view = memoryview(data)
        while view:
            # Once stalled, wait no more: a daemon must not wait for its log at every line.
            if not self._has_room(0 if self._stalled else PATIENCE_MS):
                self._stalled = True
                self._torn = self._torn or len(view) < len(data)
                return False
            assert self._handle is not None
            view = view[os.write(self._handle, view[:_CHUNK_BYTES]) :]
            self._stalled = False
        return True

    def _has_room(self, patience_ms: int) -> bool:
        assert self._handle is not None
        poller = select.poll()
        poller.register(self._handle, select.POLLOUT)
        return bool(poller.poll(patience_ms))


def _handle_of(stream: Stream | None) -> int | None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if stream is not None:
            return stream.fileno()
    return None
