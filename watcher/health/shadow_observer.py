"""The observer of the shadow: its metrics, and the condition that it disagrees, fails or is too slow."""

from collections import Counter, deque
from collections.abc import Callable, Sequence

from watcher.health.registry import SECONDS, Registry
from watcher.ledger.shadow import ANSWERED, FAILED, ShadowRun

# The runs that the condition speaks of: it ends once so many runs in a row agree.
_RECENT = 100
RESULTS = ("agrees", "differs", "failed")


class ShadowMetrics:
    """The metrics of the shadow."""

    def __init__(self, registry: Registry) -> None:
        self.runs = registry.counter(
            "avs_watcher_shadow_runs_total", "Runs of the shadow hook, by the comparison.", "result"
        )
        self.dropped = registry.counter("avs_watcher_shadow_dropped_total", "Runs that the shadow was too slow for.")
        self.seconds = registry.histogram(
            "avs_watcher_shadow_seconds", "Time of one answer of the shadow hook.", SECONDS
        )
        for result in RESULTS:
            self.runs.labels(result)


class ShadowObserver:
    """The recent runs of the shadow; a `watcher.hook.shadow.Listener`."""

    def __init__(self, metrics: ShadowMetrics, redact: Callable[[str], str] = str) -> None:
        """`redact` removes secrets from every reason that is kept."""
        self._metrics = metrics
        self._redact = redact
        self._recent: deque[str] = deque(maxlen=_RECENT)
        self._dropped = 0  # since the last run that was made
        self._reason = ""
        self._version = ""

    def shadow_ran(self, runs: Sequence[ShadowRun]) -> None:
        """Count runs of the shadow; those of another version begin a new count."""
        for run in runs:
            if run.version != self._version:
                self._recent.clear()
                self._version, self._dropped = run.version, 0
            result = "agrees" if run.agrees else "failed" if run.outcome == FAILED else "differs"
            self._recent.append(result)
            self._metrics.runs.labels(result).inc()
            if run.outcome == ANSWERED:
                self._metrics.seconds.observe(run.duration_ms / 1000)

    def shadow_dropped(self, count: int) -> None:
        """Count runs that are not made."""
        self._dropped += count
        self._metrics.dropped.inc(count)

    def shadow_unavailable(self, reason: str) -> None:
        """Record why the shadow cannot run; "": it can."""
        self._reason = self._redact(reason)

    @property
    def message(self) -> str:
        """Return what is wrong with the shadow, as a sentence; "" if nothing is."""
        counts = Counter(self._recent)
        verbs = {"differs": "differ", "failed": "failed"}
        parts = [f"{counts[result]} {verb}" for result, verb in verbs.items() if counts[result]]
        sentences = [f"of the last {len(self._recent)} runs {' and '.join(parts)}"] if parts else []
        sentences += [f"{self._dropped} runs were dropped"] if self._dropped else []
        sentences += [f"it cannot run ({self._reason[:300]})"] if self._reason else []
        return "; ".join(sentences)
