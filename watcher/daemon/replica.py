"""This daemon as one of several that share a ledger on PostgreSQL: its beats, its lead, its share of the API, its news.

Invariants: the lead and the share end by this process's monotonic clock unless a beat renews them, so that a process
that was stopped neither leads nor sends on; what others say is a hint, and every stage finds its work by polling, too.
"""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from random import Random

from loguru import logger
from sqlalchemy.engine import URL

from watcher.clock import Clock
from watcher.daemon.hints import MARKS, REPLICAS, Hints
from watcher.daemon.process_name import process_name, this_host, was_ended
from watcher.daemon.wiring import LED
from watcher.errors import TryLater
from watcher.files import program_version
from watcher.health.readings import ReplicaSeen
from watcher.ledger import replicas, sending
from watcher.ledger.replicas import BEAT_S, LEASE_MS, Identity, Roll
from watcher.ledger.session import Session
from watcher.ledger.store import Ledger
from watcher.ledger.transaction import Tx
from watcher.stage import Wakeups, left_by

# A share that falls is given back as soon as the requests above it have ended.
_SHRINK_S = 0.2
# The pause behind a beat that failed, as by a lock that a frozen process holds.
_RETRY_S = 0.5
# The longest rest of a stage while no notification can come from the replica that makes its work.
_POLL_S = 1.0
_LEAVE_S = 5.0
_CLAIMING = ("respond", "submit", "confirm")  # the stages that find work where leases end


@dataclass(frozen=True, slots=True)
class ReplicaPlan:
    """The settings of a replica.

    `roles` are those that this process runs, `needed` those that some replica must have. `budget` is
    operator.concurrency, `patience_blocks` operator.resolve_after_blocks.
    """

    roles: tuple[str, ...]
    needed: tuple[str, ...]
    budget: int
    patience_blocks: int


class Replica:
    """One replica of a task manager. `join` comes first; `run` beats until cancelled."""

    def __init__(self, url: URL, ledger: Ledger, plan: ReplicaPlan, clock: Clock, wakeups: Wakeups) -> None:
        """Take the ledger, open, and the wake-ups of the stages."""
        self._patience_blocks = plan.patience_blocks
        self._session = Session(url)
        self._ledger = ledger
        self._clock = clock
        self._wakeups = wakeups
        self._identity = Identity(this_host(), process_name(), program_version(), plan.roles)
        self._id = 0
        self._roll = Roll(None, 0, (), (), 0, 0, ())
        self._budget = plan.budget
        self._needed = plan.needed
        self._whole_s = clock.monotonic_s()  # when every role was last seen
        self._in_use: Callable[[], int] = lambda: 0
        self._on_share: Callable[[], None] = lambda: None
        self._until_s = -math.inf
        self._term: int | None = None
        self._has_orphans = self._is_leaving = False
        self._running: asyncio.Task[None] | None = None
        self._beat_now = asyncio.Event()
        self._hints = Hints(self._session, ledger, wakeups, clock, self._beat_now.set)

    @property
    def leads(self) -> bool:
        """Return True while this replica watches the chain and keeps house for all."""
        return self._term is not None and self._clock.monotonic_s() < self._until_s

    @property
    def share(self) -> int:
        """Return how many requests this replica may have on their way to the API now."""
        return self._roll.slots if self._clock.monotonic_s() < self._until_s else 0

    @property
    def seen(self) -> ReplicaSeen:
        """Return this replica and the others, for the reports."""
        live = self._roll.live
        roles = Counter(role for replica in live for role in replica.roles)
        return ReplicaSeen(
            id=self._id,
            roles=self._identity.roles,
            leads=self.leads,
            leader=next((replica.host for replica in live if replica.id == self._roll.leader_id), ""),
            count=len(live),
            live=roles,
            missing=tuple(role for role in self._needed if not roles[role]),
            missing_s=max(0.0, self._clock.monotonic_s() - self._whole_s),
            share=self.share,
            is_told=self._is_told,
        )

    async def join(self) -> None:
        """Become one of the replicas, with a first beat. Raises TryLater if the database cannot be reached."""
        source_id = self._ledger.source_id
        self._id, gone = await self._session.run(replicas.join, source_id, self._identity, was_ended)
        await self._hints.join(self._id)
        self._ledger.join(self._id, self._require_lead, lambda: self.leads, lambda: self._is_told)
        await self._beat()
        if gone:
            await self._take_back()

    async def guard(self, stopping: asyncio.Event) -> None:
        """Return when `stopping` is set. Raises what ends the beats: a bug."""
        assert self._running is not None, "within `joined`"
        waiting = asyncio.create_task(stopping.wait())
        await asyncio.wait({self._running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._running.done():
            self._running.result()

    def attach(self, in_use: Callable[[], int], on_share: Callable[[], None]) -> None:
        """Let the submitting stage use the share.

        Args:
            in_use: returns the number of its running requests.
            on_share: called when the share has changed.
        """
        self._in_use, self._on_share = in_use, on_share

    def committed(self, tx: Tx) -> None:
        """Tell the others of the work that a commit leaves to them; without others it does nothing."""
        if len(self._roll.live) > 1:
            names = left_by(tx) - LED if self.leads else left_by(tx)
            self._hints.tell(*names, *([MARKS] if tx.marks_moved else []))

    def deposed(self) -> None:
        """Note that the ledger refused a commit of this replica, because another leads."""
        if self._term is not None:
            logger.warning("replica.deposed: another replica leads now", term=self._term)
        self._term = None

    def start(self, random: Random) -> None:
        """Beat, tell and listen until `leave`."""
        self._running = asyncio.create_task(self._run(random), name="replica")

    async def _run(self, random: Random) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hints.run(random), name="hints")
            group.create_task(self._keep_beating(), name="beat")

    async def resign(self) -> None:
        """Give the lead back, if this replica has it: its watching stages have ended."""
        self._is_leaving = True
        if self._term is None:
            return
        self._term = None
        with suppress(TryLater, TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await self._session.run(replicas.resign, self._ledger.source_id, self._id)
                await self._hints.tell_now(REPLICAS)

    async def leave(self) -> None:
        """Leave the replicas, and give the share back: nothing is on its way any more."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        with suppress(TryLater, TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await self._session.run(replicas.leave, self._ledger.source_id, self._id)
                await self._hints.tell_now(REPLICAS)
        self._session.close()

    # -- the beat ------------------------------------------------------------------------------------------------------

    async def _keep_beating(self) -> None:
        failed = False
        while True:
            self._beat_now.clear()
            pause_s = _SHRINK_S if self._roll.kept > self._roll.target else BEAT_S
            pause_s = min(pause_s, _RETRY_S) if failed else pause_s
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._beat_now.wait()
            try:
                await self._beat()
                failed = False
            except TryLater as error:  # lead and share end by themselves
                logger.debug("replica.beat_failed: the replica could not renew its row", reason=str(error))
                failed = True

    async def _beat(self) -> None:
        began_s, before = self._clock.monotonic_s(), self._roll
        used = max(self._in_use(), self.share)
        roll = await self._session.run(
            replicas.beat,
            self._ledger.source_id,
            self._id,
            self._identity,
            used,
            self._budget,
            may_lead=not self._is_leaving,
        )
        self._roll, self._until_s = roll, began_s + LEASE_MS / 1000
        self._follow_lead(roll)
        if {role for replica in roll.live for role in replica.roles}.issuperset(self._needed):
            self._whole_s = began_s
        if roll.marks != before.marks:
            self._ledger.moved_elsewhere()
        self._wakeups.longest_rest_s = math.inf if self._is_told else _POLL_S
        if roll.slots != before.slots:
            self._on_share()
        if len(roll.live) > 1 and _concerns_others(before, roll):
            self._hints.tell(REPLICAS)
        if roll.stalled:
            logger.warning(
                "replica.stalled: sessions held locks of the ledger while their process stood still, and were ended",
                sessions=roll.stalled,
            )
        if roll.gone:
            logger.warning("replica.gone: replicas were not seen any more; their tasks are free", replicas=roll.gone)
        if roll.gone or self._has_orphans:
            await self._take_back()

    @property
    def _is_told(self) -> bool:
        """Return True if every commit of others is announced here, or there are no others."""
        return len(self._roll.live) < 2 or self._hints.is_listening

    def _follow_lead(self, roll: Roll) -> None:
        led, self._term = self._term, roll.term if roll.leader_id == self._id and not self._is_leaving else None
        if self._term is not None and led != self._term:
            logger.info("replica.leads: this replica watches the chain from now on", term=self._term)
            self._ledger.moved_elsewhere()
            self._wakeups.wake_all()
        elif led is not None and self._term is None and not self._is_leaving:
            logger.warning("replica.deposed: another replica leads now", term=led)

    async def _take_back(self) -> None:
        """Free the tasks that replicas held which are gone; what they were sending is left to the chain's verdict."""
        self._has_orphans = True
        count = await self._ledger.write(
            sending.recover_orphaned, self._ledger.source_id, patience_blocks=self._patience_blocks
        )
        self._has_orphans = False
        if count:
            logger.warning("replica.recovered: attempts of a replica were cut off; the chain decides", attempts=count)
        self._wakeups.wake_all()
        self._hints.tell(*_CLAIMING)

    def _require_lead(self, tx: Tx) -> None:
        replicas.require_lead(tx, self._ledger.source_id, self._id, self._term)


def _concerns_others(before: Roll, now: Roll) -> bool:
    """Return True if the others should beat at once: replicas came or went, or slots are free."""
    ids = [[replica.id for replica in roll.live] for roll in (before, now)]
    return ids[0] != ids[1] or now.kept < before.kept


@asynccontextmanager
async def joined(
    url: URL, ledger: Ledger, plan: ReplicaPlan, clock: Clock, wakeups: Wakeups, random: Random
) -> AsyncIterator[Replica]:
    """Be one of the replicas of a ledger inside this block. Raises TryLater if the database cannot be reached."""
    replica = Replica(url, ledger, plan, clock, wakeups)
    try:
        await replica.join()
        replica.start(random)
        yield replica
    finally:
        await replica.leave()
