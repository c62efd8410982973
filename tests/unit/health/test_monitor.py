"""A ledger that takes a small write but not those of a stage is in trouble all the while, and not now and then."""

import asyncio
from random import Random

from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.clock import SystemClock
from watcher.errors import TryLater
from watcher.health.conditions import (
    STORE,
    WATCH,
)
from watcher.health.metrics import Metrics
from watcher.health.monitor import Monitor
from watcher.health.observers import Observer
from watcher.health.readings import (
    Limits,
)
from watcher.health.verdict import Status
from watcher.ledger.writer import NOT_WRITTEN, Batch
from watcher.stage import StageLoop, Wakeups

FULL = f"{NOT_WRITTEN} (OperationalError: database or disk is full)"


class Writing:
    """A stage whose writes fail until there is room."""

    name = "watch"

    def __init__(self) -> None:
        self.room = False
        self.stepped = asyncio.Event()

    async def step(self) -> float:
        self.stepped.set()
        if not self.room:
            raise TryLater(FULL)
        return 60.0


async def test_store_is_down_while_a_stage_waits_though_small_writes_succeed() -> None:
    clock = SystemClock()
    metrics = Metrics("an avs")
    observer = Observer(clock, metrics)
    nodes = NodePool([Node("http://127.0.0.1:9", 1, clock)], clock, Random(1))
    monitor = Monitor(observer, metrics, clock, Limits(), nodes)
    stage, stopping = Writing(), asyncio.Event()
    loop = StageLoop(stage, Wakeups(["watch"]), clock, stopping)
    monitor.started([loop])

    def store() -> tuple[Status, str]:
        service = monitor.step().service(STORE)
        assert service is not None
        return service.status, service.message

    async def until(condition: str | None) -> None:
        async with asyncio.timeout(10):
            while loop.condition != condition:
                stage.stepped.clear()
                await stage.stepped.wait()
                await asyncio.sleep(0)

    running = [asyncio.create_task(loop.run()), asyncio.create_task(monitor.run())]
    try:
        await until(FULL)
        observer.committed(Batch(1, 0.1, FULL))
        assert store() == (Status.DOWN, FULL)
        observer.committed(Batch(1, 0.1, None))
        assert store() == (Status.DOWN, FULL)
        assert monitor.health.condition(WATCH) is None
        stage.room = True
        await until(None)
        assert store()[0] is not Status.DOWN
    finally:
        for job in running:
            job.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await nodes.close()
