"""The output of a worker: read at once, cut to a limit per run, escaped, and passed on line by line.

Invariant: at most `limit_bytes` of one run are kept, and a hook that prints without end never has to wait.
"""

import asyncio
import os
from collections.abc import Callable

from watcher.task import Task
from watcher.text import LINE_LIMIT, clean

OUTPUT_LIMIT_BYTES = 16_384

# Called with the running task (None while a worker starts or is idle) and one safe line.
Log = Callable[[Task | None, str], None]

_READ_BYTES = 65_536  # a pipe's capacity
_DRAIN_READS = 16


class Output:
    """The read end of the pipe that is a worker's stdout and stderr. Owns the descriptor."""

    def __init__(self, fd: int, log: Log, limit_bytes: int = OUTPUT_LIMIT_BYTES) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._log = log
        self._limit_bytes = self._left_bytes = limit_bytes
        self._task: Task | None = None
        self._partial = b""
        self._dropped_bytes = 0
        self.last_line = ""
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._loop.add_reader(fd, self._read)

    def begin(self, task: Task | None) -> None:
        """Attribute the output from now on to a task, with a new limit."""
        self._drain()
        self._flush()
        self._task, self._left_bytes, self._dropped_bytes = task, self._limit_bytes, 0

    def end(self) -> None:
        """Pass on everything printed so far."""
        self._drain()
        self._flush()
        self._task = None

    def close(self) -> None:
        """Pass on the rest and close. A child of the hook that still holds the write end gets a broken pipe."""
        self.end()
        self._close()

    def _drain(self) -> None:
        # Bounded: a thread of the hook may write faster than this reads.
        for _ in range(_DRAIN_READS):
            if not self._read():
                return

    def _read(self) -> bool:
        if not self._open:
            return False
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._close()
            return False
        self._take(data)
        return True

    def _take(self, data: bytes) -> None:
        kept = data[: self._left_bytes]
        self._left_bytes -= len(kept)
        self._dropped_bytes += len(data) - len(kept)
        *lines, self._partial = (self._partial + kept).split(b"\n")
        for line in lines:
            self._pass_on(line)

    def _flush(self) -> None:
        if self._partial:
            self._pass_on(self._partial)
            self._partial = b""
        if self._dropped_bytes:
            self._log(self._task, f"({self._dropped_bytes:,} more bytes of output are not shown)")
            self._dropped_bytes = 0

    def _pass_on(self, line: bytes) -> None:
        if line.strip():
            self.last_line = clean(line.decode("utf-8", "backslashreplace").rstrip(), LINE_LIMIT)
            self._log(self._task, self.last_line)

    def _close(self) -> None:
        if self._open:
            self._open = False
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
