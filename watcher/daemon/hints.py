"""What the replicas of a ledger say to each other by NOTIFY, outside of the commits that made it.

Invariant: a hint carries no data, and one that is lost costs the pause of a poll.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import Random

from watcher.clock import Clock
from watcher.errors import TryLater
from watcher.ledger import replicas
from watcher.ledger.listener import Listener, channel_of
from watcher.ledger.session import Session
from watcher.ledger.store import Ledger
from watcher.stage import Wakeups

# Hints that come within this time travel together.
_GATHER_S = 0.02
MARKS, REPLICAS = "marks", "replicas"


class Hints:
    """The hints of one replica, and those that it gets. Topics are names of stages, `MARKS` and `REPLICAS`."""

    def __init__(
        self,
        session: Session,
        ledger: Ledger,
        wakeups: Wakeups,
        clock: Clock,
        on_replicas: Callable[[], None],
    ) -> None:
        """Send nothing yet; `on_replicas` is called when replicas came or went, or slots are free."""
        self._session = session
        self._ledger = ledger
        self._wakeups = wakeups
        self._clock = clock
        self._on_replicas = on_replicas
        self._sender, self._channel = 0, ""
        self._listener: Listener | None = None
        self._topics: set[str] = set()
        self._has_topics = asyncio.Event()

    async def join(self, replica_id: int) -> None:
        """Speak as this replica from now on. Raises TryLater if the database cannot be reached."""
        schema = await self._session.run(replicas.schema_name)
        self._sender, self._channel = replica_id, channel_of(schema, self._ledger.source_id)

    @property
    def is_listening(self) -> bool:
        """Return True while the hints of others arrive."""
        return self._listener is not None and self._listener.is_listening

    async def run(self, random: Random) -> None:
        """Send and listen until cancelled."""
        self._listener = Listener(self._session.url, self._channel, self._notified, self._clock, random)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listener.run(), name="listener")
            group.create_task(self._send(), name="hints")

    def tell(self, *topics: str) -> None:
        """Tell the others of these topics, soon."""
        if topics:
            self._topics.update(topics)
            self._has_topics.set()

    async def tell_now(self, topic: str) -> None:
        """Announce a topic to the others, and return once it is sent. Raises TryLater as `Session.run` does."""
        await self._session.run(replicas.notify, self._channel, f"{self._sender} {topic}")

    async def _send(self) -> None:
        while True:
            await self._has_topics.wait()
            self._has_topics.clear()
            topics, self._topics = ",".join(sorted(self._topics)), set()
            with suppress(TryLater):
                await self.tell_now(topics)
            await self._clock.sleep(_GATHER_S)

    def _notified(self, payload: str) -> None:
        """Wake what a notification names; "": some may have been missed."""
        sender, _, topics = payload.partition(" ")
        if sender == str(self._sender):
            return
        names = set(topics.split(",")) if payload else {MARKS, REPLICAS}
        self._ledger.work_elsewhere()
        if not payload:
            self._wakeups.wake_all()
        if MARKS in names:
            self._ledger.moved_elsewhere()
        if REPLICAS in names:
            self._on_replicas()
        for name in names - {MARKS, REPLICAS}:
            self._wakeups.wake(name)
