"""Time, passed in and never imported, so that a simulation can drive every stage."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """The only source of time for the stages and the ledger."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since 1970 UTC. For records and due times; deadlines are blocks."""

    def monotonic_s(self) -> float:
        """Seconds on a clock that never jumps. For durations."""

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking the loop."""


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
