"""Tasks are found by each filter, by several, in either order, and without reading more of a larger ledger."""

from dataclasses import replace
from typing import Any

import pytest

from tests.conformance.rig import LedgerRig, header, make_response, make_task
from watcher.ledger import backfill, manual, outcomes
from watcher.ledger.backfill import Unsent
from watcher.ledger.finding import PAGE, Responder, TaskFilter, listed_rows, matching, untimed_count
from watcher.state import State

SENDER = b"\x5e" * 20
BIG = 2**255


async def filled(ledger: LedgerRig) -> None:
    """Tasks 0 and 1 are ours and final, 2 another's; 3 was skipped; 4 and a huge index are seen, 10 s apart."""
    await ledger.bring(make_task(0), make_task(1), to=State.RESPONDED)
    await ledger.write(outcomes.final, await ledger.in_state(State.RESPONDED), header(110))
    await ledger.record(make_task(2, block=103), answered=[make_response(2, 106, b"other")])
    (task,) = await ledger.in_state(State.SEEN)
    await ledger.write(outcomes.answered, [(task, make_response(2, 106, b"other"))], by_us=False)
    await ledger.record(make_task(3, block=104))
    await ledger.write(manual.skip, ledger.source, 3, "100%_done", "alice@host")
    await ledger.record(make_task(4, block=105), make_task(BIG, block=107))
    blocks = [replace(header(number), timestamp_s=1_000 + 10 * number) for number in range(101, 108)]
    await ledger.write(backfill.record_times, ledger.source, blocks)
    row = await ledger.row(0)
    await ledger.write(backfill.record_senders, {Unsent(row.responded_tx_hash, row.responded_block): SENDER})


async def indices(ledger: LedgerRig, *, limit: int | None = None, reverse: bool = False, **filters: Any) -> list[int]:
    ids = await ledger.read(matching, ledger.source, TaskFilter(**filters), limit, reverse=reverse)
    return [row.task_index for row in await ledger.read(listed_rows, ids)]


CASES: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [0, 1, 2, 3, 4, BIG]),
    ({"reverse": True}, [BIG, 4, 3, 2, 1, 0]),
    ({"limit": 2}, [0, 1]),
    ({"limit": 2, "reverse": True}, [BIG, 4]),
    ({"state": State.FINAL}, [0, 1]),
    ({"state": State.SEEN, "reverse": True}, [BIG, 4]),
    ({"state": State.SKIPPED}, [3]),
    ({"state": State.BLOCKED}, []),
    ({"first_block": 104}, [3, 4, BIG]),
    ({"first_block": 103, "last_block": 104}, [2, 3]),
    ({"last_block": 101, "state": State.FINAL}, [0, 1]),
    ({"first_block": 105, "state": State.SEEN}, [4, BIG]),
    ({"since_ms": 2_050_000}, [4, BIG]),
    ({"since_ms": 2_049_001}, [4, BIG]),
    ({"until_ms": 2_050_000}, [0, 1, 2, 3]),
    ({"since_ms": 2_030_000, "until_ms": 2_050_000, "limit": 1}, [2]),
    ({"since_ms": 2_010_000, "state": State.FINAL}, [0, 1]),
    ({"since_ms": 2_010_000, "state": State.SKIPPED}, [3]),
    ({"since_ms": 2_010_000, "first_block": 104}, [3, 4, BIG]),
    ({"answered_by": Responder.OURS}, [0, 1]),
    ({"answered_by": Responder.OTHER}, [2]),
    ({"answered_by": SENDER}, [0]),
    ({"answered_by": SENDER, "since_ms": 2_000_000, "first_block": 100}, [0]),
    ({"answered_by": b"\1" * 20}, []),
    ({"reason": "ALICE@host"}, [3]),
    ({"reason": "100%_"}, [3]),
    ({"reason": "100_"}, []),
    ({"reason": "not ours", "state": State.RESPONDED_OTHER}, [2]),
]


async def test_each_filter_finds_its_tasks_in_order(ledger: LedgerRig) -> None:
    await filled(ledger)
    for filters, expected in CASES:
        assert await indices(ledger, **filters) == expected, filters
    assert len(await ledger.read(matching, ledger.source + 1, TaskFilter())) == 0


async def test_until_its_time_is_known_a_task_counts_at_the_time_it_was_seen(ledger: LedgerRig) -> None:
    await ledger.record(make_task(0))
    now_ms = ledger.clock.now_ms()
    assert await indices(ledger, since_ms=now_ms - 1000) == [0]
    assert await indices(ledger, since_ms=now_ms + 1000) == []
    assert await ledger.read(untimed_count, ledger.source) == 1
    await ledger.write(backfill.record_times, ledger.source, [replace(header(101), timestamp_s=1_000)])
    assert await indices(ledger, since_ms=now_ms - 1000) == []
    assert await ledger.read(untimed_count, ledger.source) == 0


async def test_bytes_of_listed_tasks_are_bytes_on_every_database(ledger: LedgerRig) -> None:
    await filled(ledger)
    (row, *_) = await ledger.read(listed_rows, await ledger.read(matching, ledger.source, TaskFilter()))
    assert (row.task_hash, row.responded_by) == (make_task(0).task_hash, SENDER)
    assert (type(row.canonical), type(row.task_index)) == (bool, int)


async def test_many_are_retried_at_once_and_the_person_is_recorded(ledger: LedgerRig) -> None:
    await filled(ledger)
    ids = await ledger.read(matching, ledger.source, TaskFilter())
    assert len(ids) <= PAGE
    counts = await ledger.write(manual.retry_each, ledger.source, ids, "alice@host, sudo by bob")
    assert counts == {"retried": 3, "left as they are": 3}
    assert await ledger.state(3) == State.READY
    lines, _ = await ledger.story(3)
    assert lines[-1].why == "a person said to retry (alice@host, sudo by bob)"


@pytest.mark.parametrize("state", [State.SENDING, State.FINAL, State.EXPIRED])
def test_a_state_that_allows_no_retry_has_no_target(state: State) -> None:
    assert manual.retry_target(state) is None
