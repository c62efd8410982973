"""The log lines of confirmation: the response to a task is on the chain, is final, or has to be sent again."""

from collections.abc import Sequence

from loguru import logger

from watcher.chain.task_lines import TaskLines, fields, summary
from watcher.clock import Clock
from watcher.ledger.outcomes import Missing
from watcher.state import State
from watcher.task import Header, OpenTask, Responded
from watcher.trace import Trace

Answered = Sequence[tuple[OpenTask, Responded]]


class OutcomeLines:
    """One line for each task and outcome, within the bound of `TaskLines`."""

    def __init__(self, clock: Clock, trace: Trace | None = None) -> None:
        self._trace = trace or Trace()
        self._landed, self._other = TaskLines(clock), TaskLines(clock)
        self._final, self._held_again = TaskLines(clock), TaskLines(clock)
        self._sent_again = TaskLines(clock)

    def landed(self, moved: Sequence[OpenTask], answered: Answered) -> None:
        """Log the tasks in `moved` that the chain shows our response to; `answered` holds the events."""
        self._trace.step("landed", [task.task.task_index for task in moved])
        events = {task.row_id: event for task, event in answered}
        logged, more = self._landed.split(moved)
        for task in logged:
            logger.info(
                "task.landed: our response is on the chain",
                **_response_fields(task, events[task.row_id]),
                attempts=task.attempts,
                answered_by="us",
            )
        if more:
            logger.info("task.landed_more: our responses are on the chain", **_summary(more), answered_by="us")

    def answered_by_other(self, moved: Sequence[OpenTask], answered: Answered) -> None:
        """Log the tasks in `moved` that the chain shows another party's response to."""
        events = {task.row_id: event for task, event in answered}
        logged, more = self._other.split(moved)
        for task in logged:
            logger.warning(
                "task.answered_by_other: the response on the chain is not ours",
                **_response_fields(task, events[task.row_id]),
                answered_by="other",
            )
        if more:
            logger.warning(
                "task.answered_by_other_more: responses on the chain are not ours",
                **_summary(more),
                answered_by="other",
            )

    def final(self, moved: Sequence[OpenTask], at: Header) -> None:
        """Log the tasks whose response is in a final block; `at` is that or a later final block."""
        self._trace.step("final", [task.task.task_index for task in moved])
        logged, more = self._final.split(moved)
        for task in logged:
            logger.info(
                "task.final: the response is in a final block",
                **fields(task.task),
                block=task.responded_block,
                final_block=at.number,
                answered_by="us" if task.state is State.RESPONDED else "other",
            )
        if more:
            logger.info("task.final_more: responses are in final blocks", **_summary(more), final_block=at.number)

    def delivered(self, moved: Sequence[OpenTask]) -> None:
        """Log the tasks whose answer the API has, and whose contract shows no answers."""
        logged, more = self._final.split(moved)
        for task in logged:
            logger.info("task.delivered: the API has the answer, and the contract shows none", **fields(task.task))
        if more:
            logger.info("task.delivered_more: the API has the answers, and the contract shows none", **_summary(more))

    def held_again(self, tasks: Sequence[OpenTask]) -> None:
        """Log the tasks that are open again, because the contract holds them after all."""
        logged, more = self._held_again.split(tasks)
        for task in logged:
            logger.warning("task.held_again: the contract holds the task after all; it is open", **fields(task.task))
        if more:
            logger.warning("task.held_again_more: the contract holds tasks after all; they are open", **_summary(more))

    def sent_again(self, items: Sequence[Missing]) -> None:
        """Log the tasks whose answers do not show on the chain, and are due to be sent again."""
        why = {item.task.row_id: item.why for item in items}
        logged, more = self._sent_again.split([item.task for item in items])
        for task in logged:
            logger.warning(
                "response.not_on_chain: the answer does not show on the chain; it will be sent again",
                **fields(task.task),
                attempts=task.attempts,
                reason=why[task.row_id],
            )
        if more:
            logger.warning(
                "response.not_on_chain_more: answers do not show on the chain; they will be sent again",
                **_summary(more),
                reason=why[more[0].row_id],
            )


def _response_fields(task: OpenTask, event: Responded) -> dict[str, object]:
    return {**fields(task.task), "block": event.seen_at.block_number, "tx": event.seen_at.tx_hash}


def _summary(tasks: Sequence[OpenTask]) -> dict[str, object]:
    return summary([task.task for task in tasks])
