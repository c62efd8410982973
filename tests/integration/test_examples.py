"""The examples fit the devnet: their hooks answer what it asks, and their configurations are its own."""

import asyncio
import os
import signal
import tomllib
from pathlib import Path

import aiohttp

from tests.integration.convention_rig import BRIDGE, DEADLINE_S, WIZARD, Case, every_case, until, world
from tests.system.daemon_process import start_command
from watcher.devnet.chain import Chain
from watcher.devnet.contract import call_data
from watcher.devnet.conventions import CONVENTIONS
from watcher.devnet.rpc import Rpc
from watcher.testing import make_task, run_hook

EXAMPLES = Path(__file__).parents[2] / "examples"


def case_folder(case: Case) -> str:
    return {"wizard": "squaring", "wizard-bridge": "bridge"}.get(case.name, case.name.replace("-", "_"))


@every_case
def test_the_example_answers_what_the_devnet_asks(case: Case) -> None:
    convention = CONVENTIONS[case.name]
    task = make_task(convention.question(3), task_index=3)
    answer = run_hook(convention.hook, task, app_dir=EXAMPLES / convention.hook.partition(":")[0])
    assert isinstance(answer, bytes)
    assert convention.word(answer) == answer


@every_case
async def test_the_examples_configuration_is_the_devnets(case: Case) -> None:
    """Ports, which the example fixes, and places on the disk are its own."""
    async with world(case) as client:
        devnet = client.devnet
        folder = case_folder(case)
        built = tomllib.loads(devnet.toml(app_dir=f"examples/{folder}"))
        example = tomllib.loads((EXAMPLES / folder / "watcher.toml").read_text("utf-8"))
        assert example["task_manager"].pop("start_block") <= built["task_manager"].pop("start_block")
        assert example["task_manager"] == built["task_manager"]
        assert example["hook"] == built["hook"]
        port = str(devnet.hosted.port)
        operator = {key: value for key, value in built["operator"].items() if key not in ("concurrency", "timeout_s")}
        assert example["operator"] == operator | {"url": operator["url"].replace(port, "8902")}
        urls = [url.rpartition(":")[0] + ":8545" for url in built["chain"]["rpc_urls"]]
        assert example["chain"] == built["chain"] | {"rpc_urls": urls}


@every_case
async def test_the_ready_configuration_takes_the_api_that_serves_the_convention(case: Case) -> None:
    async with world(case) as client:
        built = tomllib.loads(client.devnet.toml())
        assert built["task_manager"]["convention"] == case.name
        assert built["hook"]["target"] == f"{case_folder(case)}:respond"
        proxied = case in (WIZARD, BRIDGE)
        assert (built["operator"]["api"], "avs_name" in built["operator"]) == (
            "proxy" if proxied else "operator",
            not proxied,
        )
        assert built["operator"]["method"] == case.method
        chosen = tomllib.loads(client.devnet.toml(api="operator", target="my:hook"))
        assert (chosen["operator"]["avs_name"], chosen["hook"]["target"]) == ("devnet", "my:hook")


@every_case
async def test_the_command_plays_the_convention_and_asks(case: Case, tmp_path: Path) -> None:
    options = ["--convention", case.name, "--directory", str(tmp_path), "--block-time", "0.1", "--tasks-every", "0.1"]
    process = await start_command(["devnet", *options], os.environ, EXAMPLES.parent)
    try:
        assert process.stdout is not None
        lines = [(await asyncio.wait_for(process.stdout.readline(), DEADLINE_S)).decode()]
        while not lines[-1].startswith("# export WATCHER_OPERATOR__PASSWORD="):
            assert lines[-1], "".join(lines)
            lines.append((await asyncio.wait_for(process.stdout.readline(), DEADLINE_S)).decode())
        built = tomllib.loads("".join(lines))
        assert built["task_manager"]["convention"] == case.name
        async with aiohttp.ClientSession(trust_env=False) as session:
            chain = Chain(Rpc(session, built["chain"]["rpc_urls"][0]))

            async def asked() -> bool:
                count = await chain.call(built["task_manager"]["address"], call_data("latestTaskNum"))
                return int.from_bytes(count, "big") >= 2

            await until(asked)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
