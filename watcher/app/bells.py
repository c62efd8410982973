"""What wakes the stages: a bell each, rung by the ledger after a commit that gave the stage something to do.

Invariant: a bell only shortens a wait. A stage that misses it finds its work in the ledger at its next look.
"""

import asyncio
from collections.abc import Iterable

from watcher.ledger.writer import Tx
from watcher.task import State

_WOKEN_BY_STATE = {
    State.SEEN: "admit",
    State.READY: "respond",
    State.COMPUTED: "submit",
    State.WAITING: "submit",
    State.BLOCKED: "submit",
    State.UNKNOWN: "confirm",
    # The endpoint takes requests: what it had blocked can go on. Confirming waits for blocks, which ring by themselves.
    State.ACCEPTED: "submit",
    State.RESPONDED: "confirm",
    State.RESPONDED_OTHER: "confirm",
}
# Confirmations, due blocks and finality are counted in blocks.
_WOKEN_BY_BLOCKS = ("admit", "respond", "submit", "confirm", "recheck")


class Bells:
    """One bell per stage name."""

    def __init__(self, names: Iterable[str]) -> None:
        self._bells = {name: asyncio.Event() for name in names}

    def ring(self, name: str) -> None:
        """Wake one stage, if it is there."""
        if name in self._bells:
            self._bells[name].set()

    def ring_all(self) -> None:
        for bell in self._bells.values():
            bell.set()

    def committed(self, tx: Tx) -> None:
        """Wake whoever has work after this commit."""
        for state in tx.entered & _WOKEN_BY_STATE.keys():
            self.ring(_WOKEN_BY_STATE[state])
        if tx.cursor_moved:
            for name in _WOKEN_BY_BLOCKS:
                self.ring(name)

    async def wait(self, name: str, timeout_s: float) -> None:
        """Wait for the bell, `timeout_s` at most, and silence it."""
        bell = self._bells[name]
        try:
            async with asyncio.timeout(timeout_s):
                await bell.wait()
        except TimeoutError:
            return
        finally:
            bell.clear()
