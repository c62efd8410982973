"""Pools of several AVSs share room: no more workers run at the same time than all of them together may."""

import asyncio
from pathlib import Path

from watcher.hook.plan import PoolPlan
from watcher.hook.pool import WorkerPool
from watcher.hook.room import Room
from watcher.task import Response
from watcher.testing import make_task

# Each run notes itself as a file, and counts those that run meanwhile.
HOOK = """
import os, pathlib, time

RUNS = pathlib.Path(__file__).with_name("runs")

def respond(task):
    mine = RUNS / str(os.getpid())
    mine.touch()
    try:
        time.sleep(0.01)
        return str(len(list(RUNS.iterdir()))).encode()
    finally:
        mine.unlink()
"""


async def test_pools_that_share_room_take_turns(tmp_path: Path) -> None:
    (tmp_path / "shared_hook.py").write_text(HOOK)
    (tmp_path / "runs").mkdir()
    plan = PoolPlan(workers=2, landlock="off", room=Room(1, 4, 30.0))
    async with (
        WorkerPool("shared_hook:respond", tmp_path, plan) as first,
        WorkerPool("shared_hook:respond", tmp_path, plan) as second,
        asyncio.timeout(30),
    ):
        tasks = [make_task(bytes([number]), task_index=number) for number in range(12)]
        answers = await asyncio.gather(*(pool.run(task) for task in tasks for pool in (first, second)))
    assert [answer.resp_message for answer in answers if isinstance(answer, Response)] == [b"1"] * 24
