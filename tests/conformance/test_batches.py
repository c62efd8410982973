"""Batched verbs: many tasks in few statements, each with its own result or error, and none spoils another."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import Engine

from tests.conformance.rig import START, LedgerRig, digest, make_response, make_task, sent, stale
from tests.kit.statements import noted
from watcher.errors import LostLease
from watcher.ledger import claims, outcomes, sending
from watcher.ledger.answer_events import AnsweredTask, answer_events
from watcher.ledger.claims import Release, RetryAt
from watcher.ledger.outcomes import Missing
from watcher.ledger.sending import Attempt, Settlement
from watcher.state import State
from watcher.task import Accepted, Outcome, Refused, Unknown

TASKS = 30
OUTCOMES: tuple[tuple[Outcome, State], ...] = (
    (Accepted(digest("tx"), digest("sig")), State.ACCEPTED),
    (Accepted(), State.ACCEPTED),
    (Refused("busy"), State.WAITING),
    (Refused("who are you?", 401, endpoint=True), State.BLOCKED),
    (Unknown("reset"), State.UNKNOWN),
)


def _of_the_chain() -> bool:
    caller = sys._getframe(2)
    while caller.f_back is not None:
        if caller.f_code.co_filename.endswith(("ledger/audit/chain.py", "ledger/row_ids.py")):
            return True
        caller = caller.f_back
    return False


def statements(ledger: LedgerRig) -> AbstractContextManager[list[str]]:
    """The statements of a block's verbs, as they run."""
    return statements_of(ledger.store._writer._connection._engine)


@contextmanager
def statements_of(engine: Engine) -> Iterator[list[str]]:
    """The statements of an engine, as they run, without those that each transaction has for the audit chain."""
    seen: list[str] = []

    def note(_conn: object, statement: str, _parameters: object) -> None:
        if not _of_the_chain():
            seen.append(statement.split()[0])

    with noted(note, engine):
        yield seen


async def begun(ledger: LedgerRig) -> list[Attempt]:
    await ledger.bring(*(make_task(index) for index in range(TASKS)), to=State.COMPUTED)
    return await ledger.begin(*await ledger.claim(State.COMPUTED))


def settlement(attempt: Attempt, outcome: Outcome) -> Settlement:
    return Settlement(attempt, sent(outcome), RetryAt(1_000))


async def test_batch_of_outcomes_takes_four_statements_and_each_task_its_state(ledger: LedgerRig) -> None:
    attempts = await begun(ledger)
    items = [settlement(attempt, OUTCOMES[place % 5][0]) for place, attempt in enumerate(attempts)]
    with statements(ledger) as seen:
        states = await ledger.write(sending.settle, items)
    assert states == [OUTCOMES[place % 5][1] for place in range(TASKS)]
    assert len([verb for verb in seen if verb != "BEGIN"]) == 4, "select, tasks, journal, attempts"
    for index, expected in enumerate(states):
        lines, posts = await ledger.story(index)
        assert (await ledger.state(index), lines[-1].to_state) == (expected, expected)
        assert lines[-1].attempt_id == attempts[index].row_id
        assert posts[-1].ended_at_ms is not None


async def test_task_that_has_changed_costs_no_other_its_outcome(ledger: LedgerRig) -> None:
    first, lost, last = (await begun(ledger))[:3]
    items = [settlement(first, Accepted()), settlement(replace(lost, task=stale(lost.task)), Accepted())]
    items.append(settlement(last, Refused("busy")))
    states = await ledger.write(sending.settle, items)
    assert (states[0], states[2]) == (State.ACCEPTED, State.WAITING)
    assert isinstance(states[1], LostLease)
    assert [await ledger.state(index) for index in range(3)] == [State.ACCEPTED, State.SENDING, State.WAITING]
    _, posts = await ledger.story(1)
    assert posts[-1].outcome is None, "a lost item stores nothing"


async def test_second_outcome_of_a_task_in_one_batch_is_lost(ledger: LedgerRig) -> None:
    attempt = (await begun(ledger))[0]
    states = await ledger.write(sending.settle, [settlement(attempt, Accepted()), settlement(attempt, Refused("no"))])
    assert states[0] is State.ACCEPTED
    assert isinstance(states[1], LostLease)
    lines, _ = await ledger.story(0)
    assert [line.to_state for line in lines].count("accepted") == 1
    assert "waiting" not in [line.to_state for line in lines]


async def test_stale_copy_in_front_does_not_lose_the_holder_behind_it(ledger: LedgerRig) -> None:
    attempt = (await begun(ledger))[0]
    behind = replace(attempt, task=stale(attempt.task))
    states = await ledger.write(sending.settle, [settlement(behind, Accepted()), settlement(attempt, Accepted())])
    assert isinstance(states[0], LostLease)
    assert states[1] is State.ACCEPTED


async def test_batch_of_resends_takes_three_statements_beside_a_lost_one(ledger: LedgerRig) -> None:
    await ledger.bring(*(make_task(index) for index in range(TASKS)), to=State.ACCEPTED)
    accepted = await ledger.in_state(State.ACCEPTED)
    items = [Missing(task, f"reason {task.task.task_index}", 120, 5_000) for task in accepted]
    items[1] = replace(items[1], task=stale(items[1].task))
    with statements(ledger) as seen:
        states = await ledger.write(outcomes.not_there, items)
    assert len([verb for verb in seen if verb != "BEGIN"]) == 3, "select, tasks, journal"
    assert isinstance(states[1], LostLease)
    assert [state for place, state in enumerate(states) if place != 1] == [State.WAITING] * (TASKS - 1)
    rows = await ledger.rows()
    assert [row.error for row in rows if row.task_index != 1] == [
        f"reason {index}" for index in range(TASKS) if index != 1
    ]
    assert [row.state for row in rows if row.task_index == 1] == [State.ACCEPTED]


@pytest.mark.parametrize("stored", [True, False], ids=["hashes stored", "no hashes"])
async def test_answers_of_many_tasks_are_found_by_one_question(ledger: LedgerRig, stored: bool) -> None:
    answered = [make_response(index, 105, b"answer %d" % index) for index in range(0, TASKS, 2)]
    await ledger.record(*(make_task(index) for index in range(TASKS)), answered=answered)
    hashes = {response.task_index: response.response_hash for response in answered}
    answered_tasks = [AnsweredTask(index, START, hashes.get(index, digest("none"))) for index in range(TASKS)]
    if not stored:
        answered_tasks = [
            replace(item, since=make_task(item.task_index).seen_at, response_hash=None) for item in answered_tasks
        ]
    with statements_of(ledger.engine) as seen, ledger.engine.connect() as conn:
        events = answer_events(conn, ledger.source, answered_tasks)
    assert events == [{response.task_index: response for response in answered}.get(index) for index in range(TASKS)]
    assert seen.count("SELECT") == (1 if stored else 2)


async def test_batch_of_releases_takes_two_statements(ledger: LedgerRig) -> None:
    await ledger.bring(*(make_task(index) for index in range(TASKS)), to=State.READY)
    tasks = await ledger.claim(State.READY)
    items = [Release(task, RetryAt(task.task.task_index * 1_000), f"reason {task.task.task_index}") for task in tasks]
    with statements(ledger) as seen:
        assert await ledger.write(claims.release_each, items) == [None] * TASKS
    assert len([verb for verb in seen if verb != "BEGIN"]) == 2
    assert [row.error for row in await ledger.rows()] == [f"reason {index}" for index in range(TASKS)]
    ledger.clock.at_ms += 10_000
    assert len(await ledger.claim(State.READY)) == 11


@pytest.mark.parametrize("second", ["another copy", "a later call"])
async def test_second_release_of_a_task_is_lost(ledger: LedgerRig, second: str) -> None:
    await ledger.bring(make_task(0), make_task(1), to=State.READY)
    task, other = await ledger.claim(State.READY)
    items = [Release(task, RetryAt(1_000)), Release(other, RetryAt())]
    if second == "another copy":
        results = await ledger.write(claims.release_each, [items[0], Release(task, RetryAt()), items[1]])
        assert isinstance(results.pop(1), LostLease)
    else:
        results = await ledger.write(claims.release_each, items)
        assert isinstance((await ledger.write(claims.release_each, [Release(task, RetryAt())]))[0], LostLease)
    assert results == [None, None]
    assert [claimed.task.task_index for claimed in await ledger.claim(State.READY)] == [1]


async def test_release_without_a_reason_keeps_the_reason_before_it(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    await ledger.write(claims.release_each, [Release(await ledger.claim_one(State.READY), RetryAt(), "no worker")])
    await ledger.write(claims.release_each, [Release(await ledger.claim_one(State.READY), RetryAt())])
    assert (await ledger.row(0)).error == "no worker"
