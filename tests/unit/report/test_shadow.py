"""The report of the shadow: counts, percentiles, versions, and differences side by side, within its limits."""

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from watcher.report.payload import Decoder
from watcher.report.shadow import ShadowReport, percentiles


def row(index: int, **fields: Any) -> Any:
    values = {
        "task_index": index,
        "task_hash": bytes(32),
        "message": b"\x01",
        "live_response": b"same",
        "response": b"same",
        "live_outcome": "answered",
        "outcome": "answered",
        "agrees": True,
        "words": "",
        "version": "v2@1",
        "live_version": "v1@1",
        "duration_ms": index,
        "live_duration_ms": 2 * index,
        "at_ms": 1_000_000 - index,
    }
    return SimpleNamespace(**values | fields)


def test_agreement_is_counted_and_timed() -> None:
    report = ShadowReport(dropped=4)
    report.add([row(number) for number in range(1, 101)], Decoder())
    fields = report.as_json()
    assert (fields["runs"], fields["agrees"], fields["dropped"], fields["ok"]) == (100, 100, 4, True)
    assert fields["shadow_ms"] == {"p50": 50, "p95": 95, "p99": 99}
    assert fields["live_ms"] == {"p50": 100, "p95": 190, "p99": 198}
    assert (fields["versions"], fields["live_versions"], fields["differences"]) == (["v2@1"], ["v1@1"], [])
    assert (fields["first_at"], fields["last_at"]) == ("1970-01-01T00:16:39.900Z", "1970-01-01T00:16:39.999Z")


def test_differences_stand_side_by_side() -> None:
    report = ShadowReport()
    other = row(1, response=b"some", agrees=False)
    failed = row(2, response=None, outcome="failed", agrees=False, words="ValueError: no")
    skipped = row(3, live_outcome="later", outcome="skipped", response=None, agrees=False)
    report.add([other, failed, skipped], Decoder())
    fields = report.as_json()
    assert (fields["differs"], fields["failed"], fields["ok"]) == (2, 1, False)
    first, second, third = fields["differences"]
    assert (first["live"]["guess"], first["shadow"]["guess"], first["first_byte"]) == ("text same", "text some", 1)
    assert (second["shadow"], second["reason"]) == (None, "ValueError: no")
    assert (third["live"], third["live_outcome"]) == (None, "later")


def test_differences_are_bounded() -> None:
    report = ShadowReport(kept=2)
    report.add([row(number, response=bytes(10_000), agrees=False) for number in range(5)], Decoder())
    fields = report.as_json()
    assert (len(fields["differences"]), fields["differences_left_out"]) == (2, 3)
    assert len(fields["differences"][0]["shadow"]["hex"]) < 9000


def test_without_runs_nothing_is_timed() -> None:
    assert ShadowReport().as_json()["shadow_ms"] == {"p50": None, "p95": None, "p99": None}


@given(st.lists(st.integers(0, 10**6), min_size=1))
def test_percentiles_are_durations_in_order(durations_ms: list[int]) -> None:
    p50, p95, p99 = percentiles(durations_ms).values()
    assert p50 is not None and p95 is not None and p99 is not None
    assert {p50, p95, p99} <= set(durations_ms)
    assert min(durations_ms) <= p50 <= p95 <= p99 <= max(durations_ms)
    assert sum(duration <= p50 for duration in durations_ms) * 2 >= len(durations_ms)
