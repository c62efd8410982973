"""No lost wake-up: a commit that moves head or final block names every state whose stage would find a due task."""

from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from sqlalchemy import update

from tests.conformance.rig import LEASE_MS, LedgerRig, header, make_response, make_task, sent
from watcher.ledger import claims, finality, ingest, outcomes, sending
from watcher.ledger.claims import Release, RetryAt
from watcher.ledger.sending import Settlement
from watcher.ledger.tables import sources, tasks
from watcher.ledger.transaction import Tx
from watcher.stage import Wakeups
from watcher.state import RESPONDED, UNSETTLED, State
from watcher.task import Accepted

_TASKS = 6
_MARK_BLOCK = 110
_CASES = 80


@dataclass
class Moved:
    """What a commit noted, and what each stage finds after it."""

    due: set[State]
    work: dict[str, int]


def _findings(tx: Tx, source: int) -> dict[str, int]:
    """Return the number of tasks that each stage's own questions return, without a change of the ledger."""
    conn, now_ms = tx.conn, tx.now_ms
    savepoint = conn.begin_nested()
    respond = claims.claim(tx, source, [State.READY], 10, LEASE_MS)
    submit = claims.claim(tx, source, [State.COMPUTED, State.WAITING, State.BLOCKED], 10, LEASE_MS)
    savepoint.rollback()
    timed = (outcomes.to_confirm, outcomes.to_finalise, outcomes.past_deadline)
    confirm = sum(len(question(conn, source, now_ms, 10)) for question in timed)
    return {
        "admit": len(outcomes.to_admit(conn, source, 0, now_ms, 10)),
        "respond": len(respond),
        "submit": len(submit),
        "confirm": confirm + len(outcomes.to_look_again(conn, source, 10)),
    }


def _scatter(tx: Tx, source: int, random: Random) -> None:
    """Give the source and its tasks any marks, states and due times."""
    marks = {"head_block": random.choice([100, 109, 110]), "final_block": random.choice([-1, 100, 104])}
    tx.conn.execute(update(sources).where(sources.c.id == source).values(**marks))
    for index in range(_TASKS):
        state = random.choice(list(State) + sorted(UNSETTLED))
        columns: dict[str, Any] = {
            "state": state,
            "canonical": state in RESPONDED or random.random() < 0.9,
            "due_block": random.choice([0, 0, 110, 111, 112]),
            "due_at_ms": tx.now_ms + random.choice([0, 0, 0, 60_000]),
            "lease_until_ms": random.choice([0, 0, 0, tx.now_ms + 60_000]),
            "deadline_block": random.choice([None, 104, 105, 106, 200]),
            "responded_block": random.choice([None, 104, 105, 106]),
            "look_again": random.random() < 0.05,
        }
        tx.conn.execute(update(tasks).where(tasks.c.task_index == index).values(**columns))


@pytest.mark.edits_rows
@pytest.mark.parametrize("seed", range(3))
async def test_moved_marks_wake_each_stage_that_has_work(ledger: LedgerRig, seed: int) -> None:
    random = Random(seed)
    await ledger.record(*(make_task(index) for index in range(_TASKS)), upto=_MARK_BLOCK)

    def moved(tx: Tx, *, final: bool) -> Moved:
        _scatter(tx, ledger.source, random)
        if final:
            finality.finalise(tx, ledger.source, header(105))
        else:
            ingest.record(tx, ledger.source, [], [], header(111), 111)
        return Moved(tx.due, _findings(tx, ledger.source))

    stages_with_work: set[str] = set()
    for number in range(_CASES):
        seen = await ledger.write(moved, final=number % 2 == 0)
        wakeups = Wakeups(("admit", "respond", "submit", "confirm"))
        wakeups.committed(Tx(None, 0, due=seen.due))  # type: ignore[arg-type]
        for stage, count in seen.work.items():
            woken = wakeups._events[stage].is_set()
            assert woken or not count, f"round {number}: {stage} has {count} due tasks and sleeps; {seen}"
            stages_with_work |= {stage} if count else set()
    assert stages_with_work == {"admit", "respond", "submit", "confirm"}


async def test_a_block_that_concerns_no_task_wakes_no_stage(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0, deadline=200), to=State.ACCEPTED)

    def later(tx: Tx) -> set[State]:
        tx.conn.execute(update(tasks).values(due_block=120))
        ingest.record(tx, ledger.source, [], [], header(111), 111)
        finality.finalise(tx, ledger.source, header(109))
        return tx.due

    assert await ledger.write(later) == set()


async def test_a_response_event_wakes_confirmation_at_once(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.ACCEPTED)

    def answered(tx: Tx) -> set[State]:
        ingest.store_responses(tx, ledger.source, [make_response(0, 110)])
        return tx.due

    assert await ledger.write(answered) == {State.UNKNOWN}


def woken_by(tx: Tx) -> set[str]:
    """The stages that a commit wakes."""
    stages = ("admit", "respond", "submit", "confirm")
    wakeups = Wakeups(stages)
    wakeups.committed(tx)
    return {stage for stage in stages if wakeups._events[stage].is_set()}


@pytest.mark.parametrize("reopens", [False, True])
async def test_accepted_answer_wakes_submit_only_if_its_api_was_out_of_use(ledger: LedgerRig, reopens: bool) -> None:
    await ledger.bring(make_task(0), to=State.SENDING)
    (attempt,) = ledger._flying

    def accepted(tx: Tx) -> set[str]:
        assert sending.settle(tx, [Settlement(attempt, sent(Accepted()), RetryAt(), None, reopens)]) == [State.ACCEPTED]
        return woken_by(tx)

    assert await ledger.write(accepted) == ({"submit"} if reopens else set())


async def test_postponed_task_that_is_made_due_wakes_its_stage(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.COMPUTED)
    await ledger.write(
        claims.release_each, [Release(await ledger.claim_one(State.COMPUTED), RetryAt(60_000), "held: x")]
    )

    def made_due(tx: Tx, mark: str) -> set[str]:
        claims.make_due(tx, ledger.source, [State.COMPUTED], mark)
        return woken_by(tx)

    assert await ledger.write(made_due, "another mark") == set()
    assert await ledger.write(made_due, "held: ") == {"submit"}
