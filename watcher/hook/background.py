"""The low priority of a worker that must not stand in the way of others. Standard library only."""

import os
from contextlib import suppress
from pathlib import Path

_NICE = 19
_OOM_SCORE = "1000"  # of 1000: killed first


def enter() -> None:
    """Give this process and its future children the lowest priority, and drop what they print.

    Reading the output of a process that prints without end would cost the daemon as much as writing it costs the hook.
    """
    with suppress(OSError):
        os.nice(_NICE)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    null_fd = os.open(os.devnull, os.O_RDWR)
    for fd in (1, 2):
        os.dup2(null_fd, fd)
    os.close(null_fd)
