"""Hooks with types: values in, values out, in each way, and a clear failure of one task for everything else."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from jsonschema import Draft202012Validator

from tests.integration.test_hook_performer import performing
from watcher import DecodedTask, Skip
from watcher.errors import AttemptFailed, FixConfiguration
from watcher.hook.plan import PoolPlan
from watcher.hook.runner import Runner, open_runner
from watcher.hook.values import ValueTypes
from watcher.task import Response, Task
from watcher.testing import make_task, run_hook

ROOT = Path(__file__).parents[2]
OWNER = "0x" + "22" * 20
TYPES = ValueTypes(
    "(uint256 number, address owner, (string name, uint8[] parts)[] orders)", "(uint256 square, bytes32)"
)

FUNCTION = """
from watcher import DecodedTask, Later, Skip

def respond(task: DecodedTask):
    message = task.message
    number, owner, orders = message
    assert (number, owner, orders) == (message.number, message.owner, message.orders)
    assert isinstance(task.raw_message, bytes) and task.raw_message[:32] == number.to_bytes(32)
    if number == 7:
        return Skip("seven")
    if number == 8:
        return Later(blocks=2)
    if orders:
        return {"square": len(orders[0].name), "value1": bytes(32)}
    return WRONG.get(number, (number * number, bytes(32)))

WRONG = {10: None, 11: b"", 12: (2**256, bytes(32)), 13: ("1", bytes(32)), 14: (1, b"x"), 15: (1,), 16: {1, 2}}
"""
PROGRAM = """#!{python}
import json, os
replies = os.fdopen(4, "w")
for line in os.fdopen(3):
    request = json.loads(line)
    message = request["task"]["message"]
    number = int(message["number"])
    assert message["owner"] == "{owner}" and request["task"]["raw_message"][:66] == "0x%064x" % number
    reply = {{"id": request["id"], "verdict": "answer", "response": [str(number * number), "0x" + "00" * 32]}}
    if number == 7:
        reply = {{"id": request["id"], "verdict": "skip", "reason": "seven"}}
    if number in WRONG:
        reply["response"] = WRONG[number]
    if message["orders"]:
        reply["response"] = [len(message["orders"][0]["name"]), "0x" + "00" * 32]
    replies.write(json.dumps(reply) + "\\n")
    replies.flush()
""".replace("import json, os\n", "import json, os\nWRONG = {wrong}\n")
WRONG_JSON: Mapping[int, Any] = {
    10: None,
    11: "0x",
    12: [str(2**256), "0x" + "00" * 32],
    13: ["1.0", "0x" + "00" * 32],
    14: [1, "0x78"],
    15: [1],
    16: {"square": 1},
}


def message(number: int, orders: list[Any] | None = None) -> bytes:
    from eth_abi.abi import encode

    return encode(["uint256", "address", "(string,uint8[])[]"], [number, OWNER, orders or []])


class Awaited:
    """What an `async def` returns, without its warning that nobody awaits it."""

    def __await__(self) -> Iterator[None]:
        return iter(())


def task_of(number: int, orders: list[Any] | None = None) -> Task:
    return make_task(message(number, orders), task_index=number)


def square(number: int) -> bytes:
    return (number * number).to_bytes(32) + bytes(32)


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    (tmp_path / "typed.py").write_text(FUNCTION)
    program = tmp_path / "typed_program.py"
    program.write_text(PROGRAM.format(python=sys.executable, owner=OWNER, wrong=WRONG_JSON))
    program.chmod(0o755)
    return tmp_path


@contextlib.asynccontextmanager
async def service(requests: list[Any]) -> AsyncIterator[str]:
    """Run a service that answers as the program does."""

    async def answer(request: web.Request) -> web.Response:
        fields = await request.json()
        requests.append(fields)
        value = fields["task"]["message"]
        number = int(value["number"])
        reply: dict[str, Any] = {"id": fields["id"], "verdict": "answer"}
        if number == 7:
            reply |= {"verdict": "skip", "reason": "seven"}
        elif value["orders"]:
            reply["response"] = [str(len(value["orders"][0]["name"])), "0x" + "00" * 32]
        else:
            reply["response"] = WRONG_JSON.get(number, [number * number, "0x" + "00" * 32])
        return web.json_response(reply)

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def opened(way: str, app_dir: Path) -> AsyncIterator[Runner]:
    requests: list[Any] = []
    async with contextlib.AsyncExitStack() as stack:
        targets = {"function": "typed:respond", "program": "exec:./typed_program.py"}
        target = targets[way] if way in targets else await stack.enter_async_context(service(requests))
        plan = PoolPlan(workers=1, timeout_s=20, types=TYPES)
        yield await stack.enter_async_context(open_runner(target, plan, app_dir=app_dir))
    schema = json.loads((ROOT / "docs" / "hook.schema.json").read_text())
    for request in requests:
        Draft202012Validator(schema).validate(request)
        Draft202012Validator({"$ref": "#/$defs/request_with_values", "$defs": schema["$defs"]}).validate(request)


@pytest.mark.parametrize("way", ["function", "program", "service"])
async def test_hook_gets_values_and_returns_values(way: str, app_dir: Path) -> None:
    async with opened(way, app_dir) as runner:
        for number in (0, 1, 2**53 + 1, 2**127):
            response = await runner.run(task_of(number))
            assert isinstance(response, Response) and response.resp_message == square(number)
        response = await runner.run(task_of(3, [("naïve", [1, 2])]))
        assert isinstance(response, Response) and int.from_bytes(response.resp_message[:32]) == 5
        assert await runner.run(task_of(7)) == Skip("seven")


@pytest.mark.parametrize("way", ["function", "program", "service"])
async def test_wrong_values_cost_their_own_tasks(way: str, app_dir: Path) -> None:
    reasons = {
        10: r"^response: expected \(uint256 square, bytes32\), got nothing \(None\)$",
        11: r"^response: expected \(uint256 square, bytes32\), got ",
        12: r"^response\.square: expected uint256 \(0 to 2\*\*256 - 1\), got \d{78}$",
        13: r"^response\.square: expected uint256, got '1",
        14: r"^response\[1\]: expected bytes32, got 1 bytes$",
        15: r"^response: expected \(uint256 square, bytes32\), got 1 values$",
        16: r"^response: expected \(uint256 square, bytes32\), ",
    }
    async with opened(way, app_dir) as runner:
        for number, pattern in reasons.items():
            with pytest.raises(AttemptFailed, match=pattern):
                await runner.run(task_of(number))
        with pytest.raises(AttemptFailed) as raised:
            await runner.run(make_task(message(5)[:-40]))
        assert str(raised.value) == (
            f"the message is not {TYPES.message}, as hook.message says: "
            "message.orders: the data ends at byte 88 (at byte 64 of 88)"
        )
        with pytest.raises(AttemptFailed, match="message is not"):
            await runner.run(make_task(b""))
        response = await runner.run(task_of(5))
        assert isinstance(response, Response) and response.resp_message == square(5)


async def test_a_performer_keeps_bytes_that_are_checked(app_dir: Path) -> None:
    types = ValueTypes("uint256", "uint8")
    async with performing() as (_, target), open_runner(target, PoolPlan(types=types)) as runner:
        response = await runner.run(make_task((5).to_bytes(32)))
        assert isinstance(response, Response) and response.resp_message == (25).to_bytes(32)
        with pytest.raises(AttemptFailed, match=r"^the answer is not uint8: response: expected uint8"):
            await runner.run(make_task((16).to_bytes(32)))
        with pytest.raises(AttemptFailed, match=r"^the message is not uint256.*the data ends at byte 5"):
            await runner.run(make_task(b"echo "))
        await runner.reload(ValueTypes("", "bytes"))
        with pytest.raises(AttemptFailed, match="not bytes: response: the data ends at byte 2"):
            await runner.run(make_task(b"echo 12"))
        padded = (64).to_bytes(32) + bytes(32) + (1).to_bytes(32) + b"x" + bytes(31)
        with pytest.raises(AttemptFailed, match="not bytes in the form that abi"):
            await runner.run(make_task(b"echo " + padded))


async def test_a_reload_takes_new_types_over(app_dir: Path) -> None:
    (app_dir / "bare.py").write_text("def respond(task):\n    return task.message\n")
    async with open_runner("bare:respond", PoolPlan(workers=1, timeout_s=20), app_dir=app_dir) as runner:
        first = await runner.run(make_task((5).to_bytes(32)))
        assert isinstance(first, Response) and first.resp_message == (5).to_bytes(32)
        before, now = await runner.reload(ValueTypes("uint256", "(uint8)"))
        assert before == first.hook_version != now and len(before) == len(now)
        assert isinstance(await runner.run(make_task((5).to_bytes(32))), Response)
        with pytest.raises(AttemptFailed, match="expected uint8 "):
            await runner.run(make_task((256).to_bytes(32)))
        assert await runner.reload() == (now, now)
        with pytest.raises(AttemptFailed, match="expected uint8 "):
            await runner.run(make_task((256).to_bytes(32)))
        assert await runner.reload(ValueTypes()) == (now, before)


def test_run_hook_takes_types(app_dir: Path) -> None:
    def respond(task: DecodedTask) -> int:
        return int(task.message.number) ** 2

    types = ("(uint256 number)", "(uint256)")
    task = make_task((12).to_bytes(32))
    assert run_hook(respond, task, message=types[0], response=types[1]) == (144).to_bytes(32)
    answer = run_hook("typed:respond", task_of(9), app_dir=app_dir, message=TYPES.message, response=TYPES.response)
    assert answer == square(9)
    with pytest.raises(AttemptFailed, match="message is not"):
        run_hook(respond, make_task(b"12"), message=types[0])
    with pytest.raises(AttemptFailed, match="call it: Skip"):
        run_hook(lambda _task: Skip, task, response=types[1])
    with pytest.raises(AttemptFailed, match="declare the hook `async def`"):
        run_hook(lambda _task: Awaited(), task, response=types[1])
    with pytest.raises(AttemptFailed, match=r"expected uint256, got 32 bytes; where hook\.response is set, a hook"):
        run_hook(lambda _task: bytes(32), task, response=types[1])
    with pytest.raises(FixConfiguration, match="did you mean uint256"):
        run_hook(respond, task, message="(unit256)")


async def test_hostile_messages_cost_a_worker_little(app_dir: Path) -> None:
    """Each takes its own attempt, at once: no length of a hostile message is believed."""
    hostile = [os.urandom(200_000), b"\xff" * 262_144, message(1)[:96] + b"\xff" * 4096]
    bomb = (1).to_bytes(32) + bytes(12) + b"\x22" * 20 + (96).to_bytes(32) + (8_000).to_bytes(32)
    hostile.append(bomb + (256_000).to_bytes(32) * 8_000 + (64).to_bytes(32) + (96).to_bytes(32) + bytes(2048))
    async with opened("function", app_dir) as runner, asyncio.timeout(10):
        for data in hostile:
            with pytest.raises(AttemptFailed):
                await runner.run(make_task(data))
        assert isinstance(await runner.run(task_of(2)), Response)
