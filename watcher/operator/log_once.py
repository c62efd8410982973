"""The log lines of the submit stage. A problem of an API is logged when it begins and when it ends, not per attempt."""

from typing import Any

from loguru import logger

from watcher.clock import Clock
from watcher.ledger.sending import Attempt, Settlement
from watcher.once import LineBudget, Once
from watcher.operator.route import Route, api_replied
from watcher.state import State
from watcher.task import Accepted, Sent, Task

# Keys remembered until the settings change; later ones are not logged.
_KEYS_LIMIT = 100


class LogOnce:
    """The problems that are already in the log, so that no task and no attempt repeats them."""

    def __init__(self, clock: Clock) -> None:
        """Start with no problem logged; `clock` paces the lines about accepted answers."""
        self._reported = Once(_KEYS_LIMIT)
        self._unreachable = Once()
        self._accepted = LineBudget(clock.monotonic_s)
        self._unlogged = 0  # accepted answers since the last one that was logged

    def settings_changed(self) -> None:
        """Forget all problems: a new setting may have solved them, and those that last are logged again."""
        self._reported.forget()

    def untried_quorums(self, task: Task) -> None:
        """Log that the proxy gets a task with quorums it has not served so far."""
        quorums = list(task.quorum_numbers)
        if self._reported.begins(f"quorums {quorums} {task.quorum_threshold}"):
            logger.warning(
                "operator.untried_quorums: the proxy has not served such quorums yet; if the contract refuses its "
                "calls, configure [operator.direct]",
                task=task.task_index,
                quorum_numbers=str(quorums),
                threshold_percent=task.quorum_threshold,
            )

    def parked(self, task: Task, reason: str) -> None:
        """Log that no API can serve a task. Tasks with the same reason are not logged."""
        if self._reported.begins(reason):
            logger.warning(
                "operator.parked: tasks like this one are not sent until the configuration changes",
                task=task.task_index,
                reason=reason,
            )

    def request_invalid(self, task: Task, reason: str) -> None:
        """Log that the answer does not fit a request. Later ones are not logged."""
        if self._reported.begins("request invalid"):
            logger.warning(
                "operator.request_invalid: tasks like this one are not sent, because the answer does not fit the call",
                task=task.task_index,
                reason=reason,
            )

    def circuit_changed(self, route: Route, was_closed: bool, sent: Sent) -> None:
        """Log that sending to an API stops or resumes. Call after the circuit has recorded `sent`."""
        if was_closed and not route.circuit.closed:
            logger.error(
                "operator.circuit_opened: the API refuses requests or cannot be reached; sending there stops",
                api=route.api,
                cause="refused" if api_replied(sent) else "unreachable",
                reason=sent.reason,
                retry_s=round(route.circuit.wait_s(), 1),
            )
        elif not was_closed and route.circuit.closed:
            logger.info("operator.circuit_closed: the API no longer refuses requests; sending resumes", api=route.api)

    def is_repeated(self, api: str, sent: Sent) -> bool:
        """Log that an API becomes unreachable or reachable; return True if it already was unreachable before `sent`."""
        if api_replied(sent):
            if self._unreachable.ends(api):
                logger.info("operator.reachable: the API replies again", api=api)
            return False
        if not self._unreachable.begins(api):
            return True
        logger.warning(
            "operator.unreachable: the API cannot be reached (further attempts are not logged)",
            api=api,
            reason=sent.reason,
        )
        return False

    def attempt(self, settlement: Settlement, state: State, *, repeated: bool) -> None:
        """Log the outcome of one attempt. Accepted answers beyond the budget are DEBUG; INFO lines count them.

        The first one beyond it is logged at once, and their number when the budget is full again.

        Args:
            settlement: the attempt, with its task, its outcome and the contradiction in the reply, if any.
            state: the new state of the task.
            repeated: the API was unreachable before, so that only DEBUG shows it again.
        """
        task, api = settlement.attempt.task, settlement.attempt.api
        sent, warning = settlement.sent, settlement.warning
        fields: dict[str, Any] = {"task": task.task.task_index, "attempt": task.attempts, "api": api}
        if state is not State.ACCEPTED:
            logger.log(
                "DEBUG" if repeated else "WARNING",
                "task.not_accepted: the API did not accept the answer, or its reply is missing or unclear",
                **fields,
                state=str(state),
                reason=sent.reason,
            )
            return
        if warning is not None:
            logger.warning("operator.digest_differs: the API signed another digest", **fields, reason=warning)
        if isinstance(sent.outcome, Accepted) and sent.outcome.tx_hash is not None:
            fields["tx"] = sent.outcome.tx_hash
        within = self._accepted.take() > 0
        if not within:
            self._unlogged += 1
        if self._unlogged and (within or self._unlogged == 1):
            logger.info(
                "task.sent_more: the API accepts many answers; further ones are logged at DEBUG",
                api=api,
                count=self._unlogged,
            )
        if within:
            self._unlogged = 0
        level = "INFO" if within else "DEBUG"
        logger.log(level, "task.sent: the API accepted the answer", **fields, duration_ms=sent.duration_ms)


def log_dropped(attempt: Attempt, reason: str) -> None:
    """Log that the outcome of an attempt changed nothing, because the task or the ledger did not allow it."""
    logger.warning(
        "task.outcome_dropped: the outcome of an attempt is not applied",
        task=attempt.task.task.task_index,
        attempt=attempt.task.attempts,
        reason=reason,
    )
