"""The pause before an answer is sent again that the API accepts and the chain never shows. Pure.

The same bytes meet the same refusal: [signed] is wrong, say, or the aggregator cannot send. Invariant: a pause takes
half of the time that is left at most, so that several attempts fit before any deadline.
"""

from dataclasses import dataclass

from watcher.task import Header, OpenTask

# Doubling ends here: 256 times the first pause.
_DOUBLINGS = 8
_FIRST_PAUSE_S = 10
_SHARE = 2


@dataclass(frozen=True, slots=True)
class Pause:
    """The due time of the next attempt: from `at_block` on, and not before `after_ms` milliseconds from now."""

    at_block: int = 0
    after_ms: int = 0


def pause(open_task: OpenTask, at: Header, patience_blocks: int) -> Pause:
    """Return the pause before the next attempt.

    Where contracts count a parent chain's blocks, the rest of the window is in those rarer blocks, and the pause is the
    shorter for it.

    Args:
        open_task: the task, with its attempts so far.
        at: the block that showed no answer.
        patience_blocks: the first pause in blocks.
    """
    factor: int = 2 ** min(open_task.attempts, _DOUBLINGS)
    task = open_task.task
    if task.deadline_block is None and task.deadline_s is not None:
        left_s = max(0, task.deadline_s - at.timestamp_s) if at.timestamp_s else 0
        return Pause(after_ms=1000 * min(_FIRST_PAUSE_S * factor, left_s // _SHARE))
    blocks = max(1, patience_blocks) * factor
    if task.deadline_block is not None:
        blocks = min(blocks, max(0, task.deadline_block - at.closed_block) // _SHARE)
    return Pause(at_block=at.number + blocks)
