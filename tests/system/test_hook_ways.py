"""The daemon with hooks in other languages, on a chain: tasks become final, a fault costs its own task alone."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.daemon_rig import Rig, running_rig

EXAMPLES = Path(__file__).parents[2] / "examples" / "hooks"
# Exits at the task whose message is 2, and answers all others with the square.
FAULTY = """#!/bin/sh
exec python3 -c '
import json
with open(3) as requests, open(4, "w") as replies:
    for line in requests:
        request = json.loads(line)
        number = int(request["task"]["message"], 16)
        if number == 2:
            raise SystemExit(9)
        response = "0x" + (number * number).to_bytes(32, "big").hex()
        print(json.dumps({"id": request["id"], "verdict": "answer", "response": response}), file=replies, flush=True)
'
"""


SQUARING = EXAMPLES.parent / "squaring"
TASKS, BATCHES = 200, 4
# The public name of each way's hook, which is recorded with every answer.
WAYS = {"module": "squaring:respond", "exec": f"exec:{Path(sys.executable).name}", "http": "http:", "grpc": "grpc:"}


@contextlib.asynccontextmanager
async def target_of(way: str) -> AsyncIterator[str]:
    """Run what the way needs; yield its target."""
    if way == "module":
        yield "squaring:respond"
    elif way == "exec":
        yield f"exec:{sys.executable} {EXAMPLES / 'squaring_exec.py'}"
    elif way == "grpc":
        pytest.importorskip("grpc", reason="the extra grpc is not installed")
        from tests.integration.test_hook_performer import performing

        async with performing() as (_, target):
            yield target
    else:
        async with service() as url:
            yield url


@contextlib.asynccontextmanager
async def service() -> AsyncIterator[str]:
    command = [sys.executable, str(EXAMPLES / "squaring_http.py"), "0"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        yield line.decode().split()[-1]
    finally:
        process.kill()
        await process.wait()


def squares(tasks: list[dict[str, Any]]) -> dict[str, str]:
    return {task["message"]: "0x" + (int(task["message"], 16) ** 2).to_bytes(32, "big").hex() for task in tasks}


async def test_the_same_tasks_are_answered_alike_through_all_four_ways(tmp_path: Path) -> None:
    """The chain goes back to the block of the last task before each way, whose ledger is a new one."""
    async with running_rig(tmp_path, window_blocks=1000) as rig:
        for _ in range(BATCHES):
            await rig.create(TASKS // BATCHES)
            await rig.net.mine()
        begin = await rig.net.chain.head()
        on_chain: dict[str, dict[int, str]] = {}
        for way, name in WAYS.items():
            rig.ledger = rig.folder / f"{way}.db"
            async with target_of(way) as target:
                rig.write_config(target=target, app_dir=str(SQUARING), ledger_url=f"sqlite:///{rig.ledger}")
                # On a busy machine an answer may be shown late: no task is sent again for that.
                daemon = await rig.start(WATCHER_OPERATOR__RESOLVE_AFTER_BLOCKS="1000")
                await rig.settle(timeout_s=120)
                tasks = await rig.tasks()
                assert {task["state"] for task in tasks} == {"final"}, rig.story()
                assert {task["message"]: task["response"] for task in tasks} == squares(tasks)
                assert all(task["hook_version"].startswith(name) for task in tasks), tasks[0]["hook_version"]
                assert {task["attempts"] for task in tasks} == {1}
                assert await daemon.stop() == 0
                if way != "module":
                    await check_is_green(rig)
            on_chain[way] = {answer.index: answer.message.hex() for answer in await rig.net.manager.answers()}
            await rig.net.chain.rollback(await rig.net.chain.head() - begin)
            rig.net.aggregator.forget()
        assert on_chain["module"].keys() == set(range(TASKS))
        assert all(answers == on_chain["module"] for answers in on_chain.values())
        # Every request of every way named the same answer.
        assert {len(answers) for answers in rig.sent().values()} == {1} and len(rig.sent()) == TASKS


async def check_is_green(rig: Rig) -> None:
    done = await rig.command("check", "--json")
    lines = {finding["check"]: finding for finding in done.json if finding["what"] == "hook"}
    assert {check: finding["verdict"] for check, finding in lines.items()} == dict.fromkeys(
        ("loading", "protection", "sample"), "ok"
    ), lines


async def test_program_that_exits_costs_the_daemon_one_task(tmp_path: Path) -> None:
    async with running_rig(tmp_path, hook="square") as rig:
        program = rig.hook_folder / "faulty"
        program.write_text(FAULTY)
        program.chmod(0o755)
        rig.write_config(target="exec:./faulty")
        daemon = await rig.start(WATCHER_HOOK__MAX_ATTEMPTS="2", WATCHER_HOOK__RETRY_BASE_S="0.1")
        await rig.create(6)
        await rig.net.mine()
        await rig.until(lambda: list(rig.states().values()).count("failed") == 1, "the task of the fault has failed")
        await rig.settle()
        tasks = await rig.tasks()
        failed = [task for task in tasks if task["state"] == "failed"]
        assert [int(task["message"], 16) for task in failed] == [2]
        assert "the program ended with exit code 9" in failed[0]["error"]
        others = [task for task in tasks if task["state"] == "final"]
        assert len(others) == 5, rig.story()
        assert {task["message"]: task["response"] for task in others} == squares(others)
        assert await daemon.stop() == 0
