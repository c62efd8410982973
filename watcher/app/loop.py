"""The one loop every stage runs in: do a step, then wait for the bell or for the next due time.

Invariant: trouble outside never ends a stage, and is told once when it begins and once when it is over; what ends the
daemon is a broken promise of the chain, a configuration no restart can mend, or a bug of ours.
"""

import asyncio
from typing import Protocol

from loguru import logger

from watcher.app.bells import Bells
from watcher.clock import Clock
from watcher.errors import LostLease, RetryElsewhere, TryLater

_TROUBLE_FIRST_S = 0.5
_TROUBLE_MAX_S = 15.0


class Stage(Protocol):
    """One stage of a task's way."""

    name: str

    async def step(self) -> float:
        """Do one bounded piece of work. Returns the seconds it may rest when nobody rings."""


class StageLoop:
    """Runs one stage until told to stop. `beat_s` is when it last came round, on the clock that never jumps."""

    def __init__(self, stage: Stage, bells: Bells, clock: Clock, stopping: asyncio.Event) -> None:
        self.stage = stage
        self._bells = bells
        self._clock = clock
        self._stopping = stopping
        self._troubled = 0
        self.beat_s = clock.monotonic_s()
        self.trouble: str | None = None

    async def run(self) -> None:
        """Raises what a person or a programmer has to mend; everything else is tried again."""
        while not self._stopping.is_set():
            rest_s = await self._step()
            self.beat_s = self._clock.monotonic_s()
            if rest_s > 0 and not self._stopping.is_set():
                await self._bells.wait(self.stage.name, rest_s)
            else:
                await asyncio.sleep(0)

    async def _step(self) -> float:
        try:
            rest_s = await self.stage.step()
        except LostLease:
            return 0.05  # somebody else has moved it on; look again
        except (RetryElsewhere, TryLater) as trouble:
            return self._in_trouble(str(trouble))
        if self._troubled:
            logger.info("{} goes on", self.stage.name)
        self._troubled, self.trouble = 0, None
        return rest_s

    def _in_trouble(self, words: str) -> float:
        if not self._troubled:
            logger.warning("{} waits: {}", self.stage.name, words)
        self._troubled += 1
        self.trouble = words
        return float(min(_TROUBLE_FIRST_S * 2 ** min(self._troubled - 1, 8), _TROUBLE_MAX_S))
