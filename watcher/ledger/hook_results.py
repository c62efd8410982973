"""The verbs for results of the hook: its answer, stored once, or the reason why there is none.

Each takes the results of many tasks, with at most five statements for all, and returns None or LostLease for each: one
task that has changed since its claim costs no other its result. Invariant: a response goes from null to a value once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from watcher.errors import LostLease
from watcher.ledger.attempt_rows import add_attempts
from watcher.ledger.claims import Release, RetryAt, release_each
from watcher.ledger.columns import BoundedText
from watcher.ledger.tables import WORDS_LIMIT
from watcher.ledger.transaction import Tx
from watcher.ledger.transitions import Change, lost, transition_each
from watcher.state import State
from watcher.task import OpenTask, Response

_REASON = BoundedText(WORDS_LIMIT)


@dataclass(frozen=True, slots=True)
class Answered:
    """A task and the hook's answer to it."""

    task: OpenTask
    response: Response


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A task and why the hook gave no answer to it; the run took `duration_ms`.

    The task is due again at `retry_at`; None: never.
    """

    task: OpenTask
    reason: str
    duration_ms: int
    retry_at: RetryAt | None = None


def keep_answers(tx: Tx, items: Sequence[Answered]) -> list[LostLease | None]:
    """Store each answer, unless its task has one already; then that one stays."""
    errors = transition_each(tx, [_computed(item) for item in items])
    results = [Unanswered(item.task, "", item.response.duration_ms) for item in items]
    _add_attempts(tx, results, errors, "answered")
    return errors


def _computed(item: Answered) -> Change:
    response = item.response
    # A stored answer stays, also if the caller's copy of the task lacks it.
    answer = {"response": response.resp_message, "hook_version": response.hook_version}
    why = f"the hook answered in {response.duration_ms} ms"
    return Change(item.task, State.COMPUTED, why, {"error": None}, where_none=answer)


def keep_old_answers(tx: Tx, batch: Sequence[OpenTask]) -> list[LostLease | None]:
    """Move tasks that had an answer before a reorg or a retry to `computed`; the hook does not run twice.

    A task without an answer gets LostLease.
    """
    answered = [task for task in batch if task.response is not None]
    errors = iter(transition_each(tx, [Change(task, State.COMPUTED, "it was answered before") for task in answered]))
    return [lost(task) if task.response is None else next(errors) for task in batch]


def postpone(tx: Tx, items: Sequence[Unanswered]) -> list[LostLease | None]:
    """Release tasks for which the hook returned Later. This costs no attempt."""
    errors = release_each(tx, [Release(item.task, item.retry_at or RetryAt()) for item in items])
    _add_attempts(tx, items, errors, "later")
    return errors


def retry_failed(tx: Tx, items: Sequence[Unanswered]) -> list[LostLease | None]:
    """Release tasks for which the hook failed. This costs an attempt."""
    releases = [
        Release(item.task, item.retry_at or RetryAt(), item.reason, item.task.hook_attempts + 1) for item in items
    ]
    errors = release_each(tx, releases)
    _add_attempts(tx, items, errors, "failed")
    return errors


def give_up_failed(tx: Tx, items: Sequence[Unanswered]) -> list[LostLease | None]:
    """Move tasks for which the hook failed in the last attempt to `failed`."""
    errors = transition_each(tx, [_failed(item) for item in items], leased=True)
    _add_attempts(tx, items, errors, "failed")
    return errors


def _failed(item: Unanswered) -> Change:
    failures = item.task.hook_attempts + 1
    columns = {"hook_attempts": failures, "error": item.reason}
    often = "once" if failures == 1 else f"{failures} times"
    return Change(item.task, State.FAILED, f"the hook failed {often}: {item.reason}", columns)


def skip(tx: Tx, items: Sequence[Unanswered]) -> list[LostLease | None]:
    """Move tasks for which the hook returned Skip to `skipped`."""
    errors = transition_each(tx, [Change(item.task, State.SKIPPED, _skipped(item.reason)) for item in items])
    _add_attempts(tx, items, errors, "skipped")
    return errors


def _skipped(reason: str) -> str:
    return f"the hook skipped it: {reason}" if reason else "the hook skipped it"


def _add_attempts(tx: Tx, items: Sequence[Unanswered], errors: Sequence[LostLease | None], outcome: str) -> None:
    """Add the attempt of each item without an error."""
    rows = [
        (
            item.task.row_id,
            "hook",
            item.task.hook_attempts + 1,
            item.task.fence,
            None,  # no API
            None,
            tx.now_ms - item.duration_ms,
            tx.now_ms,
            item.duration_ms,
            outcome,
            None,  # no reply
            None,
            None,
            _REASON.stored(item.reason),
        )
        for item, error in zip(items, errors, strict=True)
        if error is None
    ]
    if rows:
        add_attempts(tx, rows)
