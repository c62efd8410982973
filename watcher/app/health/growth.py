"""How the chain grows: when its head moved, how often it does, and for how long finality has not followed."""

from watcher.clock import Clock

# How many block intervals make an average.
_INTERVALS = 10


class Growth:
    """Told of the head and of the final block again and again. Times are ages in seconds by the monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.head_block: int | None = None
        self._head_time_s = 0
        self._head_first_s = self._head_moved_s = clock.monotonic_s()
        self._head_moves = 0
        self._final_block: int | None = None
        self._left_behind_s: float | None = None  # when the head first moved on after the final block last did

    def follow(self, head_block: int | None, final_block: int | None, head_time_s: int = 0) -> None:
        """Record head and final block, None where unknown, and the head's time (seconds since 1970), 0 likewise."""
        now_s = self._clock.monotonic_s()
        head_moved = head_block != self.head_block
        if head_moved:
            if self.head_block is None:
                self._head_first_s = now_s
            else:
                self._head_moves += 1
            self.head_block, self._head_moved_s = head_block, now_s
            self._head_time_s = head_time_s
        if final_block != self._final_block:
            self._final_block, self._left_behind_s = final_block, None
        elif head_moved and final_block is not None and self._left_behind_s is None:
            self._left_behind_s = now_s

    @property
    def head_moved_ago_s(self) -> float:
        return self._clock.monotonic_s() - self._head_moved_s

    @property
    def chain_time_s(self) -> float | None:
        """The timestamp a block may have that is made now: the head's, and the time since. None while it is unknown."""
        return self._head_time_s + self.head_moved_ago_s if self._head_time_s else None

    @property
    def usual_interval_s(self) -> float | None:
        """Between two blocks, None before enough were seen."""
        if self._head_moves < _INTERVALS:
            return None
        return (self._head_moved_s - self._head_first_s) / self._head_moves

    @property
    def final_left_behind_s(self) -> float:
        """For how long the head has been moving on without the final block. A chain that rests leaves none behind."""
        return 0.0 if self._left_behind_s is None else self._clock.monotonic_s() - self._left_behind_s
