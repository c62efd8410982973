"""The limit of a worker's memory, `hook.memory_mb`, and its mention in messages. Standard library only.

The limit is RLIMIT_DATA (setrlimit(2)): the private, writable memory that Python, numpy and others allocate. Reserved
address space does not count, so threads and just-in-time compilers work; shared memory does not count either. Each
process of a hook has the limit for itself.
"""

import resource
from contextlib import suppress
from pathlib import Path

_MIB = 1 << 20
# Of 1000: when the machine runs out of memory, the kernel kills workers and their children before the daemon.
_OOM_SCORE = "500"


def limit(memory_mb: int) -> None:
    """Limit this process and its future children, for good. `memory_mb` is in MiB; 0: no limit."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    if memory_mb:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit_bytes = memory_mb * _MIB if hard == resource.RLIM_INFINITY else min(memory_mb * _MIB, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


def is_limited() -> bool:
    """Return True if the memory of this process is limited."""
    return resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY


def explain(error: BaseException, memory_mb: int) -> str:
    """Return the addition to the message of a MemoryError under a limit; "" for every other error."""
    return hint(memory_mb) if memory_mb and isinstance(error, MemoryError) else ""


def hint(memory_mb: int) -> str:
    """Return the addition to a message that names the limit; "" without one."""
    return f"; hook.memory_mb = {memory_mb} is the limit" if memory_mb else ""
