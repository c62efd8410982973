"""The test whether the ledger's cursor was never on the chain: a node can invent blocks above its head.

Invariant: a height that went down is no evidence. A node that lags shows less, too, and its blocks are older than the
cursor's. Timestamps rise along a chain (`validate_header` of ethereum/execution-specs), so no block below the cursor is
younger than the cursor's block.
"""

from collections.abc import Collection
from dataclasses import dataclass

from watcher.chain.rpc.node_blocks import AskAll
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
    """The moment at which the head was first seen below `block`, the cursor, by three clocks.

    `began_s`: seconds of the monotonic clock. `machine_s`: this machine's clock, seconds since 1970; the cursor's block
    was read before, so it is not younger. `chain_s`: the timestamp of that head, seconds since 1970.
    """

    block: Header
    began_s: float
    machine_s: float
    chain_s: int


class Unreached:
    """The watch over a head that stays below the cursor. Nothing of it outlasts the daemon."""

    def __init__(self, ask_all: AskAll, clock: Clock, quorum: int) -> None:
        """Start with the shortest patience.

        Args:
            ask_all: puts a question to the nodes in service.
            clock: measures the patience, and dates the first low head.
            quorum: the setting `chain.quorum`.
        """
        self._ask_all = ask_all
        self._clock = clock
        self._quorum = quorum
        self._since: _Since | None = None
        self._patience_s = PATIENCE_FIRST_S
        self._left_s: float | None = None

    def observe(self, head: Header) -> None:
        """Record the head. A head that reaches the cursor ends the wait."""
        if self._since is not None and head.number >= self._since.block.number:
            self._since = None

    async def disproves(self, cursor: Header, head: Header) -> bool:
        """Return True if `cursor` cannot lie above `head` on the chain, and the nodes do not hold it (`denied`)."""
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
    """Return True if `quorum` nodes reply, and at most half of them hold the block.

    Args:
        there: the block at that height of each node that replies, None for no block.
        block: the block in question.
        quorum: the setting `chain.quorum`.
    """
    holding = sum(header is not None and header.hash == block.hash for header in there)
    return len(there) >= quorum and 2 * holding <= len(there)
