"""What the answers of several nodes prove about the chain: its head, and what is final.

Pure: no clock, no network. `agreement.py` asks the nodes. The rule, also an invariant of ARCHITECTURE.md:
a block counts when `quorum` nodes show it at its height; a node alone ahead counts while nothing contradicts it.
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
class Shown:
    """What one node shows: its newest block, and the blocks it gave when asked by number, the newest one included.

    `place` is the node's place in the configuration. `leads` is False for a node whose lone blocks proved wrong.
    """

    place: int
    head: Header
    blocks: Mapping[int, Header]
    leads: bool = True

    def holds(self, block: Header) -> bool:
        """Return True if the node shows this very block at its height."""
        there = self.blocks.get(block.number)
        return there is not None and there.hash == block.hash


def require_height(at: Header, height: int) -> None:
    """Check that a reading at block `at` is evidence: the head was at `height` before.

    Raises:
        StaleNode: the block is lower, so the nodes asked are behind another one.
    """
    if at.number < height:
        raise StaleNode(f"the node is at block {at.number}, another one was at {height}: no evidence")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A block that enough nodes show, the highest of its fork.

    `agreeing` counts the nodes that do not contradict it. `held` tells whether one of its nodes holds the ledger's last
    block, `followed` whether one holds the head of the last poll.
    """

    block: Header
    agreeing: int
    held: bool
    followed: bool
    place: int


def plausible(block: Header, since: Header | None, now_s: float) -> bool:
    """Return False for a block that no chain can have reached from `since` (None: nothing is known yet).

    `now_s` is this machine's clock in seconds since 1970. It refuses only what is far ahead of both clock and chain.
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


def contradicts(one: Shown, other: Shown) -> int | None:
    """Return the lowest height at which two nodes show different blocks, None where there is none."""
    differing = (
        number
        for number in one.blocks.keys() & other.blocks.keys()
        if one.blocks[number].hash != other.blocks[number].hash
    )
    return min(differing, default=None)


def disagreement(shown: Sequence[Shown]) -> tuple[Shown, Shown, int] | None:
    """Return two nodes that contradict each other and the lowest height at which they do, None while all agree."""
    found = [
        (height, one, other)
        for position, one in enumerate(shown)
        for other in shown[position + 1 :]
        if (height := contradicts(one, other)) is not None
    ]
    if not found:
        return None
    height, one, other = min(found, key=lambda pair: pair[0])
    return one, other, height


def candidates(
    shown: Sequence[Shown], quorum: int, anchor: Header | None, last: Header | None = None
) -> list[Candidate]:
    """Return the newest block of each fork that `quorum` nodes show; empty when no block has so many.

    `anchor` is the last block the ledger has read, `last` the head of the last poll; None where there is none.
    A block that one node alone shows needs a node that may lead, unless nothing else is left.
    """
    proven = {
        block.hash: (block, nodes)
        for one in shown
        for block in one.blocks.values()
        if block.parent_hash and len(nodes := [each for each in shown if each.holds(block)]) >= quorum
    }
    backed = {key: found for key, found in proven.items() if len(found[1]) > 1 or found[1][0].leads}
    forks = _newest((backed or proven).values())
    return [
        Candidate(
            block,
            len(on_chain(shown, block)),
            anchor is not None and any(node.holds(anchor) for node in nodes),
            last is not None and any(node.holds(last) for node in nodes),
            min(node.place for node in nodes),
        )
        for block, nodes in forks
    ]


def on_chain(shown: Sequence[Shown], block: Header) -> list[Shown]:
    """Return the nodes that do not contradict a node which holds the block."""
    holders = [one for one in shown if one.holds(block)]
    return [one for one in shown if any(contradicts(holder, one) is None for holder in holders)]


def _newest(proven: Iterable[tuple[Header, Sequence[Shown]]]) -> list[tuple[Header, Sequence[Shown]]]:
    """Leave out every block above which one of its own nodes has a newer proven one."""
    found: list[tuple[Header, Sequence[Shown]]] = []
    used: set[int] = set()
    for block, nodes in sorted(proven, key=lambda pair: -pair[0].number):
        places = {node.place for node in nodes}
        if not places & used:
            found.append((block, nodes))
        used |= places
    return found


def proven_head(found: Sequence[Candidate], nodes: int, *, keep_side: bool = True) -> Header | None:
    """Return the head among the newest blocks of the forks, None where there is none. `nodes`: how many answered.

    A fork that most nodes do not contradict comes first; then the one that holds the ledger's last block (with
    `keep_side` False: another one); then the one followed so far; then the one of the node configured first.
    """

    def rank(one: Candidate) -> tuple[bool, bool, bool, int, int, int]:
        majority = 2 * one.agreeing > nodes
        return majority, one.held is keep_side, one.followed, one.agreeing, -one.place, one.block.number

    return max(found, key=rank).block if found else None


def proven_final(finals: Sequence[int], nodes: int, head_block: int, quorum: int, confirmations: int) -> int | None:
    """Return the highest block number that counts as final, None while fewer than `quorum` nodes name one.

    `finals` are what nodes call final, `nodes` is how many there are. It is the quorum-th lowest, and at least
    `quorum` nodes call it final; it is `confirmations` below the head, or all nodes call it final.
    """
    if len(finals) < quorum:
        return None
    ordered = sorted(min(one, head_block) for one in finals)
    final = min(ordered[quorum - 1], ordered[-quorum])
    if sum(one >= final for one in ordered) < nodes:
        final = min(final, head_block - confirmations)
    return final if final >= 0 else None
