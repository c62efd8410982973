"""Tasks that were over when the ledger was begun are kept apart from tasks that were missed or lost to others."""

from dataclasses import replace

import pytest
from sqlalchemy import select, update

from tests.conformance.rig import CHAIN_ID, START_BLOCK, LedgerRig, header, make_response, make_task
from watcher.ledger import finality, history, ingest, outcomes
from watcher.ledger.journal_range import transitions_between
from watcher.ledger.source import open_source
from watcher.ledger.stats import ended
from watcher.ledger.tables import sources
from watcher.state import State

MANAGER = b"\x22" * 20


async def begin(ledger: LedgerRig, block: int | None, closed_block: int | None = None) -> None:
    values = {"begun_block": block, "begun_closed_block": block if closed_block is None else closed_block}
    await ledger.write(lambda tx: tx.conn.execute(update(sources).values(**values)))


async def last_reasons(ledger: LedgerRig) -> dict[int, str]:
    """The newest reason in the journal per task."""
    return {line.task_index: line.why for line in (await ledger.read(transitions_between, ledger.source, 0, 100)).lines}


async def test_beginning_is_kept_and_not_moved_by_a_later_start(ledger: LedgerRig) -> None:
    for head in (header(500), header(900)):
        cursor = await ledger.write(open_source, CHAIN_ID, MANAGER, START_BLOCK, None, replace(head, l1_block=70))
        assert cursor.begun_block == 500
    closed = await ledger.read(lambda conn: conn.execute(select(sources.c.begun_closed_block)).scalars().all())
    assert sorted(closed, key=str) == [69, None], "as deadlines are compared; a ledger of before knows none"


@pytest.mark.parametrize(
    ("begun", "over"), [(None, set()), (104, set()), (105, {0}), (114, {0}), (115, {0, 1}), (130, {0, 1})]
)
async def test_answers_of_others_are_history_up_to_the_beginning(
    ledger: LedgerRig, begun: int | None, over: set[int]
) -> None:
    await begin(ledger, begun)
    events = [make_response(0, 105, b"theirs"), make_response(1, 115, b"theirs")]
    await ledger.record(make_task(0), make_task(1), answered=events, upto=120)
    open_tasks = await ledger.in_state(State.SEEN)
    fresh = await ledger.write(outcomes.answered, list(zip(open_tasks, events, strict=True)), by_us=False)
    assert {task.task.task_index for task in open_tasks if task not in fresh} == over
    reasons = await last_reasons(ledger)
    assert {index for index, why in reasons.items() if why.endswith(history.BEFORE)} == over


@pytest.mark.parametrize(("closed", "over"), [(None, set()), (119, set()), (120, {0}), (139, {0}), (140, {0, 1})])
async def test_deadlines_are_history_in_the_numbers_of_the_contract(
    ledger: LedgerRig, closed: int | None, over: set[int]
) -> None:
    await begin(ledger, None if closed is None else 1_000_000, closed)
    await ledger.record(make_task(0, deadline=120), make_task(1, deadline=140), upto=1_000_100)
    open_tasks = await ledger.in_state(State.SEEN)
    fresh = await ledger.write(outcomes.expired, open_tasks)
    assert {task.task.task_index for task in open_tasks if task not in fresh} == over


async def test_expired_history_is_told_apart_in_the_journal_and_not_counted(ledger: LedgerRig) -> None:
    await begin(ledger, 1_000_000, 130)
    theirs = make_response(2, 115, b"theirs")
    tasks = [make_task(0, deadline=120), make_task(1, deadline=140), make_task(2, deadline=120)]
    await ledger.record(*tasks, answered=[theirs], upto=1_000_100)
    first, second, answered = await ledger.in_state(State.SEEN)
    await ledger.write(outcomes.expired, [first, second])
    await ledger.write(outcomes.answered, [(answered, theirs)], by_us=False)
    transitions = await ledger.read(transitions_between, ledger.source, 0, 100)
    assert {(line.task_index, line.is_history) for line in transitions.lines} == {(0, True), (1, False), (2, True)}
    counts, _ = await ledger.read(ended, ledger.source)
    assert counts == {State.EXPIRED: 1}


async def test_deadline_by_time_is_history_when_past_at_the_beginning(ledger: LedgerRig) -> None:
    await begin(ledger, 110)
    now_s = ledger.clock.now_ms() // 1000
    tasks = [replace(make_task(i, deadline=None), deadline_s=now_s + late) for i, late in enumerate((-5, 5))]
    await ledger.record(*tasks, upto=200)
    await ledger.write(finality.finalise, ledger.source, replace(header(200), timestamp_s=now_s + 60))
    open_tasks = await ledger.in_state(State.SEEN)
    fresh = await ledger.write(outcomes.expired, open_tasks)
    assert [task not in fresh for task in open_tasks] == [True, False]


async def test_history_counts_what_nobody_could_have_answered(ledger: LedgerRig) -> None:
    assert await ledger.read(history.history, ledger.source) is None
    await begin(ledger, 150)
    events = [make_response(0, 105, b"theirs"), make_response(1, 151, b"theirs")]
    tasks = [
        make_task(0, deadline=120),
        make_task(1),
        make_task(2, deadline=120),
        make_task(3),
        make_task(4, block=160),
    ]
    await ledger.record(*tasks, answered=events, upto=170)
    assert await ledger.read(history.history, ledger.source) == history.History(150, answered=1, late=1)


@pytest.mark.parametrize(("l1_block", "closed"), [(None, 120), (50, 49)])
async def test_beginning_is_lowered_when_the_head_proves_lower(
    ledger: LedgerRig, l1_block: int | None, closed: int
) -> None:
    """One node may have invented the head of that moment: all that comes would be history."""
    await begin(ledger, 10**9)
    await ledger.write(ingest.record, ledger.source, [], [], header(110), 120, l1_block)
    marks = select(sources.c.begun_block, sources.c.begun_closed_block)
    assert await ledger.read(lambda conn: tuple(conn.execute(marks).one())) == (120, closed)
    await ledger.write(ingest.record, ledger.source, [], [], header(130), 140, l1_block)
    assert await ledger.read(lambda conn: tuple(conn.execute(marks).one())) == (120, closed), "it is never raised"
