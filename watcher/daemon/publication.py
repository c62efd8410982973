"""The publication of roots: what each receiver lacks, given to it until it has it.

Invariant: a receiver that fails holds up neither the others nor the daemon's work, and is asked again. The ledger notes
a root as published once every receiver has it, so that a restart in between loses none; others than the file may get
such a root twice.
"""

from collections.abc import Sequence
from typing import Protocol

from loguru import logger

from watcher.errors import TryLater
from watcher.health.root_metrics import RootMetrics
from watcher.ledger.audit.roots import Root
from watcher.once import Once
from watcher.text import to_hex

_AT_ONCE = 100


class Receiver(Protocol):
    """One receiver of roots."""

    @property
    def name(self) -> str:
        """Its name in the log."""

    @property
    def keeps_all(self) -> bool:
        """True if it gets the roots of former runs, too."""

    async def take(self, roots: Sequence[Root]) -> None:
        """Take roots, the oldest first. Raises TryLater, without secrets, if it cannot take all of them now."""


class LogLines:
    """The log, with a line for each root."""

    name = "log"
    keeps_all = False

    async def take(self, roots: Sequence[Root]) -> None:
        """Write the roots to the log."""
        for root in roots:
            logger.info(
                "audit.root: the root of a day of the record; keep it where nobody can edit it",
                day=root.day,
                root=to_hex(root.root),
                first_seq=root.first_seq,
                last_seq=root.last_seq,
                head_hash=to_hex(root.head_hash),
            )


class Publication:
    """The receivers of one daemon, and how far each has got."""

    def __init__(self, receivers: Sequence[Receiver] = (), metrics: RootMetrics | None = None) -> None:
        """Take the receivers besides the log, and the metric that tells when every one of them had the newest root."""
        self._receivers: Sequence[Receiver] = (LogLines(), *receivers)
        self._metrics = metrics
        self._upto: dict[str, int] = {}
        self._failing = Once()
        self._reasons: dict[str, str] = {}

    async def give(self, past: Sequence[Root], fresh: Sequence[Root]) -> bool:
        """Give every receiver what it lacks. Return True once all of them have everything.

        Args:
            past: the roots that were published before, the oldest first.
            fresh: those that follow, and that are to be published now.
        """
        done = [await self._give_one(each, [*past, *fresh] if each.keeps_all else fresh) for each in self._receivers]
        if self._metrics is not None:
            self._metrics.undelivered = "; ".join(f"{name}: {reason}" for name, reason in self._reasons.items())
        return all(done)

    async def _give_one(self, receiver: Receiver, roots: Sequence[Root]) -> bool:
        lacking = [root for root in roots if root.last_seq > self._upto.get(receiver.name, 0)]
        try:
            for begin in range(0, len(lacking), _AT_ONCE):
                part = lacking[begin : begin + _AT_ONCE]
                await receiver.take(part)
                self._upto[receiver.name] = part[-1].last_seq
        except TryLater as error:
            if self._failing.begins(receiver.name):
                logger.warning(
                    "audit.root_not_published: a receiver did not take the root of a day; it is asked again",
                    receiver=receiver.name,
                    reason=str(error),
                )
            else:  # one failure alone is no condition: the next try follows within seconds
                self._reasons[receiver.name] = str(error)
            return False
        self._reasons.pop(receiver.name, None)
        if self._failing.ends(receiver.name):
            logger.info("audit.root_published: the receiver has every root again", receiver=receiver.name)
        return True

    def noted(self, at_ms: int) -> None:
        """Record that the ledger has noted the newest root as published, in ms since 1970."""
        if self._metrics is not None:
            self._metrics.published(at_ms)
