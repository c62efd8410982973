"""The check that a contract numbers its tasks as the convention says: from `task.first_index` to the view's count.

Pure. Invariant: a contradiction needs the contract's own word at one block, and no log against it; where the contract
has no word for single tasks, only an index that it cannot have given out is a contradiction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_COUNT_IS = (
    'correct task.count_is ("next": count_view is one past the last index; "count": it is the number of tasks) and'
    " task.first_index, or task.index and task.count_view; or leave count_view out, where indices do not count up"
)


@dataclass(frozen=True, slots=True)
class Numbered:
    """The numbering of tasks at one block.

    `next_index` and `first_index` are by the convention. `holds` maps some indices to whether the contract holds a task
    there. `lowest` and `highest` are indices that logs show, None where there are no logs.
    """

    next_index: int
    first_index: int
    lowest: int | None
    highest: int | None
    holds: Mapping[int, bool]


def probes(next_index: int, first_index: int) -> Sequence[int]:
    """Return the indices to read: at both ends of the range, and right beside it."""
    indices = {first_index - 1, first_index, first_index + 1, next_index - 2, next_index - 1, next_index}
    return sorted(index for index in indices if 0 <= index < 2**256)


def contradiction(numbered: Numbered) -> tuple[str, str] | None:
    """Return how the contract contradicts the convention, and the correction; None if it does not."""
    first, after, holds = numbered.first_index, numbered.next_index, numbered.holds
    highest = -1 if numbered.highest is None else numbered.highest
    if holds.get(first - 1):
        return f"the contract holds task {first - 1}, below task.first_index", "correct task.first_index"
    if highest >= after or holds.get(after):
        return f"the contract counts {after - first} tasks, and has made task {max(highest, after)}", _COUNT_IS
    if numbered.lowest == first + 1 and holds.get(first) is False and holds.get(first + 1):
        message = f"the contract's first task is {first + 1}, and it holds none at {first}, by task.first_index"
        return message, f"set task.first_index = {first + 1}"
    if after > first and highest < after - 1 and holds.get(after - 1) is False and _ends_before(numbered):
        return f"the contract counts task {after - 1} by its view, and holds none there", _COUNT_IS
    return None


def _ends_before(numbered: Numbered) -> bool:
    """Return True if the last task is the one before, or there is none: a single withheld log is no proof of that."""
    if numbered.next_index - 1 == numbered.first_index:
        return numbered.highest is None
    return numbered.holds.get(numbered.next_index - 2, False)
