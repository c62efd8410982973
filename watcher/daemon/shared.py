"""The parts of the process that all AVSs share: what hides secrets, the HTTP server, who may use it."""

from dataclasses import dataclass

from watcher.chain.rpc.connections import Connections
from watcher.health.access import Access
from watcher.health.sites import Sites
from watcher.hook.room import Room
from watcher.redact import Redactor


@dataclass(frozen=True, slots=True)
class Shared:
    """What each AVS is handed.

    Attributes:
        redactor: hides the secrets of all AVSs.
        sites: the addresses of the HTTP server.
        access: who may read them and act.
        connections: those to the nodes.
        room: that of all hooks; None: without a limit.
        several: there are other AVSs: one that is stuck is started again alone, and the wake-up is shared.
    """

    redactor: Redactor
    sites: Sites
    access: Access
    connections: Connections
    room: Room | None = None
    several: bool = False
