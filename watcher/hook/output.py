"""The output of a worker: read at once, cut to a limit per run, escaped, and passed on line by line.

Invariant: at most `limit_bytes` of one run are kept, and a hook that prints without end never has to wait.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence

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
        self._marked: deque[tuple[Task, bytes]] = deque()  # the running task, those that follow, and their marks
        self._early = 0  # marks that were read before the reply of their run
        self._partial = b""
        self._dropped_bytes = 0
        self.last_line = ""
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._loop.add_reader(fd, self._read)

    def begin(self, marked_tasks: Sequence[tuple[Task, bytes]]) -> None:
        """Attribute the output from now on to the first task, and what follows the mark of a task to the next one."""
        self._drain()
        self._flush()
        self._marked = deque(marked_tasks)
        self._early = 0
        self._limit()

    def end_run(self) -> None:
        """Pass on what the first task has printed; the output that follows is the next one's."""
        if not self._early:
            self._drain()
        if self._early:
            self._early -= 1  # Its mark was read before its reply.
        else:
            self._next()

    def end(self) -> None:
        """Pass on everything printed so far; what follows is no task's."""
        self._drain()
        self._flush()
        self._marked.clear()

    def pause(self) -> None:
        """Let the output wait in the pipe, at most for milliseconds: a hook that fills the pipe has to wait, too."""
        if self._open:
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        """Read the output again as it arrives."""
        if self._open:
            self._loop.add_reader(self._fd, self._read)

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
        """Keep output up to each mark for its task. A mark is one short write, so it arrives in one piece."""
        while self._marked:
            output, mark, behind = data.partition(self._marked[0][1])
            if not mark:
                break
            self._keep(output)
            self._next()
            self._early += 1
            data = behind
        self._keep(data)

    def _next(self) -> None:
        self._flush()
        if self._marked:
            self._marked.popleft()
        self._limit()

    def _limit(self) -> None:
        self._left_bytes, self._dropped_bytes = self._limit_bytes, 0

    def _keep(self, data: bytes) -> None:
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
            self._log(self._task(), f"({self._dropped_bytes:,} more bytes of output are not shown)")
            self._dropped_bytes = 0

    def _task(self) -> Task | None:
        return self._marked[0][0] if self._marked else None

    def _pass_on(self, line: bytes) -> None:
        if line.strip():
            self.last_line = clean(line.decode("utf-8", "backslashreplace").rstrip(), LINE_LIMIT)
            self._log(self._task(), self.last_line)

    def _close(self) -> None:
        if self._open:
            self._open = False
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
