"""The pace of the chain in the blocks that its contracts count, for the time that a deadline leaves.

Measured from the heads of ordinary polls. Invariant: before the first measurement blocks count as fast, so that work is
done too early rather than too late.
"""

from watcher.task import Header, Task

# As on common roll-ups; a slower chain leaves more time than that.
_BLOCK_S = 2.0
_BLOCK_MIN_S, _BLOCK_MAX_S = 0.05, 60.0
# Timestamps count whole seconds, and a block of the parent chain spans many: fewer say little.
_LEAST_BLOCKS = 4
_KEPT_S = 900
# The longest pause that endpoints get while none serves; a near deadline shortens it to the second value.
_PAUSE_MAX_S, _PAUSE_MIN_S = 60.0, 2.0
_TRIES = 4


def longest_pause_s(left_s: float | None) -> float:
    """Return the longest pause (s) that all endpoints get at their own request.

    `left_s`: the time to the nearest deadline of an open task, None where there is none.
    """
    return _PAUSE_MAX_S if left_s is None else min(_PAUSE_MAX_S, max(_PAUSE_MIN_S, left_s / _TRIES))


class Pace:
    """The measurement, over the heads of the last 15 minutes."""

    def __init__(self) -> None:
        self._first: Header | None = None
        self._block_s: float | None = None

    @property
    def block_s(self) -> float:
        """The seconds from one block to the next, as contracts count blocks."""
        return _BLOCK_S if self._block_s is None else self._block_s

    def follow(self, head: Header) -> None:
        """Take a head into account. A head without a time, or below the first one, starts the measurement again."""
        first = self._first
        if first is None or not head.timestamp_s or head.closed_block < first.closed_block:
            self._first = head if head.timestamp_s else None
            return
        blocks, passed_s = head.closed_block - first.closed_block, head.timestamp_s - first.timestamp_s
        if blocks >= _LEAST_BLOCKS and passed_s >= 0:
            self._block_s = min(max(passed_s / blocks, _BLOCK_MIN_S), _BLOCK_MAX_S)
            if passed_s > _KEPT_S:
                self._first = head

    def left_s(self, task: Task, at: Header) -> float | None:
        """Return the seconds that are left to respond to a task behind block `at`, None where it has no deadline."""
        self.follow(at)
        left = []
        if task.deadline_block is not None:
            left.append((task.deadline_block - at.closed_block) * self.block_s)
        if task.deadline_s is not None and at.timestamp_s:
            left.append(float(task.deadline_s - at.timestamp_s))
        return max(0.0, min(left)) if left else None
