"""The cause of every state, over a real ledger: the true reason of a wait, and the next step."""

from typing import Any

import pytest

from tests import single_results
from tests import single_results as hook_results
from tests.conformance.rig import ANSWER, LedgerRig, header, make_response, make_task, sent
from watcher.health.cause.cause import cause_of
from watcher.health.cause.evidence import Evidence
from watcher.health.conditions import API, FINALITY_BEHIND, GIVEN_UP, HOOK, RESTORED, RPC, STORE, UNSHOWN
from watcher.health.readyz import Daemon, SeenCondition
from watcher.ledger import absences, outcomes, restore, sending
from watcher.ledger.claims import RetryAt
from watcher.ledger.outcomes import Missing
from watcher.ledger.restore import Loss
from watcher.ledger.sending import Settlement
from watcher.ledger.story import source_record, task_records
from watcher.operator.refusal import STUBBORN_MARK
from watcher.operator.route import HELD_MARK, NOT_SENT_MARK, PARKED_MARK
from watcher.report.payload import Decoder
from watcher.report.story import Cause, Story, tell
from watcher.state import State
from watcher.task import Absence, Absent, Accepted, Later, Outcome, Refused, Unknown

WRONG_PASSWORD = Refused("HTTP 401: the API refuses the user name or the password", endpoint=True)
QUORUMS = f"{PARKED_MARK}the task has quorum numbers [1], not [0]; configure [operator.direct]"
DRY_RUN = "a dry run at block 110 says: Task.respond: the task is closed"
SINCE_MS = 1_600_000_000_000


async def evidence_of(ledger: LedgerRig, index: int = 0, **more: Any) -> Evidence:
    (record, *_) = await ledger.read(task_records, ledger.source, index)
    source = await ledger.read(source_record, ledger.source)
    return Evidence(record, source, ledger.clock.now_ms(), confirmations=2, max_attempts=5, **more)


async def explained(ledger: LedgerRig, index: int = 0, **more: Any) -> Cause:
    return cause_of(await evidence_of(ledger, index, **more))


def daemon(*conditions: tuple[str, str], next_probe_s: float | None = None, observes: bool = False) -> Daemon:
    """A daemon that reports these conditions, by key and message."""
    seen = tuple(SeenCondition(key, message, SINCE_MS) for key, message in conditions)
    return Daemon(conditions=seen, next_probe_s=next_probe_s, observes=observes)


async def settle(ledger: LedgerRig, outcome: Outcome, status: int | None = 200, pause_ms: int = 0) -> None:
    """Send the answers of all computed tasks, with one outcome."""
    for attempt in await ledger.begin(*await ledger.claim(State.COMPUTED)):
        await ledger.write_item(sending.settle, Settlement(attempt, sent(outcome, status), RetryAt(pause_ms)))


async def release(ledger: LedgerRig, error: str, retry_at: RetryAt) -> None:
    """Put a computed task off, as the stage `submit` does."""
    await ledger.write(single_results.release, await ledger.claim_one(State.COMPUTED), retry_at, error)


async def test_explain_counts_confirmations_when_the_task_is_new(ledger: LedgerRig) -> None:
    await ledger.record(make_task(0, block=110), upto=111)
    cause = await explained(ledger)
    assert cause.reason == "waits for confirmations: block 110 has 1 of 2 blocks above it"
    assert (cause.next_block, cause.condition) == (112, "")


async def test_explain_names_the_absent_hash_when_the_contract_holds_none(ledger: LedgerRig) -> None:
    await ledger.record(make_task(0))
    error = "the contract does not hold this task (yet, or any more)"
    await ledger.write(outcomes.look_again, await ledger.in_state(State.SEEN), 111, error)
    cause = await explained(ledger)
    assert error in cause.reason
    assert cause.next_block == 111
    assert "`watcher check`" in cause.advice


async def test_explain_names_the_node_when_none_answers(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.COMPUTED)
    cause = await explained(ledger, daemon=daemon((RPC, "no good answer for 20 s (refused)")))
    assert cause.reason == "waits to be sent: no node answers: no good answer for 20 s (refused)"
    assert (cause.condition, cause.since_ms) == (RPC, SINCE_MS)


async def test_explain_names_the_node_from_the_ledger_when_no_daemon_replies(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.COMPUTED)
    await release(ledger, f"{NOT_SENT_MARK}no node answers (connection refused)", RetryAt(4000))
    cause = await explained(ledger)
    assert (cause.condition, cause.next_ms) == (RPC, ledger.clock.now_ms() + 4000)
    assert "connection refused" in cause.reason


async def test_explain_names_the_run_when_the_hook_failed_on_the_task(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    task = await ledger.claim_one(State.READY)
    await ledger.write(hook_results.hook_failed, task, "ValueError: no price", 3, RetryAt(2000))
    cause = await explained(ledger, daemon=daemon((HOOK, "the last 2 runs failed")))
    assert cause.reason == "waits for the next run of the hook: 1 of 5 runs failed: ValueError: no price"
    assert (cause.condition, cause.next_ms) == (HOOK, ledger.clock.now_ms() + 2000)
    assert "`watcher hook try 0`" in cause.advice


async def test_explain_names_the_hook_when_it_fails_on_other_tasks(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), make_task(1), to=State.READY)
    for _ in range(2):
        (task, *_) = [other for other in await ledger.claim(State.READY) if other.task.task_index == 1]
        await ledger.write(hook_results.hook_failed, task, "it hung", 3, RetryAt(10))
        ledger.clock.at_ms += 40_000
    cause = await explained(ledger)
    assert cause.reason == "waits for the hook: the hook fails: the last 2 runs failed (it hung)"
    assert cause.condition == HOOK


async def test_explain_repeats_the_hook_when_it_asked_for_later(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    later = Later(blocks=3, reason="no price yet")
    await ledger.write(hook_results.postpone, await ledger.claim_one(State.READY), later, RetryAt(0, 113), 7)
    cause = await explained(ledger)
    assert (cause.reason, cause.next_block) == (
        "waits because the hook asked to be run later: no price yet",
        113,
    )


async def test_explain_names_the_lease_when_the_hook_runs(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    await ledger.claim(State.READY)
    assert (await explained(ledger)).reason.startswith("is with the hook")


async def test_explain_names_the_restore_when_the_task_is_held(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    await ledger.write(restore.note_loss, ledger.source, Loss("an older copy", 105), 110)
    cause = await explained(ledger)
    assert (cause.condition, "105" in cause.reason) == (RESTORED, True)
    assert "--release-held" in cause.advice
    await ledger.write(restore.release, ledger.source)
    assert (await explained(ledger)).condition == ""


async def test_explain_names_the_observer_when_nothing_is_answered(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.READY)
    assert 'operator.api = "none"' in (await explained(ledger, daemon=daemon(observes=True))).reason


async def test_explain_names_the_full_disk_for_every_open_state(ledger: LedgerRig) -> None:
    full = daemon((STORE, "the ledger could not be written (database or disk is full)"))
    await ledger.record(make_task(0))
    for bring in (ledger.admit, ledger._compute, ledger._send, lambda: ledger._settle(Unknown("reset"))):
        cause = await explained(ledger, daemon=full)
        assert (cause.condition, "disk is full" in cause.reason) == (STORE, True)
        assert "disk space" in cause.advice
        await bring()
    cause = await explained(ledger, storage="the disk of watcher.db is full")
    assert (cause.condition, "the disk of watcher.db is full" in cause.reason) == (STORE, True)


async def test_explain_names_the_password_when_the_api_refuses_us(ledger: LedgerRig) -> None:
    """The task that was refused, and the one that waits because of it."""
    await ledger.bring(make_task(0), to=State.COMPUTED)
    began_ms = ledger.clock.now_ms()
    await settle(ledger, WRONG_PASSWORD, 401)
    await ledger.record(make_task(1, block=105))
    await ledger.admit()
    await ledger._compute()
    ledger.clock.at_ms += 60_000
    api = daemon((API, f"refuses us ({WRONG_PASSWORD.reason})"), next_probe_s=12.0)
    for index, state in enumerate((State.BLOCKED, State.COMPUTED)):
        assert await ledger.state(index) == state
        cause = await explained(ledger, index, daemon=api)
        assert "waits to be sent: the proxy refuses us (HTTP 401: the API" in cause.reason
        assert (cause.condition, cause.since_ms) == (API, began_ms)
        assert cause.next_ms == ledger.clock.now_ms() + 12_000
        assert "correct the password" in cause.advice
        story = await _story(ledger, index, daemon=api)
        summary = (cause.reason, " since 22:13; 90 blocks left; next probe in 12.0 s; do: ", cause.advice)
        assert story.summary == "".join(summary)
        assert story.as_json()["summary"] == story.summary
        alone = await explained(ledger, index)  # no daemon replies: the ledger knows as much
        assert (alone.condition, alone.since_ms, "HTTP 401" in alone.reason) == (API, began_ms, True)


async def test_explain_names_the_password_while_another_post_is_under_way(ledger: LedgerRig) -> None:
    """A POST that has no outcome yet says nothing about the API: the last one that ended counts."""
    await ledger.bring(make_task(0), make_task(1), to=State.COMPUTED)
    first, _under_way = await ledger.begin(*await ledger.claim(State.COMPUTED))
    await ledger.write_item(sending.settle, Settlement(first, sent(WRONG_PASSWORD, 401), RetryAt()))
    for known in (daemon(), Daemon(missing="it does not reply")):
        cause = await explained(ledger, 0, daemon=known)
        assert (cause.condition, "correct the password" in cause.advice) == (API, True), cause


async def test_explain_names_the_circuit_when_the_task_is_held_back(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), make_task(1), to=State.COMPUTED)
    (first, second) = await ledger.claim(State.COMPUTED)
    (attempt,) = await ledger.begin(first)
    await ledger.write_item(sending.settle, Settlement(attempt, sent(WRONG_PASSWORD, 401), RetryAt()))
    error = f"{HELD_MARK}the API refuses requests or cannot be reached"
    await ledger.write(single_results.release, second, RetryAt(5000), error)
    cause = await explained(ledger, 1)
    assert (cause.condition, "HTTP 401" in cause.reason) == (API, True)
    assert cause.next_ms == ledger.clock.now_ms() + 5000


async def test_explain_accuses_no_api_when_the_daemon_sees_it_work(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.COMPUTED)
    await settle(ledger, Unknown("no whole reply within 60 s"), None)
    await ledger.record(make_task(1, block=105))
    await ledger.admit()
    await ledger._compute()
    assert (await explained(ledger, 1, daemon=daemon())).condition == ""
    assert (await explained(ledger, 1)).condition == API


@pytest.mark.parametrize(
    ("error", "reason", "advice"),
    [
        (QUORUMS, "is parked: the task has quorum numbers [1]", "reload (SIGHUP)"),
        (PARKED_MARK + DRY_RUN, f"is parked: {DRY_RUN}", "docs/contract.md"),
        (f"not sent yet: {DRY_RUN}", "waits for a block in which the contract takes the answer", "every block"),
    ],
)
async def test_explain_names_the_obstacle_when_a_task_is_put_off(
    ledger: LedgerRig, error: str, reason: str, advice: str
) -> None:
    await ledger.bring(make_task(0), to=State.COMPUTED)
    await release(ledger, error, RetryAt(0, 111) if error.startswith("not sent yet") else RetryAt(60_000))
    cause = await explained(ledger, daemon=daemon((API, "refuses us")))  # which is not what this task waits for
    assert cause.reason.startswith(reason)
    assert advice in cause.advice
    assert (cause.next_ms, cause.next_block) != (None, None)


async def test_explain_names_the_pause_when_the_api_refused_the_task(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.COMPUTED)
    await settle(ledger, Refused("the operator is busy", 3), 400, 30_000)
    cause = await explained(ledger, daemon=daemon())
    assert (cause.reason, cause.condition) == ("waits for its next attempt: the operator is busy", "")
    assert cause.next_ms == ledger.clock.now_ms() + 30_000
    await ledger.bring(make_task(1, block=105), to=State.COMPUTED)
    await settle(ledger, Refused(f"{STUBBORN_MARK}the key differs", 3), 400, 60_000)
    assert "needs a person: the key differs" in (await explained(ledger, 1, daemon=daemon())).reason


async def test_explain_says_that_nothing_is_sent_when_the_deadline_is_past(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0, deadline=105), to=State.SEEN)
    cause = await explained(ledger)
    assert "its deadline, block 105, is past" in cause.reason
    assert "Nothing can be sent any more" in cause.advice


async def test_explain_follows_a_post_to_its_end(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.SENDING)
    assert (await explained(ledger)).reason.startswith("is on its way")
    assert (await explained(ledger, is_running=False)).reason.startswith("waits for a daemon: none runs")
    await ledger._settle(Accepted(b"\x01" * 32))
    assert "the API accepted it and names transaction 0x0101" in (await explained(ledger)).reason
    await ledger._see_answers()
    cause = await explained(ledger)
    assert cause.reason == "waits for finality: our answer is in block 110, and the final block is 0"
    behind = daemon((FINALITY_BEHIND, "no block has become final for 70 minutes"))
    assert (await explained(ledger, daemon=behind)).condition == FINALITY_BEHIND
    await ledger.write(outcomes.final, await ledger.in_state(State.RESPONDED), header(120))
    assert (await explained(ledger, is_running=False)).reason.startswith("is done: our answer is in block 110, which")


async def test_explain_names_the_event_when_the_logs_hide_it(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.UNKNOWN)
    (task,) = await ledger.in_state(State.UNKNOWN)
    assert "nobody knows whether the last POST arrived" in (await explained(ledger)).reason
    noted = [type(task)(**{**_fields(task), "absence": Absence(Absent.EVENT, 110, ledger.clock.now_ms())})]
    await ledger.write(absences.record, noted, 0, 111)
    assert (await explained(ledger)).reason.startswith("waits for the event of its response")


def _fields(task: Any) -> dict[str, Any]:
    return {name: getattr(task, name) for name in task.__slots__}


async def test_explain_names_the_silence_when_accepted_answers_never_show(ledger: LedgerRig) -> None:
    await ledger.bring(*(make_task(index) for index in range(6)), to=State.ACCEPTED)
    for task in (await ledger.in_state(State.ACCEPTED))[1:]:
        await ledger.write(outcomes.not_there, [Missing(task, "the chain shows no response", 120)])
    assert (await explained(ledger, 0)).condition == UNSHOWN


async def test_explain_gives_the_reason_of_each_end(ledger: LedgerRig) -> None:
    await ledger.bring(*(make_task(index) for index in range(4)), to=State.READY)
    failed, skipped, orphan, _ = await ledger.claim(State.READY)
    await ledger.write(hook_results.hook_failed, failed, "it raised", 3, None)
    await ledger.write(hook_results.hook_skipped, skipped, "not ours", 3)
    await ledger.write(outcomes.never_there, [orphan], header(110))
    await ledger.record(make_task(4, block=105))
    await ledger.write(outcomes.never_there, await ledger.in_state(State.SEEN), header(110), empty=True)
    reasons = [await explained(ledger, index) for index in (0, 1, 2, 4)]
    assert reasons[0].reason == "was given up: the hook failed once: it raised"
    assert (reasons[0].condition, "`watcher tasks retry 0`" in reasons[0].advice) == (GIVEN_UP, True)
    assert reasons[1].reason == "was skipped: the hook skipped it: not ours"
    assert "another task" in reasons[2].reason
    assert "was set aside: at block 110 the contract holds no task" in reasons[3].reason


async def test_explain_says_where_the_time_went_when_a_task_was_missed(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.COMPUTED)
    await settle(ledger, WRONG_PASSWORD, 401)
    await ledger.write(outcomes.expired, await ledger.in_state(State.BLOCKED))
    cause = await explained(ledger)
    assert cause.reason.startswith("was missed, as blocked: ")
    assert ("HTTP 401" in cause.reason, "correct the password" in cause.advice) == (True, True)


async def test_explain_blames_the_api_for_a_missed_task_that_was_held_back(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.COMPUTED)
    await release(ledger, f"{HELD_MARK}the API refuses requests or cannot be reached", RetryAt(4000))
    await ledger.write(outcomes.expired, await ledger.in_state(State.COMPUTED))
    cause = await explained(ledger)
    assert ("held back" in cause.reason, "correct the password" in cause.advice) == (True, True)


async def test_explain_shows_both_answers_when_another_operator_answered(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.ACCEPTED)
    event = make_response(0, 110, b"another answer")
    await ledger.record(answered=[event])
    await ledger.write(
        outcomes.answered, [(task, event) for task in await ledger.in_state(State.ACCEPTED)], by_us=False
    )
    story = await _story(ledger)
    assert story.reason.startswith("waits for finality: another operator's answer is in block 110")
    (answer,) = story.chain_answers
    assert (answer.by, answer.counts, answer.answer.hex) == ("another", True, "0x" + b"another answer".hex())
    assert story.answer is not None
    assert story.answer.hex == "0x" + ANSWER.hex()


async def test_story_has_every_step_attempt_and_time(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.SEEN)
    ledger.clock.at_ms += 1000
    await ledger.admit()
    ledger.clock.at_ms += 2000
    await ledger._compute()
    await settle(ledger, WRONG_PASSWORD, 401)
    ledger.clock.at_ms += 4000
    story = await _story(ledger)
    steps = [(step.state, step.duration_ms, step.block) for step in story.timeline]
    assert steps == [
        ("seen", 1000, 101), ("ready", 2000, 110), ("computed", 0, None), ("sending", 0, None), ("blocked", 4000, None),
    ]  # fmt: skip
    run, post = story.attempts
    assert (run.kind, run.outcome, run.duration_ms) == ("hook", "answered", 5)
    assert (post.api, post.http_status, post.outcome, post.duration_ms) == ("proxy", 401, "refused", 12)
    assert post.request_digest == "0x" + "dd" * 32
    assert "what came back" in post.reply
    assert (story.blocks_left, story.deadline_block, story.state) == (90, 200, "blocked")
    assert story.as_json()["timeline"][0]["block"] == 101


async def _story(ledger: LedgerRig, index: int = 0, **more: Any) -> Story:
    evidence = await evidence_of(ledger, index, **more)
    return tell(evidence.record, evidence.cursor, cause_of(evidence), Decoder(), evidence.now_ms)
