"""Why a task is not sent yet: admission (seen), the hook (ready), and the POST (computed, waiting, blocked). Pure."""

import re
from collections.abc import Iterator
from itertools import takewhile

from watcher.health.cause.evidence import Evidence, advice, first, held_up, off_chain, past_deadline
from watcher.health.conditions import API, HOOK, KINDS, NODE_BEHIND, RESTORED, RPC, WATCH
from watcher.operator.refusal import STUBBORN_MARK, by_status
from watcher.operator.route import HELD_MARK, NOT_SENT_MARK, PARKED_MARK
from watcher.report.story import Cause
from watcher.state import State

# The reason of the stage `submit` for an answer that a later block may let pass.
_NOT_YET_MARK = "not sent yet: "
_DRY_RUN = "a dry run at block"
_STATUS = re.compile(r"\bHTTP (\d{3})\b")
_ADVICE_BY_STATUS = {
    "401": "HTTP 401: correct the password (or operator.username)",
    "403": "HTTP 403: correct the password (or operator.username)",
    "404": "HTTP 404: correct operator.url or operator.api",
}
_API_NAMES = {"proxy": "the proxy", "operator": "the operator API"}
_KEPT = "the answer waits, and is sent once the API takes it."


def seen(evidence: Evidence) -> Cause:
    """Return why a task is `seen`."""
    return first(_seen(evidence))


def _seen(evidence: Evidence) -> Iterator[Cause | None]:
    row, head = evidence.row, evidence.cursor.head_block
    phrase = "waits to be admitted"
    yield off_chain(evidence)
    yield held_up(evidence, phrase, RPC, NODE_BEHIND)
    yield past_deadline(evidence)
    deep_at = row.block_number + evidence.confirmations
    if head < deep_at:
        depth = f"{max(0, head - row.block_number)} of {evidence.confirmations}"
        yield Cause(
            f"waits for confirmations: block {row.block_number} has {depth} blocks above it",
            next_block=deep_at,
            advice="Nothing: it goes on with the chain. chain.confirmations sets the number.",
        )
    if evidence.error or row.absent:
        text = "If it stays so, the log may be forged, or a node hides the contract's state: `watcher check`."
        reason = evidence.error or "the contract does not show the task; a second reading decides"
        yield Cause(f"{phrase}: {reason}", next_ms=evidence.due_ms, next_block=evidence.due_block, advice=text)
    yield held_up(evidence, phrase, WATCH)
    yield Cause(f"{phrase}: it is due, and the contract is asked for its hash next", next_block=evidence.due_block)


def ready(evidence: Evidence) -> Cause:
    """Return why a task is `ready`."""
    return first(_ready(evidence))


def _ready(evidence: Evidence) -> Iterator[Cause | None]:
    row = evidence.row
    phrase = "waits for the hook"
    yield off_chain(evidence)
    yield held_up(evidence, phrase)
    yield past_deadline(evidence)
    if evidence.daemon.observes:
        yield Cause(
            'is only observed: operator.api = "none" answers no task', advice="Nothing, if that is what you want."
        )
    if row.response is None and row.block_number <= evidence.source.held_to_block:
        reason = f"is held back: the ledger is an older copy, and its tasks up to block {evidence.source.held_to_block}"
        yield Cause(f"{reason} may be answered", None, None, None, RESTORED, advice(RESTORED, row.task_index))
    if evidence.is_leased:
        yield Cause(
            "is with the hook: it runs, or waits for a free worker", advice="Nothing, while hook.timeout_s lasts."
        )
    yield _after_a_failure(evidence)
    yield _after_later(evidence)
    yield held_up(evidence, phrase, HOOK)
    yield _failing_hook(evidence, phrase)
    if evidence.error:
        yield Cause(
            f"{phrase}: {evidence.error}", next_ms=evidence.due_ms, condition=HOOK, advice=_hook_advice(evidence)
        )
    yield held_up(evidence, phrase, WATCH)
    yield Cause(
        f"{phrase}: it is due, and the workers run nearer deadlines first",
        next_ms=evidence.due_ms,
        next_block=evidence.due_block,
        advice="If this lasts, raise hook.workers or make the hook faster.",
    )


def _after_a_failure(evidence: Evidence) -> Cause | None:
    failures = evidence.row.hook_attempts
    if not failures:
        return None
    return Cause(
        f"waits for the next run of the hook: {failures} of {evidence.max_attempts} runs failed"
        + (f": {evidence.error}" if evidence.error else ""),
        next_ms=evidence.due_ms,
        condition=HOOK,
        advice=_hook_advice(evidence),
    )


def _after_later(evidence: Evidence) -> Cause | None:
    attempts = evidence.record.attempts
    if not attempts or attempts[-1].outcome != "later" or (evidence.due_ms is None and evidence.due_block is None):
        return None
    reason = f": {attempts[-1].words}" if attempts[-1].words else ""
    return Cause(
        f"waits because the hook asked to be run later{reason}",
        attempts[-1].ended_at_ms,
        evidence.due_ms,
        evidence.due_block,
        advice=f"Nothing, or `watcher tasks retry {evidence.row.task_index}` to run it now.",
    )


def _failing_hook(evidence: Evidence, phrase: str) -> Cause | None:
    """Return the hook's failures of other tasks, where no daemon says whether they last."""
    failures = list(takewhile(lambda run: run.outcome == "failed", evidence.source.runs))
    if not evidence.daemon.missing or len(failures) < 2:
        return None
    reason = f"{phrase}: {KINDS[HOOK].title}: the last {len(failures)} runs failed ({failures[0].words})"
    return Cause(reason, failures[-1].began_at_ms, evidence.due_ms, None, HOOK, _hook_advice(evidence))


def _hook_advice(evidence: Evidence) -> str:
    return advice(HOOK, evidence.row.task_index).replace("hook try`", f"hook try {evidence.row.task_index}`")


def to_send(evidence: Evidence) -> Cause:
    """Return why a task with an answer is not sent."""
    return first(_to_send(evidence))


def _to_send(evidence: Evidence) -> Iterator[Cause | None]:
    phrase = "waits to be sent"
    yield off_chain(evidence)
    yield held_up(evidence, phrase)
    yield past_deadline(evidence)
    yield _parked(evidence)
    yield _not_yet(evidence)
    yield held_up(evidence, phrase, RPC, NODE_BEHIND)
    yield _no_evidence(evidence, phrase)
    yield _api(evidence, phrase)
    yield _needs_a_person(evidence)
    if evidence.is_leased:
        yield Cause("is being prepared: the chain is asked whether it may be sent")
    yield held_up(evidence, phrase, WATCH)
    why = evidence.error or (evidence.record.journal[-1].why if evidence.record.journal else "")
    if evidence.due_ms is not None or evidence.due_block is not None:
        yield Cause(
            f"waits for its next attempt: {why}",
            next_ms=evidence.due_ms,
            next_block=evidence.due_block,
            advice=f"Nothing, or `watcher tasks retry {evidence.row.task_index}` to send it now.",
        )
    yield Cause(f"{phrase}: it is due, and goes out as soon as a request slot is free" + (f" ({why})" if why else ""))


def _parked(evidence: Evidence) -> Cause | None:
    if not evidence.error.startswith(PARKED_MARK):
        return None
    reason = evidence.error.removeprefix(PARKED_MARK)
    text = "Correct what the reason names and reload (SIGHUP): the task is then looked at at once."
    if reason.startswith(_DRY_RUN):
        text = (
            "The contract refuses the answer until a person or an upgrade changes something: see The dry run in "
            f"docs/contract.md. Then `watcher tasks retry {evidence.row.task_index}` sends it."
        )
    return Cause(f"is parked: {reason}", next_ms=evidence.due_ms, advice=text)


def _not_yet(evidence: Evidence) -> Cause | None:
    if not evidence.error.startswith(_NOT_YET_MARK):
        return None
    reason = evidence.error.removeprefix(_NOT_YET_MARK)
    return Cause(
        f"waits for a block in which the contract takes the answer: {reason}",
        next_block=evidence.due_block or evidence.cursor.head_block + 1,
        advice="Nothing: every block is tried. If it lasts, see The dry run in docs/contract.md.",
    )


def _no_evidence(evidence: Evidence, phrase: str) -> Cause | None:
    """Return the failure of the nodes that kept an answer from being sent; the API's own failure has an attempt."""
    posts = [attempt for attempt in evidence.record.attempts if attempt.kind == "post"]
    is_of_api = bool(posts) and posts[-1].words == evidence.error
    if not evidence.error.startswith(NOT_SENT_MARK) or is_of_api:
        return None
    reason = f"{phrase}: {KINDS[RPC].title}: {evidence.error.removeprefix(NOT_SENT_MARK)}"
    return Cause(reason, evidence.row.updated_at_ms, evidence.due_ms, None, RPC, advice(RPC, evidence.row.task_index))


def _api(evidence: Evidence, phrase: str) -> Cause | None:
    """Return the trouble of the API, from the daemon, or else from the newest attempts in the ledger."""
    probe_s = evidence.daemon.next_probe_s
    next_ms = evidence.due_ms if probe_s is None else evidence.now_ms + round(probe_s * 1000)
    condition = evidence.daemon.condition(API)
    if condition is not None:
        reason, text = _refusal(evidence, condition.message)
        return Cause(f"{phrase}: {reason}", _api_since_ms(evidence) or condition.since_ms, next_ms, None, API, text)
    waits_for_api = evidence.row.state == State.BLOCKED or evidence.error.startswith(HELD_MARK)
    since_ms = _api_since_ms(evidence)
    if since_ms is None or not (waits_for_api or evidence.daemon.missing):
        return None
    reason, text = _refusal(evidence, _api_reason(evidence))
    return Cause(f"{phrase}: {reason}", since_ms, next_ms, None, API, text)


def _refusal(evidence: Evidence, message: str) -> tuple[str, str]:
    """Return the trouble of the API as a reason, and the advice for it."""
    status = _STATUS.search(message)
    advised = _ADVICE_BY_STATUS.get(status[1], "") if status else ""
    if not advised:
        return f"{KINDS[API].title}: {message}", advice(API, evidence.row.task_index)
    name = _API_NAMES.get(next((post.api for post in evidence.source.posts), ""), "the API")
    details = message.removeprefix("refuses us").strip().removeprefix("(").removesuffix(")")
    return f"{name} refuses us ({details})", f"{advised}, then reload (SIGHUP). Nothing is lost: {_KEPT}"


def _api_since_ms(evidence: Evidence) -> int | None:
    """Return the begin of the newest attempts in a row that show the API itself at fault; None without such."""
    failures = list(takewhile(_shows_trouble, evidence.source.posts))
    return failures[-1].began_at_ms if failures else None


def _api_reason(evidence: Evidence) -> str:
    failures = list(takewhile(_shows_trouble, evidence.source.posts))
    replies = (post for post in failures if post.http_status is not None)
    return str((next(replies, None) or failures[0]).words or "the last request came to nothing")


def _shows_trouble(post: object) -> bool:
    """Return True for a POST whose outcome says something about the API, and nothing about its task."""
    outcome, status = getattr(post, "outcome", None), getattr(post, "http_status", None)
    if outcome == "unknown" or (outcome == "refused" and status is None):
        return True
    refusal = None if status is None or outcome != "refused" else by_status(status, None)
    return refusal is not None and refusal.endpoint


def _needs_a_person(evidence: Evidence) -> Cause | None:
    if not evidence.error.startswith(STUBBORN_MARK):
        return None
    return Cause(
        f"waits for its next attempt, which needs a person: {evidence.error.removeprefix(STUBBORN_MARK)}",
        next_ms=evidence.due_ms,
        advice=f"Correct what the reason names; then `watcher tasks retry {evidence.row.task_index}` sends it now.",
    )
