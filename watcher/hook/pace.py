"""The pace of a hook, and what follows from it: the size of a group, and how many tasks to claim ahead. Pure.

Invariants: a run waits behind others of its group for about `_GROUP_US` at most; a claimed task waits for a worker for
about `_AHEAD_US` at most, so that a process with slow runs leaves to the other replicas what it cannot begin.
"""

# The time that a group may take, in microseconds.
_GROUP_US = 20_000
_SIZE_LIMIT = 32
# The time that the tasks claimed for one worker may take, in microseconds: enough for the ledger to bring others.
_AHEAD_US = 400_000
_AHEAD_LEAST, _AHEAD_MOST = 1, 8
# The weight of the newest run in the average.
_WEIGHT = 1 / 8
# One run that hangs must not keep groups small for hundreds of runs.
_LONGEST_US = 1_000_000


class Pace:
    """The average duration of the latest runs; a run that took longer than the average counts in full."""

    def __init__(self) -> None:
        self._average_us: float | None = None

    def add(self, duration_us: float) -> None:
        """Record the duration of a run, in microseconds."""
        duration_us = min(duration_us, _LONGEST_US)
        if self._average_us is None or duration_us > self._average_us:
            self._average_us = duration_us
        else:
            self._average_us += (duration_us - self._average_us) * _WEIGHT

    @property
    def group_size(self) -> int:
        """Return the number of runs that a worker may be given at once; 1 until the pace is known."""
        if self._average_us is None:
            return 1
        return max(1, min(_SIZE_LIMIT, int(_GROUP_US / max(self._average_us, 1))))

    @property
    def ahead(self) -> int:
        """Return the number of tasks to claim for each worker; 1 until the pace is known."""
        if self._average_us is None:
            return _AHEAD_LEAST
        within = max(_AHEAD_LEAST, min(_AHEAD_MOST, int(_AHEAD_US / max(self._average_us, 1))))
        return max(within, self.group_size)
