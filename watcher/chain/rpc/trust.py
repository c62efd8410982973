"""The memory of each node: the lone blocks it showed, and whether they proved right.

Invariant: a node that proved wrong may not be alone ahead for a while. It still counts as one of several, and the pause
ends, because the other nodes may be the ones that stand still. The rule is in ARCHITECTURE.md, "No head and no finality
on the word of one node".
"""

from collections.abc import Sequence
from dataclasses import dataclass

from loguru import logger

from watcher.chain.rpc import evidence
from watcher.chain.rpc.evidence import NodeView
from watcher.clock import Clock
from watcher.task import Header

# The only node that answers may name a head that seems impossible: it must do so again, for so long.
_DOUBT_POLLS = 3
_DOUBT_S = 5.0
# A node whose lone blocks proved wrong may not be alone ahead for so long, doubled each time.
_DISTRUST_FIRST_S = 30.0
_DISTRUST_MAX_S = 600.0
_MATCHES_TO_TRUST = 3
# Disagreement is over when none was seen for so long.
_AGREED_AFTER_S = 15.0


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A contradiction between nodes, seen first and last at these times (seconds of the monotonic clock)."""

    message: str
    first_s: float
    last_s: float


@dataclass(slots=True)
class _Record:
    """The memory of one node: its lone block, and the fate of those before. Times in seconds of the monotonic clock."""

    lead: Header | None = None
    distrusted_until_s: float = 0.0
    distrust_s: float = _DISTRUST_FIRST_S
    matches: int = 0
    doubts: int = 0
    doubted_since_s: float = 0.0


class Trust:
    """The record of the nodes, by their place in the configuration. `names`: the nodes as they may be shown."""

    def __init__(self, names: Sequence[str], clock: Clock) -> None:
        self._names = names
        self._clock = clock
        self._records = [_Record() for _ in names]
        self._disagreement: Disagreement | None = None

    @property
    def disagreement(self) -> Disagreement | None:
        """The last contradiction, None if it is more than `_AGREED_AFTER_S` seconds old."""
        last = self._disagreement
        if last is None or self._clock.monotonic_s() - last.last_s > _AGREED_AFTER_S:
            return None
        return last

    def leads(self, place: int) -> bool:
        """Return True if the node may be alone ahead."""
        return self._clock.monotonic_s() >= self._records[place].distrusted_until_s

    def lead(self, place: int) -> Header | None:
        """Return the lone block of the node, None without one; `compare` drops it once other nodes have its height."""
        return self._records[place].lead

    def believes(self, place: int, block: Header, since: Header | None, *, alone: bool) -> bool:
        """Return True if the node's newest block can follow `since` (`evidence.plausible`).

        Args:
            place: the place of the node.
            block: its newest block.
            since: the last head, or the lowest head of the other nodes; None: unknown.
            alone: no other node replies. Then the node is believed if it repeats itself in more than `_DOUBT_POLLS`
                polls and for `_DOUBT_S` seconds.
        """
        record, now_s = self._records[place], self._clock.monotonic_s()
        if evidence.plausible(block, since, self._clock.now_ms() / 1000):
            record.doubts = 0
            return True
        if not record.doubts:
            record.doubted_since_s = now_s
            logger.warning(
                "rpc.head_implausible: the node shows a block that cannot follow the last one",
                node=self._names[place],
                block=block.number,
            )
        record.doubts += 1
        if not alone:
            self._disagree(f"{self._names[place]} shows block {block.number}, which seems impossible")
            return False
        insists = record.doubts > _DOUBT_POLLS and now_s - record.doubted_since_s >= _DOUBT_S
        return insists and block.number <= evidence.NUMBER_LIMIT

    def lacks(self, place: int, head: Header) -> None:
        """Record that the node names a newest block and does not have it."""
        self._disagree(f"{self._names[place]} names block {head.number} as the newest and does not have it")

    def compare(self, views: Sequence[NodeView]) -> None:
        """Compare the lone blocks of earlier polls with what the nodes show now, and record a contradiction."""
        for view in views:
            others = [other for other in views if other.place != view.place]
            self._check_lead(view, [other for other in others if other.leads])
            record = self._records[view.place]
            if record.lead is None and others and all(other.head.number < view.head.number for other in others):
                record.lead = view.head
        pair = evidence.disagreement(views)
        if pair is not None:
            view, other, height = pair
            self._disagree(
                f"{self._names[view.place]} and {self._names[other.place]} show different blocks {height}: "
                f"0x{view.blocks[height].hash.hex()} and 0x{other.blocks[height].hash.hex()}"
            )

    def _check_lead(self, view: NodeView, others: Sequence[NodeView]) -> None:
        record = self._records[view.place]
        lead = record.lead
        if lead is None or lead.number not in view.blocks or all(other.head.number < lead.number for other in others):
            return
        record.lead = None
        if not view.holds(lead):
            self._distrust(view.place, f"{self._names[view.place]} shows another block {lead.number} than before")
            return
        record.matches += 1
        if record.matches >= _MATCHES_TO_TRUST:
            record.distrusted_until_s, record.distrust_s = 0.0, _DISTRUST_FIRST_S

    def unserved(self, block: Header) -> None:
        """Record that no node can read the contract at a block. A node alone with that block is distrusted."""
        for place, record in enumerate(self._records):
            if record.lead is not None and record.lead.hash == block.hash:
                record.lead = None
                self._distrust(place, f"{self._names[place]} shows block {block.number} and cannot read its state")

    def _distrust(self, place: int, message: str) -> None:
        record, now_s = self._records[place], self._clock.monotonic_s()
        record.matches = 0
        if now_s >= record.distrusted_until_s:
            logger.warning(
                "rpc.node_distrusted: the node is not followed alone for a while",
                node=self._names[place],
                rest_s=round(record.distrust_s),
            )
            record.distrusted_until_s = now_s + record.distrust_s
            record.distrust_s = min(record.distrust_s * 2, _DISTRUST_MAX_S)
        self._disagree(message)

    def _disagree(self, message: str) -> None:
        """Record a contradiction, unless only one node is configured."""
        if len(self._names) == 1:
            return
        now_s, known = self._clock.monotonic_s(), self.disagreement
        if known is None:
            logger.warning("rpc.nodes_disagree: the endpoints of chain.rpc_urls contradict each other", reason=message)
        self._disagreement = Disagreement(message, now_s if known is None else known.first_s, now_s)
