"""The metrics of the nodes: calls and batches, their times, and which endpoints are in use."""

from collections import Counter as Count
from collections.abc import Sequence

from watcher.chain.rpc.batch import Asked
from watcher.chain.rpc.member import EndpointSeen
from watcher.health.registry import SECONDS, Registry

# A node names its own version; versions beyond this number share one label.
_VERSIONS_LIMIT = 8
_OTHER = "other"


class RpcMetrics:
    """The metrics of the nodes of one AVS."""

    def __init__(self, avs_name: str, registry: Registry) -> None:
        self._avs_name = avs_name
        self._call_seconds = registry.histogram(
            "eigen_rpc_request_duration_seconds",
            "Time of a JSON-RPC batch, under each method in it.",
            SECONDS,
            "avs_name",
            "method",
            "client_version",
        )
        self._calls = registry.counter(
            "eigen_rpc_request_total", "JSON-RPC calls.", "avs_name", "method", "client_version"
        )
        self._batches = registry.counter(
            "avs_watcher_rpc_batches_total", "Batches sent to a node.", "endpoint", "outcome"
        )
        self._batch_seconds = registry.histogram(
            "avs_watcher_rpc_batch_duration_seconds", "Time of a batch.", SECONDS, "endpoint"
        )
        self._endpoint = registry.gauge("avs_watcher_endpoint_up", "1 while the node is in use.", "endpoint")
        self._versions: dict[str, str] = {}
        self._versions_ever: set[str] = set()

    def named(self, endpoint: str, client_version: str) -> None:
        """Record the software that a node reports (web3_clientVersion)."""
        if client_version not in self._versions_ever and len(self._versions_ever) >= _VERSIONS_LIMIT:
            client_version = _OTHER  # a series lives as long as the process
        else:
            self._versions_ever.add(client_version)
        self._versions[endpoint] = client_version or "unknown"

    def asked(self, asked: Asked) -> None:
        """Record a batch sent to a node."""
        client_version = self._versions.get(asked.endpoint, "unknown")
        for method, calls in Count(asked.methods).items():
            self._calls.labels(self._avs_name, method, client_version).inc(calls)
            self._call_seconds.labels(self._avs_name, method, client_version).observe(asked.seconds)
        self._batches.labels(asked.endpoint, "ok" if asked.ok else "failed").inc()
        self._batch_seconds.labels(asked.endpoint).observe(asked.seconds)

    def show(self, nodes: Sequence[EndpointSeen]) -> None:
        """Show which of the nodes are in use."""
        for node in nodes:
            self._endpoint.labels(node.name).set(node.reason is None and node.served_s is not None)
