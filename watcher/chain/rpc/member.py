"""The state of one endpoint: in service or not, the reason, and the end of its rest."""

from dataclasses import dataclass

from watcher.chain.rpc.node import Node


@dataclass(frozen=True, slots=True)
class EndpointSeen:
    """An endpoint as health shows it.

    `served_s` is the monotonic time of its last reply, None before the first; `reason` is None while it serves.
    """

    name: str
    served_s: float | None
    reason: str | None


@dataclass(slots=True)
class Member:
    """The state of one endpoint. Times are monotonic seconds.

    `failures` counts those in a row, `wrong_chain` the replies of another chain in a row. `reason` is that of the last
    failure, None while the endpoint serves. The endpoint asked for a pause until `paused_until_s`; nothing is asked of
    it until `rests_until_s`.
    """

    node: Node
    served_s: float | None = None
    failures: int = 0
    rests_until_s: float = 0.0
    paused_until_s: float = 0.0
    reason: str | None = None
    wrong_chain: int = 0
