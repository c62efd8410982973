"""Head and finality by the rule of `watcher.chain.rpc.evidence`: the questions to all nodes, and what they showed.

Invariant: no number that one node names becomes the head, or final, before a node shows the block at that height.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from watcher.chain.rpc import evidence
from watcher.chain.rpc.evidence import Candidate, NodeView
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.trust import Trust
from watcher.clock import Clock
from watcher.errors import RetryElsewhere, StaleNode
from watcher.task import Header

T = TypeVar("T")

# Where nodes agree on no head, the last block they share is looked for so far below the lowest one.
_DESCENT_BLOCKS = (1, 2, 4, 8, 16, 32, 64)
# The fork that holds the ledger's last block is left when another one grows by so many blocks and it does not grow.
_STALLED_BLOCKS = 2
# What a node calls final counts while it is at most so far behind the head: one that hangs must not hold finality.
_NEAR_BLOCKS = 64
# A chain at rest catches up with its finality; one that moves on so far with finality at its head has none to show.
_AT_HEAD_BLOCKS = 10


class AskAll(Protocol):
    """A question to all endpoints in service, or to those at some places, at the same time."""

    async def __call__(
        self, question: Callable[[Node], Awaitable[T]], places: Collection[int] | None = None
    ) -> Mapping[int, T]:
        """Return the replies by the endpoint's place, without those that fail."""


@dataclass(frozen=True, slots=True)
class Final:
    """A block that counts as final. `firm`: a chain that changes it has broken its promise.

    The head is not firm, nor is a block that only one of several nodes shows.
    """

    block: Header
    firm: bool


class Agreement:
    """Head and finality of `quorum` nodes. `anchor` is the last block the ledger has read, None before any.

    Nodes go by their place in the configuration, from 0.
    """

    def __init__(self, ask_all: AskAll, names: Sequence[str], clock: Clock, quorum: int) -> None:
        """Start without a head.

        Args:
            ask_all: puts a question to the nodes in service.
            names: the nodes as they may be shown, by place.
            clock: measures how long nodes show less, or call the head final.
            quorum: the setting `chain.quorum`.
        """
        self._ask_all = ask_all
        self._names = names
        self._clock = clock
        self._quorum = quorum
        self._verified: dict[int, Header] = {}  # by place: the newest block it showed at its height
        self._heads: Mapping[int, int] = {}  # by place: the newest block of each node that does not contradict the head
        self._highest: int | None = None
        self._last: Header | None = None
        self._sides: tuple[int, int] | None = None  # heights: of the anchor's fork when it last grew, of the rival then
        self._below: tuple[int, float] | None = None
        self._final_of: dict[int, Header] = {}  # by place: the final block that the node also showed at its height
        self._at_head: tuple[int, float, int, float] | None = None  # first block and time of finality at the head; last
        self.trust = Trust(names, clock)
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
        self._heads = {view.place: view.head.number for view in evidence.on_chain(views, head)}
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

    # -- what each node shows ----------------------------------------------------------------------------------------

    async def _views(self, heads: Mapping[int, Header]) -> list[NodeView]:
        heights = {place: self._heights(place, heads) for place in heads}
        blocks = await self._blocks(heights)
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

    async def _blocks(
        self, by_place: Mapping[int, Iterable[int]], *, looked: bool = False
    ) -> dict[int, Mapping[int, Header]]:
        """Ask each node for its heights, in one request. Return the blocks it has, by place and height.

        `looked`: those of its last look count.
        """
        asked = [(place, sorted(heights)) for place, heights in by_place.items() if heights]
        answers = await asyncio.gather(*(self._own(place, heights, looked=looked) for place, heights in asked))
        return {place: own for (place, _), own in zip(asked, answers, strict=True) if own}

    async def _own(self, place: int, heights: Sequence[int], *, looked: bool) -> Mapping[int, Header]:
        """Return the blocks of one node at some heights (eth_getBlockByNumber)."""
        if len(heights) > 1:
            return (await self._ask_all(lambda node: node.headers(heights, looked=looked), [place])).get(place, {})
        block = (await self._ask_all(lambda node: node.header(heights[0]), [place])).get(place)
        return {} if block is None else {heights[0]: block}

    async def _deeper(self, views: Sequence[NodeView], *, descend: bool) -> list[NodeView]:
        """Ask also for the ledger's last block and the last head; with `descend` also below the lowest head."""
        lowest = min(view.head.number for view in views)
        heights = {lowest - step for step in _DESCENT_BLOCKS} if descend else set()
        heights |= {block.number for block in (self.anchor, self._last) if block is not None}
        blocks = await self._blocks(
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

    # -- finality ----------------------------------------------------------------------------------------------------

    async def final(self, finality: str | int, head: Header, confirmations: int, above: int = -1) -> Final | None:
        """Return the final block below `head`, None while too few nodes name a final block and show it at its height.

        Args:
            finality: the tag "finalized" or "safe" (eth_getBlockByNumber), or a depth in blocks below each node's head.
            head: the proven head.
            confirmations: the depth in blocks of a block that only some of the nodes call final.
            above: the known final block; a block up to this height is not asked about.
        """
        known: Mapping[int, Mapping[int, Header]] = {}
        if isinstance(finality, int):
            # The proven head may be one node's alone: `finality` blocks below it is the head of all the others.
            finals = [self._heads[place] - finality for place in self._close_to(head)]
        else:
            named, known = await self._finals(finality, head)
            finals = list(named.values())
            self._note_distance(finals, head.number)
        number = evidence.proven_final(finals, len(self._names), head.number, self._quorum, confirmations)
        if number is None or number <= above:
            return None
        return await self._voted(number, head, sum(final >= number for final in finals), known)

    def _close_to(self, head: Header) -> list[int]:
        """Return the places of the nodes that are not far behind the head."""
        return [place for place, number in self._heads.items() if number >= head.number - _NEAR_BLOCKS]

    def _note_distance(self, finals: Sequence[int], head_block: int) -> None:
        if not finals or min(finals) < head_block:
            self._at_head = None
            return
        now_s = self._clock.monotonic_s()
        first_block, first_s = self._at_head[:2] if self._at_head else (head_block, now_s)
        self._at_head = first_block, first_s, head_block, now_s

    @property
    def final_at_head_s(self) -> float:
        """The seconds for which the head has moved on while every node calls it final, else 0."""
        if self._at_head is None:
            return 0.0
        first_block, first_s, last_block, last_s = self._at_head
        return last_s - first_s if last_block - first_block >= _AT_HEAD_BLOCKS else 0.0

    async def _finals(self, tag: str, head: Header) -> tuple[Mapping[int, int], Mapping[int, Mapping[int, Header]]]:
        """Return the final block number of each node close to the head that also shows that block at its height.

        A block that a node has shown before is not asked for again.

        Returns:
            The numbers by place, and the blocks read now (the final ones and those at the head's height) by place and
            height.
        """
        answers = await self._ask_all(lambda node: node.header(tag), self._close_to(head))
        named = {place: block for place, block in answers.items() if block}
        changed = {place: block for place, block in named.items() if self._final_of.get(place) != block}
        heights = {place: {block.number, head.number} for place, block in changed.items()}
        there = await self._blocks(heights, looked=True)
        for place, block in changed.items():
            self._final_of.pop(place, None)
            if there.get(place, {}).get(block.number) == block:
                self._final_of[place] = block
        return {place: block.number for place, block in named.items() if self._final_of.get(place) == block}, there

    async def _voted(
        self, number: int, head: Header, named_by: int, known: Mapping[int, Mapping[int, Header]]
    ) -> Final | None:
        """Return the block of that number on the chain that ends in `head`, if `quorum` nodes show it.

        Args:
            number: the height of the final block.
            head: the proven head.
            named_by: the number of nodes that call the block final.
            known: the blocks that nodes have just shown, by place and height.
        """
        heights = {number, head.number}
        missing = {place: heights for place in self._heads if not heights <= known.get(place, {}).keys()}
        blocks = {place: known[place] for place in self._heads if place not in missing} | await self._blocks(missing)
        ours = next((own[number] for own in blocks.values() if number in own and own.get(head.number) == head), None)
        votes = sum(own.get(number) == ours for own in blocks.values())
        if ours is None or votes < self._quorum:
            return None
        return Final(ours, number < head.number and min(votes, named_by) >= min(2, len(self._names)))


def _parent(head: Header, heads: Mapping[int, Header], own: Mapping[int, Header]) -> dict[int, Header]:
    """Return the block below a node's newest one, by height: the newest one names its hash.

    Empty if `own` has the height already, or if no other node has its newest block there.
    """
    number = head.number - 1
    if number in own or all(other.number != number for other in heads.values()):
        return {}
    same = (other for other in heads.values() if other.hash == head.parent_hash)
    return {number: next(same, Header(number, head.parent_hash, b""))}
