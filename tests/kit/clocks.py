"""Clocks for tests, one for each way in which a test rules over time."""

import asyncio
from collections.abc import Callable

from watcher.clock import SystemClock


class SetClock:
    """Time stands still until a test moves it, or somebody sleeps. `back_ms` is how far the wall clock was set back."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.at_ms = now_ms
        self.back_ms = 0

    @property
    def now_s(self) -> float:
        return self.at_ms / 1000

    @now_s.setter
    def now_s(self, seconds: float) -> None:
        self.at_ms = round(seconds * 1000)

    def now_ms(self) -> int:
        return self.at_ms - self.back_ms

    def monotonic_s(self) -> float:
        return self.at_ms / 1000

    async def sleep(self, seconds: float) -> None:
        self.at_ms += int(seconds * 1000)


class HandClock(SystemClock):
    """The monotonic clock stands still until a test sets `now_s`; the wall clock and sleeping are the machine's."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic_s(self) -> float:
        return self.now_s


class AheadClock(SystemClock):
    """The machine's clocks, ahead by each wait, which takes no time, and by what a test adds to `ahead_s`."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now_ms(self) -> int:
        return super().now_ms() + round(self.ahead_s * 1000)

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s

    async def sleep(self, seconds: float) -> None:
        self.ahead_s += seconds


class QuickClock(SystemClock):
    """The machine's clocks. A wait is written down, reported to `on_sleep`, and takes a moment only."""

    def __init__(self, on_sleep: Callable[[], object] = lambda: None) -> None:
        self.waits_s: list[float] = []
        self._on_sleep = on_sleep

    async def sleep(self, seconds: float) -> None:
        self.waits_s.append(seconds)
        self._on_sleep()
        await asyncio.sleep(min(seconds, 0.01))
