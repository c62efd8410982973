"""The version of the hook as a metric: one series at a time, whose label names it."""

from prometheus_client import Gauge

# A service names its own version; versions beyond this number share one label.
_VERSIONS_LIMIT = 20
_OTHER = "other"


class HookVersion:
    """The metric, and the version that it names."""

    def __init__(self, gauge: Gauge) -> None:
        """Take a gauge with one label."""
        self._gauge = gauge
        self._version = ""
        self._seen: set[str] = set()

    def set(self, version: str) -> None:
        """Name the version of the code that answers now, in place of the one before."""
        if version == self._version:
            return
        self._version = version
        if len(self._seen) < _VERSIONS_LIMIT:
            self._seen.add(version)
        self._gauge.clear()
        self._gauge.labels(version if version in self._seen else _OTHER).set(1)
