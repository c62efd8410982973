"""The roots as metrics: one series, which names the newest root."""

import math

from prometheus_client import generate_latest

from watcher.health.metrics import Metrics
from watcher.ledger.audit.roots import Root


def test_metrics_name_the_newest_root_alone() -> None:
    metrics = Metrics()
    value = metrics.registry.get_sample_value
    assert math.isnan(value("avs_watcher_audit_sequence") or 0)
    assert math.isnan(value("avs_watcher_audit_root_published_timestamp_seconds") or 0)
    for day in (1, 2):
        metrics.roots.show(Root(f"2026-11-0{day}", day, day * 10, bytes([day]) * 32, bytes([day + 8]) * 32))
    metrics.roots.published(1_700_000_000_500)
    lines = generate_latest(metrics.registry).decode().splitlines()
    (info,) = [line for line in lines if line.startswith("avs_watcher_audit_root_info{")]
    labels = f'day="2026-11-02",head_hash="0x{"0a" * 32}",root="0x{"02" * 32}"'
    assert info == f"avs_watcher_audit_root_info{{{labels}}} 1.0"
    assert value("avs_watcher_audit_sequence") == 20
    assert value("avs_watcher_audit_root_published_timestamp_seconds") == 1_700_000_000.5
