"""Why a task has ended as it did. Pure."""

from collections.abc import Callable, Mapping

from watcher.health.cause.evidence import Evidence, advice
from watcher.health.conditions import API, GIVEN_UP, MISSED, OTHERWISE, UNSHOWN
from watcher.ledger.history import BEFORE
from watcher.operator.route import HELD_MARK
from watcher.report.story import Cause
from watcher.state import State

_NOTHING = "Nothing."
# Where a missed task had stood, and what gives the next one more time.
_LESSONS: Mapping[State, str] = {
    State.SEEN: "It was seen too late, or lacked confirmations: lower chain.confirmations, or find the outage.",
    State.READY: "The hook gave no answer in time: see its runs; raise hook.workers, or make the hook faster.",
    State.COMPUTED: "It had an answer and was not sent: see the reason, and the alerts of that time.",
}


def ended(evidence: Evidence) -> Cause:
    """Return why a task has ended."""
    return _BY_STATE[State(evidence.row.state)](evidence)


def final(responded_block: int | None, error: str | None) -> Cause:
    """Return why a task is final, which its row alone says."""
    reason = f" ({error})" if error else ""
    return Cause(f"is done: our answer is in block {responded_block}, which is final{reason}")


def _final(evidence: Evidence) -> Cause:
    return final(evidence.row.responded_block, evidence.error)


def _final_other(evidence: Evidence) -> Cause:
    block = evidence.row.responded_block
    if _why(evidence, State.RESPONDED_OTHER).endswith(BEFORE):
        return Cause(f"was answered in block {block}, {BEFORE}; that block is final")
    ours = "we had another answer" if evidence.row.response is not None else "we had none"
    reason = f"was answered by another operator in block {block}, which is final; {ours}"
    return Cause(reason, condition=OTHERWISE, advice=advice(OTHERWISE, evidence.row.task_index))


def _delivered(evidence: Evidence) -> Cause:
    return Cause(f"is done as far as can be seen: {_why(evidence, State.DELIVERED)}")


def _expired(evidence: Evidence) -> Cause:
    why = _why(evidence, State.EXPIRED)
    if why.endswith(BEFORE):
        return Cause(f"was {why}", advice=_NOTHING)
    obstacle = f". The last obstacle: {evidence.error}" if evidence.error else ""
    before = _state_before(evidence)
    lesson = _LESSONS.get(before, "")
    if before in (State.WAITING, State.BLOCKED, State.UNKNOWN) or evidence.error.startswith(HELD_MARK):
        lesson = advice(API, evidence.row.task_index)
    elif before is State.ACCEPTED:
        lesson = advice(UNSHOWN, evidence.row.task_index)
    return Cause(f"was missed, as {before}: {why}{obstacle}", condition=MISSED, advice=lesson)


def _orphaned(evidence: Evidence) -> Cause:
    return Cause(f"is off the chain: {_why(evidence, State.ORPHANED)}", advice="Nothing: it returns if the chain does.")


def _failed(evidence: Evidence) -> Cause:
    text = advice(GIVEN_UP, evidence.row.task_index)
    if evidence.is_past_deadline:
        text = f"Its window is closed, so that no answer helps any more. For the next task: {text}"
    return Cause(f"was given up: {_why(evidence, State.FAILED)}", condition=GIVEN_UP, advice=text)


def _skipped(evidence: Evidence) -> Cause:
    index = evidence.row.task_index
    text = (
        _NOTHING if evidence.is_past_deadline else f"Nothing, or `watcher tasks retry {index}` to answer it after all."
    )
    return Cause(f"was skipped: {_why(evidence, State.SKIPPED)}", advice=text)


def _quarantined(evidence: Evidence) -> Cause:
    index = evidence.row.task_index
    return Cause(
        f"was set aside: {_why(evidence, State.QUARANTINED)}",
        advice="The log is forged, or a node hid the contract's state. If a block explorer shows the task: check the "
        f"nodes, then `watcher tasks retry {index}`. It returns when the contract shows it.",
    )


def _why(evidence: Evidence, state: State) -> str:
    """Return the reason of the newest transition to a state."""
    lines = (line.why for line in reversed(evidence.record.journal) if line.to_state == state)
    return next(lines, evidence.error or "the journal does not say why")


def _state_before(evidence: Evidence) -> State:
    journal = evidence.record.journal
    return State(journal[-1].from_state) if journal and journal[-1].from_state else State.SEEN


_BY_STATE: Mapping[State, Callable[[Evidence], Cause]] = {
    State.FINAL: _final,
    State.FINAL_OTHER: _final_other,
    State.DELIVERED: _delivered,
    State.EXPIRED: _expired,
    State.ORPHANED: _orphaned,
    State.FAILED: _failed,
    State.SKIPPED: _skipped,
    State.QUARANTINED: _quarantined,
}
