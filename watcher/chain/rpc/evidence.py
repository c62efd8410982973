"""The rule of evidence: the head and the final block that the replies of several nodes prove.

Pure: no clock, no network. `agreement.py` asks the nodes. The rule, also an invariant of ARCHITECTURE.md:
a block counts when `quorum` nodes show it at its height; a node alone ahead counts while nothing contradicts it.
Heights are block numbers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from watcher.errors import StaleNode
from watcher.task import Header

NUMBER_LIMIT = 2**62
# Faster than any chain makes blocks, by the chain's own timestamps, which count whole seconds.
_PACE_BLOCKS_PER_S = 1_000
_PACE_SLACK_BLOCKS = 10_000
# A machine's clock may be wrong, and a test chain may travel in time; no honest block is a day ahead of both.
_AHEAD_LIMIT_S = 86_400


@dataclass(frozen=True, slots=True)
class NodeView:
    """The chain as one node shows it: its newest block, and by height the blocks it returned, the newest one included.

    `place` is the node's place in the configuration. `leads` is False for a node whose lone blocks proved wrong.
    """

    place: int
    head: Header
    blocks: Mapping[int, Header]
    leads: bool = True

    def holds(self, block: Header) -> bool:
        """Return True if the node shows a block of the same hash at the height of `block`."""
        there = self.blocks.get(block.number)
        return there is not None and there.hash == block.hash


def require_height(at: Header, height: int) -> None:
    """Check that a reading at block `at` is evidence: it is not below `height`, an earlier head.

    Raises:
        StaleNode: the block is lower, so the nodes asked are behind another one.
    """
    if at.number < height:
        raise StaleNode(f"the node is at block {at.number}, another one was at {height}: no evidence")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A block that enough nodes show, the highest of its fork.

    `agreeing` counts the nodes that do not contradict it. `anchored`: one of its nodes holds the ledger's last block.
    `followed`: one of them holds the head of the last poll. `place` is the first place of its nodes.
    """

    block: Header
    agreeing: int
    anchored: bool
    followed: bool
    place: int


def plausible(block: Header, since: Header | None, now_s: float) -> bool:
    """Return False for a block that no chain can have reached from `since`.

    Timestamps rise along a chain (`validate_header` of ethereum/execution-specs), so that blocks and time bound each
    other. A block is refused only where it is far ahead of both this machine's clock and the chain.

    Args:
        block: the block to judge.
        since: the last block that is known, None before any.
        now_s: this machine's clock in seconds since 1970.
    """
    if block.number > NUMBER_LIMIT:
        return False
    known_s = 0 if since is None else since.timestamp_s
    if block.timestamp_s > max(now_s, known_s) + _AHEAD_LIMIT_S:
        return False
    if since is None or not since.timestamp_s or not block.timestamp_s:
        return True
    passed_s = max(0, block.timestamp_s - since.timestamp_s)
    return block.number - since.number <= _PACE_SLACK_BLOCKS + _PACE_BLOCKS_PER_S * passed_s


def contradicts(view: NodeView, other: NodeView) -> int | None:
    """Return the lowest height at which two nodes show different blocks, None if they agree."""
    differing = (
        number
        for number in view.blocks.keys() & other.blocks.keys()
        if view.blocks[number].hash != other.blocks[number].hash
    )
    return min(differing, default=None)


def disagreement(views: Sequence[NodeView]) -> tuple[NodeView, NodeView, int] | None:
    """Return two nodes that contradict each other and the lowest height at which they do, None if all agree."""
    pairs = [
        (height, view, other)
        for position, view in enumerate(views)
        for other in views[position + 1 :]
        if (height := contradicts(view, other)) is not None
    ]
    if not pairs:
        return None
    height, view, other = min(pairs, key=lambda pair: pair[0])
    return view, other, height


def candidates(
    views: Sequence[NodeView], quorum: int, anchor: Header | None, last: Header | None = None
) -> list[Candidate]:
    """Return the newest block of each fork that `quorum` nodes show; empty if no block has so many.

    A block that one node alone shows needs a node that may lead, unless no other block is left.

    Args:
        views: the chain as each node shows it.
        quorum: the setting `chain.quorum`.
        anchor: the last block that the ledger has read, None before any.
        last: the head of the last poll, None before any.
    """
    proven = {
        block.hash: (block, holders)
        for view in views
        for block in view.blocks.values()
        if block.parent_hash and len(holders := [other for other in views if other.holds(block)]) >= quorum
    }
    backed = {key: entry for key, entry in proven.items() if len(entry[1]) > 1 or entry[1][0].leads}
    forks = _newest((backed or proven).values())
    return [
        Candidate(
            block,
            len(on_chain(views, block)),
            anchor is not None and any(node.holds(anchor) for node in holders),
            last is not None and any(node.holds(last) for node in holders),
            min(node.place for node in holders),
        )
        for block, holders in forks
    ]


def on_chain(views: Sequence[NodeView], block: Header) -> list[NodeView]:
    """Return the nodes that do not contradict at least one node that holds the block."""
    holders = [view for view in views if view.holds(block)]
    return [view for view in views if any(contradicts(holder, view) is None for holder in holders)]


def _newest(proven: Iterable[tuple[Header, Sequence[NodeView]]]) -> list[tuple[Header, Sequence[NodeView]]]:
    """Return the proven blocks whose nodes have no newer proven block, highest first."""
    newest: list[tuple[Header, Sequence[NodeView]]] = []
    used: set[int] = set()
    for block, nodes in sorted(proven, key=lambda pair: -pair[0].number):
        places = {node.place for node in nodes}
        if not places & used:
            newest.append((block, nodes))
        used |= places
    return newest


def proven_head(forks: Sequence[Candidate], nodes: int, *, keep_side: bool = True) -> Header | None:
    """Return the head among the newest blocks of the forks, None without a fork.

    A fork that most nodes do not contradict comes first, then the fork that holds the ledger's last block, then the
    fork followed so far, then the fork that more nodes do not contradict, then that of the node configured first.

    Args:
        forks: the newest block of each fork, from `candidates`.
        nodes: the number of nodes that replied.
        keep_side: prefer the fork that holds the ledger's last block; False: prefer the others.
    """

    def rank(fork: Candidate) -> tuple[bool, bool, bool, int, int, int]:
        majority = 2 * fork.agreeing > nodes
        return majority, fork.anchored is keep_side, fork.followed, fork.agreeing, -fork.place, fork.block.number

    return max(forks, key=rank).block if forks else None


def proven_final(finals: Sequence[int], nodes: int, head_block: int, quorum: int, confirmations: int) -> int | None:
    """Return the highest block number that counts as final, None while fewer than `quorum` nodes name one.

    The number is the quorum-th lowest, and at least `quorum` nodes call it final. It is `confirmations` below the head,
    or all nodes call it final.

    Args:
        finals: the final block number of each node that names one.
        nodes: the number of configured nodes.
        head_block: the height of the head.
        quorum: the setting `chain.quorum`.
        confirmations: the depth in blocks below the head.
    """
    if len(finals) < quorum:
        return None
    ordered = sorted(min(number, head_block) for number in finals)
    final = min(ordered[quorum - 1], ordered[-quorum])
    if sum(number >= final for number in ordered) < nodes:
        final = min(final, head_block - confirmations)
    return final if final >= 0 else None
