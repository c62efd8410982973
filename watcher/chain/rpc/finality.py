"""Finality by the rule of `watcher.chain.rpc.evidence`: the questions to all nodes, and what they showed.

Invariant: no number that one node names becomes final before a node shows the block at that height.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from watcher.chain.rpc import evidence
from watcher.chain.rpc.node_blocks import AskAll, NodeBlocks
from watcher.clock import Clock
from watcher.task import Header

# What a node calls final counts while it is at most so far behind the head: one that hangs must not hold finality.
_NEAR_BLOCKS = 64
# A chain at rest catches up with its finality; one that moves on so far with finality at its head has none to show.
_AT_HEAD_BLOCKS = 10


@dataclass(frozen=True, slots=True)
class Final:
    """A block that counts as final. `firm`: a chain that changes it has broken its promise.

    The head is not firm, nor is a block that only one of several nodes shows.
    """

    block: Header
    firm: bool


class Finality:
    """The final block of `quorum` nodes, which go by their place in the configuration, from 0."""

    def __init__(self, ask_all: AskAll, blocks: NodeBlocks, nodes: int, clock: Clock, quorum: int) -> None:
        """Start without a final block.

        Args:
            ask_all: puts a question to the nodes in service.
            blocks: the blocks that these show.
            nodes: the number of nodes.
            clock: measures how long nodes call the head final.
            quorum: the setting `chain.quorum`.
        """
        self._ask_all = ask_all
        self._blocks = blocks
        self._nodes = nodes
        self._clock = clock
        self._quorum = quorum
        self._final_of: dict[int, Header] = {}  # by place: the final block that the node also showed at its height
        self._at_head: tuple[int, float, int, float] | None = None  # first block and time of finality at the head; last

    @property
    def at_head_s(self) -> float:
        """The seconds for which the head has moved on while every node calls it final, else 0."""
        if self._at_head is None:
            return 0.0
        first_block, first_s, last_block, last_s = self._at_head
        return last_s - first_s if last_block - first_block >= _AT_HEAD_BLOCKS else 0.0

    async def block(
        self, finality: str | int, head: Header, heads: Mapping[int, int], confirmations: int, above: int = -1
    ) -> Final | None:
        """Return the final block below `head`, None while too few nodes name a final block and show it at its height.

        Args:
            finality: the tag "finalized" or "safe" (eth_getBlockByNumber), or a depth in blocks below each node's head.
            head: the proven head.
            heads: the newest block number of each node that does not contradict it, by place.
            confirmations: the depth in blocks of a block that only some of the nodes call final.
            above: the known final block; a block up to this height is not asked about.
        """
        known: Mapping[int, Mapping[int, Header]] = {}
        if isinstance(finality, int):
            # The proven head may be one node's alone: `finality` blocks below it is the head of all the others.
            finals = [heads[place] - finality for place in _close(heads, head)]
        else:
            named, known = await self._finals(finality, head, _close(heads, head))
            finals = list(named.values())
            self._note_distance(finals, head.number)
        number = evidence.proven_final(finals, self._nodes, head.number, self._quorum, confirmations)
        if number is None or number <= above:
            return None
        return await self._voted(number, head, heads, sum(final >= number for final in finals), known)

    def _note_distance(self, finals: Sequence[int], head_block: int) -> None:
        if not finals or min(finals) < head_block:
            self._at_head = None
            return
        now_s = self._clock.monotonic_s()
        first_block, first_s = self._at_head[:2] if self._at_head else (head_block, now_s)
        self._at_head = first_block, first_s, head_block, now_s

    async def _finals(
        self, tag: str, head: Header, places: Collection[int]
    ) -> tuple[Mapping[int, int], Mapping[int, Mapping[int, Header]]]:
        """Return the final block number of each node at `places` that also shows that block at its height.

        A block that a node has shown before is not asked for again.

        Returns:
            The numbers by place, and the blocks read now (the final ones and those at the head's height) by place and
            height.
        """
        answers = await self._ask_all(lambda node: node.header(tag), places)
        named = {place: block for place, block in answers.items() if block}
        changed = {place: block for place, block in named.items() if self._final_of.get(place) != block}
        heights = {place: {block.number, head.number} for place, block in changed.items()}
        there = await self._blocks.at(heights, looked=True)
        for place, block in changed.items():
            self._final_of.pop(place, None)
            if there.get(place, {}).get(block.number) == block:
                self._final_of[place] = block
        return {place: block.number for place, block in named.items() if self._final_of.get(place) == block}, there

    async def _voted(
        self,
        number: int,
        head: Header,
        heads: Mapping[int, int],
        named_by: int,
        known: Mapping[int, Mapping[int, Header]],
    ) -> Final | None:
        """Return the block of that number on the chain that ends in `head`, if `quorum` nodes show it.

        Args:
            number: the height of the final block.
            head: the proven head.
            heads: the nodes to ask, by place.
            named_by: the number of nodes that call the block final.
            known: the blocks that nodes have just shown, by place and height.
        """
        heights = {number, head.number}
        missing = {place: heights for place in heads if not heights <= known.get(place, {}).keys()}
        blocks = {place: known[place] for place in heads if place not in missing} | await self._blocks.at(missing)
        ours = next((own[number] for own in blocks.values() if number in own and own.get(head.number) == head), None)
        votes = sum(own.get(number) == ours for own in blocks.values())
        if ours is None or votes < self._quorum:
            return None
        return Final(ours, number < head.number and min(votes, named_by) >= min(2, self._nodes))


def _close(heads: Mapping[int, int], head: Header) -> list[int]:
    """Return the places of the nodes that are not far behind the head."""
    return [place for place, number in heads.items() if number >= head.number - _NEAR_BLOCKS]
