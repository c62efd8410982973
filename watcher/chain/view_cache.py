"""The replies of the contract's views by block, shared by the stages that ask the same of one block.

A block hash names one state, so a reply is good for as long as its block is asked about. Invariants: a failed reading
is never kept; a zero, which every empty cache says, is kept for a second, so that it serves one look at the chain and
no later one; the replies of the two newest blocks are kept, and so many in all.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable

from watcher.chain.rpc.replies import Reverted, Unread
from watcher.task import Header

_BLOCKS = 2
_REPLIES_PER_BLOCK = 8192
_ZERO_KEPT_S = 1.0

Question = tuple[bytes, bytes]  # the contract's address, the call data
_Kept = tuple[bytes | Reverted, float | None]  # the reply; until when it counts, None: as long as it is kept


class ViewCache:
    """The replies of views. `now_s` is a monotonic clock in seconds."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._blocks: OrderedDict[bytes, dict[Question, _Kept]] = OrderedDict()

    def replies(self, at: Header, questions: Iterable[Question]) -> dict[Question, bytes | Reverted]:
        """Return the kept replies to questions about the state of block `at`; the other questions have to be asked."""
        kept = self._blocks.get(at.hash, {})
        if not kept:
            return {}
        now_s = self._now_s()
        return {
            question: reply
            for question in questions
            if question in kept
            for reply, until_s in [kept[question]]
            if until_s is None or now_s <= until_s
        }

    def keep(self, at: Header, replies: Iterable[tuple[Question, bytes | Reverted | Unread]]) -> None:
        """Keep replies, but no failed readings.

        Args:
            at: the block whose state was read.
            replies: the replies of the nodes, each with its question: the address and the call data.
        """
        kept = self._blocks.setdefault(at.hash, {})
        self._blocks.move_to_end(at.hash)
        if len(self._blocks) > _BLOCKS:
            self._blocks.popitem(last=False)
        zero_until_s = self._now_s() + _ZERO_KEPT_S
        for question, reply in replies:
            if len(kept) >= _REPLIES_PER_BLOCK:
                break
            if not isinstance(reply, Unread):
                is_zero = isinstance(reply, bytes) and not reply.strip(b"\0")
                kept[question] = reply, zero_until_s if is_zero else None
