"""The shipped alert rules, checked by promtool, and a real Prometheus that scrapes a real daemon and raises the alarm.

Debian and Ubuntu have both programs in the package `prometheus`.
"""

import asyncio
import os
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.system.daemon_rig import running_rig
from tests.system.debian import unpacked
from watcher.devnet.faults import Fault, FaultKind

MONITORING = Path(__file__).parents[2] / "monitoring"
IN_TIME_S = 30.0


@pytest.fixture(scope="module", autouse=True)
def programs() -> Iterator[None]:
    """Both programs: the machine's own, or unpacked from its package, which starts no service."""
    with pytest.MonkeyPatch.context() as patch:
        if not all(map(shutil.which, ("promtool", "prometheus"))):
            folder = unpacked("prometheus", "usr/bin/promtool").parent
            patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        yield


async def promtool(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        "promtool", *arguments, cwd=MONITORING, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def test_promtool_finds_the_rules_sound() -> None:
    await promtool("check", "rules", "alerts.yml")


async def test_each_rule_fires_on_its_condition_and_none_on_a_healthy_watcher() -> None:
    await promtool("test", "rules", "alerts_test.yml")
    rules = set(re.findall(r"alert: (\w+)", (MONITORING / "alerts.yml").read_text()))
    tested = re.findall(r"alertname: (\w+)\n +exp_alerts:", (MONITORING / "alerts_test.yml").read_text())
    assert rules == set(tested), "every rule has its test"


async def test_promtool_finds_nothing_to_say_against_what_a_daemon_serves(tmp_path: Path) -> None:
    program = "import sys; from prometheus_client import generate_latest as g; "
    program += "from watcher.health.metrics import Metrics;"
    program += "sys.stdout.buffer.write(g(Metrics('avs').registry))"
    served = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    text, _ = await served.communicate()
    checked = await asyncio.create_subprocess_exec(
        "promtool", "check", "metrics", stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, output = await checked.communicate(text)
    assert (checked.returncode, output) == (0, b"")


class Prometheus:
    """One that is running, and what it believes."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url

    async def ready(self) -> bool:
        async with self._session.get(f"{self._url}/-/ready") as response:
            return response.status == 200

    async def ask(self, path: str) -> dict[str, object]:
        async with self._session.get(f"{self._url}/api/v1/{path}") as response:
            reply: dict[str, dict[str, object]] = await response.json()
            return reply["data"]

    async def firing(self) -> set[str]:
        alerts = (await self.ask("alerts"))["alerts"]
        assert isinstance(alerts, list)
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    async def health(self) -> list[str]:
        targets = (await self.ask("targets"))["activeTargets"]
        assert isinstance(targets, list)
        return [target["health"] for target in targets]

    async def until_firing(self, condition: Callable[[set[str]], bool]) -> None:
        began_s = time.monotonic()
        while not condition(firing := await self.firing()):
            assert time.monotonic() - began_s < IN_TIME_S, f"firing: {firing}"
            await asyncio.sleep(0.1)


@asynccontextmanager
async def prometheus(folder: Path, target: str) -> AsyncIterator[Prometheus]:
    """A server of its own: own configuration, own port, own storage."""
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        f"rule_files: ['{MONITORING / 'alerts.yml'}']\n"
        f"scrape_configs: [{{job_name: avs-watcher, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'storage'}",
            "--web.listen-address=127.0.0.1:0", stdout=output, stderr=output,
        )  # fmt: skip
    try:
        began_s = time.monotonic()
        while (match := re.search(r'"?Listening on"?.* address=(\S+)', log.read_text())) is None:
            assert process.returncode is None and time.monotonic() - began_s < IN_TIME_S, log.read_text()
            await asyncio.sleep(0.05)
        async with aiohttp.ClientSession(trust_env=False) as session:
            server = Prometheus(session, f"http://{match[1]}")
            while not await server.ready():  # it listens before it can answer
                assert time.monotonic() - began_s < IN_TIME_S, log.read_text()
                await asyncio.sleep(0.05)
            yield server
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def test_refusing_api_fires_in_prometheus_until_it_accepts_again(
    tmp_path: Path,
) -> None:
    toml = {"listen": "127.0.0.1:0"}
    async with running_rig(tmp_path, hook="square", toml=toml, mining=0.5, window_blocks=400) as rig:
        daemon = await rig.start()
        await rig.until(lambda: "health.listening" in daemon.log, "it serves")
        match = re.search(r"health.listening.* url=http://(\S+)", daemon.log)
        assert match is not None
        async with prometheus(tmp_path, match[1]) as server:
            await rig.create()
            began_s = time.monotonic()
            while await server.health() != ["up"]:
                assert time.monotonic() - began_s < IN_TIME_S, "it is scraped"
                await asyncio.sleep(0.1)
            assert await server.firing() == set()
            rig.net.hosted.faults.add(Fault(FaultKind.STATUS, status=403))
            await rig.create()
            await server.until_firing(lambda firing: "AvsWatcherApiBlocked" in firing)
            assert await server.firing() == {"AvsWatcherApiBlocked"}
            rig.net.hosted.faults.clear()
            await server.until_firing(lambda firing: not firing)
        await rig.until(lambda: rig.all_in("final"), "both tasks are final")
        assert await daemon.stop() == 0
