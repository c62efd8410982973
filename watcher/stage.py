"""The loop of every stage, and the wake-ups between them.

Invariant: an outside failure never ends a stage, and is logged when it begins and when it ends. Only a broken promise
of the chain, a configuration that no restart can mend, or a bug ends the daemon.
"""

import asyncio
import math
from collections.abc import Iterable
from typing import Protocol

from loguru import logger

from watcher.backoff import doubled_s
from watcher.clock import Clock
from watcher.errors import LostLease, RetryElsewhere, TryLater
from watcher.ledger.transaction import Tx
from watcher.state import State

_WOKEN_BY_STATE = {
    State.SEEN: "admit",
    State.READY: "respond",
    State.COMPUTED: "submit",
    State.WAITING: "submit",
    State.BLOCKED: "submit",
    # An accepted task wakes nobody: the commit that moves the head to the block at which the chain decides does.
    State.UNKNOWN: "confirm",
    State.RESPONDED: "confirm",
    State.RESPONDED_OTHER: "confirm",
}
# Marks went back, or due times changed: what each of these waits for may be there already.
_WOKEN_BY_ANY_MARK = ("admit", "respond", "submit", "confirm", "recheck")
_RETRY_FIRST_S = 0.5
_RETRY_MAX_S = 15.0
_LOST_LEASE_S = 0.05


def woken_by(tx: Tx) -> set[str]:
    """Return the names of the stages that a commit has made work for."""
    return _of_states(tx.entered | tx.due, tx)


def left_by(tx: Tx) -> set[str]:
    """Return the names of the stages that a commit has left work for: it has claimed none of it, or not all."""
    return _of_states((tx.entered | tx.due) - tx.taken, tx)


def _of_states(states: set[State], tx: Tx) -> set[str]:
    names = {_WOKEN_BY_STATE[state] for state in states & _WOKEN_BY_STATE.keys()}
    return names.union(_WOKEN_BY_ANY_MARK) if tx.cursor_moved else names


class Wakeups:
    """One event per stage, which ends the stage's rest."""

    def __init__(self, names: Iterable[str]) -> None:
        self._events = {name: asyncio.Event() for name in names}
        # No stage rests longer: for a process that is not told of the commits of others.
        self.longest_rest_s = math.inf

    def wake(self, name: str) -> None:
        """Wake one stage, if it runs."""
        if name in self._events:
            self._events[name].set()

    def wake_all(self) -> None:
        """Wake every stage."""
        for event in self._events.values():
            event.set()

    def committed(self, tx: Tx) -> None:
        """Wake the stages that a commit has made work for, in one order: a simulation by seed repeats itself."""
        for name in sorted(woken_by(tx)):
            self.wake(name)

    async def wait(self, name: str, timeout_s: float) -> None:
        """Wait until the stage is woken, `timeout_s` at most."""
        event = self._events[name]
        try:
            async with asyncio.timeout(min(timeout_s, self.longest_rest_s)):
                await event.wait()
        except TimeoutError:
            return
        finally:
            event.clear()


class Stage(Protocol):
    """One stage of a task's way."""

    name: str

    async def step(self) -> float:
        """Do one bounded piece of work. Return the seconds to rest unless woken before; 0 to go on at once.

        Raises:
            LostLease: another worker has taken the task; retried at once.
            RetryElsewhere: no node gave a usable reply; retried with back-off.
            TryLater: ledger or system are busy; retried with back-off.
        """


class StageLoop:
    """The loop of one stage. `beat_s` is the end of the last step (monotonic), `condition` the present failure."""

    def __init__(self, stage: Stage, wakeups: Wakeups, clock: Clock, stopping: asyncio.Event) -> None:
        self.stage = stage
        self._wakeups = wakeups
        self._clock = clock
        self._stopping = stopping
        self._failures = 0
        self.beat_s = clock.monotonic_s()
        self.condition: str | None = None

    async def run(self) -> None:
        """Run steps until a stop is asked for. Raises the errors of `step` that a retry cannot mend."""
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
            return _LOST_LEASE_S
        except (RetryElsewhere, TryLater) as error:
            return self._failed(str(error))
        if self._failures:
            logger.info("stage.recovered: the stage works again", stage=self.stage.name, failures=self._failures)
        self._failures, self.condition = 0, None
        return rest_s

    def _failed(self, reason: str) -> float:
        self._failures += 1
        if self._failures == 1:
            logger.warning(
                "stage.retrying: a step of the stage failed and is retried", stage=self.stage.name, reason=reason
            )
        self.condition = reason
        return doubled_s(self._failures, _RETRY_FIRST_S, _RETRY_MAX_S)
