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


@contextlib.asynccontextmanager
async def target_of(way: str) -> AsyncIterator[str]:
    if way == "exec":
        yield f"exec:{sys.executable} {EXAMPLES / 'squaring_exec.py'}"
        return
    command = [sys.executable, str(EXAMPLES / "squaring_http.py"), "0"]
    service = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert service.stdout is not None
    try:
        line = await asyncio.wait_for(service.stdout.readline(), 20)
        yield line.decode().split()[-1]
    finally:
        service.kill()
        await service.wait()


def squares(tasks: list[dict[str, Any]]) -> dict[str, str]:
    return {task["message"]: "0x" + (int(task["message"], 16) ** 2).to_bytes(32, "big").hex() for task in tasks}


@pytest.mark.parametrize("way", ["exec", "http"])
async def test_daemon_answers_through_another_language(way: str, tmp_path: Path) -> None:
    async with target_of(way) as target, running_rig(tmp_path, hook="square") as rig:
        rig.write_config(target=target)
        daemon = await rig.start()
        await rig.create(5)
        await rig.settle()
        tasks = await rig.tasks()
        assert {task["state"] for task in tasks} == {"final"}, rig.story()
        assert {task["message"]: task["response"] for task in tasks} == squares(tasks)
        assert (await rig.prove())["ok"]
        versions = {task["hook_version"].partition("@")[0].partition(" ")[0] for task in tasks}
        assert versions == {target.rstrip("/") if way == "http" else "exec:" + Path(sys.executable).name}
        assert await daemon.stop() == 0
        await check_is_green(rig)


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
