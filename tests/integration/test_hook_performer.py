"""Performers of Hourglass as hooks (`grpc://`): a real gRPC server answers, fails, hangs, lies and goes away."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="the extra grpc is not installed")

from tests.integration.test_hook_ways import function_answers, made_tasks  # noqa: E402
from watcher.errors import AttemptFailed, FixConfiguration, TryLater  # noqa: E402
from watcher.hook.performer import PerformerRunner  # noqa: E402
from watcher.hook.plan import PoolPlan  # noqa: E402
from watcher.hook.protobuf import bytes_field, read_fields  # noqa: E402
from watcher.hook.runner import open_runner  # noqa: E402
from watcher.settings import targets  # noqa: E402
from watcher.task import Response  # noqa: E402
from watcher.testing import make_task  # noqa: E402

SERVICE = "/eigenlayer.hourglass.v1.performer.PerformerService/"
HEALTH = "/grpc.health.v1.Health/Check"


# What the performer replies to a message, after the id of the task.
REPLIES = {
    b"no_id": bytes_field(2, b"x"),
    b"other_id": bytes_field(1, bytes(32)) + bytes_field(2, b"x"),
    b"number": b"\x10\x07",
    b"empty": b"",
    b"garbage": b"\xff" * 20,
    b"huge": bytes_field(2, bytes(150_000)),
    b"endless": bytes(50_000_000),
}


class Performer:
    """A performer whose behaviour the payload of a task names."""

    def __init__(self) -> None:
        self.version = ""
        self.busy = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def execute(self, body: bytes, context: Any) -> bytes:
        fields = read_fields(body)
        if self.version:
            context.set_trailing_metadata((("hook-version", self.version),))
        task_id, payload = fields[1], fields[2]
        assert isinstance(task_id, bytes) and isinstance(payload, bytes)
        if len(payload) == 32:
            number = int.from_bytes(payload, "big")
            return bytes_field(1, task_id) + bytes_field(2, (number * number % 2**256).to_bytes(32, "big"))
        name, _, rest = payload.partition(b" ")
        if name == b"echo":
            return bytes_field(1, task_id) + bytes_field(2, rest)
        if name == b"status":
            await context.abort(grpc.StatusCode[rest.decode()], "no \x1b price")
        if name == b"hangs":
            await self.hang()
        return REPLIES[name]

    async def hang(self) -> None:
        self.busy.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


FAULTS = [
    ("other_id", "has the id of another task"),
    ("number", "has no result"),
    ("empty", "has no result"),
    ("garbage", "is no TaskResponse"),
    ("huge", "returned 150,000 bytes; the limit is 131,072"),
    ("endless", "RESOURCE_EXHAUSTED"),
    ("status INTERNAL", "the performer failed: INTERNAL no \\x1b price"),
    ("status UNAVAILABLE", "the performer failed: UNAVAILABLE"),
    ("another", "the performer failed: UNKNOWN"),
    ("hangs", "took longer than timeout_s = 4 s; the call was cancelled"),
]


@contextlib.asynccontextmanager
async def performing(health: dict[str, bytes] | None = None) -> AsyncIterator[tuple[Performer, str]]:
    """Run a performer; `health` maps the path of a health check to its reply."""
    performer = Performer()
    server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
    handlers = {SERVICE + "ExecuteTask": performer.execute}
    for path, status in ({HEALTH: b"\x08\x01"} if health is None else health).items():
        handlers[path] = _replies(status)
    for path, handler in handlers.items():
        _, service, method = path.split("/")
        methods = {method: grpc.unary_unary_rpc_method_handler(handler)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield performer, f"grpc://127.0.0.1:{port}"
    finally:
        await server.stop(None)


def _replies(status: bytes) -> Any:
    async def reply(_request: bytes, _context: Any) -> bytes:
        return status

    return reply


async def answer(runner: PerformerRunner, message: str) -> bytes:
    response = await runner.run(make_task(message.encode()))
    assert isinstance(response, Response)
    return response.resp_message


async def failure(runner: PerformerRunner, message: str) -> str:
    with pytest.raises(AttemptFailed) as caught:
        await runner.run(make_task(message.encode()))
    assert str(caught.value).isprintable()
    return str(caught.value)


async def test_performer_answers_as_the_function_does() -> None:
    """The protocol has no verdict but an answer: messages that the function skips are left out."""
    numbers = [task for task in made_tasks() if len(task.message) == 32]
    assert len(numbers) >= 180
    async with performing() as (_, target), open_runner(target, PoolPlan(workers=4)) as runner:
        verdicts = await asyncio.gather(*(runner.run(task) for task in numbers))
        assert runner.version == target
    results = [verdict.resp_message for verdict in verdicts if isinstance(verdict, Response)]
    assert results == [answer for answer in await function_answers() if isinstance(answer, bytes)]


async def test_fault_of_a_performer_costs_only_the_task_it_met() -> None:
    async with performing() as (_, target), PerformerRunner(target, PoolPlan(workers=4, timeout_s=4)) as runner:
        others = [asyncio.create_task(answer(runner, f"echo {i}")) for i in range(30)]
        faults = {fault: asyncio.create_task(failure(runner, fault)) for fault, _ in FAULTS}
        others += [asyncio.create_task(answer(runner, f"echo {i}")) for i in range(30, 60)]
        assert await asyncio.gather(*others) == [str(i).encode() for i in range(60)]
        for fault, message in FAULTS:
            assert message in await faults[fault], fault
        assert await answer(runner, "no_id") == b"x"


async def test_cancelling_a_run_cancels_its_call() -> None:
    async with performing() as (performer, target), PerformerRunner(target, PoolPlan(workers=1)) as runner:
        run = asyncio.create_task(answer(runner, "hangs"))
        await performer.busy.wait()
        run.cancel()
        await asyncio.wait_for(performer.cancelled.wait(), 10)
        assert await answer(runner, "echo x") == b"x"


async def test_tasks_wait_while_the_performer_is_away() -> None:
    async with performing() as (performer, target):
        runner = await PerformerRunner(target, PoolPlan(workers=1)).__aenter__()
        assert await answer(runner, "echo x") == b"x"
        running = asyncio.create_task(failure(runner, "hangs"))
        await performer.busy.wait()
    assert "UNAVAILABLE" in await running
    # gRPC may call the connection ready for some more calls: they must not cost more tasks an attempt.
    for _ in range(10):
        with pytest.raises(TryLater, match="the performer takes no task now: "):
            await runner.run(make_task(b"echo x"))
    await runner.__aexit__(None, None, None)
    with pytest.raises(TryLater, match="the performer takes no task now: no connection"):
        await PerformerRunner(target, PoolPlan()).__aenter__()


CLIENT = """
import asyncio, sys
from watcher.errors import TryLater
from watcher.hook.performer import PerformerRunner
from watcher.hook.plan import PoolPlan
from watcher.testing import make_task

async def main(target):
    async with PerformerRunner(target, PoolPlan()) as runner:
        print((await runner.run(make_task(b"echo x"))).resp_message.decode(), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for _ in range(2):
            try:
                await runner.run(make_task(b"echo x"))
            except Exception as error:
                print(type(error).__name__, flush=True)

asyncio.run(main(sys.argv[1]))
"""


async def test_grpc_writes_no_lines_of_its_own() -> None:
    """They would stand between the lines of a log in JSON."""
    pipe = asyncio.subprocess.PIPE
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    async with performing() as (_, target):
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLIENT, target, stdin=pipe, stdout=pipe, stderr=pipe, env=environment
        )
        assert client.stdout is not None
        assert await client.stdout.readline() == b"x\n"
    out, err = await client.communicate(b"\n")
    assert out.split()[-1] == b"TryLater"
    assert err == b""


@pytest.mark.parametrize(
    ("health", "is_ready"),
    [
        ({HEALTH: b"\x08\x01"}, True),
        ({HEALTH: b"\x08\x02"}, False),
        ({HEALTH: b""}, False),
        ({HEALTH: b"\xff"}, False),
        ({SERVICE + "HealthCheck": b"\x08\x01"}, True),
        ({SERVICE + "HealthCheck": b""}, False),
        ({}, True),
    ],
)
async def test_performer_is_used_once_it_is_healthy(health: dict[str, bytes], is_ready: bool) -> None:
    async with performing(health) as (_, target):
        runner = PerformerRunner(target, PoolPlan())
        if is_ready:
            async with runner:
                assert await answer(runner, "echo x") == b"x"
                assert await runner.reload() == (target, target)
        else:
            with pytest.raises(TryLater, match=r"health check|does not serve yet"):
                await runner.__aenter__()


async def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("watcher.hook.performer", "watcher.hook.grpc_import"):
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(FixConfiguration, match=r"avs-task-watcher\[grpc\]"):
        open_runner("grpc://127.0.0.1:8080", PoolPlan())
    monkeypatch.setattr(targets, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"avs-task-watcher\[grpc\]"):
        targets.hook_target("grpc://127.0.0.1:8080")


@pytest.mark.parametrize("target", ["grpc:host:80", "grpc://host", "grpc://u:canary@host:80", "grpc://host:80/path"])
def test_other_form_of_a_target_is_refused(target: str) -> None:
    with pytest.raises(FixConfiguration, match="write it as grpc://HOST:PORT") as caught:
        open_runner(target, PoolPlan())
    assert "canary" not in str(caught.value)


async def test_performer_names_its_version_in_the_metadata_of_a_reply() -> None:
    async with performing() as (performer, target), PerformerRunner(target, PoolPlan()) as runner:
        assert (runner.version, await runner.changed_files()) == (target, "")
        performer.version = "pricing 1.0"
        response = await runner.run(make_task(b"echo x"))
        assert isinstance(response, Response) and response.hook_version == f"{target} pricing 1.0" == runner.version
        assert await runner.changed_files() == ""
        performer.version = "pricing 1.1 " + "x" * 500
        response = await runner.run(make_task(b"echo x"))
        assert isinstance(response, Response) and response.hook_version.startswith(f"{target} pricing 1.1 xxx")
        assert "pricing 1.0" in await runner.changed_files() and len(runner.version) < 200
        assert (await runner.reload())[0] == f"{target} pricing 1.0"
        assert await runner.changed_files() == ""
