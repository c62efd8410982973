"""The metrics of all AVSs as one page for Prometheus.

Each sample of an AVS with a name has the label `avs`. The only AVS of a file without [[avs]] has an empty name, which
to Prometheus is no label at all, so that rules and dashboards hold for both
(https://prometheus.io/docs/concepts/data_model/: an empty label is equivalent to a missing one).
"""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from watcher.health.process_metrics import OwnProcess

LABEL = "avs"


class AllMetrics(Collector):
    """The metrics of every AVS that runs, and those of the process."""

    def __init__(self, registries: Callable[[], Mapping[str, CollectorRegistry]]) -> None:
        """`registries` returns the metrics of each AVS by name."""
        self._registries = registries
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        OwnProcess(self.registry)

    def describe(self) -> list[Metric]:
        """Describe nothing, so that registering reads no metric."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield each metric once, with the samples of all AVSs."""
        merged: dict[str, Metric] = {}
        for name, registry in self._registries().items():
            for metric in registry.collect():
                if not name:
                    yield metric
                    continue
                family = merged.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                family.samples += [_labelled(sample, name) for sample in metric.samples]
        yield from merged.values()


def _labelled(sample: Sample, name: str) -> Sample:
    return sample._replace(labels={LABEL: name, **sample.labels})
