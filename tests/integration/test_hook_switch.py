"""A hook that is replaced while it runs: every task is answered once, by the old code or by the new."""

import asyncio
from pathlib import Path

import pytest

from watcher.errors import FixConfiguration
from watcher.hook.plan import PoolPlan
from watcher.hook.pool import WorkerPool
from watcher.hook.switch import HookSwitch
from watcher.task import Response
from watcher.testing import make_task

OLD = "import time\ndef respond(task):\n    time.sleep(0.05)\n    return b'old' + task.message\n"
NEW = "def respond(task):\n    return b'new' + task.message\n"


def pool(folder: Path, module: str) -> WorkerPool:
    return WorkerPool(f"{module}:respond", folder, PoolPlan(workers=1, timeout_s=20))


async def test_replaced_hook_ends_its_tasks_and_the_new_one_takes_the_rest(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(OLD)
    (tmp_path / "two.py").write_text(NEW)
    async with HookSwitch(old := pool(tmp_path, "one")) as switch:
        early = [asyncio.create_task(switch.run(make_task(bytes([number])))) for number in range(10)]
        await asyncio.sleep(0)
        before, now = await switch.replace(pool(tmp_path, "two"))
        assert (before.partition("@")[0], now.partition("@")[0]) == ("one:respond", "two:respond")
        late = await switch.run(make_task(b"\xff"))
        assert isinstance(late, Response) and late.resp_message == b"new\xff"
        assert late.hook_version == switch.version == now
        answers = await asyncio.gather(*early)
        assert [answer.resp_message for answer in answers if isinstance(answer, Response)] == [
            b"old" + bytes([number]) for number in range(10)
        ]
        async with asyncio.timeout(20):
            while old.alive:  # noqa: ASYNC110 - the pool has no event for it
                await asyncio.sleep(0.01)


async def test_hook_that_cannot_be_loaded_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(OLD)
    async with HookSwitch(pool(tmp_path, "one")) as switch:
        with pytest.raises(FixConfiguration):
            await switch.replace(pool(tmp_path, "nowhere"))
        answer = await switch.run(make_task(b"\x01"))
        assert isinstance(answer, Response) and answer.resp_message == b"old\x01"


async def test_closing_ends_the_replaced_hook_too(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("import time\ndef respond(task):\n    time.sleep(60)\n")
    (tmp_path / "two.py").write_text(NEW)
    async with HookSwitch(old := pool(tmp_path, "one")) as switch:
        stuck = asyncio.create_task(switch.run(make_task(b"")))
        await asyncio.sleep(0.2)
        await switch.replace(pool(tmp_path, "two"))
    assert not old.alive
    with pytest.raises(Exception, match=r"."):
        await stuck
