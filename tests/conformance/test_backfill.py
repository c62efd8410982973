"""Block times and senders that no log has shown: stored with the very block and transaction, gone after a reorg."""

from dataclasses import replace
from typing import Any

from tests.conformance.rig import LedgerRig, header, make_response, make_task
from watcher.ledger import backfill, outcomes, reorg
from watcher.ledger.backfill import Unsent
from watcher.state import State
from watcher.task import Header, Responded, Task

SENDER = b"\x5e" * 20


def timed(item: Any, time_s: int) -> Any:
    """A task or a response whose log shows the time of its block."""
    return replace(item, seen_at=replace(item.seen_at, block_time_s=time_s))


def block(number: int, time_s: int, fork: int = 0) -> Header:
    return replace(header(number, fork), timestamp_s=time_s)


async def answer(ledger: LedgerRig, task: Task, response: Responded, *, upto: int = 110) -> None:
    await ledger.record(task, answered=[response], upto=upto)
    (open_task,) = await ledger.in_state(State.SEEN)
    await ledger.write(outcomes.answered, [(open_task, response)], by_us=False)


async def test_times_in_logs_are_stored_at_once(ledger: LedgerRig) -> None:
    await answer(ledger, timed(make_task(0), 1_000), timed(make_response(0, 105), 1_048))
    row = await ledger.row(0)
    assert (row.block_time_s, row.responded_time_s) == (1_000, 1_048)
    assert await ledger.read(backfill.untimed, ledger.source, -1, 10) == []


async def test_unknown_times_are_asked_for_by_block_lowest_first(ledger: LedgerRig) -> None:
    await ledger.record(make_task(0), make_task(1), make_task(2, block=103), answered=[make_response(0, 105)])
    asked = await ledger.read(backfill.untimed, ledger.source, -1, 10)
    assert asked == [(number, header(number).hash) for number in (101, 103, 105)]
    assert await ledger.read(backfill.untimed, ledger.source, 101, 1) == [(103, header(103).hash)]
    assert await ledger.read(backfill.untimed, ledger.source + 1, -1, 10) == []


async def test_a_time_reaches_task_response_and_answered_task(ledger: LedgerRig) -> None:
    await answer(ledger, make_task(0), make_response(0, 105))
    await ledger.write(backfill.record_times, ledger.source, [block(101, 1_000), block(105, 1_048)])
    row = await ledger.row(0)
    assert (row.block_time_s, row.responded_time_s) == (1_000, 1_048)
    assert await ledger.read(backfill.untimed, ledger.source, -1, 10) == []


async def test_a_time_of_another_block_of_that_height_is_not_stored(ledger: LedgerRig) -> None:
    await answer(ledger, make_task(0), make_response(0, 105))
    await ledger.write(backfill.record_times, ledger.source, [block(101, 1_000, fork=1), block(105, 1_048, fork=1)])
    row = await ledger.row(0)
    assert (row.block_time_s, row.responded_time_s) == (None, None)


async def test_a_reorg_changes_the_times(ledger: LedgerRig) -> None:
    await answer(ledger, timed(make_task(0, block=104), 1_000), timed(make_response(0, 105), 1_048))
    await ledger.write(backfill.record_senders, {Unsent(make_response(0, 105).seen_at.tx_hash, 105): SENDER})
    await ledger.write(reorg.rewind, ledger.source, header(103))
    row = await ledger.row(0)
    assert (row.responded_time_s, row.responded_by, row.canonical) == (None, None, False)
    assert await ledger.read(backfill.untimed, ledger.source, -1, 10) == []
    await ledger.record(timed(make_task(0, block=106, fork=1), 1_060), fork=1)
    assert (await ledger.row(0)).block_time_s == 1_060
    await ledger.write(reorg.rewind, ledger.source, header(103))
    await ledger.record(make_task(0, block=107, fork=2), fork=2)
    assert (await ledger.row(0)).block_time_s is None, "the time of the old block is not that of the new one"


async def test_the_sender_of_a_final_response_is_asked_for(ledger: LedgerRig) -> None:
    response = make_response(0, 105)
    await answer(ledger, make_task(0), response)
    assert await ledger.read(backfill.unsent, ledger.source, -1, 10) == []
    await ledger.write(outcomes.final, await ledger.in_state(State.RESPONDED_OTHER), header(110))
    (unsent,) = await ledger.read(backfill.unsent, ledger.source, -1, 10)
    assert unsent == Unsent(response.seen_at.tx_hash, 105)
    await ledger.write(backfill.record_senders, {Unsent(unsent.tx_hash, 106): SENDER})
    assert (await ledger.row(0)).responded_by is None, "that transaction is in another block"
    await ledger.write(backfill.record_senders, {unsent: SENDER})
    assert (await ledger.row(0)).responded_by == SENDER
    assert await ledger.read(backfill.unsent, ledger.source, -1, 10) == []
