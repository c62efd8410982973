"""The batched verbs, for one task: the error of the item is raised."""

from collections.abc import Sequence

from watcher.errors import LostLease
from watcher.ledger import claims, hook_results
from watcher.ledger.claims import Release, RetryAt
from watcher.ledger.hook_results import Answered, Unanswered
from watcher.ledger.transaction import Tx
from watcher.task import Later, OpenTask, Response


def release(tx: Tx, task: OpenTask, retry_at: RetryAt, reason: str | None = None) -> None:
    _check(claims.release_each(tx, [Release(task, retry_at, reason)]))


def keep_answer(tx: Tx, task: OpenTask, response: Response) -> None:
    _check(hook_results.keep_answers(tx, [Answered(task, response)]))


def keep_old_answer(tx: Tx, task: OpenTask) -> None:
    _check(hook_results.keep_old_answers(tx, [task]))


def postpone(tx: Tx, task: OpenTask, later: Later, retry_at: RetryAt, duration_ms: int) -> None:
    _check(hook_results.postpone(tx, [Unanswered(task, later.reason, duration_ms, retry_at)]))


def hook_failed(tx: Tx, task: OpenTask, reason: str, duration_ms: int, retry_at: RetryAt | None) -> None:
    verb = hook_results.give_up_failed if retry_at is None else hook_results.retry_failed
    _check(verb(tx, [Unanswered(task, reason, duration_ms, retry_at)]))


def hook_skipped(tx: Tx, task: OpenTask, reason: str, duration_ms: int) -> None:
    _check(hook_results.skip(tx, [Unanswered(task, reason, duration_ms)]))


def _check(errors: Sequence[LostLease | None]) -> None:
    for error in errors:
        if error is not None:
            raise error
