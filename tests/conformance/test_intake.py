"""What the watcher reads goes in once, whole, and comes out again when the chain changes its mind."""

import sqlite3
from dataclasses import replace

import pytest

from tests import single_results
from tests import single_results as hook_results
from tests.conformance.rig import ANSWER, MANAGER, START_BLOCK, LedgerRig, header, make_response, make_task, sent
from watcher.ledger import by_index, finality, ingest, outcomes, queries, reorg, rescan, sending
from watcher.ledger.claims import RetryAt
from watcher.ledger.sending import Settlement
from watcher.ledger.source import open_source
from watcher.ledger.transaction import Tx
from watcher.state import State
from watcher.task import Accepted, Response, Task


async def test_a_new_source_stands_just_before_its_start_block(ledger: LedgerRig) -> None:
    cursor = await ledger.read(queries.cursor, ledger.source)
    assert (cursor.block, cursor.head_block, cursor.final_block, cursor.hash) == (START_BLOCK - 1, 99, -1, None)
    reopened = await ledger.write(open_source, 31337, MANAGER, 5)
    assert reopened == cursor, "a start block given later changes nothing"


async def test_tasks_and_cursor_move_together(ledger: LedgerRig) -> None:
    assert await ledger.record(make_task(0), make_task(1), upto=110, head=120) == 2
    cursor = await ledger.read(queries.cursor, ledger.source)
    assert (cursor.block, cursor.hash, cursor.head_block) == (110, header(110).hash, 120)
    assert [row.task_index for row in await ledger.rows()] == [0, 1]


async def test_a_record_that_fails_leaves_neither_tasks_nor_cursor(ledger: LedgerRig) -> None:
    before = await ledger.everything()

    def record_then_fail(tx: Tx) -> None:
        ingest.record(tx, ledger.source, [make_task(0)], [make_response(0, 105)], header(110), 110)
        raise RuntimeError("after the cursor moved")

    with pytest.raises(RuntimeError):
        await ledger.write(record_then_fail)
    assert await ledger.everything() == before
    assert await ledger.answer_event(0, make_response(0, 105).response_hash) is None


async def test_a_task_that_cannot_be_stored_takes_its_whole_range_with_it(ledger: LedgerRig) -> None:
    before = await ledger.everything()
    with pytest.raises(Exception, match=r"256|written"):
        await ledger.record(make_task(0), make_task(2**256))
    assert await ledger.everything() == before


async def test_recording_the_same_range_twice_adds_nothing(ledger: LedgerRig) -> None:
    tasks = [make_task(index) for index in range(3)]
    answers = [make_response(0, 105)]
    assert await ledger.record(*tasks, answered=answers) == 3
    before = await ledger.everything()
    assert await ledger.record(*tasks, answered=answers) == 0
    assert await ledger.everything() == before
    assert len(await ledger.read(by_index.responses_between, ledger.source, 0, 10)) == 1


async def test_the_same_log_twice_in_one_range_is_one_task(ledger: LedgerRig) -> None:
    assert await ledger.record(make_task(0), make_task(0)) == 1
    assert await ledger.transitions(0) == [(None, "seen")]


async def test_proved_tasks_are_ready_in_the_commit_that_stores_them(ledger: LedgerRig) -> None:
    proved, late, unproved = make_task(0), make_task(1, deadline=110), make_task(2)

    def record(tx: Tx) -> set[State]:
        ingest.record(tx, ledger.source, [proved, late, unproved], [], header(110), 110, None, [proved, late])
        return tx.entered

    assert await ledger.write(record) == {State.SEEN, State.READY}
    assert await ledger.transitions(0) == [(None, "seen"), ("seen", "ready")]
    assert await ledger.transitions(1) == [(None, "seen")], "its window has closed"
    assert await ledger.transitions(2) == [(None, "seen")]
    assert [task.task.task_index for task in await ledger.claim(State.READY)] == [0]


async def test_proved_tasks_alone_wake_no_admission(ledger: LedgerRig) -> None:
    def record(tx: Tx) -> set[State]:
        ingest.record(tx, ledger.source, [make_task(0)], [], header(110), 110, None, [make_task(0)])
        return tx.entered

    assert await ledger.write(record) == {State.READY}


async def test_known_task_is_not_admitted_by_a_second_look(ledger: LedgerRig) -> None:
    await ledger.record(make_task(0))
    before = await ledger.transitions(0)
    await ledger.write(ingest.record, ledger.source, [make_task(0)], [], header(110), 110, None, [make_task(0)])
    assert await ledger.transitions(0) == before


async def test_the_head_never_goes_back(ledger: LedgerRig) -> None:
    await ledger.record(upto=110, head=500)
    await ledger.record(upto=111, head=400)
    assert (await ledger.read(queries.cursor, ledger.source)).head_block == 500


async def test_task_mined_again_at_the_same_height_keeps_its_row(ledger: LedgerRig) -> None:
    await ledger.record(make_task(0))
    row_id = (await ledger.row(0)).id
    assert await ledger.write(reorg.rewind, ledger.source, header(100)) == 1
    assert await ledger.record(make_task(0, fork=1), fork=1) == 0
    row = await ledger.row(0)
    assert (row.id, row.canonical, row.block_hash) == (row_id, True, header(101, 1).hash)
    assert row.created_tx_hash == make_task(0, fork=1).seen_at.tx_hash
    assert await ledger.transitions(0) == [(None, "seen")], "it never left its state"


async def test_the_same_index_with_other_content_is_another_row(ledger: LedgerRig) -> None:
    await ledger.record(make_task(0))
    await ledger.write(reorg.rewind, ledger.source, header(100))
    assert await ledger.record(make_task(0, content="changed", fork=1), fork=1) == 1
    new, old = await ledger.read(queries.tasks_at, ledger.source, 0)
    assert (new.canonical, old.canonical) == (True, False)
    assert new.task_hash != old.task_hash
    open_tasks = await ledger.read(outcomes.to_admit, ledger.source, 0, ledger.clock.now_ms(), 10)
    assert [task.row_id for task in open_tasks] == [new.id], "nobody works on what the chain no longer holds"


async def test_rewind_forgets_blocks_and_responses_above_and_keeps_those_below(ledger: LedgerRig) -> None:
    low, high = make_task(0, block=101), make_task(1, block=105)
    await ledger.record(low, answered=[make_response(0, 103)], upto=103)
    await ledger.record(high, answered=[make_response(1, 106)], upto=110)
    assert await ledger.write(reorg.rewind, ledger.source, header(103)) == 1
    cursor = await ledger.read(queries.cursor, ledger.source)
    assert (cursor.block, cursor.hash, cursor.head_block) == (103, header(103).hash, 110)
    hashes = await ledger.read(queries.known_hashes, ledger.source, 0, 1000, 10)
    assert [(block.number, block.hash) for block in hashes] == [(103, header(103).hash)]
    left = await ledger.read(by_index.responses_between, ledger.source, 0, 10)
    assert [row.task_index for row in left] == [0]
    assert [row.canonical for row in await ledger.rows()] == [True, False]
    (event,) = await ledger.read(queries.recent_events, ledger.source)
    assert (event.kind, event.block_number) == ("rewind", 103)


async def test_rewind_returns_answered_tasks_to_unknown_without_a_response(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.RESPONDED)
    assert (await ledger.row(0)).responded_block == 110
    assert await ledger.write(reorg.rewind, ledger.source, header(105)) == 0, "the task itself kept its block"
    row = await ledger.row(0)
    assert (row.state, row.canonical, row.response) == (State.UNKNOWN, True, ANSWER)
    assert (row.responded_block, row.responded_tx_hash, row.response_hash) == (None, None, None)
    assert (await ledger.transitions(0))[-1] == ("responded", "unknown")


async def test_rewind_lets_a_task_that_others_answered_start_anew(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    await ledger.record(answered=[make_response(0, 108, b"theirs")])
    (open_task,) = await ledger.in_state(State.READY)
    await ledger.write(outcomes.answered, [(open_task, make_response(0, 108, b"theirs"))], by_us=False)
    await ledger.write(reorg.rewind, ledger.source, header(105))
    assert await ledger.state(0) is State.SEEN
    assert (await ledger.row(0)).responded_block is None


async def test_rewind_leaves_alone_what_was_answered_below(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.RESPONDED)
    before = await ledger.row(0)
    await ledger.write(reorg.rewind, ledger.source, header(110))
    assert await ledger.row(0) == before


async def test_finality_orphans_only_what_the_chain_did_not_bring_back(ledger: LedgerRig) -> None:
    await ledger.record(*[make_task(index, block=block) for index, block in enumerate([101, 105, 105, 109])])
    await ledger.write(reorg.rewind, ledger.source, header(104))
    await ledger.record(make_task(2, block=105, fork=1), upto=120, fork=1)
    await ledger.write(finality.finalise, ledger.source, header(108, 1))
    assert [row.state for row in await ledger.rows()] == [State.SEEN, State.ORPHANED, State.SEEN, State.SEEN]
    cursor = await ledger.read(queries.cursor, ledger.source)
    assert (cursor.final_block, cursor.final_hash) == (108, header(108, 1).hash)
    await ledger.write(finality.finalise, ledger.source, header(109, 1))
    assert await ledger.state(3) is State.ORPHANED


@pytest.mark.parametrize("state", [State.READY, State.COMPUTED, State.UNKNOWN, State.ACCEPTED])
async def test_finality_orphans_a_lost_task_in_any_open_state(ledger: LedgerRig, state: State) -> None:
    await ledger.bring(make_task(0), to=state)
    await ledger.write(reorg.rewind, ledger.source, header(100))
    await ledger.record(upto=120, fork=1)
    await ledger.write(finality.finalise, ledger.source, header(115, 1))
    assert (await ledger.transitions(0))[-1] == (state, "orphaned")


async def test_finality_waits_for_whoever_holds_a_lease(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.SENDING)
    await ledger.write(reorg.rewind, ledger.source, header(100))
    await ledger.write(finality.finalise, ledger.source, header(105, 1))
    assert await ledger.state(0) is State.SENDING
    ledger.clock.at_ms += 60_000
    await ledger.write(finality.finalise, ledger.source, header(106, 1))
    assert await ledger.state(0) is State.ORPHANED


async def test_an_orphan_comes_back_as_seen_with_its_answer(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.COMPUTED)
    await ledger.write(reorg.rewind, ledger.source, header(100))
    await ledger.write(finality.finalise, ledger.source, header(110, 1))
    assert await ledger.state(0) is State.ORPHANED
    assert await ledger.record(make_task(0, fork=2), upto=111, fork=2) == 0
    row = await ledger.row(0)
    assert (row.state, row.canonical, row.response) == (State.SEEN, True, ANSWER)
    await ledger.admit()
    claimed = await ledger.claim_one(State.READY)
    await ledger.write(hook_results.keep_old_answer, claimed)
    assert await ledger.transitions(0) == [
        (None, "seen"),
        ("seen", "ready"),
        ("ready", "computed"),
        ("computed", "orphaned"),
        ("orphaned", "seen"),
        ("seen", "ready"),
        ("ready", "computed"),
    ]


async def named(ledger: LedgerRig) -> list[int]:
    return [named.task.task.task_index for named in await ledger.read(outcomes.to_look_again, ledger.source, 10)]


async def test_a_response_names_its_open_task_and_hurries_nobody(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), make_task(1), to=State.READY)
    for task in await ledger.claim(State.READY):
        await ledger.write(single_results.release, task, RetryAt(3_600_000, 10_000))
    await ledger.record(answered=[make_response(1, 110)], upto=111)
    assert await named(ledger) == [1]
    assert await ledger.claim(State.READY) == [], "what an event says may be forged"


@pytest.mark.parametrize("state", [State.SEEN, State.COMPUTED, State.UNKNOWN, State.ACCEPTED])
async def test_a_response_is_asked_about_whatever_its_open_task_waits_for(ledger: LedgerRig, state: State) -> None:
    await ledger.bring(make_task(0), make_task(1), to=state)
    await ledger.record(answered=[make_response(1, 110)], upto=111)
    assert await named(ledger) == [1]


async def test_response_during_an_attempt_is_read_when_the_attempt_has_ended(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.COMPUTED)
    (attempt,) = await ledger.begin(await ledger.claim_one(State.COMPUTED))
    await ledger.record(answered=[make_response(0, 110)], upto=111)
    assert await named(ledger) == []
    await ledger.write_item(sending.settle, Settlement(attempt, sent(Accepted(None, None)), RetryAt(at_block=116)))
    assert await named(ledger) == [0]


async def test_two_responses_to_one_index_are_both_kept(ledger: LedgerRig) -> None:
    response, other = make_response(0, 105), make_response(0, 106, b"other")
    await ledger.record(make_task(0), answered=[response, other])
    assert await ledger.answer_event(0, response.response_hash) == response
    assert await ledger.answer_event(0, other.response_hash) == other


@pytest.mark.parametrize("same_tx", [True, False])
async def test_two_responses_at_one_log_index_are_both_kept(ledger: LedgerRig, same_tx: bool) -> None:
    response = make_response(0, 105)
    other = make_response(0, 105, b"other")
    place = response.seen_at if same_tx else replace(response.seen_at, tx_hash=b"\x99" * 32)
    other = replace(other, seen_at=place)
    await ledger.record(make_task(0), answered=[response])
    assert await ledger.write(rescan.record_rescan, ledger.source, rescan.CONFIRMED, [], [response, other], 105) == (
        [],
        [other],
    )
    assert await ledger.write(rescan.record_rescan, ledger.source, rescan.FINAL, [], [response, other], 105) == ([], [])
    await ledger.record(answered=[response, other])
    assert len(await ledger.read(by_index.responses_between, ledger.source, 0, 10)) == 2
    assert await ledger.answer_event(0, other.response_hash) == other


async def test_responses_of_two_tasks_at_one_log_index_settle_both(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0, block=101), make_task(1, block=101), to=State.ACCEPTED)
    response = make_response(0, 108)
    other = replace(make_response(1, 108), seen_at=replace(response.seen_at, tx_hash=b"\x98" * 32))
    await ledger.record(answered=[response, other])
    open_tasks = await ledger.in_state(State.ACCEPTED)
    responded = [(task, response if task.task.task_index == 0 else other) for task in open_tasks]
    await ledger.write(outcomes.answered, responded, by_us=True)
    assert [await ledger.state(index) for index in (0, 1)] == [State.RESPONDED, State.RESPONDED]


async def test_an_answer_read_before_a_rewind_is_not_written_after_it(ledger: LedgerRig) -> None:
    """Confirmation asks the node between its reading and its verb; a reorg may be recorded meanwhile."""
    await ledger.bring(make_task(0, block=105), make_task(1, block=101), to=State.ACCEPTED)
    responded = [(task, make_response(task.task.task_index, 108)) for task in await ledger.in_state(State.ACCEPTED)]
    await ledger.record(answered=[response for _, response in responded])
    await ledger.write(reorg.rewind, ledger.source, header(104))
    await ledger.write(outcomes.answered, responded, by_us=True)
    assert {await ledger.state(0), await ledger.state(1)} == {State.ACCEPTED}
    await ledger.write(finality.finalise, ledger.source, header(110, 1))
    assert await ledger.state(0) is State.ORPHANED


async def test_hashes_of_old_final_blocks_are_forgotten_but_not_the_newest(
    ledger: LedgerRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finality, "_HASHES_KEPT", 3)
    for number in range(101, 111):
        await ledger.record(upto=number)
    await ledger.write(finality.finalise, ledger.source, header(108))
    known = await ledger.read(queries.known_hashes, ledger.source, 0, 1000, 100)
    assert [block.number for block in known] == [110, 109, 108, 107, 106]


async def test_more_rows_than_a_statement_takes_parameters_move_all_the_same(ledger: LedgerRig) -> None:
    """SQLite and PostgreSQL bound the parameters of a statement; a reorg or an outage does not bound its tasks."""
    many = [make_task(index, block=105) for index in range(1_200)]
    await ledger.record(*many)

    def tighten(tx: Tx) -> None:
        if ledger.is_sqlite:
            connection = tx.conn.connection.dbapi_connection
            assert isinstance(connection, sqlite3.Connection)
            connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 600)

    await ledger.write(tighten)
    await ledger.admit()
    await ledger.write(reorg.rewind, ledger.source, header(104))
    await ledger.write(finality.finalise, ledger.source, header(110, 1))
    assert await ledger.read(queries.count_by_state, ledger.source) == {State.ORPHANED: 1_200}


NUMBERS = [0, 1, 2**63 - 1, 2**63, 2**64, 2**255, 2**256 - 1]


async def test_every_uint256_index_survives_and_sorts_as_a_number(ledger: LedgerRig) -> None:
    await ledger.record(*[make_task(index) for index in reversed(NUMBERS)])
    assert [row.task_index for row in await ledger.rows()] == NUMBERS
    await ledger.admit()
    taken = await ledger.claim(State.READY)
    assert [task.task.task_index for task in taken] == NUMBERS
    known = await ledger.read(by_index.known_indices, ledger.source, 2**63 - 1, 2**255)
    assert known == {2**63 - 1, 2**63, 2**64, 2**255}
    lowest = await ledger.read(by_index.lowest, ledger.source)
    assert lowest is not None and lowest.task_index == 0
    await ledger.record(answered=[make_response(2**256 - 1, 105)])
    (response,) = await ledger.read(by_index.responses_between, ledger.source, 2**64, 2**256 - 1)
    assert response.task_index == 2**256 - 1


@pytest.mark.parametrize(
    "message", [b"", b"\x00", b"\x00" * 32, bytes(range(256)) * 100, b"\xff" * 300_000, b"'; DROP TABLE tasks; --"]
)
async def test_bytes_come_back_as_they_went_in(ledger: LedgerRig, message: bytes) -> None:
    task = make_task(0, message=message)
    await ledger.record(task)
    await ledger.admit()
    claimed = await ledger.claim_one(State.READY)
    assert claimed.task == task
    await ledger.write(hook_results.keep_answer, claimed, Response(message, "hook 1", 1))
    stored: Task = (await ledger.claim_one(State.COMPUTED)).task
    assert stored == task
    assert (await ledger.row(0)).response == message, "an empty answer is an answer"
