"""From the hook's answer to the end of an attempt: what each verb writes, and that an answer is written once."""

from dataclasses import replace

import pytest
from sqlalchemy import select

from tests import single_results
from tests import single_results as hook_results
from tests.conformance.rig import ANSWER, DIGEST, LEASE_MS, LedgerRig, digest, header, make_task, sent
from watcher.errors import IllegalMove, LostLease
from watcher.ledger import claims as ledger_claims
from watcher.ledger import finality, outcomes, reorg, transitions
from watcher.ledger import sending as ledger_sending
from watcher.ledger.claims import RetryAt
from watcher.ledger.outcomes import Missing
from watcher.ledger.sending import Settlement
from watcher.ledger.source import note_event
from watcher.ledger.tables import attempts
from watcher.state import State
from watcher.task import Accepted, Later, Outcome, Refused, Response, Sent, Unknown

TX, SIG = digest("claimed"), digest("sig")


async def test_the_hooks_answer_is_kept_with_the_run_that_gave_it(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    claimed = await ledger.claim_one(State.READY)
    await ledger.write(hook_results.keep_answer, claimed, Response(ANSWER, "hook 1", 25))
    row = await ledger.row(0)
    assert (row.state, row.response, row.hook_version, row.error) == (State.COMPUTED, ANSWER, "hook 1", None)
    assert row.lease_until_ms == 0, "it is free for whoever sends"
    lines, (run,) = await ledger.story(0)
    assert (run.kind, run.outcome, run.number, run.fence, run.duration_ms) == ("hook", "answered", 1, claimed.fence, 25)
    assert run.ended_at_ms - run.began_at_ms == 25
    assert (lines[-1].why, lines[-1].at_ms) == ("the hook answered in 25 ms", ledger.clock.now_ms())


async def test_an_answer_is_written_once_whatever_the_hook_says_after_a_reorg(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.COMPUTED)
    await ledger.write(reorg.rewind, ledger.source, header(100))
    await ledger.write(finality.finalise, ledger.source, header(110, 1))
    await ledger.record(make_task(0, fork=2), upto=111, fork=2)
    await ledger.admit()
    claimed = await ledger.claim_one(State.READY)
    assert claimed.response == ANSWER
    # The database itself keeps the first answer, also from a holder that does not know of it.
    await ledger.write(
        hook_results.keep_answer, replace(claimed, response=None), Response(b"another answer", "hook 2", 1)
    )
    row = await ledger.row(0)
    assert (row.state, row.response, row.hook_version) == (State.COMPUTED, ANSWER, "hook 1")


async def test_an_empty_answer_is_written_once_too(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    await ledger.write(hook_results.keep_answer, await ledger.claim_one(State.READY), Response(b"", "hook 1", 1))
    await ledger.write(reorg.rewind, ledger.source, header(100))
    await ledger.write(finality.finalise, ledger.source, header(110, 1))
    await ledger.record(make_task(0, fork=2), upto=111, fork=2)
    await ledger.admit()
    await ledger.write(hook_results.keep_answer, await ledger.claim_one(State.READY), Response(b"other", "hook 2", 1))
    assert (await ledger.row(0)).response == b""


async def test_a_second_answer_to_a_computed_task_is_refused(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    claimed = await ledger.claim_one(State.READY)
    await ledger.write(hook_results.keep_answer, claimed, Response(ANSWER, "hook 1", 1))
    before = await ledger.everything()
    with pytest.raises(LostLease):
        await ledger.write(hook_results.keep_answer, claimed, Response(b"another", "hook 1", 1))
    with pytest.raises(IllegalMove):
        await ledger.write(
            hook_results.keep_answer, (await ledger.in_state(State.COMPUTED))[0], Response(b"another", "hook 1", 1)
        )
    assert await ledger.everything() == before


async def test_there_is_no_going_on_with_an_answer_that_is_not_there(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    with pytest.raises(LostLease):
        await ledger.write(hook_results.keep_old_answer, await ledger.claim_one(State.READY))


async def test_later_burns_no_attempt(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    claimed = await ledger.claim_one(State.READY)
    await ledger.write(hook_results.postpone, claimed, Later(blocks=3, reason="no price yet"), RetryAt(0, 113), 7)
    row = await ledger.row(0)
    assert (row.state, row.hook_attempts, row.lease_until_ms, row.due_block) == (State.READY, 0, 0, 113)
    _, (run,) = await ledger.story(0)
    assert (run.outcome, run.words, run.number) == ("later", "no price yet", 1)


async def test_a_failing_hook_is_asked_again_when_due_until_its_last_attempt(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    retry_at = RetryAt(500)
    await ledger.write(
        hook_results.hook_failed, await ledger.claim_one(State.READY), "it raised ValueError", 3, retry_at
    )
    row = await ledger.row(0)
    assert (row.state, row.hook_attempts, row.error) == (State.READY, 1, "it raised ValueError")
    assert await ledger.claim(State.READY) == []
    ledger.clock.at_ms += 500
    await ledger.write(hook_results.hook_failed, await ledger.claim_one(State.READY), "it hung", 3, None)
    row = await ledger.row(0)
    assert (row.state, row.hook_attempts, row.error) == (State.FAILED, 2, "it hung")
    lines, runs = await ledger.story(0)
    assert [(run.number, run.outcome, run.words) for run in runs] == [
        (1, "failed", "it raised ValueError"),
        (2, "failed", "it hung"),
    ]
    assert lines[-1].why == "the hook failed 2 times: it hung"


@pytest.mark.parametrize(("reason", "why"), [("", "the hook skipped it"), ("odd", "the hook skipped it: odd")])
async def test_a_skipped_task_is_at_its_end(ledger: LedgerRig, reason: str, why: str) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    await ledger.write(hook_results.hook_skipped, await ledger.claim_one(State.READY), reason, 3)
    lines, (run,) = await ledger.story(0)
    assert (await ledger.state(0), lines[-1].why, run.outcome) == (State.SKIPPED, why, "skipped")


async def test_the_attempt_is_in_the_ledger_before_the_task_is_sending(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), make_task(1), to=State.COMPUTED)
    claimed = await ledger.claim(State.COMPUTED)
    begun = await ledger.begin(*claimed)
    assert [(attempt.task.task.task_index, attempt.task.state, attempt.task.attempts) for attempt in begun] == [
        (0, State.SENDING, 1),
        (1, State.SENDING, 1),
    ]
    for index, attempt in enumerate(begun):
        row = await ledger.row(index)
        assert (row.state, row.attempts) == (State.SENDING, 1)
        assert row.lease_until_ms == ledger.clock.now_ms() + LEASE_MS
        lines, tries = await ledger.story(index)
        post = tries[-1]
        assert (post.id, post.kind, post.number, post.fence) == (attempt.row_id, "post", 1, row.fence)
        assert (post.api, post.request_digest, post.outcome) == ("proxy", DIGEST, None)
        assert lines[-1].attempt_id == attempt.row_id


async def test_nothing_is_sending_without_an_attempt(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.COMPUTED)
    claimed = await ledger.claim_one(State.COMPUTED)
    before = await ledger.everything()
    with pytest.raises(KeyError):  # a task without a digest
        await ledger.write(ledger_sending.begin, [claimed], "proxy", {}, LEASE_MS)
    assert await ledger.everything() == before


@pytest.mark.parametrize("state", [State.SEEN, State.READY, State.UNKNOWN, State.ACCEPTED])
async def test_nothing_is_sent_from_a_state_that_does_not_allow_it(ledger: LedgerRig, state: State) -> None:
    await ledger.bring(make_task(0), to=state)
    before = await ledger.everything()
    with pytest.raises(IllegalMove):
        await ledger.begin(*await ledger.in_state(state))
    assert await ledger.everything() == before


@pytest.mark.parametrize(
    ("result", "state", "claims", "error", "code"),
    [
        (Accepted(TX, SIG, "sent"), State.ACCEPTED, (TX, SIG), None, None),
        (Accepted(None, SIG), State.ACCEPTED, (None, SIG), None, None),
        (Refused("no such task", -32000), State.WAITING, (None, None), "no such task", -32000),
        (Refused("wrong password", 401, endpoint=True), State.BLOCKED, (None, None), "wrong password", 401),
        (Unknown("no answer within 60 s"), State.UNKNOWN, (None, None), "no answer within 60 s", None),
    ],
)
async def test_each_outcome_lands_in_its_state_with_its_evidence(
    ledger: LedgerRig,
    result: Outcome,
    state: State,
    claims: tuple[bytes | None, bytes | None],
    error: str | None,
    code: int | None,
) -> None:
    await ledger.bring(make_task(0), to=State.COMPUTED)
    (attempt,) = await ledger.begin(await ledger.claim_one(State.COMPUTED))
    ledger.clock.at_ms += 40
    came_back = Sent(result, 502, b"\x00<html>", 40)
    retry_at = RetryAt(1_000, 115)
    assert await ledger.write_item(ledger_sending.settle, Settlement(attempt, came_back, retry_at)) is state
    row = await ledger.row(0)
    assert (row.state, row.tx_hash, row.sig_hash, row.error) == (state, *claims, error)
    assert (row.due_at_ms, row.due_block, row.lease_until_ms) == (ledger.clock.now_ms() + 1_000, 115, 0)
    lines, tries = await ledger.story(0)
    post = tries[-1]
    assert (post.outcome, post.code, post.http_status) == (type(result).__name__.lower(), code, 502)
    assert (post.answer, post.duration_ms, post.ended_at_ms) == (b"\x00<html>", 40, ledger.clock.now_ms())
    assert (post.tx_hash, post.sig_hash) == claims
    assert (lines[-1].from_state, lines[-1].to_state, lines[-1].attempt_id) == ("sending", state, attempt.row_id)


async def test_a_warning_is_kept_with_an_accepted_answer(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.COMPUTED)
    (attempt,) = await ledger.begin(await ledger.claim_one(State.COMPUTED))
    await ledger.write_item(
        ledger_sending.settle, Settlement(attempt, sent(Accepted(TX, SIG)), RetryAt(), "sig_hash is not ours")
    )
    lines, _ = await ledger.story(0)
    assert ((await ledger.row(0)).error, lines[-1].why) == ("sig_hash is not ours", "accepted; sig_hash is not ours")


async def test_a_claim_made_once_survives_an_attempt_that_makes_none(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.ACCEPTED)
    await ledger.write(
        outcomes.not_there, [Missing((await ledger.in_state(State.ACCEPTED))[0], "nothing on the chain")]
    )
    (attempt,) = await ledger.begin(await ledger.claim_one(State.WAITING))
    assert attempt.task.attempts == 2
    await ledger.write_item(ledger_sending.settle, Settlement(attempt, sent(Unknown("reset")), RetryAt()))
    row = await ledger.row(0)
    assert (row.tx_hash, row.attempts) == (TX, 2)
    _, tries = await ledger.story(0)
    assert [(attempt.kind, attempt.number) for attempt in tries] == [("hook", 1), ("post", 1), ("post", 2)]


async def test_every_attempt_cut_off_by_a_stop_is_unknown_at_the_next_start(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), make_task(1), to=State.SENDING)
    await ledger.bring(make_task(2), to=State.READY)
    await ledger.claim_one(State.READY)
    assert await ledger.write(ledger_sending.recover_stale, ledger.source, all_of_them=True) == 2
    assert [row.state for row in await ledger.rows()] == [State.UNKNOWN, State.UNKNOWN, State.READY]
    assert "cut off" in (await ledger.row(0)).error
    assert (await ledger.claim_one(State.READY)).task.task_index == 2, "no lease outlives its process"
    assert await ledger.write(ledger_sending.recover_stale, ledger.source, all_of_them=True) == 0


async def test_while_running_only_an_attempt_whose_lease_ran_out_is_given_up(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.COMPUTED)
    (attempt,) = await ledger.begin(await ledger.claim_one(State.COMPUTED))
    ledger.clock.at_ms += LEASE_MS - 1
    assert await ledger.write(ledger_sending.recover_stale, ledger.source, all_of_them=False) == 0
    ledger.clock.at_ms += 1
    assert await ledger.write(ledger_sending.recover_stale, ledger.source, all_of_them=False) == 1
    assert await ledger.state(0) is State.UNKNOWN
    before = await ledger.everything()
    with pytest.raises(LostLease):
        await ledger.write_item(ledger_sending.settle, Settlement(attempt, sent(Accepted(TX, SIG)), RetryAt()))
    assert await ledger.everything() == before


async def test_rescue_leaves_other_sources_alone(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.SENDING)
    assert await ledger.write(ledger_sending.recover_stale, ledger.source + 1, all_of_them=True) == 0
    assert await ledger.state(0) is State.SENDING


HOSTILE = ["\x00", "a\x00b", "\ud800", "x" * 100_000, "\U0001f4a5" * 600, "\n\r\x1b[31m", "'; DROP TABLE tasks; --"]


@pytest.mark.parametrize("text", HOSTILE, ids=[ascii(text[:8]) for text in HOSTILE])
async def test_no_words_from_outside_can_lose_a_result(ledger: LedgerRig, text: str) -> None:
    """Databases refuse NUL and lone surrogates in text, and long text: the evidence must go in all the same."""
    await ledger.bring(make_task(0), to=State.READY)
    await ledger.write(hook_results.hook_failed, await ledger.claim_one(State.READY), text, 1, RetryAt())
    await ledger.write(hook_results.keep_answer, await ledger.claim_one(State.READY), Response(ANSWER, text, 1))
    (attempt,) = await ledger.begin(await ledger.claim_one(State.COMPUTED))
    await ledger.write_item(ledger_sending.settle, Settlement(attempt, sent(Refused(text)), RetryAt(), text))
    await ledger.write(note_event, ledger.source, "odd log", 5, text)
    row = await ledger.row(0)
    assert row.state == State.WAITING
    assert 0 < len(row.error) <= 512 and 0 < len(row.hook_version) <= 128
    assert row.error[:3] == text[:3].replace("\x00", "?").replace("\ud800", "?")


async def test_every_move_leaves_one_line(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.RESPONDED)
    lines, tries = await ledger.story(0)
    assert [(line.from_state, line.to_state) for line in lines] == [
        (None, "seen"),
        ("seen", "ready"),
        ("ready", "computed"),
        ("computed", "sending"),
        ("sending", "accepted"),
        ("accepted", "responded"),
    ]
    assert all(line.why for line in lines)
    assert [line.attempt_id for line in lines] == [None, None, None, tries[-1].id, tries[-1].id, None]
    count = await ledger.read(lambda conn: len(conn.execute(select(attempts.c.id)).all()))
    assert count == 2


async def test_an_illegal_move_changes_nothing(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.SENDING)
    (open_task,) = await ledger.in_state(State.SENDING)
    before = await ledger.everything()
    with pytest.raises(IllegalMove):
        await ledger.write(lambda tx: transitions.transition(tx, open_task, State.SEEN, "no such edge"))
    with pytest.raises(IllegalMove):
        await ledger.write(transitions.transition_all, [open_task], State.COMPUTED, "no such edge")
    with pytest.raises(IllegalMove):
        await ledger.write(
            lambda tx: transitions.transition_rows(tx, [open_task.row_id], State.SENDING, State.FINAL, "no such edge")
        )
    assert await ledger.everything() == before


async def test_what_was_put_off_with_a_mark_is_hurried_and_nothing_else(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), make_task(1), make_task(2), to=State.COMPUTED)
    later = RetryAt(1_000_000)
    for task, reason in zip(
        await ledger.claim(State.COMPUTED), ("parked: why", "not parked: 100 %", None), strict=True
    ):
        await ledger.write(single_results.release, task, later, reason)
    assert await ledger.claim(State.COMPUTED) == []
    await ledger.write(ledger_claims.make_due, ledger.source + 1, [State.COMPUTED], "parked: ")
    await ledger.write(ledger_claims.make_due, ledger.source, [State.WAITING], "parked: ")
    assert await ledger.claim(State.COMPUTED) == []
    await ledger.write(ledger_claims.make_due, ledger.source, [State.COMPUTED], "parked: ")
    assert [task.task.task_index for task in await ledger.claim(State.COMPUTED)] == [0]


async def test_refused_tasks_are_made_due_but_not_those_refused_for_good(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), make_task(1), to=State.COMPUTED)
    begun = await ledger.begin(*await ledger.claim(State.COMPUTED))
    for attempt, reason in zip(begun, ("busy", "for good: unknown method"), strict=True):
        await ledger.write_item(
            ledger_sending.settle, Settlement(attempt, sent(Refused(reason)), RetryAt(after_ms=600_000))
        )
    assert await ledger.claim(State.WAITING) == []
    await ledger.write(ledger_claims.make_due, ledger.source, [State.WAITING], "", but="for good: ")
    assert [task.task.task_index for task in await ledger.claim(State.WAITING)] == [0]
