"""The one loop every stage runs in: do a step, then wait for the bell or for the next due time.

Invariant: trouble outside never ends a stage, and is told once when it begins and once when it is over; what ends the
daemon is a broken promise of the chain, a configuration no restart can mend, or a bug of ours.
"""

import asyncio
from collections.abc import Iterable
from typing import Protocol

from loguru import logger

from watcher.clock import Clock
from watcher.errors import LostLease, RetryElsewhere, TryLater
from watcher.ledger.writer import Tx
from watcher.state import State

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


class Wakeups:
    """One bell per stage name."""

    def __init__(self, names: Iterable[str]) -> None:
        self._wakeups = {name: asyncio.Event() for name in names}

    def wake(self, name: str) -> None:
        """Wake one stage, if it is there."""
        if name in self._wakeups:
            self._wakeups[name].set()

    def wake_all(self) -> None:
        for bell in self._wakeups.values():
            bell.set()

    def committed(self, tx: Tx) -> None:
        """Wake whoever has work after this commit."""
        for state in tx.entered & _WOKEN_BY_STATE.keys():
            self.wake(_WOKEN_BY_STATE[state])
        if tx.cursor_moved:
            for name in _WOKEN_BY_BLOCKS:
                self.wake(name)

    async def wait(self, name: str, timeout_s: float) -> None:
        """Wait for the bell, `timeout_s` at most, and silence it."""
        bell = self._wakeups[name]
        try:
            async with asyncio.timeout(timeout_s):
                await bell.wait()
        except TimeoutError:
            return
        finally:
            bell.clear()


_TROUBLE_FIRST_S = 0.5
_TROUBLE_MAX_S = 15.0


class Stage(Protocol):
    """One stage of a task's way."""

    name: str

    async def step(self) -> float:
        """Do one bounded piece of work. Returns the seconds it may rest when nobody rings."""


class StageLoop:
    """Runs one stage until told to stop. `beat_s` is when it last came round, on the clock that never jumps."""

    def __init__(self, stage: Stage, wakeups: Wakeups, clock: Clock, stopping: asyncio.Event) -> None:
        self.stage = stage
        self._wakeups = wakeups
        self._clock = clock
        self._stopping = stopping
        self._troubled = 0
        self.beat_s = clock.monotonic_s()
        self.condition: str | None = None

    async def run(self) -> None:
        """Raises what a person or a programmer has to mend; everything else is tried again."""
        while not self._stopping.is_set():
            rest_s = await self._step()
            self.beat_s = self._clock.monotonic_s()
            if rest_s > 0 and not self._stopping.is_set():
                await self._wakeups.wait(self.stage.name, rest_s)
            else:
                await asyncio.sleep(0)

    async def _step(self) -> float:
        try:
            rest_s = await self.stage.step()
        except LostLease:
            return 0.05  # somebody else has moved it on; look again
        except (RetryElsewhere, TryLater) as condition:
            return self._in_trouble(str(condition))
        if self._troubled:
            logger.info("{} goes on", self.stage.name)
        self._troubled, self.condition = 0, None
        return rest_s

    def _in_trouble(self, words: str) -> float:
        if not self._troubled:
            logger.warning("{} waits: {}", self.stage.name, words)
        self._troubled += 1
        self.condition = words
        return float(min(_TROUBLE_FIRST_S * 2 ** min(self._troubled - 1, 8), _TROUBLE_MAX_S))
