"""Bounds on log lines: conditions that last are reported when they begin and end, and events in bulk have a budget.

The caller writes the log line, so that the line's text stays at its place:

    if self._down.begins(node):
        logger.warning("rpc.node_down: the node is out of use", node=node)
"""

from collections.abc import Callable, Hashable, Set
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Once:
    """The conditions that were reported as begun, by key. With a `limit`, no more than so many are reported."""

    def __init__(self, limit: int | None = None) -> None:
        self._begun: set[Hashable] = set()
        self._limit = limit

    def begins(self, key: Hashable = None) -> bool:
        """Return True if the condition is new: the caller reports it. Remember it either way."""
        if key in self._begun or (self._limit is not None and len(self._begun) >= self._limit):
            return False
        self._begun.add(key)
        return True

    def ends(self, key: Hashable = None) -> bool:
        """Return True if the condition had begun: the caller reports its end. Forget it."""
        was_there = key in self._begun
        self._begun.discard(key)
        return was_there

    def forget(self) -> None:
        """Forget all conditions: each that is still there is reported again."""
        self._begun.clear()


class LineBudget:
    """The lines that an event may have in a minute, so that thousands of tasks at once do not fill the log."""

    def __init__(self, now_s: Callable[[], float], per_minute: int = 100) -> None:
        """Start with a whole budget. `now_s` returns monotonic time in seconds."""
        self._now_s = now_s
        self._per_minute = self._left = per_minute
        self._minute_s = now_s()

    def take(self, lines: int = 1) -> int:
        """Return how many of so many lines may be written now, and take them from the budget."""
        now_s = self._now_s()
        if now_s - self._minute_s >= 60:
            self._minute_s, self._left = now_s, self._per_minute
        granted = min(self._left, lines)
        self._left -= granted
        return granted


class Lasting(Generic[K]):
    """The conditions that two passes in a row have met. One pass alone may have read a node that lags."""

    def __init__(self) -> None:
        self._before: Set[K] = frozenset()
        self._lasting: Set[K] = frozenset()

    def update(self, met: Set[K]) -> tuple[set[K], set[K]]:
        """Take the keys that a pass met. Return the conditions that begin, and those that end."""
        lasting = set(met & self._before)
        begun, ended = lasting - self._lasting, set(self._lasting - lasting)
        self._before, self._lasting = met, lasting
        return begun, ended
