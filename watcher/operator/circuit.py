"""A circuit breaker for an API that refuses every request (401, 403, 404) or cannot be reached."""

from collections.abc import Callable

from watcher.backoff import delay_s
from watcher.clock import Clock
from watcher.task import Outcome, Refused


class Circuit:
    """A breaker: closed while the API takes requests; open after a refusal, with one probe at a time.

    The pause between probes doubles up to `max_s`. Any other outcome of a probe closes the circuit. The state is in
    memory only: after a restart the first request finds out again, so a corrected password works at once. Not for use
    from several threads.

    `unreached_limit`: after this many requests in a row that did not reach the API, the circuit opens as it does for a
    refusal; None: it does not. Opening helps only where another API takes the tasks.
    """

    def __init__(
        self,
        clock: Clock,
        random: Callable[[], float],
        *,
        base_s: float = 5.0,
        max_s: float = 300.0,
        probe_s: float = 120.0,
        unreached_limit: int | None = None,
    ) -> None:
        """Start closed.

        Args:
            clock: the monotonic time that pauses are measured by.
            random: numbers in [0, 1) for the jitter.
            base_s: shortest pause between probes, in seconds.
            max_s: longest pause between probes, in seconds.
            probe_s: seconds to wait for the outcome of an admitted probe before another one is admitted.
            unreached_limit: as the class says.
        """
        self._clock = clock
        self._random = random
        self._base_s = base_s
        self._max_s = max_s
        self._probe_s = probe_s
        self._unreached_limit = unreached_limit
        self._unreached = 0
        self._refused_count = 0
        self._next_s = 0.0
        self._probing = False

    @property
    def closed(self) -> bool:
        """Return True while requests may be sent freely."""
        return self._refused_count == 0

    def follow(self, unreached_limit: int | None) -> None:
        """Take another limit after a reload; the state stays."""
        self._unreached_limit = unreached_limit

    def wait_s(self) -> float:
        """Return the seconds until the next request may be tried; 0: now."""
        return 0.0 if self.closed else max(0.0, self._next_s - self._clock.monotonic_s())

    def make_due(self) -> None:
        """Admit the next probe now: the settings have changed, or the API shows that it is back."""
        if not self._probing:
            self._next_s = 0.0

    def admit(self) -> bool:
        """Return whether a request may be sent now. Call right before sending; report the outcome with `record`.

        While the circuit is open, one probe at a time is admitted.
        """
        if self.closed:
            return True
        if self.wait_s() > 0:
            return False
        # If the probe is never reported (cancelled, crashed), the next one is admitted after this time.
        self._probing = True
        self._next_s = self._clock.monotonic_s() + self._probe_s
        return True

    def record(self, outcome: Outcome, *, replied: bool = True, within_s: float | None = None) -> None:
        """Record the outcome of an admitted request.

        Args:
            outcome: what the POST came to.
            replied: False if the reply, or its absence, is not the API's own.
            within_s: longest wait for the next probe in seconds, even if the API asks for more; None: no limit.
        """
        self._unreached = 0 if replied else self._unreached + 1
        if not self._opens(outcome):
            if replied or self._unreached_limit is None:
                self._refused_count, self._probing = 0, False
            return
        if not self.closed and not self._probing:
            return  # Sent before the circuit opened: it adds nothing, and must not lengthen the pause.
        self._refused_count += 1
        self._probing = False
        pause_s = delay_s(
            self._refused_count,
            self._base_s,
            self._max_s,
            self._random,
            retry_after_s=getattr(outcome, "retry_after_s", None),
        )
        self._next_s = self._clock.monotonic_s() + (pause_s if within_s is None else min(pause_s, within_s))

    def _opens(self, outcome: Outcome) -> bool:
        """Return whether this outcome opens the circuit, or keeps it open."""
        if isinstance(outcome, Refused) and outcome.endpoint:
            return True
        if self._unreached_limit is None or not self._unreached:
            return False
        # One unreached probe keeps an open circuit open.
        return not self.closed or self._unreached >= self._unreached_limit
