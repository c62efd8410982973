"""The stages of a replica that does not watch: those of the watching roles, which rest, and a poll of the nodes.

Invariant: a stage that only the leader runs does nothing while this replica does not lead, and begins at once when it
does; a replica that could lead, or that asks the chain at times, knows whether its nodes answer.
"""

from watcher.chain.rpc.nodes import NodePool
from watcher.daemon.replica import Replica
from watcher.daemon.wiring import LED, Stages
from watcher.errors import NotLeading
from watcher.stage import Stage

HEAD = "head"
_POLL_EVERY_S = 5.0


class Led:
    """A stage that only the leader runs. `otherwise` is run in its place by the others."""

    def __init__(self, stage: Stage, replica: Replica, otherwise: Stage | None = None) -> None:
        self._stage = stage
        self._replica = replica
        self._otherwise = otherwise
        self.name = stage.name

    async def step(self) -> float:
        """Do the stage's step, if this replica leads. Raises as the stage does."""
        if not self._replica.leads:
            return _POLL_EVERY_S if self._otherwise is None else await self._otherwise.step()
        try:
            return await self._stage.step()
        except NotLeading:
            self._replica.deposed()
            return 0


class HeadPoll:
    """A poll of the head, for a replica that would otherwise ask its nodes nothing for long."""

    name = HEAD

    def __init__(self, nodes: NodePool) -> None:
        self._nodes = nodes

    async def step(self) -> float:
        """Ask for the head. Raises RetryElsewhere if no node answers."""
        await self._nodes.head()
        return _POLL_EVERY_S


def stages_of(stages: Stages, nodes: NodePool, replica: Replica) -> list[Stage]:
    """Return the stages of a replica; those that only the leader runs rest while another leads."""
    head_poll = HeadPoll(nodes)
    running: list[Stage] = [
        Led(stage, replica, head_poll if stage is stages.watch else None) if stage.name in LED else stage
        for stage in stages.stages
    ]
    return running if "watch" in stages.roles else [*running, head_poll]
