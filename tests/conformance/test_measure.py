"""What health and metrics ask of the ledger: counted right, of one source alone, without reading what has ended."""

import pytest

from tests.conformance.rig import Ledger, header, make_task
from watcher.ledger import measure, outcome
from watcher.ledger.engine import open_engine
from watcher.ledger.measure import Work
from watcher.task import State


async def work(ledger: Ledger, *, danger_blocks: int = 10) -> Work:
    return await ledger.ask(measure.work, ledger.source, ledger.clock.now_ms(), danger_blocks)


async def test_an_empty_ledger_has_no_work(ledger: Ledger) -> None:
    found = await work(ledger)
    assert (found.open_by_state, found.nearest_deadline_block, found.endangered) == ({}, None, 0)
    assert (found.oldest_seen_ms, found.oldest_due_ms, found.last_move) == (None, None, 0)
    assert await ledger.ask(measure.ended, ledger.source) == ({}, 0)
    assert await ledger.ask(measure.finality_broken, ledger.source) is False


async def test_the_nearest_deadline_is_that_of_a_task_which_is_open_unanswered_and_in_time(ledger: Ledger) -> None:
    await ledger.bring(make_task(0, deadline=111), to=State.RESPONDED)  # answered: no danger any more
    await ledger.bring(make_task(1, deadline=120), to=State.ACCEPTED)  # claimed only
    await ledger.bring(make_task(2, deadline=119), to=State.READY)
    await ledger.record(make_task(3, deadline=110), make_task(4, deadline=121))  # over; just far enough
    found = await work(ledger)
    assert found.cursor.head_block == 110
    assert found.open_by_state == {State.RESPONDED: 1, State.ACCEPTED: 1, State.READY: 1, State.SEEN: 2}
    assert (found.nearest_deadline_block, found.endangered) == (119, 2)
    assert (await work(ledger, danger_blocks=11)).endangered == 3
    assert (await work(ledger, danger_blocks=0)).endangered == 0


async def test_what_waits_is_due_until_somebody_takes_it(ledger: Ledger) -> None:
    began_ms = ledger.clock.now_ms()
    await ledger.bring(make_task(0), to=State.READY)
    ledger.clock.at_ms += 5_000
    found = await work(ledger)
    assert (found.oldest_seen_ms, found.oldest_due_ms) == (began_ms, began_ms)
    held = await ledger.claim_one(State.READY)
    found = await work(ledger)
    assert (found.oldest_seen_ms, found.oldest_due_ms) == (began_ms, None)
    assert held.state is State.READY


async def test_moves_are_told_once_each_in_order_with_the_number_of_the_attempt(ledger: Ledger) -> None:
    await ledger.bring(make_task(7), to=State.ACCEPTED)
    moves = await ledger.ask(measure.moves_since, ledger.source, 0, 100)
    assert [one.to_state for one in moves] == [
        State.SEEN,
        State.READY,
        State.COMPUTED,
        State.SENDING,
        State.ACCEPTED,
    ]
    assert [one.from_state for one in moves] == [None, *[one.to_state for one in moves][:-1]]
    assert {one.task_index for one in moves} == {7}
    assert moves[3].number == 1
    first = await ledger.ask(measure.moves_since, ledger.source, 0, 2)
    rest = await ledger.ask(measure.moves_since, ledger.source, first[-1].id, 100)
    assert [*first, *rest] == moves
    assert (await work(ledger)).last_move == moves[-1].id
    assert await ledger.ask(measure.moves_since, ledger.source + 1, 0, 100) == []


async def test_what_has_ended_is_counted_up_to_a_line_of_the_journal(ledger: Ledger) -> None:
    await ledger.bring(make_task(0), to=State.RESPONDED)
    await ledger.do(outcome.final, await ledger.held(State.RESPONDED), header(110))
    counts, upto = await ledger.ask(measure.ended, ledger.source)
    assert counts == {State.FINAL: 1}
    assert upto == (await work(ledger)).last_move
    assert (await work(ledger)).open_by_state == {}


async def test_the_trial_write_changes_nothing(ledger: Ledger) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    before = await ledger.everything()
    await ledger.do(measure.touch, ledger.source)
    assert await ledger.everything() == before


async def test_measuring_reads_the_open_tasks_through_their_index(ledger: Ledger) -> None:
    if not ledger.is_sqlite:
        pytest.skip("the plan of PostgreSQL depends on its statistics")
    await ledger.bring(make_task(0), to=State.READY)
    sent: list[str] = []
    engine = open_engine(ledger.url, read_only=True)
    try:
        with engine.connect() as conn:
            driver = conn.connection.driver_connection
            assert driver is not None
            driver.set_trace_callback(sent.append)
            measure.work(conn, ledger.source, 0, 10)
            measure.moves_since(conn, ledger.source, 0, 10)
            driver.set_trace_callback(None)
            asked = [one for one in sent if one.startswith("SELECT")]
            plans = {one: [row[3] for row in driver.execute(f"EXPLAIN QUERY PLAN {one}")] for one in asked}
    finally:
        engine.dispose()
    counted = next(plan for statement, plan in plans.items() if "GROUP BY" in statement)
    assert counted == ["SEARCH tasks USING INDEX ix_tasks_open (source_id=?)"], counted
    followed = next(plan for statement, plan in plans.items() if "JOIN" in statement)
    assert followed[0] == "SEARCH journal USING INTEGER PRIMARY KEY (rowid>?)", followed
