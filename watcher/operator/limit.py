"""The number of requests at a time: it follows what the API takes, up to the limit of the settings."""

from watcher.task import Sent

# The limit begins here, which every API takes, and doubles with each round of replies until the first strain.
_FIRST = 4
# The weight of the newest request in the average duration.
_WEIGHT = 0.1
# The duration of a request before the first reply, in seconds.
_EXPECTED_S = 0.1
# Replies of an API, or of a gateway before it, that has too much to do (RFC 9110, section 15; RFC 6585, section 4).
_STRAINED_STATUS = frozenset({408, 425, 429, 502, 503, 504})


class Limit:
    """A limit that rises while the API keeps up, and halves when it does not.

    The rule is that of TCP's congestion control (RFC 5681, section 3.1): one more for each reply up to the last
    strain's half, from there one more for each round of replies.
    """

    def __init__(self, most: int) -> None:
        """Start low; `most` is the highest limit."""
        self._most = most
        self._limit = float(min(most, _FIRST))
        self._slow_above = float(most)
        self._lowered_s = float("-inf")
        self._request_s = _EXPECTED_S

    @property
    def now(self) -> int:
        """Return how many requests may run at a time, at least 1."""
        return int(self._limit)

    def taken_within(self, seconds: float) -> int:
        """Return how many requests the present limit begins within so many seconds."""
        return int(self._limit * seconds / max(self._request_s, 1e-4))

    def record(self, sent: Sent, began_s: float, ended_s: float, *, full: bool) -> None:
        """Record a request.

        Args:
            sent: its outcome.
            began_s: the monotonic time of its begin.
            ended_s: the monotonic time of its end.
            full: as many requests were running as the limit allows, and more were ready.
        """
        self._request_s += _WEIGHT * (ended_s - began_s - self._request_s)
        if is_strained(sent):
            if began_s > self._lowered_s:  # requests of the same moment lower the limit once
                self._limit = self._slow_above = max(1.0, self._limit / 2)
                self._lowered_s = ended_s
        elif full:
            step = 1.0 if self._limit < self._slow_above else 1 / self._limit
            self._limit = min(float(self._most), self._limit + step)


def is_strained(sent: Sent) -> bool:
    """Return True if the API has too much to do, cannot be reached, or did not reply in time."""
    return sent.http_status is None or sent.http_status in _STRAINED_STATUS
