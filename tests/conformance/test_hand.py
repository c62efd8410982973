"""What a person may do to a task, and what only the chain may."""

import pytest

from tests import single_results as hook_results
from tests.conformance.rig import ANSWER, LedgerRig, header, make_task
from watcher.errors import FixUsage, LostLease
from watcher.ledger import manual, outcomes
from watcher.ledger.claims import RetryAt
from watcher.state import State
from watcher.task import OpenTask, Response


async def end(ledger: LedgerRig, state: State) -> None:
    """Bring task 0 to one of the ends a person may undo."""
    await ledger.bring(make_task(0), to=State.SEEN if state is State.QUARANTINED else State.READY)
    if state is State.QUARANTINED:
        await ledger.write(outcomes.never_there, await ledger.in_state(State.SEEN), header(107))
        return
    claimed = await ledger.claim_one(State.READY)
    if state is State.FAILED:
        await ledger.write(hook_results.hook_failed, claimed, "it raised", 1, None)
    else:
        await ledger.write(hook_results.hook_skipped, claimed, "odd", 1)


@pytest.mark.parametrize(
    ("state", "to"),
    [(State.FAILED, State.READY), (State.SKIPPED, State.READY), (State.QUARANTINED, State.SEEN)],
)
async def test_an_end_that_was_not_the_chains_can_be_undone(ledger: LedgerRig, state: State, to: State) -> None:
    await end(ledger, state)
    assert await ledger.state(0) is state
    assert await ledger.write(manual.retry, ledger.source, 0) is to
    row = await ledger.row(0)
    assert (row.state, row.error, row.hook_attempts) == (to, None, 0)
    lines, _ = await ledger.story(0)
    assert lines[-1].why == "a person said to retry"


async def test_a_retry_goes_on_with_the_answer_that_was_written(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.COMPUTED)
    await ledger.write(manual.skip, ledger.source, 0, "")
    await ledger.write(manual.retry, ledger.source, 0)
    claimed = await ledger.claim_one(State.READY)
    await ledger.write(hook_results.keep_answer, claimed, Response(b"another answer", "hook 2", 1))
    assert (await ledger.row(0)).response == ANSWER


async def test_a_retry_of_a_waiting_task_makes_it_due_now(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    retry_at = RetryAt(3_600_000, 10_000)
    await ledger.write(hook_results.hook_failed, await ledger.claim_one(State.READY), "it raised", 1, retry_at)
    assert await ledger.claim(State.READY) == []
    assert await ledger.write(manual.retry, ledger.source, 0) is State.READY
    assert (await ledger.claim_one(State.READY)).hook_attempts == 0


@pytest.mark.parametrize("state", [State.SENDING, State.UNKNOWN, State.ACCEPTED, State.RESPONDED])
async def test_what_was_sent_is_for_the_chain_to_tell(ledger: LedgerRig, state: State) -> None:
    await ledger.bring(make_task(0), to=state)
    before = await ledger.everything()
    with pytest.raises(FixUsage, match=state):
        await ledger.write(manual.retry, ledger.source, 0)
    with pytest.raises(FixUsage, match=state):
        await ledger.write(manual.skip, ledger.source, 0, "no")
    assert await ledger.everything() == before


async def test_a_task_nobody_knows_is_told_in_words(ledger: LedgerRig) -> None:
    with pytest.raises(FixUsage, match="knows no task 7"):
        await ledger.write(manual.retry, ledger.source, 7)
    with pytest.raises(FixUsage, match="knows no task 7"):
        await ledger.write(manual.skip, ledger.source, 7, "")


@pytest.mark.parametrize("state", [State.SEEN, State.READY, State.COMPUTED])
async def test_a_skipped_task_is_not_worked_on(ledger: LedgerRig, state: State) -> None:
    await ledger.bring(make_task(0), to=state)
    assert await ledger.write(manual.skip, ledger.source, 0, "too big") is State.SKIPPED
    assert await ledger.claim(State.SEEN, State.READY, State.COMPUTED) == []
    lines, _ = await ledger.story(0)
    assert lines[-1].why == "a person said to skip: too big"


async def test_a_skip_reaches_whoever_is_at_work(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    at_work: OpenTask = await ledger.claim_one(State.READY)
    await ledger.write(manual.skip, ledger.source, 0, "")
    with pytest.raises(LostLease):
        await ledger.write(hook_results.keep_answer, at_work, Response(ANSWER, "hook 1", 1))
    await ledger.bring(make_task(1), to=State.COMPUTED)
    about_to_send = await ledger.claim_one(State.COMPUTED)
    await ledger.write(manual.skip, ledger.source, 1, "")
    assert await ledger.begin(about_to_send) == []
