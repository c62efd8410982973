"""Results of the hook in batches: few statements for all, and each task its own result or error."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from tests.conformance.rig import LedgerRig, make_task, stale
from tests.conformance.test_batches import statements
from watcher.errors import LostLease
from watcher.ledger import hook_results
from watcher.ledger.claims import RetryAt
from watcher.ledger.hook_results import Answered, Unanswered
from watcher.ledger.transaction import Tx
from watcher.state import State
from watcher.task import OpenTask, Response

TASKS = 30
# Each verb, the state that it leads to, the outcome of its attempts, and the most statements. An end takes two more:
# tasks that a response event names are flagged, and each commit keeps the counts of what has ended.
Verb = Callable[[Tx, Sequence[Unanswered]], list[LostLease | None]]
VERBS: dict[str, tuple[Verb, State, str, int]] = {
    "postpone": (hook_results.postpone, State.READY, "later", 3),
    "retry_failed": (hook_results.retry_failed, State.READY, "failed", 3),
    "give_up_failed": (hook_results.give_up_failed, State.FAILED, "failed", 6),
    "skip": (hook_results.skip, State.SKIPPED, "skipped", 6),
}


async def claimed(ledger: LedgerRig) -> list[OpenTask]:
    await ledger.bring(*(make_task(index) for index in range(TASKS)), to=State.READY)
    return await ledger.claim(State.READY)


def answered(task: OpenTask) -> Answered:
    return Answered(task, Response(bytes([task.task.task_index]), "hook 1", task.task.task_index))


def unanswered(task: OpenTask) -> Unanswered:
    index = task.task.task_index
    return Unanswered(task, f"reason {index}", index, RetryAt(index * 1_000))


async def test_batch_of_answers_takes_four_statements(ledger: LedgerRig) -> None:
    items = [answered(task) for task in await claimed(ledger)]
    with statements(ledger) as seen:
        assert await ledger.write(hook_results.keep_answers, items) == [None] * TASKS
    assert len([verb for verb in seen if verb != "BEGIN"]) == 4, "select, tasks, journal, attempts"
    for index, row in enumerate(await ledger.rows()):
        assert (row.state, row.response, row.hook_version) == (State.COMPUTED, bytes([index]), "hook 1")
        lines, (run,) = await ledger.story(index)
        assert (run.outcome, run.duration_ms, run.number) == ("answered", index, 1)
        assert lines[-1].why == f"the hook answered in {index} ms"


@pytest.mark.parametrize("name", VERBS)
async def test_batch_without_answers_leaves_each_task_its_own_reason(ledger: LedgerRig, name: str) -> None:
    verb, state, outcome, most = VERBS[name]
    items = [unanswered(task) for task in await claimed(ledger)]
    with statements(ledger) as seen:
        assert await ledger.write(verb, items) == [None] * TASKS
    assert len([statement for statement in seen if statement != "BEGIN"]) <= most
    for index, row in enumerate(await ledger.rows()):
        _, (run,) = await ledger.story(index)
        assert (row.state, run.outcome, run.words, run.duration_ms) == (state, outcome, f"reason {index}", index)
        assert row.hook_attempts == (1 if outcome == "failed" else 0)


@pytest.mark.parametrize("name", ["keep_answers", *VERBS])
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_lost_lease_of_one_task_spoils_no_other(ledger: LedgerRig, name: str, place: int) -> None:
    tasks = (await claimed(ledger))[:3]
    tasks[place] = stale(tasks[place])
    if name == "keep_answers":
        results = await ledger.write(hook_results.keep_answers, [answered(task) for task in tasks])
    else:
        results = await ledger.write(VERBS[name][0], [unanswered(task) for task in tasks])
    assert [isinstance(result, LostLease) for result in results] == [index == place for index in range(3)]
    for index in range(3):
        _, runs = await ledger.story(index)
        assert len(runs) == (0 if index == place else 1)
        assert ((await ledger.row(index)).lease_until_ms == 0) == (index != place)


async def test_second_answer_of_a_batch_is_lost(ledger: LedgerRig) -> None:
    task = (await claimed(ledger))[0]
    second = Answered(task, Response(b"other", "hook 2", 1))
    results = await ledger.write(hook_results.keep_answers, [answered(task), second])
    assert results[0] is None and isinstance(results[1], LostLease)
    assert (await ledger.row(task.task.task_index)).response == bytes([task.task.task_index])
    _, runs = await ledger.story(task.task.task_index)
    assert len(runs) == 1


async def test_old_answers_are_kept_and_a_task_without_one_is_lost(ledger: LedgerRig) -> None:
    fresh, *old = (await claimed(ledger))[:3]
    items = [replace(old[0], response=b"old"), fresh, replace(old[1], response=b"old")]
    results = await ledger.write(hook_results.keep_old_answers, items)
    assert [isinstance(result, LostLease) for result in results] == [False, True, False]
    assert [await ledger.state(index) for index in range(3)] == [State.READY, State.COMPUTED, State.COMPUTED]


async def test_failure_of_a_released_task_is_lost(ledger: LedgerRig) -> None:
    item = unanswered((await claimed(ledger))[0])
    assert await ledger.write(hook_results.retry_failed, [item]) == [None]
    (error,) = await ledger.write(hook_results.give_up_failed, [item])
    assert isinstance(error, LostLease)
    _, runs = await ledger.story(item.task.task.task_index)
    assert len(runs) == (await ledger.row(item.task.task.task_index)).hook_attempts == 1
