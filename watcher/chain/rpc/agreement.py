"""The head by the rule of `watcher.chain.rpc.evidence`: the questions to all nodes, and what they showed.

Invariant: no number that one node names becomes the head before a node shows the block at that height.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from watcher.chain.rpc import evidence
from watcher.chain.rpc.evidence import Candidate, NodeView
from watcher.chain.rpc.node_blocks import NodeBlocks
from watcher.chain.rpc.trust import Trust
from watcher.clock import Clock
from watcher.errors import RetryElsewhere, StaleNode
from watcher.task import Header

# Where nodes agree on no head, the last block they share is looked for so far below the lowest one.
_DESCENT_BLOCKS = (1, 2, 4, 8, 16, 32, 64)
# The fork that holds the ledger's last block is left when another one grows by so many blocks and it does not grow.
_STALLED_BLOCKS = 2


class Agreement:
    """The head of `quorum` nodes. `anchor` is the last block the ledger has read, None before any.

    Nodes go by their place in the configuration, from 0. `heads` has the newest block number of each node that does not
    contradict the head.
    """

    def __init__(self, blocks: NodeBlocks, names: Sequence[str], clock: Clock, quorum: int) -> None:
        """Start without a head.

        Args:
            blocks: the blocks that the nodes in service show.
            names: the nodes as they may be shown, by place.
            clock: measures how long nodes show less.
            quorum: the setting `chain.quorum`.
        """
        self._blocks = blocks
        self._names = names
        self._clock = clock
        self._quorum = quorum
        self._verified: dict[int, Header] = {}  # by place: the newest block it showed at its height
        self._highest: int | None = None
        self._last: Header | None = None
        self._sides: tuple[int, int] | None = None  # heights: of the anchor's fork when it last grew, of the rival then
        self._below: tuple[int, float] | None = None
        self.trust = Trust(names, clock)
        self.heads: Mapping[int, int] = {}
        self.anchor: Header | None = None

    async def head(self, heads: Mapping[int, Header]) -> Header:
        """Return the head, from the newest block of each node by its place.

        Raises:
            RetryElsewhere: fewer than `quorum` nodes reply, or no `quorum` of them show the same block.
            StaleNode: too few nodes show the newest block that they name.
        """
        views = await self._views(heads)
        if len(views) < self._quorum:
            raise self._too_few(heads, len(views))
        forks = evidence.candidates(views, self._quorum, self.anchor, self._last)
        if evidence.disagreement(views) is not None or not forks:
            views = await self._deeper(views, descend=not forks)
            forks = evidence.candidates(views, self._quorum, self.anchor, self._last)
        self.trust.compare(views)
        head = evidence.proven_head(forks, len(views), keep_side=not self._stalled(forks))
        if head is None:
            raise RetryElsewhere(
                f"no {self._quorum} endpoints of chain.rpc_urls, as many as chain.quorum asks for, show the same block"
            )
        self.heads = {view.place: view.head.number for view in evidence.on_chain(views, head)}
        self._highest = max(view.head.number for view in views)
        if self._below is not None and self._highest >= self._below[0]:
            self._below = None
        self._last = head
        return head

    def _too_few(self, heads: Mapping[int, Header], count: int) -> RetryElsewhere:
        if len(heads) >= self._quorum:
            named = "; ".join(f"{self._names[place]}: {head.number}" for place, head in heads.items())
            return StaleNode(f"the newest block an endpoint names is not there, or seems impossible ({named})")
        return RetryElsewhere(f"only {count} of the {self._quorum} endpoints chain.quorum asks for can answer")

    async def _views(self, heads: Mapping[int, Header]) -> list[NodeView]:
        heights = {place: self._heights(place, heads) for place in heads}
        blocks = await self._blocks.at(heights)
        views = []
        for place, head in heads.items():
            own = {} if head.number in heights[place] else {head.number: head}
            own |= blocks.get(place, {})
            if head.number not in own:
                self.trust.lacks(place, head)
            elif not self._believes(place, own[head.number], heads):
                del own[head.number]
            else:
                self._verified[place] = own[head.number]
                own |= _parent(own[head.number], heads, own)
            full = [block for block in own.values() if block.parent_hash]
            if full:
                newest = max(full, key=lambda block: block.number)
                views.append(NodeView(place, newest, own, self.trust.leads(place)))
        return views

    def _heights(self, place: int, heads: Mapping[int, Header]) -> set[int]:
        """Return the heights to ask a node for: its newest block, and the newest blocks of the nodes behind it.

        Its newest block is left out if another node names it, too. The lone block of an earlier poll is among them once
        another node has reached its height.
        """
        head, lead = heads[place], self.trust.lead(place)
        others = [other for at, other in heads.items() if at != place]
        numbers = {other.number for other in others if other.number < head.number - 1}
        if head not in others and head != self._verified.get(place):
            numbers.add(head.number)
        if lead is not None and lead.number < head.number and any(other.number >= lead.number for other in others):
            numbers.add(lead.number)
        return numbers

    def _believes(self, place: int, block: Header, heads: Mapping[int, Header]) -> bool:
        others = [other for at, other in heads.items() if at != place]
        since = self._last or min(others, key=lambda other: other.number, default=None)
        return block in others or self.trust.believes(place, block, since, alone=not others)

    async def _deeper(self, views: Sequence[NodeView], *, descend: bool) -> list[NodeView]:
        """Ask also for the ledger's last block and the last head; with `descend` also below the lowest head."""
        lowest = min(view.head.number for view in views)
        heights = {lowest - step for step in _DESCENT_BLOCKS} if descend else set()
        heights |= {block.number for block in (self.anchor, self._last) if block is not None}
        blocks = await self._blocks.at(
            {
                view.place: [at for at in heights if 0 <= at <= view.head.number and at not in view.blocks]
                for view in views
            }
        )
        return [replace(view, blocks={**view.blocks, **blocks.get(view.place, {})}) for view in views]

    def _stalled(self, forks: Sequence[Candidate]) -> bool:
        """Return True while the fork of the ledger's last block stands still and another one grows."""
        anchored = max((fork.block.number for fork in forks if fork.anchored), default=None)
        rival = max((fork.block.number for fork in forks if not fork.anchored), default=None)
        if anchored is None or rival is None:
            self._sides = None
            return False
        if self._sides is None or self._sides[0] != anchored:
            self._sides = anchored, rival
        return rival - self._sides[1] >= _STALLED_BLOCKS

    def shows_less_for_s(self, mark: int) -> float:
        """Return the seconds for which every node in service has shown less than block `mark`, 0 if one shows it."""
        now_s = self._clock.monotonic_s()
        if self._highest is None or self._highest >= mark:
            self._below = None
            return 0.0
        if self._below is None or self._below[0] != mark:
            self._below = mark, now_s
        return now_s - self._below[1]


def _parent(head: Header, heads: Mapping[int, Header], own: Mapping[int, Header]) -> dict[int, Header]:
    """Return the block below a node's newest one, by height: the newest one names its hash.

    Empty if `own` has the height already, or if no other node has its newest block there.
    """
    number = head.number - 1
    if number in own or all(other.number != number for other in heads.values()):
        return {}
    same = (other for other in heads.values() if other.hash == head.parent_hash)
    return {number: next(same, Header(number, head.parent_hash, b""))}
