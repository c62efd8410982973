"""What is drawn once for a scenario: its rules, and which faults may happen in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

# What may go wrong, and how often where it does: per question, answer, commit or run.
FAULTS: Mapping[str, float] = {
    "node errors": 0.06, "narrow": 0.05, "withheld": 0.15, "forged task": 0.04, "forged response": 0.04,
    "poison": 0.04, "foreign": 0.05, "api": 0.85, "hook fails": 0.25, "hook later": 0.1, "hook skips": 0.04,
    "slow hook": 0.2, "no worker": 0.04, "ledger": 0.01, "empty views": 0.15,
}  # fmt: skip


@dataclass(frozen=True)
class Rules:
    """What is fixed for a scenario. Heights and depths in blocks."""

    window: int
    finality: int
    by_depth: bool
    confirmations: int
    nodes: int
    quorum: int
    drift: int
    max_span: int
    concurrency: int
    resolve_after: int
    hook_attempts: int
    faults: tuple[str, ...]

    @classmethod
    def draw(cls, chance: Random, faults: Sequence[str] | None = None) -> "Rules":
        nodes, share = chance.choice((1, 1, 2, 3)), 0.0
        if faults is None:
            share = chance.choice((0.0, 0.2, 0.4, 0.8))
            faults = [name for name in FAULTS if name != "empty views" and chance.random() < share]
        drawn = cls(
            window=chance.choice((4, 6, 8, 12, 20)),
            finality=chance.choice((2, 3, 5, 8)),
            by_depth=chance.random() < 0.4,
            confirmations=chance.choice((0, 0, 1, 2)),
            nodes=nodes,
            quorum=2 if nodes > 1 and chance.random() < 0.15 else 1,
            drift=chance.choice((0, 0, 0, 1)),
            max_span=chance.choice((2, 5, 50)),
            concurrency=chance.choice((1, 4)),
            resolve_after=chance.choice((1, 2, 4)),
            hook_attempts=chance.choice((1, 3, 6)),
            faults=tuple(faults),
        )
        # Drawn last, so that the scenarios without it are the ones they were before there was such a fault.
        return replace(drawn, faults=(*drawn.faults, "empty views")) if chance.random() < share / 2 else drawn
