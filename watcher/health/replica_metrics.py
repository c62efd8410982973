"""The metrics of a process that shares its ledger with others."""

from watcher.health.readings import ReplicaSeen
from watcher.health.registry import Registry
from watcher.settings.daemon import ROLES


class ReplicaMetrics:
    """The lead, the live replicas and the share of the API. Without other processes this one leads."""

    def __init__(self, registry: Registry) -> None:
        self._leads = registry.gauge(
            "avs_watcher_leads", "1 while this process watches the chain for all that share its ledger; 1 alone."
        )
        self._live = registry.gauge(
            "avs_watcher_replicas", "Live processes that share the ledger, by role; 0 alone.", "role"
        )
        self._share = registry.gauge(
            "avs_watcher_request_share", "Requests that this process may have on their way to the API; NaN alone."
        )
        for role in ROLES:
            self._live.labels(role)
        self.evaluated(None)

    def evaluated(self, replica: ReplicaSeen | None) -> None:
        """Copy an evaluation; None: nobody shares the ledger."""
        self._leads.set(replica is None or replica.leads)
        self._share.set(float("nan") if replica is None else replica.share)
        for role in ROLES:
            self._live.labels(role).set(0 if replica is None else replica.live.get(role, 0))
