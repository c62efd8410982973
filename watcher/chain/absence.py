"""Zero is what every empty cache says: when a reading that shows nothing of a task, or of its response, is evidence.

Invariant: no task ends by one reading of zero. It takes the same reading from `quorum` endpoints, or two readings at
different heights and `APART_S` seconds apart. A hash that differs and is not zero is evidence at once.
"""

from collections.abc import Sequence
from dataclasses import replace

from watcher.clock import Clock
from watcher.ledger import absences
from watcher.ledger.store import Ledger
from watcher.task import Absence, Absent, Header, OpenTask

# Caches of providers and replicas that restart are empty for seconds. Deadlines are past when this is asked, and nobody
# waits for the end of such a task.
APART_S = 6.0


class AbsenceRule:
    """Keeps the first reading of zero in the ledger, where a restart does not lose it, and accepts the second.

    `quorum`: the number of endpoints that have given each reading alike (`NodePool`).
    """

    def __init__(self, ledger: Ledger, clock: Clock, quorum: int) -> None:
        self._ledger = ledger
        self._clock = clock
        self._quorum = quorum

    async def proven(self, held: Sequence[OpenTask], of: Absent, at: Header) -> list[OpenTask]:
        """Return the tasks whose `of` was read as zero at `at` and may be taken as absent.

        The first reading of the others is recorded; they are due for the second one block and `APART_S` later.
        """
        if self._quorum > 1 or not held:
            return list(held)
        now_ms = self._clock.now_ms()
        proven, waiting = [], []
        for task in held:
            first = _first(task, of, at, now_ms)
            if at.number > first.block_number and now_ms - first.at_ms >= APART_S * 1000:
                proven.append(task)
            else:
                waiting.append(replace(task, absence=first))
        await self._ledger.write(absences.record, waiting, round(APART_S * 1000), at.number + 1)
        return proven


def _first(task: OpenTask, of: Absent, at: Header, now_ms: int) -> Absence:
    """The reading this one is compared with: itself where no other is kept, or the clock has stepped back since."""
    kept = task.absence
    if kept is None or kept.of is not of or kept.at_ms > now_ms or kept.block_number > at.number:
        return Absence(of, at.number, now_ms)
    return kept
