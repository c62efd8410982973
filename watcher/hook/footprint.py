"""The memory of a worker's processes, read from /proc (proc_pid_status(5))."""

import re
from dataclasses import dataclass
from pathlib import Path

_FIELDS = re.compile(rb"^(VmHWM|VmRSS):\s+(\d+) kB$", re.MULTILINE)
_KIB = 1024
_PROCESSES_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Footprint:
    """The resident memory of some processes now, and the sum of what each had at its highest, in bytes."""

    rss_bytes: int = 0
    peak_bytes: int = 0

    def __add__(self, other: "Footprint") -> "Footprint":
        return Footprint(self.rss_bytes + other.rss_bytes, self.peak_bytes + other.peak_bytes)


def footprint_below(supervisor: int) -> Footprint | None:
    """Return the memory of a worker and all processes it started; None if none is left, or /proc does not show them.

    `supervisor` is the process id of the worker's parent, whose own memory does not count.
    """
    total, is_alive = Footprint(), False
    waiting, seen = _children(supervisor), 0
    while waiting and seen < _PROCESSES_LIMIT:
        pid = waiting.pop()
        seen += 1
        waiting += _children(pid)
        if (own := _footprint(pid)) is not None:
            total, is_alive = total + own, True
    return total if is_alive else None


def _children(pid: int) -> list[int]:
    """Return the children of all threads of a process."""
    children: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (thread / "children").read_text().split())
    except OSError:  # the process has ended
        pass
    return children


def _footprint(pid: int) -> Footprint | None:
    try:
        sizes = dict(_FIELDS.findall(Path(f"/proc/{pid}/status").read_bytes()))
    except OSError:
        return None
    if len(sizes) < 2:  # a process that has ended and is not reaped
        return None
    return Footprint(int(sizes[b"VmRSS"]) * _KIB, int(sizes[b"VmHWM"]) * _KIB)
