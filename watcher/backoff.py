"""Exponential back-off: the pause before the next attempt, in seconds. Pure."""

from collections.abc import Callable

# The doubled pause is longer than any limit in use by then, and the float stays finite.
_DOUBLINGS_LIMIT = 60


def doubled_s(failures: int, first_s: float, max_s: float) -> float:
    """Return the pause (s) after so many failures in a row: `first_s` after one, twice as long after each further one.

    Args:
        failures: how many attempts have failed, at least 1.
        first_s: the pause after the first failure.
        max_s: the longest pause.
    """
    return min(max_s, first_s * 2.0 ** min(max(failures - 1, 0), _DOUBLINGS_LIMIT))


def spread_s(pause_s: float, random: Callable[[], float]) -> float:
    """Return half of the pause to all of it, so that clients that failed together do not come back together.

    `random` returns numbers in [0, 1).
    """
    return pause_s * (0.5 + 0.5 * random())


def delay_s(
    attempt: int,
    base_s: float,
    max_s: float,
    random: Callable[[], float],
    *,
    retry_after_s: float | None = None,
    retry_after_max_s: float = 600.0,
) -> float:
    """Return the pause (s) with full jitter: uniform between `base_s` and `base_s` doubled once per attempt.

    Args:
        attempt: the number of the attempt that failed; the first is 1.
        base_s: the shortest pause.
        max_s: the longest pause, unless the server asks for more.
        random: returns numbers in [0, 1).
        retry_after_s: the pause the server asks for, a lower bound. Up to `base_s` is added, so that the requests that
            a server sent away together do not come back together.
        retry_after_max_s: the longest pause that a server gets.
    """
    floor_s = min(base_s, max_s)
    ceiling_s = doubled_s(attempt + 1, base_s, max_s)
    share = random()
    wait_s = floor_s + share * (ceiling_s - floor_s)
    if retry_after_s is None:
        return wait_s
    return max(wait_s, min(max(retry_after_s, 0.0), retry_after_max_s) + share * base_s)
