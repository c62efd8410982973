"""The shadow's condition: it speaks of the recent runs of one version, and ends once they agree."""

from watcher.health.metrics import Metrics
from watcher.health.readings import Limits, Observations
from watcher.health.shadow_observer import ShadowObserver
from watcher.health.verdict import evaluate
from watcher.ledger.shadow import ANSWERED, FAILED, LiveRun, ShadowRun
from watcher.testing import make_task


def run(outcome: str = ANSWERED, answer: bytes | None = b"a", version: str = "v1") -> ShadowRun:
    return ShadowRun(LiveRun(1, 1, make_task(b""), ANSWERED, b"a", 3), version, outcome, answer, "", 3)


def test_agreement_is_no_condition() -> None:
    observer = ShadowObserver(Metrics().shadow)
    observer.shadow_ran([run()] * 5)
    assert observer.message == ""


def test_differences_last_until_a_hundred_runs_agree() -> None:
    metrics = Metrics()
    observer = ShadowObserver(metrics.shadow)
    observer.shadow_ran([run(answer=b"b"), run(FAILED, None), run()])
    assert observer.message == "of the last 3 runs 1 differ and 1 failed"
    observer.shadow_ran([run()] * 98)
    assert "1 failed" in observer.message
    observer.shadow_ran([run()])
    assert observer.message == ""
    value = metrics.registry.get_sample_value
    assert value("avs_watcher_shadow_runs_total", {"result": "differs"}) == 1
    assert value("avs_watcher_shadow_runs_total", {"result": "agrees"}) == 100


def test_another_version_begins_anew() -> None:
    observer = ShadowObserver(Metrics().shadow)
    observer.shadow_ran([run(answer=b"b")])
    observer.shadow_dropped(7)
    assert observer.message == "of the last 1 runs 1 differ; 7 runs were dropped"
    observer.shadow_ran([run(version="v2")])
    assert observer.message == ""


def test_reason_is_redacted_and_ends() -> None:
    observer = ShadowObserver(Metrics().shadow, lambda text: text.replace("hunter2", "***"))
    observer.shadow_unavailable("hunter2 refused")
    assert observer.message == "it cannot run (*** refused)"
    observer.shadow_unavailable("")
    assert observer.message == ""


def test_condition_of_the_shadow_leaves_the_watcher_ready() -> None:
    before = evaluate(Observations(0), Limits())
    health = evaluate(Observations(0, shadow="of the last 3 runs 1 differ"), Limits())
    assert [condition.key for condition in health.conditions] == ["shadow"]
    assert health.status is before.status
