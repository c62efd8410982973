"""hook.run_twice: an answer that depends on more than the task is a failed attempt, in each way a hook can run."""

import contextlib
import re
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.integration.test_hook_performer import Performer, performing
from watcher import Later, Skip
from watcher.errors import AttemptFailed, TryLater
from watcher.hook.plan import PoolPlan
from watcher.hook.protobuf import bytes_field, read_fields
from watcher.hook.runner import open_runner
from watcher.hook.values import ValueTypes
from watcher.task import Response
from watcher.testing import make_task, run_hook

HOOK = """
import os, random, time
from watcher import Later, Skip

CALLS = 0

def respond(task):
    global CALLS
    CALLS += 1
    match task.message:
        case b"calls":
            return CALLS.to_bytes(32)
        case b"random":
            return random.randbytes(300)
        case b"time":
            return time.time_ns().to_bytes(32)
        case b"process":
            return os.getpid().to_bytes(32)
        case b"set":
            return b"".join({bytes([i]) * 3 for i in range(99)})
        case b"sometimes":
            return Skip("odd") if CALLS % 2 else b"even"
        case b"skip":
            return Skip(f"call {CALLS}")
        case b"later":
            return Later(blocks=CALLS)
        case b"raises":
            raise ValueError("no")
        case b"exits":
            os._exit(3)
    return task.message
"""
PROGRAM = f"""#!{sys.executable}
import json, os, random
calls = 0
replies = os.fdopen(4, "w")
for line in os.fdopen(3):
    request = json.loads(line)
    calls += 1
    answer = "0x%064x" % calls if request["task"]["message"] == "0x" + b"calls".hex() else request["task"]["message"]
    replies.write(json.dumps({{"id": request["id"], "verdict": "answer", "response": answer}}) + "\\n")
    replies.flush()
"""
DIFFER = "two runs on this task differ: "


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    (tmp_path / "unsteady.py").write_text(HOOK)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    return tmp_path


def plan(**values: Any) -> PoolPlan:
    return PoolPlan(**{"workers": 2, "timeout_s": 20, "run_twice": True, **values})


@pytest.mark.parametrize("message", ["calls", "random", "time", "process", "set", "sometimes"])
async def test_answers_that_differ_are_a_failed_attempt(app_dir: Path, message: str) -> None:
    async with open_runner("unsteady:respond", plan(workers=1), app_dir=app_dir) as runner:
        with pytest.raises(AttemptFailed, match=f"^{DIFFER}") as raised:
            await runner.run(make_task(message.encode()))
        assert len(str(raised.value)) < 600 and " and " in str(raised.value)
        response = await runner.run(make_task(b"steady"))
        assert isinstance(response, Response) and response.resp_message == b"steady"


async def test_runs_that_agree_give_their_verdict(app_dir: Path) -> None:
    async with open_runner("unsteady:respond", plan(), app_dir=app_dir) as runner:
        assert isinstance(await runner.run(make_task(b"skip")), Skip)
        assert isinstance(await runner.run(make_task(b"later")), Later)
        for message, reason in (("raises", "ValueError: no"), ("exits", "exit code 3")):
            with pytest.raises(AttemptFailed, match=reason):
                await runner.run(make_task(message.encode()))
        with pytest.raises(AttemptFailed, match=DIFFER):  # also by workers that are new after a failure
            await runner.run(make_task(b"calls"))


async def test_both_answers_are_shown_with_their_values(app_dir: Path) -> None:
    types = ValueTypes("", "(uint256 count)")
    (app_dir / "counting.py").write_text(
        "CALLS = 0\ndef respond(task):\n    global CALLS\n    CALLS += 1\n    return CALLS\n"
    )
    async with open_runner("counting:respond", plan(workers=1, types=types), app_dir=app_dir) as runner:
        with pytest.raises(AttemptFailed) as raised:
            await runner.run(make_task(b""))
    first, second = (f"0x{n:064x} (count={n})" for n in (1, 2))
    assert str(raised.value) == f"{DIFFER}{first}, and {second}"


async def test_program_is_run_twice(app_dir: Path) -> None:
    async with open_runner("exec:./program.py", plan(), app_dir=app_dir) as runner:
        with pytest.raises(AttemptFailed, match=DIFFER):
            await runner.run(make_task(b"calls"))
        assert isinstance(await runner.run(make_task(b"steady")), Response)


@contextlib.asynccontextmanager
async def counting_service() -> AsyncIterator[str]:
    calls = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        fields = await request.json()
        message = fields["task"]["message"]
        answered = f"0x{calls:064x}" if message == "0x" + b"calls".hex() else message
        return web.json_response({"id": fields["id"], "verdict": "answer", "response": answered})

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def test_service_is_asked_twice() -> None:
    async with counting_service() as url, open_runner(url, plan()) as runner:
        with pytest.raises(AttemptFailed, match=DIFFER):
            await runner.run(make_task(b"calls"))
        assert isinstance(await runner.run(make_task(b"steady")), Response)


async def test_performer_is_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    async def execute(_self: Performer, body: bytes, _context: Any) -> bytes:
        nonlocal calls
        calls += 1
        fields = read_fields(body)
        task_id, payload = fields[1], fields[2]
        assert isinstance(task_id, bytes) and isinstance(payload, bytes)
        return bytes_field(1, task_id) + bytes_field(2, str(calls).encode() if payload == b"calls" else payload)

    monkeypatch.setattr(Performer, "execute", execute)
    async with performing() as (_, target), open_runner(target, plan()) as runner:
        with pytest.raises(AttemptFailed, match=DIFFER):
            await runner.run(make_task(b"calls"))
        assert isinstance(await runner.run(make_task(b"steady")), Response)


async def test_a_reload_that_loads_two_versions_lets_tasks_wait(app_dir: Path) -> None:
    """The hook's module changes each time that it is loaded: the two workers never hold the same code."""
    module = app_dir / "moving.py"
    module.write_text("def respond(task):\n    return b'1'\n")
    edit = f"open({str(module)!r}, 'a').write('# edited\\n')\n"
    async with open_runner("moving:respond", plan(), app_dir=app_dir) as runner:
        before = runner.version
        module.write_text(f"def respond(task):\n    return b'2'\n{edit}")
        with pytest.raises(TryLater, match="changed while it was loaded twice"):
            await runner.reload()
        with pytest.raises(TryLater, match="changed while it was loaded twice"):
            await runner.run(make_task(b""))
        module.write_text("def respond(task):\n    return b'3'\n")
        await runner.reload()
        assert before != runner.version
        response = await runner.run(make_task(b""))
        assert isinstance(response, Response) and response.resp_message == b"3"


def test_run_hook_runs_twice_when_asked(app_dir: Path) -> None:
    calls: list[int] = []

    def respond(task: Any) -> bytes:
        calls.append(1)
        return bytes([len(calls)])

    hooks: list[str | Callable[[Any], object]] = [respond, "unsteady:respond"]
    for hook in hooks:
        with pytest.raises(AttemptFailed, match=re.escape(DIFFER)):
            run_hook(hook, make_task(b"calls"), app_dir=app_dir, run_twice=True)
    assert run_hook("unsteady:respond", make_task(b"x"), app_dir=app_dir, run_twice=True) == b"x"
