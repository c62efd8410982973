"""The parts of the process that all AVSs share: what hides secrets, the HTTP server, who may use it."""

from dataclasses import dataclass

from watcher.health.access import Access
from watcher.health.sites import Sites
from watcher.text import Redactor


@dataclass(frozen=True, slots=True)
class Shared:
    """What each AVS is handed.

    Attributes:
        redactor: hides the secrets of all AVSs.
        sites: the addresses of the HTTP server.
        access: who may read them and act.
        restarts: an AVS that is stuck is started again; False for the only one: the service manager does that.
    """

    redactor: Redactor
    sites: Sites
    access: Access
    restarts: bool = False
