"""The room for runs of hooks in one process: how many workers of all its pools may run at the same time.

Invariant: pools that wait get room in the order in which they asked, one worker each, so that none starves another.
"""

import math
from collections import deque
from collections.abc import Callable


class Room:
    """The room of all pools together. `crowd`: how many times as many workers there are as may run."""

    def __init__(self, limit: int, workers: int) -> None:
        """Take the limits.

        Args:
            limit: the most workers that run at the same time.
            workers: the workers of all pools.
        """
        self._free = limit
        self.crowd = max(1, math.ceil(workers / limit))
        self._waiting: deque[Callable[[], None]] = deque()

    def take(self, when_free: Callable[[], None]) -> bool:
        """Take room for one worker. Without any, return False; `when_free` is then called once, when there is some."""
        if self._free > 0:
            self._free -= 1
            return True
        if when_free not in self._waiting:
            self._waiting.append(when_free)
        return False

    def give_back(self) -> None:
        """Give back the room of one worker, and call the first that waits."""
        self._free += 1
        if self._waiting:
            self._waiting.popleft()()
