"""The limit of a worker's memory, `hook.memory_mb`, and how to say that a hook has met it.

RLIMIT_DATA: private, writable memory of the process, which is what Python, numpy and the like allocate. Address space
that is only reserved does not count, so that threads and just-in-time compilers work; neither does shared memory. Each
process of a hook has the same limit for itself. Standard library only.
"""

import resource
from contextlib import suppress
from pathlib import Path

_MIB = 1 << 20
# Of 1000: where the machine runs out, the kernel ends workers and what they started before the daemon.
_OOM_SCORE = "500"


def limit(memory_mb: int) -> None:
    """Limit this process, and all it starts, for good. MiB; 0 sets no limit."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    if memory_mb:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = memory_mb * _MIB if hard == resource.RLIM_INFINITY else min(memory_mb * _MIB, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, wanted))


def is_limited() -> bool:
    """Return True if this process's memory has a limit of its own."""
    return resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY


def explain(error: BaseException, memory_mb: int) -> str:
    """Return what to add to the message of a MemoryError under a limit, empty for every other error."""
    return hint(memory_mb) if memory_mb and isinstance(error, MemoryError) else ""


def hint(memory_mb: int) -> str:
    """Name the limit."""
    return f"; hook.memory_mb = {memory_mb} is the limit" if memory_mb else ""
