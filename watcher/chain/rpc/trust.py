"""What is remembered of each node: the blocks it was alone to show, and whether they proved right.

Invariant: a node that proved wrong may not be alone ahead for a while; it still counts as one of several, and the pause
ends, because the others may be the ones that stand still.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from loguru import logger

from watcher.chain.rpc import evidence
from watcher.chain.rpc.evidence import Shown
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
    """Nodes that contradict each other. Times in seconds of the monotonic clock."""

    words: str
    first_s: float
    last_s: float


@dataclass(slots=True)
class _Record:
    """One node: the lone block it showed, and how those before it turned out."""

    lead: Header | None = None
    distrusted_until_s: float = 0.0
    distrust_s: float = _DISTRUST_FIRST_S
    matches: int = 0
    doubts: int = 0
    doubted_since_s: float = 0.0


class Trust:
    """The record of the nodes, by their place in the configuration. `names` may be shown."""

    def __init__(self, names: Sequence[str], clock: Clock) -> None:
        self._names = names
        self._clock = clock
        self._records = [_Record() for _ in names]
        self._disagreement: Disagreement | None = None

    @property
    def disagreement(self) -> Disagreement | None:
        """The contradiction seen last, None when none was seen for a while."""
        known = self._disagreement
        if known is None or self._clock.monotonic_s() - known.last_s > _AGREED_AFTER_S:
            return None
        return known

    def leads(self, place: int) -> bool:
        """Return True if the node may be alone ahead."""
        return self._clock.monotonic_s() >= self._records[place].distrusted_until_s

    def lead(self, place: int) -> Header | None:
        """Return the lone block of the node that no other node has reached so far."""
        return self._records[place].lead

    def believes(self, place: int, block: Header, since: Header | None, *, alone: bool) -> bool:
        """Return True if the node's newest block can follow `since`. The only node that answers may insist."""
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

    def compare(self, shown: Sequence[Shown]) -> None:
        """Judge the lone blocks of earlier polls by what the nodes show now, and record who contradicts whom."""
        for one in shown:
            others = [other for other in shown if other.place != one.place]
            self._resolver(one, [other for other in others if other.leads])
            record = self._records[one.place]
            if record.lead is None and others and all(other.head.number < one.head.number for other in others):
                record.lead = one.head
        found = evidence.disagreement(shown)
        if found is not None:
            one, other, height = found
            self._disagree(
                f"{self._names[one.place]} and {self._names[other.place]} show different blocks {height}: "
                f"0x{one.blocks[height].hash.hex()} and 0x{other.blocks[height].hash.hex()}"
            )

    def _resolver(self, one: Shown, others: Sequence[Shown]) -> None:
        record = self._records[one.place]
        lead = record.lead
        if lead is None or lead.number not in one.blocks or all(each.head.number < lead.number for each in others):
            return
        record.lead = None
        if not one.holds(lead):
            self._distrust(one.place, f"{self._names[one.place]} shows another block {lead.number} than before")
            return
        record.matches += 1
        if record.matches >= _MATCHES_TO_TRUST:
            record.distrusted_until_s, record.distrust_s = 0.0, _DISTRUST_FIRST_S

    def unserved(self, block: Header) -> None:
        """Record that no node could read the contract at a block: a node alone with it is not followed for a while."""
        for place, record in enumerate(self._records):
            if record.lead is not None and record.lead.hash == block.hash:
                record.lead = None
                self._distrust(place, f"{self._names[place]} shows block {block.number} and cannot read its state")

    def _distrust(self, place: int, words: str) -> None:
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
        self._disagree(words)

    def _disagree(self, words: str) -> None:
        """Record a contradiction. A node that is the only one configured has nobody to contradict."""
        if len(self._names) == 1:
            return
        now_s, known = self._clock.monotonic_s(), self.disagreement
        if known is None:
            logger.warning("rpc.nodes_disagree: the endpoints of chain.rpc_urls contradict each other", reason=words)
        self._disagreement = Disagreement(words, now_s if known is None else known.first_s, now_s)
