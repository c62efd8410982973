"""What the chain says about a task: who is looked at, and what is written down."""

from collections.abc import Sequence

import pytest

from tests import single_results
from tests import single_results as hook_results
from tests.conformance.rig import CHAIN_ID, LEASE_MS, LedgerRig, digest, header, make_response, make_task
from watcher.errors import FixConfiguration, IllegalMove
from watcher.ledger import absences, finality, ingest, outcomes, reorg, sending
from watcher.ledger.claims import RetryAt
from watcher.ledger.outcomes import Missing
from watcher.ledger.source import open_source
from watcher.state import State
from watcher.task import OpenTask, Response


def indices(open_tasks: Sequence[OpenTask]) -> list[int]:
    return [task.task.task_index for task in open_tasks]


async def to_admit(ledger: LedgerRig, confirmations: int = 0, limit: int = 100) -> list[int]:
    now_ms = ledger.clock.now_ms()
    return indices(await ledger.read(outcomes.to_admit, ledger.source, confirmations, now_ms, limit))


async def to_confirm(ledger: LedgerRig, limit: int = 100) -> list[int]:
    return indices(await ledger.read(outcomes.to_confirm, ledger.source, ledger.clock.now_ms(), limit))


async def past_deadline(ledger: LedgerRig) -> list[int]:
    return indices(await ledger.read(outcomes.past_deadline, ledger.source, ledger.clock.now_ms(), 100))


async def named(ledger: LedgerRig) -> list[int]:
    return [named.task.task.task_index for named in await ledger.read(outcomes.to_look_again, ledger.source, 100)]


async def to_finalise(ledger: LedgerRig, limit: int = 100) -> list[int]:
    return indices(await ledger.read(outcomes.to_finalise, ledger.source, ledger.clock.now_ms(), limit))


async def test_a_task_is_admitted_once_it_has_its_confirmations(ledger: LedgerRig) -> None:
    await ledger.record(make_task(0, block=105), make_task(1, block=106), upto=108)
    assert await to_admit(ledger, 0) == [0, 1]
    assert await to_admit(ledger, 2) == [0, 1]
    assert await to_admit(ledger, 3) == [0]
    assert await to_admit(ledger, 4) == []
    await ledger.record(upto=108, head=109)
    assert await to_admit(ledger, 3) == [0, 1], "the head counts, also above the cursor"


async def test_admission_omits_late_orphaned_leased_undue_and_surplus_tasks(ledger: LedgerRig) -> None:
    tasks = [
        make_task(0),
        make_task(1, deadline=110),
        make_task(2, block=105),
        make_task(3),
        make_task(4, deadline=150),
    ]
    await ledger.record(*tasks)
    assert await to_admit(ledger) == [4, 0, 2, 3], "nearest deadline first; the window of 1 has closed"
    assert await to_admit(ledger, limit=2) == [4, 0]
    open_tasks = {task.task.task_index: task for task in await ledger.in_state(State.SEEN)}
    await ledger.write(outcomes.look_again, [open_tasks[3]], 111, "not known there yet")
    assert await to_admit(ledger) == [4, 0, 2]
    assert (await ledger.row(3)).error == "not known there yet"
    await ledger.write(reorg.rewind, ledger.source, header(104))
    assert await to_admit(ledger) == [4, 0]
    await ledger.claim(State.SEEN, limit=1)
    assert await to_admit(ledger) == [0]
    await ledger.record(upto=105, head=111, fork=1)
    assert await to_admit(ledger) == [0, 3]


async def test_admission_makes_ready_and_says_where(ledger: LedgerRig) -> None:
    await ledger.record(make_task(0), make_task(1))
    await ledger.write(outcomes.admitted, await ledger.in_state(State.SEEN), header(107))
    assert [row.state for row in await ledger.rows()] == [State.READY, State.READY]
    lines, _ = await ledger.story(1)
    assert lines[-1].why == "the contract knows it at block 107"
    assert await to_admit(ledger) == []


async def test_a_forged_task_is_set_aside_with_the_reason(ledger: LedgerRig) -> None:
    await ledger.record(make_task(0), make_task(1))
    await ledger.write(outcomes.never_there, (await ledger.in_state(State.SEEN))[:1], header(107))
    row = await ledger.row(0)
    why = "at block 107 the contract holds another task at this index, although its log is final"
    assert (row.state, row.error) == (State.QUARANTINED, why)
    assert await ledger.state(1) is State.SEEN


async def test_a_final_task_is_not_taken_back(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.RESPONDED)
    await ledger.write(outcomes.final, await ledger.in_state(State.RESPONDED), header(111))
    await ledger.write(outcomes.taken_back, await ledger.in_state(State.FINAL), header(112))
    assert await ledger.state(0) is State.FINAL


@pytest.mark.parametrize("is_read_again", [False, True])
async def test_a_task_set_aside_is_open_once_it_is_held(ledger: LedgerRig, is_read_again: bool) -> None:
    task = make_task(0)
    await ledger.record(task)
    await ledger.write(outcomes.never_there, await ledger.in_state(State.SEEN), header(107))
    if is_read_again:  # as a hole in the indices, which makes the row canonical and leaves its state
        await ledger.write(ingest.store_tasks, ledger.source, [task])
    ended = await ledger.read(absences.ended_lately, ledger.source, 10)
    assert await ledger.write(absences.held_after_all, ledger.source, ended) == ended
    assert await ledger.state(0) is State.SEEN


async def test_a_task_set_aside_stays_while_another_has_its_index(ledger: LedgerRig) -> None:
    await ledger.record(make_task(0))
    await ledger.write(outcomes.never_there, await ledger.in_state(State.SEEN), header(107))
    await ledger.record(make_task(0, content="another"))
    ended = await ledger.read(absences.ended_lately, ledger.source, 10)
    assert await ledger.write(absences.held_after_all, ledger.source, ended) == []
    assert [row.state for row in await ledger.rows()] == [State.QUARANTINED, State.SEEN]


async def test_an_orphan_is_not_open_before_its_log_is_read_again(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    await ledger.write(outcomes.never_there, await ledger.in_state(State.READY), header(107))
    ended = await ledger.read(absences.ended_lately, ledger.source, 10)
    assert await ledger.write(absences.held_after_all, ledger.source, ended) == []
    assert await ledger.state(0) is State.ORPHANED


@pytest.mark.parametrize("state", [State.READY, State.COMPUTED, State.UNKNOWN, State.ACCEPTED])
async def test_a_task_that_was_true_once_is_an_orphan_when_finality_denies_it(ledger: LedgerRig, state: State) -> None:
    await ledger.bring(make_task(0), to=state)
    await ledger.write(outcomes.never_there, await ledger.in_state(state), header(107))
    assert (await ledger.transitions(0))[-1] == (state, "orphaned")


@pytest.mark.parametrize("state", [State.UNKNOWN, State.ACCEPTED])
async def test_what_was_sent_is_looked_at_when_due(ledger: LedgerRig, state: State) -> None:
    await ledger.bring(make_task(0), to=state)
    assert await to_confirm(ledger) == [0]
    await ledger.write(outcomes.look_again, await ledger.in_state(state), 112)
    assert await to_confirm(ledger) == []
    await ledger.record(upto=112)
    assert await to_confirm(ledger) == [0]


@pytest.mark.parametrize("state", [State.SEEN, State.READY, State.COMPUTED, State.WAITING])
async def test_unsent_task_is_read_when_an_event_or_a_final_head_settles_it(ledger: LedgerRig, state: State) -> None:
    tasks = [make_task(0, deadline=115), make_task(1), make_task(2)]
    if state is State.WAITING:
        await ledger.bring(*tasks, to=State.UNKNOWN)
        for task in await ledger.in_state(State.UNKNOWN):
            await ledger.write(outcomes.not_there, [Missing(task, "nothing there")])
    else:
        await ledger.bring(*tasks, to=state)
    assert (await to_confirm(ledger), await named(ledger)) == ([], [])
    await ledger.record(answered=[make_response(1, 112)], upto=116)
    assert (await to_confirm(ledger), await named(ledger)) == ([], [1])
    await ledger.write(finality.finalise, ledger.source, header(115))
    assert await past_deadline(ledger) == [], "the deadline itself is still a block to answer in"
    await ledger.write(finality.finalise, ledger.source, header(116))
    assert await past_deadline(ledger) == [0]
    assert await to_confirm(ledger) == [], "what is past its deadline takes no place from what was sent"


async def test_confirmation_leaves_out_what_is_on_its_way_leased_gone_or_settled(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.SENDING)
    assert await to_confirm(ledger) == []
    ledger.clock.at_ms += LEASE_MS
    await ledger.write(sending.recover_stale, ledger.source, all_of_them=False)
    assert await to_confirm(ledger) == [0]
    await ledger.write(reorg.rewind, ledger.source, header(100))
    assert await to_confirm(ledger) == []
    await ledger.record(make_task(0), answered=[make_response(0, 104)])
    (open_task,) = await ledger.in_state(State.UNKNOWN)
    await ledger.write(outcomes.answered, [(open_task, make_response(0, 104))], by_us=True)
    assert await to_confirm(ledger) == []


async def test_what_events_name_leaves_out_what_is_on_its_way_gone_or_settled(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.SENDING)
    await ledger.bring(make_task(1, block=105), to=State.READY)
    await ledger.record(answered=[make_response(0, 104), make_response(1, 104)])
    assert await named(ledger) == [1]
    await ledger.claim_one(State.READY)
    assert await named(ledger) == [1], "also while somebody works on it, who then has worked in vain"
    await ledger.write(sending.recover_stale, ledger.source, all_of_them=True)
    assert await named(ledger) == [0, 1]
    await ledger.write(reorg.rewind, ledger.source, header(104))
    assert await named(ledger) == [0]
    (open_task,) = await ledger.in_state(State.UNKNOWN)
    await ledger.write(outcomes.answered, [(open_task, make_response(0, 104))], by_us=True)
    assert await named(ledger) == []


async def test_a_task_whose_answer_was_read_before_it_is_looked_at(ledger: LedgerRig) -> None:
    """Its log had been withheld, and was found by a search."""
    await ledger.record(answered=[make_response(0, 106)], upto=110)
    await ledger.write(ingest.store_tasks, ledger.source, [make_task(0), make_task(1)])
    assert await named(ledger) == [0]


async def test_another_event_is_read_when_the_answer_that_settled_a_task_is_gone(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.RESPONDED)
    await ledger.record(answered=[make_response(0, 109, b"theirs")])
    assert await named(ledger) == [], "it is settled, until the chain takes that back"
    await ledger.write(outcomes.taken_back, await ledger.in_state(State.RESPONDED), header(111))
    assert await named(ledger) == [0]


async def test_an_answer_of_another_source_settles_nothing_here(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    other = await ledger.write(open_source, 1, b"\x22" * 20, 100)
    await ledger.write(ingest.record, other.source_id, [], [make_response(0, 105)], header(110), 110)
    assert await named(ledger) == []


async def test_our_answer_on_the_chain_is_recorded_as_the_chain_shows_it(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.UNKNOWN)
    response = make_response(0, 111)
    await ledger.record(answered=[response], upto=111)
    await ledger.write(outcomes.answered, [((await ledger.in_state(State.UNKNOWN))[0], response)], by_us=True)
    row = await ledger.row(0)
    assert (row.state, row.error) == (State.RESPONDED, None)
    assert (row.responded_block, row.responded_tx_hash) == (111, response.seen_at.tx_hash)
    assert row.response_hash == response.response_hash


async def test_transaction_misnamed_by_the_api_is_reported_and_kept_as_claim(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.RESPONDED)
    row = await ledger.row(0)
    assert row.tx_hash == digest("claimed") != row.responded_tx_hash
    assert row.error == "the API named another transaction than the one the chain shows"


async def test_an_answer_that_is_not_ours_is_told_apart(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.ACCEPTED)
    response = make_response(0, 111, b"theirs")
    await ledger.record(answered=[response], upto=111)
    await ledger.write(outcomes.answered, [((await ledger.in_state(State.ACCEPTED))[0], response)], by_us=False)
    row = await ledger.row(0)
    assert (row.state, row.error) == (State.RESPONDED_OTHER, "the answer on the chain is not ours")


async def test_an_answer_without_its_event_in_the_ledger_is_not_believed(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.ACCEPTED)
    before = await ledger.everything()
    unread = [((await ledger.in_state(State.ACCEPTED))[0], make_response(0, 109))]
    await ledger.write(outcomes.answered, unread, by_us=True)
    assert await ledger.everything() == before


async def test_task_is_free_at_once_when_a_reorg_took_its_answer_back(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.COMPUTED)
    claimed = await ledger.claim_one(State.COMPUTED)
    await ledger.write(outcomes.answered, [(claimed, make_response(0, 109))], by_us=True)
    assert (await ledger.claim_one(State.COMPUTED)).fence == claimed.fence + 1


async def test_an_answer_is_final_only_when_its_block_is(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.RESPONDED)
    response = make_response(1, 111, b"theirs")
    await ledger.record(make_task(1), answered=[response], upto=112)
    await ledger.write(outcomes.answered, [((await ledger.in_state(State.SEEN))[0], response)], by_us=False)
    assert await to_finalise(ledger) == []
    await ledger.write(finality.finalise, ledger.source, header(110))
    assert await to_finalise(ledger) == [0]
    await ledger.write(finality.finalise, ledger.source, header(112))
    assert await to_finalise(ledger) == [0, 1]
    assert await to_finalise(ledger, limit=1) == [0]
    open_tasks = await ledger.in_state(State.RESPONDED) + await ledger.in_state(State.RESPONDED_OTHER)
    await ledger.write(outcomes.final, open_tasks, header(112))
    assert [row.state for row in await ledger.rows()] == [State.FINAL, State.FINAL_OTHER]
    assert await to_finalise(ledger) == []
    assert await to_confirm(ledger) == []


async def test_nothing_becomes_final_that_was_not_seen_answered(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.ACCEPTED)
    before = await ledger.everything()
    await ledger.write(outcomes.final, await ledger.in_state(State.ACCEPTED), header(112))
    assert await ledger.everything() == before


async def test_an_answer_a_final_block_does_not_hold_is_taken_back(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.RESPONDED)
    await ledger.write(outcomes.taken_back, await ledger.in_state(State.RESPONDED), header(112))
    row = await ledger.row(0)
    assert (row.state, row.responded_block, row.response_hash) == (State.UNKNOWN, None, None)


async def test_a_missed_task_expires_from_every_state_but_sending(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.ACCEPTED)
    await ledger.bring(make_task(1), to=State.UNKNOWN)
    await ledger.bring(make_task(2), to=State.COMPUTED)
    await ledger.bring(make_task(3), to=State.READY)
    await ledger.record(make_task(4))
    states = [State(row.state) for row in await ledger.rows()]
    open_tasks = [task for state in states for task in await ledger.in_state(state)]
    assert len(open_tasks) == 5
    await ledger.write(outcomes.expired, open_tasks)
    assert {row.state for row in await ledger.rows()} == {State.EXPIRED}
    assert [await ledger.transitions(index) for index in range(5)][4] == [(None, "seen"), ("seen", "expired")]


async def test_an_answered_task_never_expires(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.RESPONDED)
    with pytest.raises(IllegalMove):
        await ledger.write(outcomes.expired, await ledger.in_state(State.RESPONDED))
    assert await ledger.state(0) is State.RESPONDED


async def test_what_is_not_on_the_chain_may_be_sent_again_at_once(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.UNKNOWN)
    unknown = (await ledger.in_state(State.UNKNOWN))[0]
    await ledger.write(outcomes.not_there, [Missing(unknown, "the chain shows no response")])
    row = await ledger.row(0)
    assert (row.state, row.error) == (State.WAITING, "the chain shows no response")
    assert (await ledger.claim_one(State.WAITING)).attempts == 1


async def test_looking_again_keeps_state_and_journal(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.ACCEPTED)
    lines = await ledger.transitions(0)
    await ledger.write(outcomes.look_again, await ledger.in_state(State.ACCEPTED), 130)
    assert (await ledger.row(0)).due_block == 130
    assert await ledger.transitions(0) == lines


async def test_verbs_take_no_tasks_at_all(ledger: LedgerRig) -> None:
    await ledger.record(make_task(0))
    before = await ledger.everything()
    await ledger.write(outcomes.admitted, [], header(1))
    await ledger.write(outcomes.answered, [], by_us=True)
    await ledger.write(outcomes.final, [], header(1))
    await ledger.write(outcomes.expired, [])
    assert await ledger.begin() == []
    assert await ledger.everything() == before


async def test_a_held_task_carries_what_the_next_stage_needs(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(5), to=State.RESPONDED)
    await ledger.write(finality.finalise, ledger.source, header(110))
    (open_task,) = await ledger.read(outcomes.to_finalise, ledger.source, ledger.clock.now_ms(), 10)
    response = make_response(5, 110)
    assert open_task.task == make_task(5)
    assert (open_task.state, open_task.attempts, open_task.response) == (State.RESPONDED, 1, response.message)
    assert (open_task.tx_hash, open_task.responded_block) == (digest("claimed"), 110)
    assert open_task.response_hash == response.response_hash


async def test_task_postponed_beyond_its_deadline_is_settled_by_its_event(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    await ledger.write(single_results.release, await ledger.claim_one(State.READY), RetryAt(2**62, 2**62))
    await ledger.record(answered=[make_response(0, 111, b"theirs")], upto=111)
    assert await named(ledger) == [0]


async def test_work_done_while_an_event_arrives_is_not_lost(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    claimed = await ledger.claim_one(State.READY)
    await ledger.record(answered=[make_response(0, 111)], upto=111)
    await ledger.write(hook_results.keep_answer, claimed, Response(b"the answer", "hook 1", 1))
    assert await named(ledger) == [0]


async def test_a_late_answer_to_a_task_given_up_is_still_the_truth(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), make_task(1), to=State.READY)
    for task in await ledger.claim(State.READY):
        await ledger.write(hook_results.hook_failed, task, "it raised", 1, None)
    assert await named(ledger) == []
    response = make_response(0, 111, b"theirs")
    await ledger.record(answered=[response], upto=111)
    (late,) = await ledger.read(outcomes.to_look_again, ledger.source, 10)
    assert (late.task.task.task_index, late.task.state) == (0, State.FAILED)
    await ledger.write(outcomes.answered, [(late.task, response)], by_us=False)
    assert [row.state for row in await ledger.rows()] == [State.RESPONDED_OTHER, State.FAILED]
    assert await named(ledger) == [], "it is followed like any other now"


async def test_event_that_arrives_during_a_question_about_another_is_kept(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    for task in await ledger.claim(State.READY):
        await ledger.write(hook_results.hook_failed, task, "it raised", 1, None)
    await ledger.record(answered=[make_response(0, 111, b"forged")], upto=111)
    named = await ledger.read(outcomes.to_look_again, ledger.source, 10)
    await ledger.record(answered=[make_response(0, 112, b"theirs")], upto=112)
    await ledger.write(outcomes.nothing_new, named)  # what the chain said of the first one
    named_tasks = await ledger.read(outcomes.to_look_again, ledger.source, 10)
    assert [len(named.events) for named in named_tasks] == [2]
    await ledger.write(outcomes.nothing_new, named_tasks)
    assert await ledger.read(outcomes.to_look_again, ledger.source, 10) == []
    await ledger.write(reorg.rewind, ledger.source, header(110))
    await ledger.record(answered=[make_response(0, 111, b"theirs")], upto=111)
    assert len(await ledger.read(outcomes.to_look_again, ledger.source, 10)) == 1, (
        "another event in place of a lost one"
    )


async def test_a_ledger_of_another_chain_with_the_same_id_is_refused(ledger: LedgerRig) -> None:
    opening = (CHAIN_ID, b"\x33" * 20, 100)
    await ledger.write(open_source, *opening, digest("genesis"))
    await ledger.write(open_source, *opening, digest("genesis"))
    await ledger.write(open_source, *opening)
    with pytest.raises(FixConfiguration, match="a chain that was reset needs a new ledger"):
        await ledger.write(open_source, *opening, digest("another genesis"))
