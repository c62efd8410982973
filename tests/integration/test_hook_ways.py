"""The same tasks through every way a hook can run: each example answers as the Python function does."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.system.daemon_process import Done, run_command
from watcher.hook.plan import PoolPlan
from watcher.hook.runner import Runner, open_runner
from watcher.task import Response, Skip, Task
from watcher.testing import make_task, run_hook

EXAMPLES = Path(__file__).parents[2] / "examples"
TASKS = 200
# The programs that an example needs, and its target.
PROGRAMS = {
    "shell": (["sh", "awk"], "exec:./squaring.sh"),
    "javascript": (["node"], "exec:node squaring.mjs"),
    "typescript": (["node"], "exec:node squaring.ts"),
    "go": (["go"], "exec:./squaring_go"),
    "rust": (["rustc"], "exec:./squaring"),
    "python": (["python3"], "exec:python3 squaring_exec.py"),
}


def made_tasks() -> list[Task]:
    """Return tasks with numbers of all lengths, and messages that are no numbers."""
    numbers = [(2 ** (2 * i) - i) % 2**256 for i in range(TASKS - 20)]
    messages = [number.to_bytes(32, "big") for number in numbers] + [bytes(range(i)) for i in range(20)]
    hostile = {"text": '"message":"0x00","id":"0"', "message": b"\x01", "numbers": (2**255, -1)}
    return [make_task(message, task_index=i, fields=hostile) for i, message in enumerate(messages)]


def build(name: str, tmp_path: Path) -> Path:
    """Return a folder with the examples and what must be compiled; skip without the runtime."""
    programs, _ = PROGRAMS[name]
    if missing := [program for program in programs if shutil.which(program) is None]:
        pytest.skip(f"{' and '.join(missing)} not installed")
    folder = tmp_path / "hooks"
    shutil.copytree(EXAMPLES / "hooks", folder)
    if name == "typescript" and not strips_types():
        pytest.skip("node 22.18 or later not installed")
    if name == "go":
        subprocess.run(["go", "build", "-o", "squaring_go", "squaring.go"], cwd=folder, check=True, timeout=200)
    if name == "rust":
        subprocess.run(["rustc", "-O", "squaring.rs"], cwd=folder, check=True, timeout=200)
    return folder


def strips_types() -> bool:
    done = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True, timeout=60)
    return tuple(map(int, done.stdout.strip().lstrip("v").split(".")))[:2] >= (22, 18)


async def answers(runner: Runner) -> list[bytes | Skip]:
    async def answer(task: Task) -> bytes | Skip:
        verdict = await runner.run(task)
        assert isinstance(verdict, Response | Skip)
        return verdict.resp_message if isinstance(verdict, Response) else verdict

    return list(await asyncio.gather(*(answer(task) for task in made_tasks())))


async def function_answers() -> list[bytes | Skip]:
    async with open_runner("squaring:respond", PoolPlan(), app_dir=EXAMPLES / "squaring") as runner:
        return await answers(runner)


@pytest.mark.parametrize("name", PROGRAMS)
async def test_program_answers_as_the_function_does(name: str, tmp_path: Path) -> None:
    folder = await asyncio.to_thread(build, name, tmp_path)
    async with open_runner(PROGRAMS[name][1], PoolPlan(), app_dir=folder) as runner:
        assert await answers(runner) == await function_answers()


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """Run the example service; yield its URL."""
    command = [sys.executable, "-u", str(EXAMPLES / "hooks" / "squaring_http.py"), "0"]
    service = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert service.stdout is not None
    try:
        line = await asyncio.wait_for(service.stdout.readline(), 20)
        yield line.decode().split()[-1]
    finally:
        service.kill()
        await service.wait()


async def test_service_answers_as_the_function_does() -> None:
    async with (
        serving() as first,
        serving() as second,
        open_runner(f"{first}, {second}", PoolPlan(workers=4)) as runner,
    ):
        assert await answers(runner) == await function_answers()
        assert "squaring 1.0" in runner.version


async def test_reply_of_the_example_service_is_one_write() -> None:
    """The second of two would wait for the acknowledgement of the first, which a kernel delays by 40 ms."""
    body = json.dumps({"version": 1, "id": "1", "task": {"message": "0x" + "00" * 32}}).encode()
    async with serving() as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rstrip("/").rpartition(":")[2]))
        for _ in range(5):
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            head, _, content = (await reader.read(65536)).partition(b"\r\n\r\n")
            assert b"200" in head and json.loads(content)["verdict"] == "answer"
        writer.close()


async def test_hook_try_takes_a_service(tmp_path: Path) -> None:
    config = tmp_path / "watcher.toml"
    async with serving() as url:
        config.write_text(f'[hook]\ntarget = "{url.replace("//", "//user:canary-1234@")}"\n')
        done = await _try(config)
    assert done.code == 0, done.err
    verdict = json.loads(done.out)
    assert (verdict["verdict"], verdict["hook_version"]) == ("answer", f"{url.rstrip('/')} squaring 1.0")
    assert "canary" not in done.out + done.err
    done = await _try(config)
    assert done.code == 75
    assert "no service can be reached" in done.err and "canary" not in done.out + done.err


def test_run_hook_of_the_testing_module_takes_a_program() -> None:
    task = make_task((12).to_bytes(32, "big"))
    answer = run_hook("exec:python3 squaring_exec.py", task, app_dir=EXAMPLES / "hooks")
    assert answer == (144).to_bytes(32, "big")


async def test_hook_try_takes_a_program(tmp_path: Path) -> None:
    config = tmp_path / "watcher.toml"
    config.write_text(f'[hook]\ntarget = "exec:python3 squaring_exec.py"\napp_dir = "{EXAMPLES}/hooks"\n')
    done = await _try(config)
    assert done.code == 0, done.err
    verdict = json.loads(done.out)
    assert (verdict["verdict"], verdict["response"]) == ("answer", "0x" + "00" * 31 + "04")
    assert verdict["hook_version"].startswith("exec:python3")
    config.write_text(f'[hook]\ntarget = "exec:./missing"\napp_dir = "{EXAMPLES}/hooks"\n')
    done = await _try(config)
    assert done.code == 78
    assert "there is no program ./missing" in done.err and "Traceback" not in done.err


async def _try(config: Path) -> Done:
    arguments = ["hook", "try", "--config", str(config), "--message", "0x" + "00" * 31 + "02", "--json"]
    return await run_command(arguments, os.environ, EXAMPLES.parent, 60)
