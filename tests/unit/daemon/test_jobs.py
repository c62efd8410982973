"""The periodic jobs, run by the real scheduler over stages that wait."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from watcher.clock import SystemClock
from watcher.daemon import jobs
from watcher.daemon.jobs import Jobs


class Endless:
    """A part whose run takes longer than the daemon lives."""

    def __init__(self) -> None:
        self.began, self.ended = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


async def test_stop_logs_no_error_when_a_job_is_running(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jobs, "_FIRST_S", 0)
    part = Endless()
    names = ("reconcile", "drift", "consistency", "backfill", "auditing")
    periodic = Jobs(cast("Any", SimpleNamespace(**dict.fromkeys(names, part))), SystemClock())
    with caplog.at_level(logging.WARNING, logger="apscheduler"):
        periodic.start(lambda: None, None)
        await asyncio.wait_for(part.began.wait(), 10)
        periodic.stop()
        await asyncio.wait_for(part.ended.wait(), 10)
        for _ in range(10):  # the scheduler looks at what has ended
            await asyncio.sleep(0)
    assert caplog.records == []
