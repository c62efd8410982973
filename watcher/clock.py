"""Time, passed in and never imported, so that a simulation can drive every stage."""

import asyncio
import time
from typing import Protocol

# Between the two readings the process may have been held up, and nobody minds a second.
_LEAST_MS = 1000


class Clock(Protocol):
    """The only source of time for the stages and the ledger."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since 1970 UTC. For records and due times; deadlines are blocks."""

    def monotonic_s(self) -> float:
        """Seconds on a clock that never jumps. For durations."""

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking the loop."""


class ClockStep:
    """Notices that the wall clock was set back while the other clock went on.

    Set forward, it makes what was to come due early, which mends itself; set back, it would make it wait.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lead_ms = self._read()

    def ms(self) -> int:
        """By how much it was set back, as far as that was not `taken` yet; 0 for less than a second."""
        lead_ms = self._read()
        self._lead_ms = max(self._lead_ms, lead_ms)
        back_ms = self._lead_ms - lead_ms
        return back_ms if back_ms >= _LEAST_MS else 0

    def taken(self, back_ms: int) -> None:
        """What `ms` said has been seen to."""
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
