"""The shadow's queue and its runs: in order, from the place that was left, compared, bounded; no task is touched."""

import pytest

from tests.conformance.rig import ANSWER, LedgerRig, make_task
from watcher.ledger import shadow
from watcher.ledger.shadow import LiveRun, ShadowRun
from watcher.state import State


def run(live: LiveRun, outcome: str = "answered", answer: bytes | None = ANSWER, version: str = "v1") -> ShadowRun:
    return ShadowRun(live, version, outcome, answer, "", 7)


async def computed(ledger: LedgerRig, *indices: int) -> None:
    await ledger.bring(*map(make_task, indices), to=State.COMPUTED)


async def test_shadow_begins_with_the_runs_after_it_was_set(ledger: LedgerRig) -> None:
    await computed(ledger, 1, 2)
    place = await ledger.write(shadow.begin, ledger.source)
    assert await ledger.read(shadow.waiting, ledger.source, place, 10) == []
    await computed(ledger, 3, 4, 5)
    queue = await ledger.read(shadow.waiting, ledger.source, place, 10)
    assert [live.task.task_index for live in queue] == [3, 4, 5]
    assert {(live.outcome, live.answer) for live in queue} == {("answered", ANSWER)}
    assert queue[0].task == make_task(3)
    await ledger.write(shadow.record, ledger.source, [run(queue[0])], queue[0].attempt_id)
    assert await ledger.write(shadow.begin, ledger.source) == queue[0].attempt_id
    left = await ledger.read(shadow.waiting, ledger.source, queue[0].attempt_id, 10)
    assert [live.task.task_index for live in left] == [4, 5]


async def test_runs_are_compared_by_outcome_and_bytes(ledger: LedgerRig) -> None:
    place = await ledger.write(shadow.begin, ledger.source)
    await computed(ledger, *range(5))
    before = await ledger.everything()
    queue = await ledger.read(shadow.waiting, ledger.source, place, 10)
    outcomes = [("answered", ANSWER), ("answered", b"other"), ("skipped", None), ("later", None), ("failed", None)]
    runs = [run(live, *outcome) for live, outcome in zip(queue, outcomes, strict=True)]
    await ledger.write(shadow.record, ledger.source, runs, queue[-1].attempt_id)
    rows = await ledger.read(shadow.stored_runs, ledger.source, None, None, None)
    assert [(row.task_index, row.outcome, row.agrees) for row in reversed(rows)] == [
        (0, "answered", True),
        (1, "answered", False),
        (2, "skipped", False),
        (3, "later", False),
        (4, "failed", False),
    ]
    assert [(row.live_response, row.live_outcome) for row in rows] == [(ANSWER, "answered")] * 5
    assert await ledger.everything() == before, "no task, journal or attempt changes"


async def test_newer_run_of_a_version_replaces_the_older(ledger: LedgerRig) -> None:
    place = await ledger.write(shadow.begin, ledger.source)
    await computed(ledger, 1)
    (live,) = await ledger.read(shadow.waiting, ledger.source, place, 10)
    for answer, version in ((b"x", "v1"), (ANSWER, "v1"), (b"y", "v2")):
        await ledger.write(shadow.record, ledger.source, [run(live, answer=answer, version=version)], live.attempt_id)
    rows = await ledger.read(shadow.stored_runs, ledger.source, None, None, None)
    assert [(row.version, row.response, row.agrees) for row in rows] == [("v2", b"y", False), ("v1", ANSWER, True)]
    assert await ledger.read(shadow.newest_version, ledger.source) == "v2"
    only = await ledger.read(shadow.stored_runs, ledger.source, "v1", 0, rows[0].id)
    assert [row.version for row in only] == ["v1"]


async def test_oldest_waiting_runs_are_dropped_and_counted(ledger: LedgerRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "WAITING_LIMIT", 3)
    place = await ledger.write(shadow.begin, ledger.source)
    await computed(ledger, 1, 2, 3)
    assert await ledger.read(shadow.surplus, ledger.source, place) == (place, 0)
    await computed(ledger, 4, 5)
    last, count = await ledger.read(shadow.surplus, ledger.source, place)
    assert count == 2
    await ledger.write(shadow.record, ledger.source, [], last, count)
    left = await ledger.read(shadow.waiting, ledger.source, await ledger.write(shadow.begin, ledger.source), 10)
    assert [live.task.task_index for live in left] == [3, 4, 5]
    assert await ledger.read(shadow.dropped_runs, ledger.source) == 2
    await ledger.write(shadow.leave, ledger.source)
    assert await ledger.read(shadow.dropped_runs, ledger.source) == 0


async def test_table_of_runs_is_bounded(ledger: LedgerRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "KEPT", 2)
    place = await ledger.write(shadow.begin, ledger.source)
    await computed(ledger, 1, 2, 3, 4)
    for live in await ledger.read(shadow.waiting, ledger.source, place, 10):
        await ledger.write(shadow.record, ledger.source, [run(live)], live.attempt_id)
    rows = await ledger.read(shadow.stored_runs, ledger.source, None, None, None)
    assert [row.task_index for row in rows] == [4, 3]
