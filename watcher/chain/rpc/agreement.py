"""Asks all nodes for head and finality, and applies the rule of `watcher.chain.rpc.evidence` to what they show.

Invariant: no number that one node names becomes the head, or final, before a node shows the block at that height.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from watcher.chain.rpc import evidence
from watcher.chain.rpc.evidence import Candidate, Shown
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
    """Puts a question to every endpoint in service, or to those at some places, at the same time."""

    async def __call__(
        self, question: Callable[[Node], Awaitable[T]], places: Collection[int] | None = None
    ) -> Mapping[int, T]:
        """Return the answers by the endpoint's place; those that fail are left out."""


@dataclass(frozen=True, slots=True)
class Final:
    """A block that counts as final. `firm`: a chain that changes it has broken its promise.

    It is not firm where one of several nodes alone shows it, or where it is the head itself.
    """

    block: Header
    firm: bool


class Agreement:
    """Head and finality of `quorum` nodes. `anchor` is the last block the ledger has read, None before any."""

    def __init__(self, ask_all: AskAll, names: Sequence[str], clock: Clock, quorum: int) -> None:
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
        """Return the head, given the newest block of each node by its place.

        Raises RetryElsewhere when fewer than `quorum` nodes answer or none agree, StaleNode when a node is missing that
        names a newest block and does not have it.
        """
        shown = await self._shown(heads)
        if len(shown) < self._quorum:
            raise self._too_few(heads, len(shown))
        found = evidence.candidates(shown, self._quorum, self.anchor, self._last)
        if evidence.disagreement(shown) is not None or not found:
            shown = await self._deeper(shown, descend=not found)
            found = evidence.candidates(shown, self._quorum, self.anchor, self._last)
        self.trust.compare(shown)
        head = evidence.proven_head(found, len(shown), keep_side=not self._stalled(found))
        if head is None:
            raise RetryElsewhere(
                f"no {self._quorum} endpoints of chain.rpc_urls, as many as chain.quorum asks for, show the same block"
            )
        self._heads = {one.place: one.head.number for one in evidence.on_chain(shown, head)}
        self._highest = max(one.head.number for one in shown)
        if self._below is not None and self._highest >= self._below[0]:
            self._below = None
        self._last = head
        return head

    def _too_few(self, heads: Mapping[int, Header], shown: int) -> RetryElsewhere:
        if len(heads) >= self._quorum:
            named = "; ".join(f"{self._names[place]}: {head.number}" for place, head in heads.items())
            return StaleNode(f"the newest block an endpoint names is not there, or seems impossible ({named})")
        return RetryElsewhere(f"only {shown} of the {self._quorum} endpoints chain.quorum asks for can answer")

    # -- what each node shows ----------------------------------------------------------------------------------------

    async def _shown(self, heads: Mapping[int, Header]) -> list[Shown]:
        wanted = {place: self._heights(place, heads) for place in heads}
        blocks = await self._blocks(wanted)
        found = []
        for place, head in heads.items():
            own = {} if head.number in wanted[place] else {head.number: head}
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
                found.append(Shown(place, newest, own, self.trust.leads(place)))
        return found

    def _heights(self, place: int, heads: Mapping[int, Header]) -> set[int]:
        """Which blocks to ask a node for: its newest, unless another has that too, and the newest of those behind."""
        head, lead = heads[place], self.trust.lead(place)
        others = [other for at, other in heads.items() if at != place]
        wanted = {other.number for other in others if other.number < head.number - 1}
        if head not in others and head != self._verified.get(place):
            wanted.add(head.number)
        if lead is not None and lead.number < head.number and any(other.number >= lead.number for other in others):
            wanted.add(lead.number)
        return wanted

    def _believes(self, place: int, block: Header, heads: Mapping[int, Header]) -> bool:
        others = [other for at, other in heads.items() if at != place]
        since = self._last or min(others, key=lambda other: other.number, default=None)
        return block in others or self.trust.believes(place, block, since, alone=not others)

    async def _blocks(self, wanted: Mapping[int, Iterable[int]]) -> dict[int, Mapping[int, Header]]:
        """Ask each place for its heights, in one request. What a node does not have, or fails to give, is left out."""
        asked = [(place, sorted(heights)) for place, heights in wanted.items() if heights]
        answers = await asyncio.gather(*(self._own(place, heights) for place, heights in asked))
        return {place: own for (place, _), own in zip(asked, answers, strict=True) if own}

    async def _own(self, place: int, heights: Sequence[int]) -> Mapping[int, Header]:
        """Return the blocks of one node at some heights."""
        if len(heights) > 1:
            return (await self._ask_all(lambda node: node.headers(heights), [place])).get(place, {})
        block = (await self._ask_all(lambda node: node.header(heights[0]), [place])).get(place)
        return {} if block is None else {heights[0]: block}

    async def _deeper(self, shown: Sequence[Shown], *, descend: bool) -> list[Shown]:
        """Ask also for the ledger's last block, and further down where no block has enough nodes."""
        lowest = min(one.head.number for one in shown)
        heights = {lowest - step for step in _DESCENT_BLOCKS} if descend else set()
        heights |= {block.number for block in (self.anchor, self._last) if block is not None}
        blocks = await self._blocks(
            {one.place: [at for at in heights if 0 <= at <= one.head.number and at not in one.blocks] for one in shown}
        )
        return [replace(one, blocks={**one.blocks, **blocks.get(one.place, {})}) for one in shown]

    def _stalled(self, found: Sequence[Candidate]) -> bool:
        """Return True while the fork of the ledger's last block stands still and another one grows."""
        held = max((one.block.number for one in found if one.held), default=None)
        rival = max((one.block.number for one in found if not one.held), default=None)
        if held is None or rival is None:
            self._sides = None
            return False
        if self._sides is None or self._sides[0] != held:
            self._sides = held, rival
        return rival - self._sides[1] >= _STALLED_BLOCKS

    def shows_less_for_s(self, mark: int) -> float:
        """Return for how many seconds every node in service has shown less than block `mark`, as far as asked."""
        now_s = self._clock.monotonic_s()
        if self._highest is None or self._highest >= mark:
            self._below = None
            return 0.0
        if self._below is None or self._below[0] != mark:
            self._below = mark, now_s
        return now_s - self._below[1]

    # -- finality ----------------------------------------------------------------------------------------------------

    async def final(self, finality: str | int, head: Header, confirmations: int, above: int = -1) -> Final | None:
        """Return the final block below `head`, None while too few nodes name one, or do not show it at its height.

        Args:
            finality: a block tag, or a depth in blocks below each node's head.
            head: the proven head.
            confirmations: the depth of a block that one of several nodes alone calls final.
            above: a final block up to this one is no news, and is not asked about.
        """
        known: Mapping[int, Mapping[int, Header]] = {}
        if isinstance(finality, int):
            # The proven head may be one node's alone: `finality` blocks below it is the head of all the others.
            finals = [self._heads[place] - finality for place in self._near(head)]
        else:
            named, known = await self._finals(finality, head)
            finals = list(named.values())
            self._note_distance(finals, head.number)
        number = evidence.proven_final(finals, len(self._names), head.number, self._quorum, confirmations)
        if number is None or number <= above:
            return None
        return await self._voted(number, head, sum(final >= number for final in finals), known)

    def _near(self, head: Header) -> list[int]:
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
        """For how long the head has moved on with every node calling it final, 0 while it has not."""
        if self._at_head is None:
            return 0.0
        first_block, first_s, last_block, last_s = self._at_head
        return last_s - first_s if last_block - first_block >= _AT_HEAD_BLOCKS else 0.0

    async def _finals(self, tag: str, head: Header) -> tuple[Mapping[int, int], Mapping[int, Mapping[int, Header]]]:
        """Return what each node near the head calls final, if it shows that block at its own height, too.

        The second value holds the blocks that the nodes showed for it, by place and height, `head` behind the final
        block. A block that a node has shown before is not asked for again.
        """
        answers = await self._ask_all(lambda node: node.header(tag), self._near(head))
        named = {place: block for place, block in answers.items() if block}
        changed = {place: block for place, block in named.items() if self._final_of.get(place) != block}
        there = await self._blocks({place: {block.number, head.number} for place, block in changed.items()})
        for place, block in changed.items():
            self._final_of.pop(place, None)
            if there.get(place, {}).get(block.number) == block:
                self._final_of[place] = block
        return {place: block.number for place, block in named.items() if self._final_of.get(place) == block}, there

    async def _voted(
        self, number: int, head: Header, named_by: int, known: Mapping[int, Mapping[int, Header]]
    ) -> Final | None:
        """Return the block of that number on the chain that ends in `head`, if `quorum` nodes show it.

        `named_by` counts the nodes that call it final; `known` are the blocks that nodes have just shown, by place.
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
    """The block below a node's newest one, which its parent hash names, where another node has it as its newest."""
    number = head.number - 1
    if number in own or all(other.number != number for other in heads.values()):
        return {}
    same = (other for other in heads.values() if other.hash == head.parent_hash)
    return {number: next(same, Header(number, head.parent_hash, b""))}
