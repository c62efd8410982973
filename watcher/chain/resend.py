"""How long an answer waits that the API accepts again and again and the chain never shows. Pure.

The same bytes meet the same refusal: what operators sign is described wrongly, say, or the aggregator cannot send.
Invariant: a pause takes half of the time that is left at most, so that several attempts fit whatever the deadline is.
"""

from dataclasses import dataclass

from watcher.task import Header, OpenTask

# Doubling ends here: 256 times the first pause.
_DOUBLINGS = 8
_FIRST_PAUSE_S = 10
_SHARE = 2


@dataclass(frozen=True, slots=True)
class Pause:
    """When the next attempt is due: at a block, and after so many milliseconds from now."""

    at_block: int = 0
    after_ms: int = 0


def pause(held: OpenTask, at: Header, patience_blocks: int) -> Pause:
    """Return the pause before the next attempt for a task.

    `at` is the block that showed no answer; `patience_blocks` is what the chain is given to show one. Where contracts
    count a parent chain's blocks, what is left is in those, which are the rarer ones: the pause is the shorter for it.
    """
    factor: int = 2 ** min(held.attempts, _DOUBLINGS)
    task = held.task
    if task.deadline_block is None and task.deadline_s is not None:
        left_s = max(0, task.deadline_s - at.timestamp_s) if at.timestamp_s else 0
        return Pause(after_ms=1000 * min(_FIRST_PAUSE_S * factor, left_s // _SHARE))
    blocks = max(1, patience_blocks) * factor
    if task.deadline_block is not None:
        blocks = min(blocks, max(0, task.deadline_block - at.closed_block) // _SHARE)
    return Pause(at_block=at.number + blocks)
