"""The roots of the audit chain as metrics: the newest one as a label, and what it covers.

Whoever keeps the scrapes keeps the roots: a copy that the owner of the ledger cannot edit.
"""

import math

from watcher.health.registry import Registry
from watcher.ledger.audit.roots import Root
from watcher.text import to_hex


class RootMetrics:
    """The metrics of the newest root of a past day."""

    def __init__(self, registry: Registry) -> None:
        self._sequence = registry.gauge(
            "avs_watcher_audit_sequence",
            "The last entry of the audit chain that the newest root of a past day covers. NaN before the first.",
        )
        self._published = registry.gauge(
            "avs_watcher_audit_root_published_timestamp_seconds",
            "Unix time at which the newest root had reached every receiver of [audit]. NaN before the first.",
        )
        labels = ("day", "root", "head_hash")
        self._info = registry.gauge(
            "avs_watcher_audit_root_info", "1; the labels name the newest root of a past day.", *labels
        )
        self._sequence.set(math.nan)
        self._published.set(math.nan)
        self.undelivered = ""
        """Which receivers lack a root, and why; "": none."""

    def show(self, root: Root) -> None:
        """Show `root` in place of the one before: one series, however long the process lives."""
        self._sequence.set(root.last_seq)
        self._info.clear()
        self._info.labels(root.day, to_hex(root.root), to_hex(root.head_hash)).set(1)

    def published(self, at_ms: int) -> None:
        """Record when the newest root had reached every receiver, in ms since 1970."""
        self._published.set(at_ms / 1000)
