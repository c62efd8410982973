"""What health and metrics ask of the ledger: counted right, of one source alone, without reading what has ended."""

from collections import Counter
from collections.abc import Awaitable
from dataclasses import replace

import pytest

from tests.conformance.rig import LedgerRig, header, make_task
from watcher.ledger import manual, outcomes, queries, stats
from watcher.ledger.engine import open_engine
from watcher.ledger.journal_range import LISTED, Transitions, transitions_between
from watcher.ledger.outcomes import Missing
from watcher.ledger.stats import Unshown, Work
from watcher.state import State


async def work(ledger: LedgerRig, *, danger_blocks: int = 10) -> Work:
    return await ledger.read(stats.work, ledger.source, ledger.clock.now_ms(), danger_blocks)


async def test_an_empty_ledger_has_no_work(ledger: LedgerRig) -> None:
    backlog = await work(ledger)
    assert (backlog.open_by_state, backlog.nearest_deadline_block, backlog.endangered) == ({}, None, 0)
    assert (backlog.oldest_seen_ms, backlog.oldest_due_ms, backlog.last_move) == (None, None, 0)
    assert await ledger.read(stats.ended, ledger.source) == ({}, 0)
    assert await ledger.read(stats.finality_broken, ledger.source) is False


async def test_nearest_deadline_is_of_an_open_unanswered_task_in_time(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0, deadline=111), to=State.RESPONDED)  # answered: no danger any more
    await ledger.bring(make_task(1, deadline=120), to=State.ACCEPTED)  # claimed only
    await ledger.bring(make_task(2, deadline=119), to=State.READY)
    await ledger.record(make_task(3, deadline=110), make_task(4, deadline=121))  # over; just far enough
    backlog = await work(ledger)
    assert backlog.cursor.head_block == 110
    assert backlog.open_by_state == {State.RESPONDED: 1, State.ACCEPTED: 1, State.READY: 1, State.SEEN: 2}
    assert (backlog.nearest_deadline_block, backlog.endangered) == (119, 2)
    assert (await work(ledger, danger_blocks=11)).endangered == 3
    assert (await work(ledger, danger_blocks=0)).endangered == 0


async def test_what_waits_is_due_until_somebody_takes_it(ledger: LedgerRig) -> None:
    began_ms = ledger.clock.now_ms()
    await ledger.bring(make_task(0), to=State.READY)
    ledger.clock.at_ms += 5_000
    backlog = await work(ledger)
    assert (backlog.oldest_seen_ms, backlog.oldest_due_ms) == (began_ms, began_ms)
    claimed = await ledger.claim_one(State.READY)
    backlog = await work(ledger)
    assert (backlog.oldest_seen_ms, backlog.oldest_due_ms) == (began_ms, None)
    assert claimed.state is State.READY


async def test_moves_are_told_or_counted_once_each(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(7), to=State.ACCEPTED)
    newest = (await work(ledger)).last_move
    transitions = await ledger.read(transitions_between, ledger.source, 0, newest)
    (sending,) = transitions.lines
    assert (sending.task_index, sending.from_state, sending.to_state) == (7, State.COMPUTED, State.SENDING)
    assert sending.number == 1
    assert transitions.counts == {
        (None, State.SEEN): 1,
        (State.SEEN, State.READY): 1,
        (State.READY, State.COMPUTED): 1,
        (State.SENDING, State.ACCEPTED): 1,
    }
    each = [await ledger.read(transitions_between, ledger.source, line, line + 1) for line in range(newest)]
    assert [line for part in each for line in part.lines] == [sending]
    assert sum((Counter(part.counts) for part in each), Counter()) == transitions.counts
    assert await ledger.read(transitions_between, ledger.source + 1, 0, newest) == Transitions([], {})


async def test_ends_are_told_in_the_order_of_the_journal(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.RESPONDED)
    await ledger.write(outcomes.final, await ledger.in_state(State.RESPONDED), header(110))
    transitions = await ledger.read(transitions_between, ledger.source, 0, (await work(ledger)).last_move)
    assert [line.to_state for line in transitions.lines][-2:] == [State.RESPONDED, State.FINAL]
    assert not LISTED.intersection(to_state for _, to_state in transitions.counts)


async def test_what_has_ended_is_counted_up_to_a_line_of_the_journal(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.RESPONDED)
    await ledger.write(outcomes.final, await ledger.in_state(State.RESPONDED), header(110))
    counts, upto = await ledger.read(stats.ended, ledger.source)
    assert counts == {State.FINAL: 1}
    assert upto == (await work(ledger)).last_move
    assert (await work(ledger)).open_by_state == {}


async def test_the_trial_write_changes_nothing(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    before = await ledger.everything()
    await ledger.write(stats.touch, ledger.source)
    assert await ledger.everything() == before


async def test_measuring_reads_the_open_tasks_through_their_index(ledger: LedgerRig) -> None:
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
            stats.work(conn, ledger.source, 0, 10)
            transitions_between(conn, ledger.source, 0, 10)
            driver.set_trace_callback(None)
            asked = [statement for statement in sent if statement.startswith("SELECT")]
            plans = {query: [row[3] for row in driver.execute(f"EXPLAIN QUERY PLAN {query}")] for query in asked}
    finally:
        engine.dispose()
    counted = next(plan for statement, plan in plans.items() if "GROUP BY" in statement)
    assert counted == ["SEARCH tasks USING INDEX ix_tasks_open (source_id=?)"], counted
    followed = next(plan for statement, plan in plans.items() if "JOIN" in statement)
    assert followed[0] == "SEARCH journal USING INTEGER PRIMARY KEY (rowid>?)", followed


async def test_work_counts_deadlines_that_are_times_when_little_is_left(ledger: LedgerRig) -> None:
    now_s = ledger.clock.now_ms() // 1000
    seconds_left = {0: 1000, 1: 40, 2: 20, 3: 90}  # seconds left now
    made = [replace(make_task(index, deadline=None), deadline_s=now_s + left) for index, left in seconds_left.items()]
    await ledger.bring(made[3], to=State.RESPONDED)  # answered: no danger any more
    await ledger.record(*made[:2])
    ledger.clock.at_ms += 200_000  # the first two have been known for 200 s
    await ledger.record(replace(made[2], deadline_s=now_s + 220))

    async def at(chain_s: float | None, danger_s: float = 60) -> tuple[int | None, int]:
        now = await ledger.read(
            stats.work, ledger.source, ledger.clock.now_ms(), danger_blocks=10, danger_s=danger_s, chain_s=chain_s
        )
        return now.nearest_deadline_s, now.endangered_by_time

    # Task 1 is over by now; task 2 has just been seen, and has all of its twenty seconds left.
    assert await at(None) == (now_s + 220, 0)
    # The chain's own time decides: on one that is behind this machine, task 1 has 30 s left of 230 s.
    assert await at(now_s + 10) == (now_s + 40, 1)
    assert await at(now_s + 10, danger_s=29) == (now_s + 40, 0)
    # On one that is ahead even the long one is close to its end.
    assert await at(now_s + 960, danger_s=60) == (now_s + 1000, 1)
    ledger.clock.at_ms += 5_000
    assert await at(None) == (now_s + 220, 1), "fifteen seconds are little, however short the whole time is"
    assert await at(None, danger_s=0) == (now_s + 220, 0), "0 turns the warning off"


async def test_work_leaves_out_what_is_past_a_deadline_that_is_a_time(ledger: LedgerRig) -> None:
    """What can no longer be answered is neither due nor in danger; finality settles it."""
    now_s = ledger.clock.now_ms() // 1000
    await ledger.bring(replace(make_task(0, deadline=None), deadline_s=now_s - 5), to=State.READY)
    backlog = await work(ledger)
    assert (backlog.oldest_due_ms, backlog.nearest_deadline_s, backlog.endangered_by_time) == (None, None, 0)


async def test_unshown_counts_accepted_answers_since_the_last_one_shown(ledger: LedgerRig) -> None:
    async def lose(*indices: int) -> None:
        await ledger.bring(*[make_task(index) for index in indices], to=State.ACCEPTED)
        for task in await ledger.in_state(State.ACCEPTED):
            await ledger.write(outcomes.not_there, [Missing(task, f"no trace of task {task.task.task_index}")])
            await ledger.write(manual.skip, ledger.source, task.task.task_index, "lost")

    assert (await work(ledger)).unshown == Unshown()
    await lose(0, 1)
    assert (await work(ledger)).unshown == Unshown(2, 1, "no trace of task 1")
    await ledger.bring(make_task(2), to=State.RESPONDED)
    assert (await work(ledger)).unshown == Unshown()
    await lose(3)
    assert (await work(ledger)).unshown == Unshown(1, 3, "no trace of task 3")
    other = await ledger.read(stats.unshown, ledger.source + 1)
    assert other == Unshown()


async def test_unshown_is_counted_again_after_a_new_journal_line(ledger: LedgerRig) -> None:
    def measured(before: Work) -> Awaitable[Work]:
        return ledger.read(stats.work, ledger.source, ledger.clock.now_ms(), 10, before=before)

    await ledger.bring(make_task(0), to=State.ACCEPTED)
    (task,) = await ledger.in_state(State.ACCEPTED)
    before = await work(ledger)
    await ledger.write(outcomes.not_there, [Missing(task, "no trace")])
    lost = await measured(before)
    assert lost.unshown == Unshown(1, 0, "no trace")
    assert await measured(lost) == lost


async def test_an_answer_that_never_showed_is_due_at_a_block_or_a_time(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), make_task(1), to=State.ACCEPTED)
    first, second = await ledger.in_state(State.ACCEPTED)
    await ledger.write(
        outcomes.not_there, [Missing(first, "no trace", 115), Missing(second, "no trace", after_ms=5_000)]
    )
    assert await ledger.claim(State.WAITING) == []
    ledger.clock.at_ms += 5_000
    assert [task.task.task_index for task in await ledger.claim(State.WAITING)] == [1]
    await ledger.record(upto=115)
    assert [task.task.task_index for task in await ledger.claim(State.WAITING)] == [0]


async def test_newest_open_names_what_nothing_has_settled(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.RESPONDED)
    await ledger.record(*[make_task(index) for index in range(1, 6)])
    newest = await ledger.read(queries.newest_open, ledger.source, 3)
    assert [task.task.task_index for task in newest] == [5, 4, 3]
    assert len(await ledger.read(queries.newest_open, ledger.source, 100)) == 5
