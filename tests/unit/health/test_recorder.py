"""The recorder: what holds becomes a period in the ledger, also over an outage of the ledger and a blind time."""

from pathlib import Path
from random import Random

import pytest
from sqlalchemy.engine import URL

from tests.conformance.rig import CHAIN_ID, MANAGER, START_BLOCK
from tests.kit.clocks import SetClock
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.errors import TryLater
from watcher.health.conditions import API
from watcher.health.metrics import Metrics
from watcher.health.monitor import Monitor
from watcher.health.observers import Observer
from watcher.health.readings import Limits
from watcher.health.recorder import PeriodRecorder
from watcher.health.verdict import Condition, Health
from watcher.ledger import schema
from watcher.ledger.periods import RUNNING, periods_between
from watcher.ledger.store import Ledger, open_ledger

CLOCK_MS = 1_700_000_000_000


class _Recording:
    """A recorder on a clock that is set by hand; `hold` sets the conditions of the moment."""

    def __init__(self) -> None:
        self.clock = SetClock(CLOCK_MS)
        metrics = Metrics("an avs")
        nodes = NodePool([Node("http://127.0.0.1:9", 1, self.clock)], self.clock, Random(1))
        self.monitor = Monitor(Observer(self.clock, metrics), metrics, self.clock, Limits(), nodes)
        self.recorder = PeriodRecorder(self.monitor, nodes, self.clock)

    def hold(self, *keys: str, seconds: int) -> None:
        """Let these conditions hold for so many looks, a second apart."""
        for _ in range(seconds):
            conditions = tuple(Condition(key, "why", self.clock.now_ms()) for key in keys)
            self.monitor.health = Health(self.clock.now_ms(), (), conditions)
            self.recorder.observe()
            self.clock.at_ms += 1000

    async def kept(self, ledger: Ledger) -> list[tuple[str, float, float]]:
        """Return the stored periods with their begin and end in seconds since the start."""
        rows = await ledger.read(periods_between, ledger.source_id, 0, 2**60)
        return [(row.key, (row.began_ms - CLOCK_MS) / 1000, (row.last_ms - CLOCK_MS) / 1000) for row in rows]


def _url(folder: Path) -> URL:
    url = URL.create("sqlite", database=str(folder / "watcher.db"))
    schema.upgrade(url)
    return url


async def test_condition_becomes_a_period_with_its_own_end(tmp_path: Path) -> None:
    run = _Recording()
    async with open_ledger(_url(tmp_path), run.clock, CHAIN_ID, MANAGER, START_BLOCK) as ledger:
        run.hold(seconds=5)
        run.recorder.opened(ledger)
        run.hold(API, seconds=10)
        run.hold(seconds=5)
        run.hold(API, seconds=3)  # back at once: the same period
        run.hold(seconds=20)
        await run.recorder.write()
        assert await run.kept(ledger) == [(RUNNING, 0, 42), (API, 5, 22)]
        run.hold(API, seconds=2)
        await run.recorder.close()
        assert await run.kept(ledger) == [(RUNNING, 0, 45), (API, 5, 22), (API, 43, 45)]


async def test_blind_time_belongs_to_no_period(tmp_path: Path) -> None:
    run = _Recording()
    async with open_ledger(_url(tmp_path), run.clock, CHAIN_ID, MANAGER, START_BLOCK) as ledger:
        run.recorder.opened(ledger)
        run.hold(API, seconds=3)
        run.clock.at_ms += 600_000  # the machine slept
        run.hold(API, seconds=3)
        await run.recorder.write()
        kept = await run.kept(ledger)
    assert sorted(kept) == sorted([(RUNNING, 0, 2), (API, 0, 2), (RUNNING, 603, 605), (API, 603, 605)])


async def test_long_run_is_stored_in_days(tmp_path: Path) -> None:
    run = _Recording()
    async with open_ledger(_url(tmp_path), run.clock, CHAIN_ID, MANAGER, START_BLOCK) as ledger:
        run.recorder.opened(ledger)
        for _ in range(86_400 // 20 + 1):
            run.recorder.observe()
            run.clock.at_ms += 20_000
        await run.recorder.write()
        assert await run.kept(ledger) == [(RUNNING, 0, 86_400), (RUNNING, 86_400, 86_400)]


async def test_refused_periods_are_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = _Recording()
    async with open_ledger(_url(tmp_path), run.clock, CHAIN_ID, MANAGER, START_BLOCK) as ledger:
        run.recorder.opened(ledger)
        write = ledger.write

        async def refuse(*_: object, **__: object) -> None:
            raise TryLater("the disk is full")

        monkeypatch.setattr(ledger, "write", refuse)
        run.hold("store", seconds=3)
        await run.recorder.write()
        run.hold(seconds=15)
        await run.recorder.write()
        monkeypatch.setattr(ledger, "write", write)
        await run.recorder.write()
        assert await run.kept(ledger) == [(RUNNING, 0, 17), ("store", 0, 2)]
