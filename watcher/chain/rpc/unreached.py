"""Judges whether the block the ledger has read up to was never on the chain: a node can invent blocks above its head.

Invariant: a height that went down is no evidence. A node that lags shows less, too, and it shows older blocks: what
cannot be is a block below the cursor that is younger than the cursor, because times rise along a chain.
"""

from collections.abc import Collection
from dataclasses import dataclass

from watcher.chain.rpc.agreement import AskAll
from watcher.clock import Clock
from watcher.task import Header

# As long as every node shows less than the head the ledger knows before that is lowered; doubled with each use,
# until there was none for an hour: a node that invents again also seems to go on past what it invented before.
PATIENCE_FIRST_S = 10.0
_PATIENCE_MAX_S = 600.0
_CALM_AFTER_S = 3600.0
# Clocks of nodes and of this machine differ; a block so much younger than the cursor's block does not lie below it.
_YOUNGER_S = 30
# Where the chain's clock is far behind this machine's: so much time of its own, and not as fast as a node catches up.
_CHAIN_TIME_S = 600
_CATCHING_UP_FACTOR = 2


@dataclass(frozen=True, slots=True)
class _Since:
    """When the head was first seen below `block`, the cursor: by the monotonic clock and by the clocks of both sides.

    The cursor's block was read before `machine_s`, so it is not younger. Times in seconds, the last two since 1970.
    """

    block: Header
    began_s: float
    machine_s: float
    chain_s: int


class Unreached:
    """Watches a head that stays below the cursor. It forgets when the daemon ends."""

    def __init__(self, ask_all: AskAll, clock: Clock, quorum: int) -> None:
        self._ask_all = ask_all
        self._clock = clock
        self._quorum = quorum
        self._since: _Since | None = None
        self._patience_s = PATIENCE_FIRST_S
        self._left_s: float | None = None

    def observe(self, head: Header) -> None:
        """Take notice of the head: one that reaches the cursor ends the wait."""
        if self._since is not None and head.number >= self._since.block.number:
            self._since = None

    async def disproves(self, cursor: Header, head: Header) -> bool:
        """Return True if `cursor` cannot lie above `head` on the chain, and nodes asked for it do not hold it."""
        if not self._contradicts(head, cursor):
            return False
        there = await self._ask_all(lambda node: node.header(cursor.number))
        return denied(there.values(), cursor, self._quorum)

    def _contradicts(self, head: Header, cursor: Header) -> bool:
        now_s = self._clock.monotonic_s()
        since = self._since
        if since is None or since.block != cursor:
            since = self._since = _Since(cursor, now_s, self._clock.now_ms() / 1000, head.timestamp_s)
        if now_s - since.began_s < self._patience(now_s):
            return False
        if head.timestamp_s - max(since.machine_s, since.chain_s) >= _YOUNGER_S:
            return True
        passed_s = head.timestamp_s - since.chain_s
        return _CHAIN_TIME_S <= passed_s <= _CATCHING_UP_FACTOR * (now_s - since.began_s)

    def left(self) -> None:
        """Record that the cursor went back: the next wait is twice as long."""
        now_s = self._clock.monotonic_s()
        self._patience_s = min(self._patience(now_s) * 2, _PATIENCE_MAX_S)
        self._since, self._left_s = None, now_s

    def _patience(self, now_s: float) -> float:
        calm = self._left_s is None or now_s - self._left_s >= _CALM_AFTER_S
        return PATIENCE_FIRST_S if calm else self._patience_s


def denied(there: Collection[Header | None], block: Header, quorum: int) -> bool:
    """Return True if `quorum` nodes say what they hold at the block's height, and no more than half hold the block.

    `there` has what each node that answers holds at that height, None for nothing.
    """
    holding = sum(one is not None and one.hash == block.hash for one in there)
    return len(there) >= quorum and 2 * holding <= len(there)
