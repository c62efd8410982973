"""The metric of the hook's version: one series, however often the version changes."""

from prometheus_client import generate_latest

from watcher.health.metrics import Metrics


def series(metrics: Metrics) -> list[str]:
    lines = generate_latest(metrics.registry).decode().splitlines()
    return [line for line in lines if line.startswith("avs_watcher_hook_info{")]


def test_metric_names_the_last_version_alone() -> None:
    metrics = Metrics()
    assert series(metrics) == []
    metrics.hook_version.set("a:b@1")
    metrics.hook_version.set('a:b@2 git "x"\n')
    assert series(metrics) == ['avs_watcher_hook_info{version="a:b@2 git \\"x\\"\\n"} 1.0']


def test_metric_stays_small_when_a_service_names_endless_versions() -> None:
    metrics = Metrics()
    names = set()
    for number in range(200):
        metrics.hook_version.set(f"http://host {number}")
        (line,) = series(metrics)
        names.add(line)
    assert len(names) == 21 and 'version="other"' in line
