"""The room for runs of hooks in one process: how many workers of all its pools may run at the same time.

Invariants: pools that wait get room in the order in which they asked, one worker each, so that none starves another;
while one waits, no room is free.
"""

import math
from collections import deque
from collections.abc import Callable


class Room:
    """The room of all pools together."""

    def __init__(self, limit: int, workers: int, timeout_s: float) -> None:
        """Take the limits.

        Args:
            limit: the most workers that run at the same time.
            workers: the workers of all pools.
            timeout_s: the longest limit of one run in any of them.
        """
        self._free = limit
        self._turns = max(1, math.ceil(workers / limit))
        self._timeout_s = timeout_s
        self._waiting: deque[Callable[[], None]] = deque()

    def take(self, when_free: Callable[[], None]) -> bool:
        """Take room for one worker. Without any, return False; `when_free` is called once when there is some.

        It then takes the room before it returns, or leaves it to the next that waits.
        """
        if self._free > 0:
            self._free -= 1
            return True
        if when_free not in self._waiting:
            self._waiting.append(when_free)
        return False

    def give_back(self) -> None:
        """Give back the room of one worker, and call the first that waits, or those behind it if it takes none."""
        self._free += 1
        while self._free > 0 and self._waiting:
            self._waiting.popleft()()

    def longest_s(self, runs: int) -> float:
        """Return the longest time until a pool has had `runs` turns of one run each, with those of the others."""
        return self._timeout_s * runs * self._turns
