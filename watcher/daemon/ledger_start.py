"""The start of an AVS's ledger, up to its first stage: lock, beginning, replicas, attempts that were cut off.

Invariants: a database server that cannot answer is waited for, as nodes are, and a file is not; what blocks runs in a
thread, so that a database that hangs holds up no other AVS.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from random import SystemRandom
from typing import TypeVar

from loguru import logger

from watcher.clock import Clock
from watcher.daemon.own_ledger import OwnLedger, begun_at, own_ledger
from watcher.daemon.replica import Replica, ReplicaPlan, joined
from watcher.daemon.startup import Waiting
from watcher.ledger import sending
from watcher.ledger.engine import parse_url, sqlite_path
from watcher.ledger.known_sources import Beginning
from watcher.ledger.store import Ledger
from watcher.settings.daemon import ROLES
from watcher.settings.model import Settings
from watcher.stage import Wakeups

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LedgerStart:
    """The steps in which the ledger of `settings` is taken; `waiting` ends them on a stop."""

    settings: Settings
    clock: Clock
    waiting: Waiting

    async def answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Return what `ask` returns.

        Raises:
            Stopped: a stop was asked for.
            WatcherError: the errors of `ask`, those that may pass only with a file.
        """
        is_server = sqlite_path(parse_url(self.settings.ledger.url)) is None
        return await (self.waiting.until_answered(ask, "the ledger") if is_server else ask())

    async def lock(self, stack: ExitStack) -> OwnLedger:
        """Return the ledger, locked until `stack` is closed. Raises Stopped, and the errors of `own_ledger`."""
        url = parse_url(self.settings.ledger.url)
        return await self.answered(lambda: asyncio.to_thread(stack.enter_context, own_ledger(url)))

    async def begun(self, own: OwnLedger) -> Beginning | None:
        """Return what `begun_at` finds. Raises Stopped, and its errors."""
        chain_id, section = self.settings.chain.chain_id, self.settings.task_manager
        return await self.answered(lambda: asyncio.to_thread(begun_at, own.url, chain_id, section))

    async def join(self, own: OwnLedger, ledger: Ledger, wakeups: Wakeups, stack: AsyncExitStack) -> Replica | None:
        """Become one of the daemons that share the ledger, until `stack` is closed. Raises Stopped.

        Returns:
            The replica; None on SQLite, which one daemon writes.
        """
        if sqlite_path(own.url) is not None:
            return None
        operator = self.settings.operator
        needed = ROLES if self.settings.answers else ("watch", "confirm")
        roles = tuple(role for role in self.settings.daemon.roles if role in needed)
        plan = ReplicaPlan(roles, needed, operator.concurrency, operator.resolve_after_blocks)
        return await self.answered(
            lambda: stack.enter_async_context(joined(own.url, ledger, plan, self.clock, wakeups, SystemRandom()))
        )

    async def recover(self, ledger: Ledger, *, has_replicas: bool) -> None:
        """Leave attempts that the last stop cut off to the chain's verdict; those of other replicas go on."""
        patience, source_id = self.settings.operator.resolve_after_blocks, ledger.source_id
        if has_replicas:
            recovered = ledger.write(sending.recover_orphaned, source_id, on_start=True, patience_blocks=patience)
        else:
            recovered = ledger.write(sending.recover_stale, source_id, all_of_them=True, patience_blocks=patience)
        if count := await recovered:
            logger.warning(
                "daemon.recovered: attempts were cut off by the last stop; the chain decides on them", attempts=count
            )
