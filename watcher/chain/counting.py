"""Whether a contract numbers its tasks as the convention says: from `task.first_index` on, up to what its view counts.

Pure. Invariant: a contradiction needs the contract's own word at one block, and no log against it; where the contract
says nothing about single tasks, only an index that it cannot have given out is one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_COUNT_IS = (
    'correct task.count_is ("next": count_view is one past the last index; "count": it is the number of tasks) and'
    " task.first_index, or task.index and task.count_view; or leave count_view out, where indices do not count up"
)


@dataclass(frozen=True, slots=True)
class Numbered:
    """What is known at one block.

    `next_index` and `first_index` are by the convention, `held` says of some indices whether the contract holds a task
    there; `lowest` and `highest` are indices that logs show, None where there are no logs.
    """

    next_index: int
    first_index: int
    lowest: int | None
    highest: int | None
    held: Mapping[int, bool]


def probes(next_index: int, first_index: int) -> Sequence[int]:
    """The indices to ask the contract about: at both ends of the range, and right beside it."""
    near = {first_index - 1, first_index, first_index + 1, next_index - 2, next_index - 1, next_index}
    return sorted(one for one in near if 0 <= one < 2**256)


def contradiction(found: Numbered) -> tuple[str, str] | None:
    """What the contract says against the convention and what to correct, in words; None if nothing."""
    first, after, held = found.first_index, found.next_index, found.held
    highest = -1 if found.highest is None else found.highest
    if held.get(first - 1):
        return f"the contract holds task {first - 1}, below task.first_index", "correct task.first_index"
    if highest >= after or held.get(after):
        words = f"the contract counts {after - first} tasks, and has made task {max(highest, after)}"
        return words, _COUNT_IS
    if found.lowest == first + 1 and held.get(first) is False and held.get(first + 1):
        words = f"the contract's first task is {first + 1}, and it holds none at {first}, by task.first_index"
        return words, f"set task.first_index = {first + 1}"
    if after > first and highest < after - 1 and held.get(after - 1) is False and _ends_before(found):
        return f"the contract counts task {after - 1} by its view, and holds none there", _COUNT_IS
    return None


def _ends_before(found: Numbered) -> bool:
    """True where the last task is the one before, or there is none: one withheld log alone does not show that."""
    if found.next_index - 1 == found.first_index:
        return found.highest is None
    return found.held.get(found.next_index - 2, False)
