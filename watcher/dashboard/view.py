"""What a page is made from: the settings, one reading of the ledger, the last evaluation, the query string."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Connection

from watcher.health.readyz import Daemon, SeenCondition
from watcher.health.verdict import Health
from watcher.report.payload import Decoder


@dataclass(frozen=True)
class DashboardPlan:
    """The settings that pages depend on.

    Attributes:
        avs_name: the setting operator.avs_name, "" without one.
        chain_id: the chain of the task manager.
        task_manager: its address, 0x hex.
        confirmations: the setting chain.confirmations, in blocks.
        max_attempts: the setting hook.max_attempts.
        observes: no task is answered (operator.api = "none").
        base: the path below which the pages are, "" for the top.
        avs: the name of the AVS among several, "" for the only one.
        make_decoder: returns the types of messages and answers; called for the first page that shows any.
    """

    avs_name: str
    chain_id: int
    task_manager: str
    confirmations: int
    max_attempts: int
    observes: bool
    make_decoder: Callable[[], Decoder]
    base: str = ""
    avs: str = ""

    @cached_property
    def decoder(self) -> Decoder:
        return self.make_decoder()

    @property
    def name(self) -> str:
        """Return how the pages call this watcher: its AVS, else the address of its task manager."""
        return self.avs or self.avs_name or f"{self.task_manager[:8]}…{self.task_manager[-6:]}"


@dataclass(frozen=True, slots=True)
class View:
    """One reading for one page. `next_probe_s`: seconds until an API is tried again, None while all take requests."""

    conn: Connection
    source_id: int
    plan: DashboardPlan
    health: Health
    next_probe_s: float | None
    now_ms: int
    query: Mapping[str, str]

    @property
    def daemon(self) -> Daemon:
        """Return this daemon as another process would read it from /readyz."""
        conditions = tuple(SeenCondition(each.key, each.message, each.since_ms) for each in self.health.conditions)
        return Daemon(conditions=conditions, next_probe_s=self.next_probe_s, observes=self.plan.observes)


@dataclass(frozen=True, slots=True)
class Page:
    """A page to render. `status` is the HTTP status."""

    template: str
    values: Mapping[str, Any]
    status: int = 200
