"""What is known about one endpoint: whether it serves, why not, and until when it is left alone."""

from dataclasses import dataclass

from watcher.chain.rpc.node import Node


@dataclass(frozen=True, slots=True)
class EndpointSeen:
    """How one endpoint stands: when it last answered (on the clock that never jumps, None: never), why it is out."""

    name: str
    served_s: float | None
    reason: str | None


@dataclass(slots=True)
class Seat:
    """What is known about one endpoint. `failures` in a row, `wrong_chain` those in a row that were of another chain;
    `reason` is why it is out, None while it serves.

    It asked itself to be left alone until `paused_until_s`; until `rests_until_s` we leave it alone.
    """

    node: Node
    served_s: float | None = None
    failures: int = 0
    rests_until_s: float = 0.0
    paused_until_s: float = 0.0
    reason: str | None = None
    wrong_chain: int = 0
