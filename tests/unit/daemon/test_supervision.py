"""An AVS whose stages make no progress is started again, and the process goes on."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from watcher.daemon import supervisor as supervisors
from watcher.daemon.announcer import Announcer
from watcher.daemon.supervision import watch_progress
from watcher.daemon.supervisor import AvsSupervisor
from watcher.settings.avs import Avs

REASON = "stage submit makes no progress"


class Progress:
    """The monitor of one run; `stuck` is why it makes no progress."""

    def __init__(self, stuck: str | None) -> None:
        self.stuck = stuck


class Run:
    """A run that does nothing but watch its own progress."""

    def __init__(self, stuck: str | None) -> None:
        self._progress, self._stopping, self.began = Progress(stuck), asyncio.Event(), asyncio.Event()

    async def run(self, *, is_first_try: bool = True) -> None:
        self.began.set()
        await watch_progress(cast("Any", self._progress), self._stopping)

    def stop(self) -> None:
        self._stopping.set()


async def test_a_stop_ends_the_watch_at_once() -> None:
    stopping = asyncio.Event()
    watching = asyncio.create_task(watch_progress(cast("Any", Progress(None)), stopping))
    await asyncio.sleep(0)
    stopping.set()
    async with asyncio.timeout(2):
        await watching


async def test_a_run_without_progress_ends_and_another_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisors, "_PAUSE_FIRST_S", 0.0)
    runs = [Run(REASON), Run(None)]
    left = iter(runs)
    notifier = SimpleNamespace(**dict.fromkeys(("status", "ready", "reloading", "stopping"), lambda *_, **__: None))
    announcement = Announcer(cast("Any", notifier)).add("one")
    failures = []

    def note_failure() -> bool:
        failures.append(announcement.missing)
        return False

    avs = Avs("one", settings=cast("Any", object()))
    supervised = AvsSupervisor(avs, lambda *_: cast("Any", next(left)), announcement, note_failure)
    running = asyncio.create_task(supervised.run())
    async with asyncio.timeout(10):
        await runs[1].began.wait()
        assert failures == [REASON]
        supervised.stop()
        await running
    assert supervised.is_over
