"""The options of the GNU C library's allocator by which freed memory returns to the system.

By default each thread that allocates has an arena, whose freed memory serves that thread alone; and the size from which
a block has a mapping of its own, which is returned when it is freed, rises with the blocks that were freed. A daemon
whose threads take turns at the ledger keeps 20 MiB in that way. See mallopt(3). Other C libraries lack these options.
"""

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h
_THRESHOLD_BYTES = 128 * 1024


def return_freed_memory() -> None:
    """Use one arena, and fixed thresholds. Call it before threads start."""
    with suppress(AttributeError, OSError):  # musl, macOS
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in (
            (_ARENA_MAX, 1),
            (_TRIM_THRESHOLD, _THRESHOLD_BYTES),
            (_MMAP_THRESHOLD, _THRESHOLD_BYTES),
        ):
            mallopt(ctypes.c_int(option), ctypes.c_int(value))
