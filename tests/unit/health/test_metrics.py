"""What is counted, that labels stay within their sets whatever comes from outside, and that the page is current."""

import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from watcher.chain.rpc.batch import Asked
from watcher.chain.rpc.member import EndpointSeen
from watcher.health import task_metrics
from watcher.health.alerts import ONCE_BY_STATE
from watcher.health.conditions import (
    CONDITION_KEYS,
)
from watcher.health.metrics import Metrics
from watcher.health.readings import (
    ApiSeen,
    Limits,
    NodeSeen,
    Observations,
    WorkSeen,
)
from watcher.health.verdict import evaluate
from watcher.ledger.cursor import Cursor
from watcher.ledger.journal_range import LISTED, Transition, Transitions
from watcher.ledger.stats import Work
from watcher.ledger.writer import Batch
from watcher.state import State

MONITORING = Path(__file__).parents[3] / "monitoring"
NODE = "http://127.0.0.1:8545"


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """(name, label values...) -> value."""
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def moved(to: State, *, from_: State | None = State.SEEN, number: int | None = None, after_ms: int = 0) -> Transition:
    return Transition(7, from_, to, 1_000_000 + after_ms, 1_000_000, number, "because")


def split(*lines: Transition) -> Transitions:
    return Transitions(
        [line for line in lines if line.to_state in LISTED],
        Counter((line.from_state, line.to_state) for line in lines if line.to_state not in LISTED),
    )


def test_every_state_that_metrics_or_alerts_need_line_by_line_is_listed() -> None:
    needed = {*ONCE_BY_STATE, *task_metrics._COUNTED, *task_metrics._ENDS_OF_HISTORY}
    assert {*needed, State.SENDING, State.RESPONDED} == LISTED


def test_metrics_count_no_end_of_history_as_a_miss() -> None:
    metrics = Metrics("my avs")
    counted = ("avs_watcher_task_moves_total", "avs_watcher_tasks", "eigen_performance_score")
    before = samples(metrics)
    over = [State.EXPIRED, State.RESPONDED_OTHER, State.FINAL_OTHER]
    metrics.tasks.moved(split(*[replace(moved(state), is_history=True) for state in over]))
    after = samples(metrics)
    assert {key: after[key] for key in after if key[0] in counted} == {
        key: before[key] for key in before if key[0] in counted
    }
    metrics.tasks.moved(split(moved(State.EXPIRED)))
    assert samples(metrics)["avs_watcher_task_moves_total", "expired"] == 1
    assert samples(metrics)["eigen_performance_score", "my avs"] == 0


def test_every_series_a_rule_may_ask_for_is_there_before_anything_happens() -> None:
    now = samples(Metrics("my avs"))
    assert now["eigen_performance_score", "my avs"] == 100
    assert now["avs_watcher_ready",] == 0
    assert {key[1] for key in now if key[0] == "avs_watcher_tasks"} == set(State)
    assert {key[1] for key in now if key[0] == "avs_watcher_trouble"} == set(CONDITION_KEYS)
    assert now["avs_watcher_task_moves_total", "expired"] == 0
    assert now["avs_watcher_api_requests_total", "unknown"] == 0
    assert math.isnan(now["avs_watcher_nearest_deadline_blocks",])
    assert math.isnan(now["avs_watcher_nearest_deadline_seconds",])


def test_two_registries_share_nothing() -> None:
    first, other = Metrics(), Metrics()
    first.sent("accepted", 0.1)
    assert samples(other)["avs_watcher_api_requests_total", "accepted"] == 0


def test_score_is_the_share_of_tasks_that_ended_with_our_answer() -> None:
    metrics = Metrics()
    metrics.tasks.moved(split(*map(moved, [State.FINAL, State.SKIPPED, State.ORPHANED, State.FINAL])))
    assert samples(metrics)["eigen_performance_score", ""] == 100
    metrics.tasks.moved(split(moved(State.EXPIRED), moved(State.FINAL_OTHER)))
    assert samples(metrics)["eigen_performance_score", ""] == 50
    metrics.tasks.moved(split(*[moved(State.FINAL)] * 100))
    assert samples(metrics)["eigen_performance_score", ""] == 100


def test_delays_are_those_of_the_first_post_and_of_the_answer_on_the_chain() -> None:
    metrics = Metrics()
    metrics.tasks.moved(
        split(
            moved(State.SENDING, number=1, after_ms=3_000),
            moved(State.SENDING, number=2, after_ms=60_000),
            moved(State.RESPONDED, after_ms=90_000),
        )
    )
    now = samples(metrics)
    assert (now["avs_watcher_post_delay_seconds_count",], now["avs_watcher_post_delay_seconds_sum",]) == (1, 3)
    assert (now["avs_watcher_response_delay_seconds_count",], now["avs_watcher_response_delay_seconds_sum",]) == (1, 90)


def test_gauges_show_the_evaluation_and_the_ledger() -> None:
    metrics = Metrics()
    seen = WorkSeen(cursor_block=95, head_block=100, final_block=90, nearest_deadline_block=104, endangered=1)
    seen = replace(seen, seconds_left=33.5, endangered_by_time=2)
    node = NodeSeen(answered_ago_s=0.1, head_block=100)
    health = evaluate(
        Observations(at_ms=50_000, started=True, node=node, api=ApiSeen(refuses=True), work=seen), Limits()
    )
    cursor = Cursor(1, 1, 95, b"", 100, 90, b"")
    work = Work(
        cursor, {State.READY: 3}, 104, 1, oldest_seen_ms=20_000, oldest_due_ms=None, last_move=9, endangered_by_time=2
    )
    metrics.tasks.counted({State.FINAL: 40})
    metrics.tasks.moved(split(moved(State.FINAL, from_=State.RESPONDED), moved(State.READY, from_=State.FAILED)))
    metrics.evaluated(
        health, work, {"watch": 1.5}, [EndpointSeen(NODE, 1.0, None), EndpointSeen("http://b", 1.0, "no")], 7.0
    )
    now = samples(metrics)
    expected = {
        ("avs_watcher_ready",): 0,
        ("avs_watcher_service_up", "operator-api"): 0,
        ("avs_watcher_service_up", "chain-rpc"): 1,
        ("avs_watcher_trouble", "operator-api"): 1,
        ("avs_watcher_trouble", "deadline"): 1,
        ("avs_watcher_trouble", "store"): 0,
        ("avs_watcher_tasks", "ready"): 3,
        ("avs_watcher_tasks", "final"): 41,
        ("avs_watcher_head_block",): 100,
        ("avs_watcher_cursor_block",): 95,
        ("avs_watcher_final_block",): 90,
        ("avs_watcher_lag_blocks",): 5,
        ("avs_watcher_nearest_deadline_blocks",): 4,
        ("avs_watcher_nearest_deadline_seconds",): 33.5,
        ("avs_watcher_tasks_in_danger",): 3,
        ("avs_watcher_queue_age_seconds",): 30,
        ("avs_watcher_stage_beat_age_seconds", "watch"): 1.5,
        ("avs_watcher_endpoint_up", NODE): 1,
        ("avs_watcher_endpoint_up", "http://b"): 0,
        ("avs_watcher_judged_timestamp_seconds",): 50,
    }
    assert {key: now[key] for key in expected} == expected


def test_calls_are_counted_each_and_timed_once_a_batch() -> None:
    metrics = Metrics("avs")
    metrics.rpc.named(NODE, "anvil/v1")
    metrics.rpc.asked(Asked(NODE, ("eth_chainId", "eth_call", "eth_call"), 0.2, ok=True))
    metrics.rpc.asked(Asked(NODE, ("eth_chainId",), 0.1, ok=False))
    now = samples(metrics)
    assert now["eigen_rpc_request_total", "avs", "anvil/v1", "eth_call"] == 2
    assert now["eigen_rpc_request_duration_seconds_count", "avs", "anvil/v1", "eth_call"] == 1
    assert now["avs_watcher_rpc_batches_total", NODE, "ok"] == 1
    assert now["avs_watcher_rpc_batches_total", NODE, "failed"] == 1


def test_commits_that_failed_are_not_timed() -> None:
    metrics = Metrics()
    metrics.committed(Batch(5, 0.01, None))
    metrics.committed(Batch(1, 30, "disk is full"))
    now = samples(metrics)
    assert now["avs_watcher_ledger_commit_duration_seconds_count",] == 1
    assert now["avs_watcher_ledger_commit_writes_sum",] == 5
    assert now["avs_watcher_ledger_failures_total",] == 1


@settings(max_examples=50)
@given(st.lists(st.text(max_size=300), max_size=40))
def test_series_stay_few_when_a_node_keeps_renaming_itself(names: list[str]) -> None:
    metrics = Metrics()
    for name in names:
        metrics.rpc.named(NODE, name)
        metrics.rpc.asked(Asked(NODE, ("eth_chainId",), 0.1, ok=True))
    labels = {key[2] for key in samples(metrics) if key[0] == "eigen_rpc_request_total"}
    assert len(labels) <= 10


def test_rules_and_dashboard_ask_only_for_metrics_that_exist() -> None:
    metrics = Metrics()
    metrics.rpc.asked(Asked(NODE, ("eth_chainId",), 0.1, ok=True))
    described = {metric.name: metric for metric in metrics.described}
    suffixes = {"histogram": ("_bucket", "_sum", "_count")}
    known = {name + end for name, metric in described.items() for end in suffixes.get(metric.kind, ("",))}
    texts = {path.name: path.read_text() for path in (MONITORING / "alerts.yml", MONITORING / "grafana.json")}
    for name, text in texts.items():
        used = set(re.findall(r"\b(?:avs_watcher|eigen)_[a-z_]+", text))
        assert used, name
        assert used <= known, f"{name}: {sorted(used - known)}"
    for key in CONDITION_KEYS:
        assert f'key="{key}"' in texts["alerts.yml"], key
