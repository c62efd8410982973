"""What the convention reads from the newest task, where it looks like a slip of the pen: yellow, for it may be true."""

from watcher.doctor.finding import Notes
from watcher.task import Header, Task

# Chains are younger in blocks, and times are older: 2001 in seconds.
_BLOCK_OR_TIME = 10**9
_PERCENT = 100


def check(task: Task, head: Header, window: int | None, notes: Notes) -> None:
    """A line for each value that nobody can have meant. `window`: what deadlines in blocks come from, None where the
    event has them."""
    name = f"task {task.task_index}"
    if not task.quorum_numbers:
        words = f"{name} names no quorum, so that nobody is asked to sign"
        notes.warn("quorums", f"{words}; see to task.quorum_numbers: a path, or numbers such as [0]")
    elif task.quorum_threshold > _PERCENT:
        words = f"{name} asks for {task.quorum_threshold} % of the stake, and nothing is sent for it"
        notes.warn("quorums", f"{words}; see to task.quorum_threshold, and to task.threshold_scale")
    if window is None and (trouble := _deadline(task, head)) is not None:
        notes.warn("deadline", f"{name} {trouble}")


def _deadline(task: Task, head: Header) -> str | None:
    block, time = task.deadline_block, task.deadline_s
    if time is not None and time < _BLOCK_OR_TIME:
        words = f"could be answered until {time} s after 1970, so that no answer is ever sent: that is a block, or a"
        return f"{words} length of time; deadline.timestamp must be the last second itself"
    if block is not None and block < min(task.created_block, task.seen_at.block_number):
        words = f"was over at block {block}, before it was made, so that no answer is ever sent"
        return f"{words}; see to the deadline: deadline.block must be the last block itself"
    if block is not None and block >= _BLOCK_OR_TIME > head.contract_block:
        return f"can be answered until block {block}: that looks like a time, which deadline.timestamp is for"
    return None
