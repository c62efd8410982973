"""The past tasks of a real ledger: their answers, their times, and the selections."""

from tests.conformance.rig import ANSWER, LedgerRig, header, make_response, make_task
from watcher.ledger import outcomes
from watcher.ledger.replay import PastTask, Selection, past_count, past_page
from watcher.state import State


async def _page(
    ledger: LedgerRig, selection: Selection, before_id: int | None = None, limit: int = 100
) -> list[PastTask]:
    return await ledger.read(past_page, ledger.source, selection, before_id, limit)


async def _indices(ledger: LedgerRig, selection: Selection) -> list[int]:
    page = await _page(ledger, selection)
    assert len(page) == await ledger.read(past_count, ledger.source, selection)
    return [past.task.task_index for past in page]


async def test_past_tasks_have_both_answers_and_the_time_of_the_hook(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.ACCEPTED)
    event, stranger = make_response(0, 110, b"another"), make_response(0, 109, b"forged")
    await ledger.record(answered=[stranger, event])
    await ledger.write(
        outcomes.answered, [(task, event) for task in await ledger.in_state(State.ACCEPTED)], by_us=False
    )
    (past,) = await _page(ledger, Selection())
    assert (past.recorded, past.accepted, past.recorded_ms) == (ANSWER, b"another", 5)
    assert past.task == make_task(0)
    assert past.state == State.RESPONDED_OTHER


async def test_past_tasks_come_in_pages_newest_first(ledger: LedgerRig) -> None:
    await ledger.record(*(make_task(index) for index in range(5)))
    first = await _page(ledger, Selection(), limit=3)
    second = await _page(ledger, Selection(), first[-1].row_id, 3)
    assert [past.task.task_index for past in (*first, *second)] == [4, 3, 2, 1, 0]
    assert await _page(ledger, Selection(), second[-1].row_id) == []


async def test_past_tasks_are_selected_by_block_time_and_state(ledger: LedgerRig) -> None:
    began_ms = ledger.clock.now_ms()
    await ledger.bring(make_task(0, block=101), make_task(1, block=102), to=State.READY)
    ledger.clock.at_ms += 60_000
    await ledger.record(make_task(2, block=111), upto=112)
    assert await _indices(ledger, Selection()) == [2, 1, 0]
    assert await _indices(ledger, Selection(first_block=102)) == [2, 1]
    assert await _indices(ledger, Selection(last_block=102)) == [1, 0]
    assert await _indices(ledger, Selection(since_ms=began_ms + 1)) == [2]
    assert await _indices(ledger, Selection(until_ms=began_ms)) == [1, 0]
    assert await _indices(ledger, Selection(state=State.READY)) == [1, 0]


async def test_past_tasks_leave_out_what_the_contract_does_not_hold(ledger: LedgerRig) -> None:
    await ledger.record(make_task(0), make_task(1))
    (forged, _) = await ledger.in_state(State.SEEN)
    await ledger.write(outcomes.never_there, [forged], header(110))
    assert await _indices(ledger, Selection()) == [1]
