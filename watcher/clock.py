"""Time, passed in and never imported, so that a simulation can drive every stage."""

import asyncio
import time
from typing import Protocol

# The process may be held up between the two readings, and a step of less than a second harms nothing.
_STEP_MIN_MS = 1000


class Clock(Protocol):
    """The only source of time for the stages and the ledger."""

    def now_ms(self) -> int:
        """Return the wall clock in milliseconds since 1970 UTC. For records and due times; deadlines are blocks."""

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never steps. For durations."""

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking the event loop."""


class ClockStep:
    """Steps of the wall clock backwards, measured against the monotonic clock.

    A step forwards makes pending timers due early, which does no harm. A step backwards would make them wait longer.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lead_ms = self._read()

    def ms(self) -> int:
        """Return by how much (ms) the clock stepped back since the last `taken`; 0 for less than a second."""
        lead_ms = self._read()
        self._lead_ms = max(self._lead_ms, lead_ms)
        back_ms = self._lead_ms - lead_ms
        return back_ms if back_ms >= _STEP_MIN_MS else 0

    def taken(self, back_ms: int) -> None:
        """Mark a step that `ms` returned as handled."""
        self._lead_ms -= back_ms

    def _read(self) -> int:
        return self._clock.now_ms() - int(self._clock.monotonic_s() * 1000)


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
