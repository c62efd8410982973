"""The replies of the contract's views by block, shared by the stages that ask the same of one block.

A block hash names one state, so a reply is good for as long as its block is asked about. Invariants: a failed reading
is never kept; a zero, which every empty cache says, is kept for a second, so that it serves one look at the chain and
no later one; the replies of the two newest blocks are kept, and so many in all.
"""

from collections import OrderedDict
from collections.abc import Callable

from watcher.chain.rpc.replies import Reverted, Unread
from watcher.task import Header

_BLOCKS = 2
_REPLIES_PER_BLOCK = 4096
_ZERO_KEPT_S = 1.0

Question = tuple[bytes, bytes]  # the contract's address, the call data
_Kept = tuple[bytes | Reverted, float | None]  # the reply; until when it counts, None: as long as it is kept


class ViewCache:
    """The replies of views. `now_s` is a monotonic clock in seconds."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._blocks: OrderedDict[bytes, dict[Question, _Kept]] = OrderedDict()

    def reply(self, at: Header, question: Question) -> bytes | Reverted | None:
        """Return the reply to a question about the state of block `at`, None if it has to be asked."""
        kept = self._blocks.get(at.hash, {}).get(question)
        if kept is None or (kept[1] is not None and self._now_s() > kept[1]):
            return None
        return kept[0]

    def keep(self, at: Header, question: Question, reply: bytes | Reverted | Unread) -> None:
        """Keep a reply, unless it is a failed reading.

        Args:
            at: the block whose state was read.
            question: the address and the call data.
            reply: the reply of the nodes.
        """
        if isinstance(reply, Unread):
            return
        replies = self._blocks.setdefault(at.hash, {})
        self._blocks.move_to_end(at.hash)
        if len(self._blocks) > _BLOCKS:
            self._blocks.popitem(last=False)
        if len(replies) < _REPLIES_PER_BLOCK:
            is_zero = isinstance(reply, bytes) and not any(reply)
            replies[question] = reply, self._now_s() + _ZERO_KEPT_S if is_zero else None
