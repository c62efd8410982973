"""Questions for people and for the proof: counted right, in order, and of one source alone."""

from dataclasses import replace

import pytest
from sqlalchemy import Connection

from tests import single_results
from tests.conformance.rig import CHAIN_ID, LEASE_MS, MANAGER, LedgerRig, header, make_response, make_task
from tests.kit.plans import PlanRecorder, grows
from watcher.errors import FixUsage
from watcher.ledger import by_index, known_sources, outcomes, queries, reorg
from watcher.ledger.by_index import Place
from watcher.ledger.claims import RetryAt
from watcher.ledger.queries import Counts
from watcher.ledger.source import note_event
from watcher.state import State
from watcher.task import Header, Task


async def with_every_end(ledger: LedgerRig) -> list[Task]:
    """Six tasks: one final, one answered, one accepted, one ready, one seen, one lost to a reorg."""
    tasks = [make_task(index, deadline=200 - index) for index in range(6)]
    await ledger.bring(tasks[0], to=State.RESPONDED)
    await ledger.write(outcomes.final, await ledger.in_state(State.RESPONDED), header(110))
    await ledger.bring(tasks[1], to=State.RESPONDED)
    await ledger.bring(tasks[2], to=State.ACCEPTED)
    await ledger.bring(tasks[3], to=State.READY)
    await ledger.record(tasks[4], make_task(5, block=111), upto=111)
    await ledger.write(reorg.rewind, ledger.source, header(110))
    return tasks


async def test_standing_counts_what_is_open_and_names_the_nearest_deadline(ledger: LedgerRig) -> None:
    assert await ledger.read(queries.counts, ledger.source) == Counts(0, None)
    await with_every_end(ledger)
    assert await ledger.read(queries.counts, ledger.source) == Counts(5, 196)
    assert await ledger.read(queries.counts, ledger.source + 1) == Counts(0, None)


async def test_every_task_is_counted_in_its_state(ledger: LedgerRig) -> None:
    await with_every_end(ledger)
    assert await ledger.read(queries.count_by_state, ledger.source) == {
        State.FINAL: 1,
        State.RESPONDED: 1,
        State.ACCEPTED: 1,
        State.READY: 1,
        State.SEEN: 2,
    }


async def test_tasks_are_listed_in_the_order_of_their_index(ledger: LedgerRig) -> None:
    await with_every_end(ledger)
    rows = await ledger.rows()
    assert [row.task_index for row in rows] == [0, 1, 2, 3, 4, 5]
    assert {(row.chain_id, row.task_manager) for row in rows} == {(CHAIN_ID, MANAGER)}

    def seen(conn: Connection) -> list[int]:
        return [row.task_index for row in queries.list_tasks(conn, ledger.source, State.SEEN)]

    assert await ledger.read(seen) == [4, 5]


async def test_listing_streams_more_than_one_page(ledger: LedgerRig) -> None:
    await ledger.record(*[make_task(index) for index in range(1_500)])
    assert [row.task_index for row in await ledger.rows()] == list(range(1_500))


async def test_every_task_ever_known_at_an_index_is_told_the_canonical_one_first(ledger: LedgerRig) -> None:
    with pytest.raises(FixUsage, match="knows no task 0"):
        await ledger.read(queries.tasks_at, ledger.source, 0)
    for fork in range(3):
        await ledger.record(make_task(0, content=fork, fork=fork), fork=fork)
        await ledger.write(reorg.rewind, ledger.source, header(100))
    await ledger.record(make_task(0, content=1, fork=3), fork=3)
    rows = await ledger.read(queries.tasks_at, ledger.source, 0)
    assert [(row.canonical, row.task_hash) for row in rows] == [
        (True, make_task(0, content=1).task_hash),
        (False, make_task(0, content=2).task_hash),
        (False, make_task(0, content=0).task_hash),
    ]


async def test_a_story_is_of_one_task_and_in_order(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), make_task(1), to=State.ACCEPTED)
    row = await ledger.row(1)
    lines, tries = await ledger.story(1)
    assert {line.task_id for line in lines} == {row.id} == {attempt.task_id for attempt in tries}
    assert [line.id for line in lines] == sorted(line.id for line in lines)
    assert [attempt.kind for attempt in tries] == ["hook", "post"]


async def test_events_of_the_source_are_told_newest_first(ledger: LedgerRig) -> None:
    for number in range(3):
        await ledger.write(note_event, ledger.source, "odd log", number, f"words {number}")
    events = await ledger.read(queries.recent_events, ledger.source, 2)
    assert [(event.kind, event.block_number, event.words) for event in events] == [
        ("odd log", 2, "words 2"),
        ("odd log", 1, "words 1"),
    ]


async def test_a_source_is_found_by_chain_and_address(ledger: LedgerRig) -> None:
    source = await ledger.read(known_sources.find_source, CHAIN_ID, MANAGER)
    assert source is not None and source.source_id == ledger.source
    assert await ledger.read(known_sources.find_source, CHAIN_ID + 1, MANAGER) is None
    assert await ledger.read(known_sources.find_source, CHAIN_ID, b"\x22" * 20) is None


async def test_remembered_hashes_come_newest_first_within_their_bounds(ledger: LedgerRig) -> None:
    for number in (103, 105, 107, 109):
        await ledger.record(upto=number)
    known = await ledger.read(queries.known_hashes, ledger.source, 104, 107, 10)
    assert known == [Header(107, header(107).hash, b""), Header(105, header(105).hash, b"")]
    (newest,) = await ledger.read(queries.known_hashes, ledger.source, 0, 1_000, 1)
    assert newest.number == 109


async def test_only_canonical_tasks_count_for_the_proof(ledger: LedgerRig) -> None:
    assert await ledger.read(by_index.lowest, ledger.source) is None
    await ledger.record(make_task(3, block=105), make_task(4), make_task(6), answered=[make_response(4, 106)])
    assert await ledger.read(by_index.lowest, ledger.source) == Place(3, 105)
    assert len(await ledger.read(by_index.known_indices, ledger.source, 0, 5)) == 2
    await ledger.write(reorg.rewind, ledger.source, header(104))
    assert await ledger.read(by_index.lowest, ledger.source) == Place(4, 101)
    assert len(await ledger.read(by_index.known_indices, ledger.source, 0, 5)) == 1
    assert await ledger.read(by_index.known_indices, ledger.source, 0, 5) == {4}
    assert await ledger.read(by_index.canonical_from, ledger.source, 5, 10) == [6]
    rows = await ledger.read(by_index.canonical_between, ledger.source, 0, 10)
    assert sorted(row.task_index for row in rows) == [4, 6]
    assert await ledger.read(by_index.responses_between, ledger.source, 0, 10) == []


async def test_the_neighbours_of_an_index_are_those_the_contract_knows(ledger: LedgerRig) -> None:
    assert await ledger.read(by_index.neighbours, ledger.source, 5) == (None, None)
    await ledger.bring(make_task(2, block=103), make_task(2**64, block=109), to=State.READY)
    await ledger.record(make_task(4, content="forged"), make_task(6, content="forged"), upto=110)
    assert await ledger.read(by_index.neighbours, ledger.source, 5) == (Place(2, 103), Place(2**64, 109))
    assert await ledger.read(by_index.neighbours, ledger.source, 2) == (None, Place(2**64, 109))
    await ledger.write(reorg.rewind, ledger.source, header(104))
    assert await ledger.read(by_index.neighbours, ledger.source, 5) == (Place(2, 103), None)


async def test_one_index_counts_once_however_many_stand_at_it(ledger: LedgerRig) -> None:
    await ledger.record(make_task(0), make_task(0, content="forged"), make_task(2), make_task(2**63))
    assert len(await ledger.read(by_index.known_indices, ledger.source, 0, 2**64)) == 3
    assert len(await ledger.read(by_index.known_indices, ledger.source, 1, 1)) == 0


async def test_indices_are_paged_in_order(ledger: LedgerRig) -> None:
    await ledger.record(*[make_task(index) for index in (2**256 - 1, 7, 2**63, 0, 3)])
    assert await ledger.read(by_index.canonical_from, ledger.source, 0, 3) == [0, 3, 7]
    assert await ledger.read(by_index.canonical_from, ledger.source, 8, 3) == [2**63, 2**256 - 1]


async def test_what_time_alone_will_bring_is_counted(ledger: LedgerRig) -> None:
    await ledger.bring(*[make_task(index) for index in range(4)], to=State.READY)
    now_ms = ledger.clock.now_ms()
    assert await ledger.read(queries.bound_by_time, ledger.source, now_ms) == 0
    leased, later, by_block, _ = await ledger.claim(State.READY)
    await ledger.write(single_results.release, later, RetryAt(500))
    await ledger.write(single_results.release, by_block, RetryAt(0, 500))
    assert leased.fence == 1
    assert await ledger.read(queries.bound_by_time, ledger.source, now_ms) == 3, "two leased, one due later"
    assert await ledger.read(queries.bound_by_time, ledger.source, now_ms + LEASE_MS) == 0


async def test_what_an_api_brought_on_the_chain_is_told_by_its_quorum_fields(ledger: LedgerRig) -> None:
    brought = replace(make_task(0), quorum_numbers=b"\x01", quorum_threshold=60)
    await ledger.bring(brought, to=State.RESPONDED)
    # Accepted is a claim, and computed is nothing yet.
    await ledger.bring(replace(make_task(1), quorum_numbers=b"\x02"), to=State.ACCEPTED)
    await ledger.bring(replace(make_task(2), quorum_numbers=b"\x03"), to=State.COMPUTED)
    assert await ledger.read(queries.brought_by, ledger.source, "proxy", 10) == {(b"\x01", 60)}
    assert await ledger.read(queries.brought_by, ledger.source, "operator", 10) == set()
    assert await ledger.read(queries.brought_by, ledger.source + 1, "proxy", 10) == set()
    # Only the newest are looked at.
    assert await ledger.read(queries.brought_by, ledger.source, "proxy", 2) == set()


async def test_statements_of_the_ledger_are_recorded_with_their_plans(ledger: LedgerRig, plans: PlanRecorder) -> None:
    """The fixture of every test here looks at the plans (`PlanRecorder.growing`); this one has something to look at."""
    await ledger.bring(make_task(0), to=State.RESPONDED)
    assert plans.count > 10 or not ledger.is_sqlite
    assert grows(["SCAN tasks"], "SELECT 1")
    assert grows(["SEARCH responses USING INDEX ix_responses_task (source_id=?)"], "DELETE")
    assert not grows(["SEARCH tasks USING INDEX ix_tasks_open (source_id=?)", "SCAN sources"], "SELECT 1")
