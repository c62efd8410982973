"""How long to wait before the next attempt. Pure."""

from collections.abc import Callable

# Beyond this the doubled delay exceeds any limit in use, and floats stay finite.
_DOUBLINGS_LIMIT = 60


def delay_s(
    attempt: int,
    base_s: float,
    max_s: float,
    random: Callable[[], float],
    *,
    retry_after_s: float | None = None,
    retry_after_max_s: float = 600.0,
) -> float:
    """Seconds to wait after the failed attempt number `attempt` (the first is 1).

    Full jitter above a floor: uniform between `base_s` and `base_s` doubled per attempt, at most `max_s`. A server's
    `retry_after_s` is a lower bound as far as `retry_after_max_s`, plus up to `base_s`, so that the tasks it sent away
    together do not come back together. `random` gives numbers in [0, 1).
    """
    floor_s = min(base_s, max_s)
    ceiling_s = min(max_s, base_s * 2.0 ** min(max(attempt, 0), _DOUBLINGS_LIMIT))
    share = random()
    wait_s = floor_s + share * (ceiling_s - floor_s)
    if retry_after_s is None:
        return wait_s
    return max(wait_s, min(max(retry_after_s, 0.0), retry_after_max_s) + share * base_s)
