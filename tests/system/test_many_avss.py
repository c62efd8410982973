"""Three AVSs in one daemon: two with contracts of their own on one chain, and one that cannot start."""

import asyncio
import json
import re
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.system.daemon_rig import Rig, running_rig
from watcher.devnet.aggregator import Aggregator
from watcher.devnet.hosted import HostedOperator
from watcher.devnet.journal import Journal
from watcher.devnet.operators import Operators
from watcher.devnet.tasks import TaskManager, deploy, roles_of
from watcher.devnet.world import Devnet

NO_CONTRACT = "0x" + "ab" * 20


@asynccontextmanager
async def another_contract(net: Devnet, folder: Path) -> AsyncIterator[tuple[TaskManager, str]]:
    """A second task manager on the chain of `net`, with operators and an API of its own."""
    o = net.options
    manager = await deploy(net.chain, await roles_of(net.chain), o.window_blocks, net.convention)
    names = [f"second operator {number}" for number in range(o.operators)]
    operators = Operators([await manager.register(name, 100, o.quorum_numbers) for name in names])
    journal = Journal(folder / "second.jsonl")
    aggregator = Aggregator(manager, operators, journal)
    hosted = HostedOperator(aggregator, journal, o.username, o.password)
    aggregator.start()
    await hosted.start()
    try:
        yield manager, hosted.url
    finally:
        await hosted.stop()
        await aggregator.close()
        journal.close()


def three(rig: Rig, second: TaskManager, second_api: str, third: str) -> str:
    """The configuration: what all have in common stands at the top."""
    common = re.sub(
        r"(?ms)^\[task_manager\].*?(?=^\[)",
        "",
        rig.net.toml(
            target="rig_hook:square",
            app_dir=str(rig.hook_folder),
            ledger_url=f"sqlite:///{rig.ledger}",
            listen="127.0.0.1:0",
        ),
    )
    avss = [
        ("first", rig.net.task_manager, rig.net.manager.deployed_block, rig.net.api_url),
        ("second", second.address, second.deployed_block, second_api),
        ("third", third, 0, rig.net.api_url),
    ]
    return common + "".join(
        f'[[avs]]\nname = "{name}"\n[avs.task_manager]\naddress = "{address}"\nstart_block = {block}\n'
        f'[avs.operator]\nurl = "{url}"\n'
        for name, address, block, url in avss
    )


def _all_final(rig: Rig, count: int) -> bool:
    return list(rig.states().values()) == ["final"] * count


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession(trust_env=False) as session, session.get(url) as response:
        return response.status, await response.text()


async def _readiness(url: str, expected: dict[str, bool]) -> dict[str, Any]:
    """Wait until /readyz says so of each AVS, and return its body."""
    async with asyncio.timeout(30):
        while True:
            status, body = await get(f"{url}/readyz")
            ready: dict[str, Any] = json.loads(body)
            if {name: each["ready"] for name, each in ready["avss"].items()} == expected:
                assert status == (200 if all(expected.values()) else 503)
                return ready
            await asyncio.sleep(0.05)


async def _until_shows(url: str, text: str) -> str:
    """Wait until an address shows a text, and return all that it shows."""
    async with asyncio.timeout(30):
        while True:
            _, body = await get(url)
            if text in body:
                return body
            await asyncio.sleep(0.05)


async def test_a_broken_avs_does_not_disturb_the_others(tmp_path: Path) -> None:
    async with running_rig(tmp_path, hook="square") as rig, another_contract(rig.net, tmp_path) as (second, api):
        rig.config.write_text(three(rig, second, api, NO_CONTRACT))
        daemon = await rig.start()
        url = re.findall(r"url=(http://\S+)", daemon.log)[-1]

        await rig.net.create_tasks([number.to_bytes(32, "big") for number in (2, 3)])
        await second.create_tasks([number.to_bytes(32, "big") for number in (4, 5, 6)], 66, b"\x00")
        ledgers = {name: tmp_path / f"watcher-{name}.db" for name in ("first", "second", "third")}
        async with rig.mining(0.2):
            for name, count in (("first", 2), ("second", 3)):
                rig.ledger = ledgers[name]
                await rig.until(partial(_all_final, rig, count), f"{name} answers")

        # What is broken is named, and everything else has its own addresses.
        ready = await _readiness(url, {"first": True, "second": True, "third": False})
        assert "there is no code at" in ready["avss"]["third"]["reasons"][0]
        assert (await get(f"{url}/livez"))[0] == 200
        assert (await get(f"{url}/avs/first/readyz"))[0] == 200
        assert (await get(f"{url}/avs/second/eigen/node/health"))[0] == 200
        assert (await get(f"{url}/eigen/node/health"))[0] == 206
        assert (await get(f"{url}/tasks"))[0] == 404
        status, page = await get(f"{url}/avs/second/tasks")
        assert status == 200
        assert 'href="/avs/second/tasks/2"' in page
        assert 'href="/tasks' not in page
        status, page = await get(f"{url}/")
        assert status == 200
        assert all(f'href="/avs/{name}/"' in page for name in ("first", "second"))
        assert "there is no code at" in page
        await _until_shows(f"{url}/metrics", 'avs_watcher_tasks{avs="first",state="final"} 2.0')
        metrics = await _until_shows(f"{url}/metrics", 'avs_watcher_tasks{avs="second",state="final"} 3.0')
        assert len(re.findall(r"^process_cpu_seconds_total", metrics, re.MULTILINE)) == 1
        lines = [line for line in daemon.log.splitlines() if "avs=third" in line]
        assert any("avs.failed" in line and "there is no code at" in line for line in lines)
        assert any(
            "task.final" in line or "task.responded" in line for line in daemon.log.splitlines() if "avs=second" in line
        )

        # Commands name the AVS, or run for all of them.
        listed = await rig.command("tasks", "list", "--json")
        assert [(task["avs"], task["state"]) for task in json.loads(listed.out)] == [("first", "final")] * 2 + [
            ("second", "final")
        ] * 3
        assert listed.code == 75
        assert "third: the ledger at" in listed.err
        proof = await rig.command("prove", "--json", "--avs", "second")
        assert (proof.code, json.loads(proof.out)["known"]) == (0, 3)
        story = await rig.command("explain", "1")
        assert story.code == 64
        assert "name one of first, second, third" in story.err

        # A contract for the third one: it runs after a reload, and the others go on.
        third = await deploy(rig.net.chain, await roles_of(rig.net.chain), 100, rig.net.convention)
        rig.config.write_text(three(rig, second, api, third.address))
        daemon.send(signal.SIGHUP)
        await rig.until(lambda: ledgers["third"].exists(), "the third one has a ledger")
        await _readiness(url, dict.fromkeys(ledgers, True))
        assert (await get(f"{url}/readyz"))[0] == 200
        assert await daemon.stop() == 0


async def test_a_ledger_whose_server_hangs_holds_up_no_other_avs(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing
        async with running_rig(tmp_path, hook="square") as rig:
            text = rig.net.toml(
                target="rig_hook:square", app_dir=str(rig.hook_folder), ledger_url=f"sqlite:///{rig.ledger}"
            )
            manager = f'start_block = {rig.net.manager.deployed_block}\naddress = "{rig.net.task_manager}"\n'
            hung = (
                f'[avs.ledger]\nurl = "postgresql://127.0.0.1:{silent.getsockname()[1]}/watcher?connect_timeout=300"\n'
            )
            rig.config.write_text(
                re.sub(r"(?ms)^\[task_manager\].*?(?=^\[)", "", text)
                + f'[[avs]]\nname = "hung"\n{hung}'
                + f'[avs.task_manager]\nstart_block = 0\naddress = "{NO_CONTRACT}"\n'
                + f'[[avs]]\nname = "well"\n[avs.task_manager]\n{manager}'
            )
            daemon = await rig.start(ready=False)
            rig.ledger = tmp_path / "watcher-well.db"
            await rig.net.create_tasks([(7).to_bytes(32, "big")])
            async with rig.mining(0.2):
                await rig.until(partial(_all_final, rig, 1), "the other AVS answers")
            await daemon.kill()


async def test_a_daemon_ends_if_no_avs_can_run(tmp_path: Path) -> None:
    async with running_rig(tmp_path, hook="square") as rig:
        text = rig.net.toml(
            target="rig_hook:square", app_dir=str(rig.hook_folder), ledger_url=f"sqlite:///{rig.ledger}"
        )
        common = re.sub(r"(?ms)^\[task_manager\].*?(?=^\[)", "", text)
        tables = "".join(
            f'[[avs]]\nname = "{name}"\n[avs.task_manager]\naddress = "{address}"\nstart_block = {block}\n'
            for name, address, block in (("a", NO_CONTRACT, "0"), ("b", rig.net.task_manager, '"soon"'))
        )
        rig.config.write_text(common + tables)
        daemon = await rig.start(ready=False)
        await rig.until(lambda: not daemon.running, "the daemon ends")
        assert await daemon.wait() == 78
        assert "a: task_manager.address: there is no code at" in daemon.log
        assert "b: task_manager.start_block: must be a block number" in daemon.log
