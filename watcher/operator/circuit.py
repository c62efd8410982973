"""A circuit breaker for an endpoint that refuses us, whatever the task (401, 403, 404), or cannot be reached."""

from collections.abc import Callable

from watcher.backoff import delay_s
from watcher.clock import Clock
from watcher.task import Outcome, Refused


class Circuit:
    """Closed until the endpoint refuses us; then one probe at a time, ever more rarely, until any other outcome.

    With `patience` set, so many requests in a row that did not reach the API count as a refusal. Without another way to
    send there is nothing to be gained by that, and it is None.

    In memory only: after a restart one request finds out again, which is what a person who has just corrected the
    password expects. Not for use from several threads.
    """

    def __init__(
        self,
        clock: Clock,
        random: Callable[[], float],
        *,
        base_s: float = 5.0,
        max_s: float = 300.0,
        probe_s: float = 120.0,
    ) -> None:
        """`probe_s`: how long to wait for the outcome of an admitted probe before the next one is let through."""
        self._clock = clock
        self._random = random
        self._base_s = base_s
        self._max_s = max_s
        self._probe_s = probe_s
        self.patience: int | None = None
        self._unreached = 0
        self._refusals = 0
        self._next_s = 0.0
        self._probing = False

    @property
    def closed(self) -> bool:
        """True while the endpoint is believed to take our requests."""
        return self._refusals == 0

    def wait_s(self) -> float:
        """Seconds until the next request may be tried; 0 when one may be tried now."""
        return 0.0 if self.closed else max(0.0, self._next_s - self._clock.monotonic_s())

    def make_due(self) -> None:
        """Let the next probe through now: a person has just changed something."""
        if not self._probing:
            self._next_s = 0.0

    def admit(self) -> bool:
        """Ask right before sending. While open, True for one probe only; report its outcome with `record`."""
        if self.closed:
            return True
        if self.wait_s() > 0:
            return False
        # A probe that is never reported (cancelled, crashed) frees the place when its time is up.
        self._probing = True
        self._next_s = self._clock.monotonic_s() + self._probe_s
        return True

    def record(self, outcome: Outcome, *, reached: bool = True, within_s: float | None = None) -> None:
        """Report the outcome of an admitted request; `reached` is False when the API itself said nothing.

        `within_s` bounds the wait for the next probe in seconds, whatever the API asks for; None does not.
        """
        self._unreached = 0 if reached else self._unreached + 1
        if not self._is_refusal(outcome):
            if reached or self.patience is None:
                self._refusals, self._probing = 0, False
            return
        if not self.closed and not self._probing:
            return  # sent while it was still closed: no news, and no reason to wait longer
        self._refusals += 1
        self._probing = False
        pause_s = delay_s(
            self._refusals,
            self._base_s,
            self._max_s,
            self._random,
            retry_after_s=getattr(outcome, "retry_after_s", None),
        )
        self._next_s = self._clock.monotonic_s() + (pause_s if within_s is None else min(pause_s, within_s))

    def _is_refusal(self, outcome: Outcome) -> bool:
        if isinstance(outcome, Refused) and outcome.endpoint:
            return True
        if self.patience is None or not self._unreached:
            return False
        # Open already: one that does not get through is enough to stay so.
        return not self.closed or self._unreached >= self.patience
