"""Deadlines in the parent chain's numbers, everything else in the chain's own: as the ledger compares them."""

from dataclasses import replace

import pytest

from tests.conformance.rig import LedgerRig, header, make_task
from watcher.ledger import claims, finality, ingest, marks, outcomes, queries, sending, stats
from watcher.state import State
from watcher.task import Header

LEASE_MS = 30_000


def at(number: int, l1_block: int) -> Header:
    return replace(header(number), l1_block=l1_block)


async def record(ledger: LedgerRig, head: Header, *found_at: int, deadline: int = 30) -> None:
    tasks = [replace(make_task(0, block=block, deadline=deadline), created_block=20) for block in found_at]
    await ledger.write(ingest.record, ledger.source, tasks, [], head, head.number, head.l1_block)


async def test_window_is_open_by_the_parents_blocks(ledger: LedgerRig) -> None:
    await record(ledger, at(1000, 20), 990)
    assert len(await ledger.read(outcomes.to_admit, ledger.source, 0, ledger.clock.now_ms(), 10)) == 1
    await record(ledger, at(2000, 30))  # the next block may still be of the deadline's own block
    assert len(await ledger.read(outcomes.to_admit, ledger.source, 0, ledger.clock.now_ms(), 10)) == 1
    await record(ledger, at(2001, 31))
    assert await ledger.read(outcomes.to_admit, ledger.source, 0, ledger.clock.now_ms(), 10) == []
    assert await ledger.write(claims.claim, ledger.source, [State.SEEN], 10, LEASE_MS) == []


async def test_lower_head_does_not_take_the_parents_block_back(ledger: LedgerRig) -> None:
    await record(ledger, at(1000, 25), 990)
    await ledger.write(ingest.record, ledger.source, [], [], at(1000, 25), 999, 24)
    cursor = await ledger.read(queries.cursor, ledger.source)
    assert (cursor.head_block, cursor.head_l1_block, cursor.head_closed_block) == (1000, 25, 24)


async def test_task_is_settled_once_a_final_parents_block_is_past_it(ledger: LedgerRig) -> None:
    await record(ledger, at(5000, 40), 990)
    await ledger.write(finality.finalise, ledger.source, at(4000, 31))
    assert await ledger.read(outcomes.past_deadline, ledger.source, ledger.clock.now_ms(), 10) == []
    await ledger.write(finality.finalise, ledger.source, at(4500, 32))
    assert len(await ledger.read(outcomes.past_deadline, ledger.source, ledger.clock.now_ms(), 10)) == 1


async def test_deadline_by_time_becomes_one_of_the_parents_blocks(ledger: LedgerRig) -> None:
    task = replace(make_task(0, block=990, deadline=None), deadline_s=1_000)
    await ledger.write(ingest.record, ledger.source, [task], [], at(5000, 40), 5000, 40)
    await ledger.write(finality.finalise, ledger.source, replace(at(4500, 32), timestamp_s=1_001))
    (open_task,) = await ledger.read(outcomes.past_deadline, ledger.source, ledger.clock.now_ms(), 10)
    assert open_task.task.deadline_block == 30


async def test_danger_is_counted_in_the_parents_blocks(ledger: LedgerRig) -> None:
    await record(ledger, at(1_000_000, 24), 990)
    seen = await ledger.read(stats.work, ledger.source, ledger.clock.now_ms(), 6)
    assert (seen.endangered, seen.nearest_deadline_block, seen.cursor.head_closed_block) == (0, 30, 23)
    await record(ledger, at(1_000_001, 25))
    seen = await ledger.read(stats.work, ledger.source, ledger.clock.now_ms(), 6)
    assert seen.endangered == 1


async def test_attempt_cut_off_is_given_its_blocks_by_the_chain(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0, block=101, deadline=130), to=State.SENDING)
    await ledger.write(ingest.record, ledger.source, [], [], at(2000, 100), 2000, 100)
    assert await ledger.write(sending.recover_stale, ledger.source, all_of_them=True, patience_blocks=5) == 1
    assert [row.due_block for row in await ledger.rows()] == [2005], "not the next block: 30 of the parent's are left"


@pytest.mark.parametrize(("response_block", "state"), [(None, State.SEEN), (31, State.SEEN), (32, State.EXPIRED)])
async def test_finality_taken_back_reopens_what_expired(
    ledger: LedgerRig, response_block: int | None, state: State
) -> None:
    """Without the parent's block, as of a block before the first one read, nobody can say what is past."""
    await record(ledger, at(5000, 40), 990)
    await ledger.write(finality.finalise, ledger.source, at(4500, 32), firm=False)
    await ledger.write(outcomes.expired, await ledger.in_state(State.SEEN))
    await ledger.write(marks.unfinalise, ledger.source, replace(header(99), l1_block=response_block))
    assert [row.state for row in await ledger.rows()] == [state]
