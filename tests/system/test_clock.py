"""The wall clock of the machine jumps, by libfaketime, under a running daemon and between two lives of it.

Deadlines are blocks, and pauses have a length: every task ends as if nothing had been, and as soon. Blocks come as fast
as the daemon reads them.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.system.daemon_rig import Daemon, Rig, running_rig
from tests.system.debian import unpacked
from watcher.devnet.faults import Fault, FaultKind

MINUTE_S = 60
HOUR_S = 3600
YEAR_S = 365 * 24 * HOUR_S
# Less than the clock jumps by, and enough where all else is busy, too.
SOON_S = 60.0


@dataclass(frozen=True)
class Wall:
    """The wall clock of the processes that run with `environment`; their monotonic clock stays the machine's."""

    file: Path
    library: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # Its own way to wait for a monotonic time takes 2 ms for each hand-over of Python's lock between threads.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }

    def is_off_by(self, seconds: int) -> None:
        """Jump there. At once for every process, since none reads half a file."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self.file)


@asynccontextmanager
async def rig_with_clock(folder: Path, *, hook: str = "dice") -> AsyncIterator[tuple[Rig, Wall]]:
    wall = Wall(folder / "clock", unpacked("libfaketime", "usr/lib/*/faketime/libfaketimeMT.so.1"))
    wall.is_off_by(0)
    async with running_rig(folder, hook=hook) as rig:
        yield rig, wall


async def start(rig: Rig, wall: Wall, **more: str) -> Daemon:
    return await rig.start(environment=wall.environment | more)


def written_s(rig: Rig) -> float:
    """The daemon's own time, as it wrote it down last."""
    rows = rig.query("SELECT at_ms FROM journal ORDER BY id DESC LIMIT 1")
    return int(rows[0][0]) / 1000


def more(count: Callable[[], int], than: int) -> bool:
    return count() > than


JUMPS = [-2, HOUR_S, -2 * HOUR_S, 10 * YEAR_S, -20 * YEAR_S, 0]


def steps_are_logged(daemon: Daemon, count: int) -> bool:
    return daemon.log.count("daemon.clock_step: ") == count


async def test_a_clock_that_jumps_about_while_tasks_flow_holds_nothing_up(tmp_path: Path) -> None:
    async with rig_with_clock(tmp_path) as (rig, wall):
        daemon = await start(rig, wall)
        await rig.create()
        backwards, before_s = 0, 0
        for number, off_s in enumerate(JUMPS):
            sent = rig.in_pool()
            await rig.create()
            await rig.net.mine()
            if number % 2:  # some jumps come while the answer is on its way to the chain, some before it is sent
                await rig.until(partial(more, rig.in_pool, sent), "an answer is in the pool")
            wall.is_off_by(off_s)
            await rig.create()
            await rig.settle(timeout_s=SOON_S, as_read=True)
            assert abs(written_s(rig) - time.time() - off_s) < MINUTE_S, "the daemon lives by that clock"
            backwards, before_s = backwards + (off_s < before_s), off_s
            # The jobs look at the clock every few seconds: a step that the next one undoes would not be seen.
            await rig.until(partial(steps_are_logged, daemon, backwards), "the step is logged")
        assert len(await rig.verify()) == 1 + 2 * len(JUMPS)
        assert {task["attempts"] for task in await rig.tasks()} == {1}, "nothing was sent twice"
        assert len(rig.query("SELECT words FROM events WHERE kind = 'clock set back'")) == backwards
        assert await daemon.stop() == 0


async def test_pauses_end_in_time_although_the_clock_was_set_back_meanwhile(tmp_path: Path) -> None:
    """A hook that asks to be asked again, an API that refuses, a request that hangs: and then the jump."""
    async with rig_with_clock(tmp_path, hook="patient") as (rig, wall):
        daemon = await start(rig, wall, WATCHER_OPERATOR__TIMEOUT_S="2")
        waiting = await rig.create(2)
        await rig.net.mine()
        await rig.until(
            lambda: bool(rig.query("SELECT 1 FROM attempts WHERE outcome = 'later'")), "the hook says later"
        )
        wall.is_off_by(-HOUR_S)
        rig.net.hosted.faults.add(Fault(FaultKind.TRANSIENT_400, times=2))
        rig.net.hosted.faults.add(Fault(FaultKind.TIMEOUT, times=1))
        (rig.hook_folder / "open").touch()
        await rig.until(lambda: "waiting" in {rig.state(index) for index in waiting}, "the API has refused one")
        wall.is_off_by(-3 * HOUR_S)
        await rig.settle(timeout_s=SOON_S, as_read=True)
        await rig.verify()
        assert await daemon.stop() == 0


@pytest.mark.parametrize(("hook", "off_s"), [("patient", -HOUR_S), ("dice", -YEAR_S)])
async def test_a_clock_set_back_between_two_lives_holds_nothing_up(tmp_path: Path, hook: str, off_s: int) -> None:
    async with rig_with_clock(tmp_path, hook=hook) as (rig, wall):
        daemon = await start(rig, wall)
        await rig.create(2)
        await rig.net.mine()
        if hook == "patient":
            await rig.until(lambda: rig.all_in("ready"), "the hook is asked")
        else:
            await rig.until(lambda: rig.in_pool() == 2, "both answers are in the pool")
        await daemon.kill()
        wall.is_off_by(off_s)
        (rig.hook_folder / "open").touch()
        daemon = await start(rig, wall)
        await rig.settle(timeout_s=SOON_S, as_read=True)
        await rig.verify()
        assert await daemon.stop() == 0


@pytest.mark.parametrize("off_s", [-HOUR_S, 20 * YEAR_S])
async def test_the_watchdog_is_fed_and_the_rounds_go_on_whatever_the_clock_says(tmp_path: Path, off_s: int) -> None:
    async with rig_with_clock(tmp_path) as (rig, wall):
        daemon = await start(rig, wall, WATCHDOG_USEC="1000000")

        def fed() -> int:
            return daemon.notices().count("WATCHDOG=1")

        await rig.until(partial(more, fed, fed()), "it is fed")
        wall.is_off_by(off_s)
        for _ in range(5):
            await rig.until(partial(more, fed, fed()), "it is fed", timeout_s=5)
        assert await daemon.stop() == 0
