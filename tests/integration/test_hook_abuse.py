"""Each way of a hook under abuse: every kind of fault between good tasks, none of which is lost."""

import asyncio
import contextlib
import random
import sys
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from bench.hooks.abusive import FAULTS, square
from watcher.errors import AttemptFailed, TryLater
from watcher.hook import wire
from watcher.hook.channel import Channel
from watcher.hook.plan import PoolPlan
from watcher.hook.runner import Runner, open_runner
from watcher.task import Response, Task
from watcher.testing import make_task

HOOKS = Path(__file__).parents[2] / "bench" / "hooks"
GOOD = 200
# These give an answer, and leave something behind: a process, memory, output.
ANSWERED = {
    "module": {"flood", "fork", "leak"},
    "exec": {"flood", "fork", "leak"},
    "http": {"fork", "leak"},
    "grpc": {"fork", "leak"},
}


@contextlib.asynccontextmanager
async def target_of(way: str) -> AsyncIterator[str]:
    """Give the target of a way, with its service running in a process group of its own."""
    if way in ("module", "exec"):
        yield "abusive:respond" if way == "module" else f"exec:{sys.executable} abusive.py exec"
        return
    command = [sys.executable, "-u", str(HOOKS / "abusive.py"), way]
    service = await asyncio.create_subprocess_exec(
        *command, cwd=HOOKS.parents[1], env={"PYTHONPATH": str(HOOKS.parents[1]), "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert service.stdout is not None
    try:
        yield (await asyncio.wait_for(service.stdout.readline(), 30)).decode().strip()
    finally:
        service.kill()
        await service.wait()


async def outcome(runner: Runner, task: Task) -> bytes | AttemptFailed:
    """Return the answer or the failure of one attempt; what no task is at fault for is retried, as the stage does."""
    async with asyncio.timeout(90):
        while True:
            try:
                verdict = await runner.run(task)
            except AttemptFailed as error:
                return error
            except TryLater:
                await asyncio.sleep(0.05)
                continue
            assert isinstance(verdict, Response)
            return verdict.resp_message


@pytest.mark.parametrize("way", ["module", "exec", "http", "grpc"])
async def test_faults_cost_their_own_tasks_alone(way: str) -> None:
    if way == "grpc":
        pytest.importorskip("grpc", reason="the extra grpc is not installed")
    messages = [number.to_bytes(32, "big") for number in range(GOOD)] + [fault.encode() for fault in FAULTS]
    random.Random(7).shuffle(messages)
    plan = PoolPlan(workers=4, timeout_s=2.0)
    async with target_of(way) as target, open_runner(target, plan, app_dir=HOOKS) as runner:
        tasks = [make_task(message, task_index=index) for index, message in enumerate(messages)]
        outcomes = dict(zip(messages, await asyncio.gather(*(outcome(runner, task) for task in tasks)), strict=True))
        good = {message: result for message, result in outcomes.items() if len(message) == 32}
        assert len(good) == GOOD
        assert {message: result for message, result in good.items() if result != square(message)} == {}
        answered = {fault for fault in FAULTS if isinstance(outcomes[fault.encode()], bytes)}
        assert answered == ANSWERED[way]
        assert all(outcomes[fault.encode()] == fault.encode() for fault in answered)
        # What comes later is answered, too.
        assert await outcome(runner, make_task((9).to_bytes(32, "big"))) == (81).to_bytes(32, "big")


async def test_a_worker_that_is_gone_with_its_last_reply_costs_no_other_task(monkeypatch: pytest.MonkeyPatch) -> None:
    target = f"exec:{sys.executable} abusive.py exec"
    async with open_runner(target, PoolPlan(workers=1), app_dir=HOOKS) as runner:
        for number in range(40):  # the pace is known, so that runs travel together
            await outcome(runner, make_task(number.to_bytes(32, "big")))
        real = Channel.send

        def send(channel: Channel, requests: Iterable[wire.Fields]) -> None:
            real(channel, requests)
            time.sleep(1.0)  # the loop learns of the reply and of the end of its process at once

        monkeypatch.setattr(Channel, "send", send)
        messages = [b"exit", *(number.to_bytes(32, "big") for number in range(3))]
        failed, *good = await asyncio.gather(*(outcome(runner, make_task(message)) for message in messages))
    assert isinstance(failed, AttemptFailed)
    assert good == [square(message) for message in messages[1:]]
