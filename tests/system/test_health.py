"""Whatever breaks outside, /readyz, the Node API, the metrics, STATUS and one alert tell the same true story in time.

One real daemon, a real notification socket, a real receiver of alerts, real outages; each is told within 30 seconds,
and its end too.
"""

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.system.daemon_rig import Daemon, Rig, running_rig
from tests.system.receiver import KEY, Receiver, listening
from tests.system.test_conventions import BY_TIME, described
from watcher.devnet.faults import Fault, FaultKind

IN_TIME_S = 30.0
QUICK = {
    "WATCHER_HOOK__MAX_ATTEMPTS": "1000",
    "WATCHER_OPERATOR__TIMEOUT_S": "2",
    "WATCHER_ALERTS__INTERVAL_S": "0.5",
}
SUBJECTS = {
    "operator-api": "the operator API does not take answers",
    "handler": "the hook fails",
    "chain-rpc": "no node answers",
    "store": "the ledger is in trouble",
}


@dataclass(frozen=True)
class Report:
    """What each of those that are asked says at about the same moment."""

    ready_status: int
    ready: dict[str, Any]
    node_status: int
    services: dict[str, str]
    service_status: dict[str, int]
    metrics: dict[tuple[str, str], float]
    status_line: str

    def all_say_well(self) -> bool:
        return (
            (self.ready_status, self.node_status) == (200, 200)
            and self.ready["ready"] is True
            and self.ready["reasons"] == self.ready["troubles"] == []
            and set(self.services.values()) == {"Up"}
            and set(self.service_status.values()) == {200}
            and self.metrics["avs_watcher_ready", ""] == 1
            and self._troubles() == set()
            and ": " not in self.status_line
        )

    def all_say_down(self, service: str, reason: str) -> bool:
        """This service, for this reason, and no other service."""
        vital = service in ("chain-rpc", "store", "watch")
        wrong = [line for line in self.ready["reasons"] if line.startswith(f"{service}: ")]
        down = {name for name, status in self.services.items() if status == "Down"}
        return (
            (self.ready_status, self.node_status) == (503, 503 if vital else 206)
            and self.ready["ready"] is False
            and len(wrong) == 1
            and reason in wrong[0]
            and down == {service}
            and {service for service, status in self.service_status.items() if status == 503} == {service}
            and self.metrics["avs_watcher_ready", ""] == 0
            and self.metrics["avs_watcher_service_up", service] == 0
            and service in self._troubles()
            and f"{service}: " in self.status_line
        )

    def _troubles(self) -> set[str]:
        return {label for (name, label), value in self.metrics.items() if name == "avs_watcher_trouble" and value}


@dataclass
class Watched:
    """A daemon that serves, whoever asks it, and whoever it tells. `began_s` and `ended_s`: each fault so far."""

    rig: Rig
    daemon: Daemon
    session: aiohttp.ClientSession
    url: str
    receiver: Receiver
    began_s: list[tuple[str, float]] = field(default_factory=list)
    ended_s: list[tuple[str, float]] = field(default_factory=list)

    async def report(self) -> Report:
        ready_status, ready = await self._json("/readyz")
        _, listed = await self._json("/eigen/node/services")
        services = {service["id"]: service["status"] for service in listed["services"]}
        lines = [line for line in self.daemon.notices() if line.startswith("STATUS=")]
        return Report(
            ready_status,
            ready,
            await self._status("/eigen/node/health"),
            services,
            {service: await self._status(f"/eigen/node/services/{service}/health") for service in services},
            await self.metrics(),
            lines[-1],
        )

    async def metrics(self) -> dict[tuple[str, str], float]:
        async with self.session.get(f"{self.url}/metrics") as response:
            families = text_string_to_metric_families(await response.text())
            return {
                (sample.name, next(iter(sample.labels.values()), "")): sample.value
                for family in families
                for sample in family.samples
            }

    async def until_down(self, service: str, reason: str) -> None:
        """Waits until all say that the service is down for a reason with the words, the alert for it among them."""
        began_s = time.monotonic()
        self.began_s.append((service, began_s))
        while not ((report := await self.report()).all_say_down(service, reason) and self._alerted(service, reason)):
            self._check_in_time(began_s, f"{service} is down", report)
            await asyncio.sleep(0.1)

    async def until_well(self) -> None:
        """Waits until all who are asked say that it is well. The alert that says so waits for some calm first."""
        began_s = time.monotonic()
        self.ended_s += [(service, began_s) for service, _ in self.began_s[len(self.ended_s) :]]
        while not (report := await self.report()).all_say_well():
            self._check_in_time(began_s, "all is well", report)
            await asyncio.sleep(0.1)

    async def until_over(self) -> None:
        """Waits until each end has been alerted too. Nothing else ever was, nothing twice, and nothing late."""
        await self.receiver.until(lambda: len(self.receiver.lines) >= len(self.began_s + self.ended_s), "every alert")
        for kind, happened in (("wrong", self.began_s), ("fine again", self.ended_s)):
            lines = [line for line in self.receiver.lines if line.kind == kind]
            assert [line.subject for line in lines] == [SUBJECTS[service] for service, _ in happened], lines
            for line, (_, at_s) in zip(lines, happened, strict=True):
                assert 0 <= line.came_s - at_s < IN_TIME_S, line
        assert {line.kind for line in self.receiver.lines} == {"wrong", "fine again"}
        assert KEY not in self.daemon.log

    def _alerted(self, service: str, reason: str) -> bool:
        lines = [line for line in self.receiver.lines if (line.kind, line.subject) == ("wrong", SUBJECTS[service])]
        faults = Counter(service for service, _ in self.began_s)[service]
        assert len(lines) <= faults, lines
        return len(lines) == faults and reason in lines[-1].reason

    def _check_in_time(self, began_s: float, what: str, report: Report) -> None:
        late = time.monotonic() - began_s >= IN_TIME_S
        assert not late, f"not told in time: {what}: {report}\n{self.receiver.lines}\n{self.rig.story()}"

    async def until_counted(self, name: str, label: str, expected: float) -> None:
        began_s = time.monotonic()
        while (now := (await self.metrics())[name, label]) != expected:
            assert time.monotonic() - began_s < IN_TIME_S, f"{name} of {label} is {now}"
            await asyncio.sleep(0.1)

    async def _json(self, path: str) -> tuple[int, dict[str, Any]]:
        async with self.session.get(self.url + path) as response:
            return response.status, await response.json()

    async def _status(self, path: str) -> int:
        async with self.session.get(self.url + path) as response:
            assert await response.read() == b""
            return response.status


@asynccontextmanager
async def watched(rig: Rig) -> AsyncIterator[Watched]:
    async with listening() as receiver, aiohttp.ClientSession(trust_env=False) as session:
        daemon = await rig.start(environment=QUICK, WATCHER_ALERTS__URLS=receiver.url)
        await rig.until(lambda: "health.listening" in daemon.log, "it serves")
        match = re.search(r"health.listening.* url=(http://\S+)", daemon.log)
        assert match is not None
        yield Watched(rig, daemon, session, match[1], receiver)


async def run(*command: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, output = await process.communicate()
    return process.returncode, output.decode().strip()


def fill(path: Path) -> None:
    """Take all the space there is."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


async def test_each_failing_service_is_reported_alike_and_so_is_its_recovery(
    tmp_path: Path,
) -> None:
    toml = {"listen": "127.0.0.1:0", "hook_timeout_s": 1}
    options: dict[str, Any] = {"mining": 0.5, "persist": True, "window_blocks": 400}
    async with running_rig(tmp_path, hook="gated", toml=toml, **options) as rig:
        gate = rig.hook_folder / "open"
        gate.touch()
        async with watched(rig) as daemon:
            await rig.create()
            await daemon.until_well()

            await rig.net.hosted.stop()
            await rig.create()
            await daemon.until_down("operator-api", "in a row failed (not sent: the connection was refused")
            await rig.net.hosted.start()
            await daemon.until_well()

            gate.unlink()
            await rig.create()
            await daemon.until_down("handler", "runs failed")
            gate.touch()
            await daemon.until_well()

            await daemon.until_over()
            rig.net.hosted.faults.add(Fault(FaultKind.STATUS, status=401))
            await rig.create()
            await daemon.until_down("operator-api", "refuses us")
            rig.net.hosted.faults.clear()
            await daemon.until_well()

            await rig.net.anvil.stop()
            await daemon.until_down("chain-rpc", "no good answer for")
            await rig.net.restart_chain()
            await daemon.until_well()

            await rig.until(lambda: rig.all_in("final"), "every task is final")
            await daemon.until_counted("avs_watcher_tasks", "final", 4)
            metrics = (await daemon.report()).metrics
            assert metrics["avs_watcher_task_moves_total", "final"] == 4
            assert metrics["avs_watcher_api_requests_total", "refuses_us"] >= 1
            assert metrics["avs_watcher_api_requests_total", "not_sent"] >= 2
            assert metrics["avs_watcher_hook_runs_total", "failed"] >= 2
            assert metrics["avs_watcher_post_delay_seconds_count", ""] == 4
            assert metrics["avs_watcher_response_delay_seconds_count", ""] == 4
            await daemon.until_over()
            assert await daemon.daemon.stop() == 0
            await daemon.until_over()
        password = rig.environment["WATCHER_OPERATOR__PASSWORD"]
        assert password not in str(metrics) and password not in "".join(daemon.daemon.notices())


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system of its own needs root")
async def test_a_full_disk_is_told_alike_and_so_is_its_end(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    code, output = await run("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small))
    if code:
        pytest.skip(f"no tmpfs can be mounted here: {output}")
    try:
        toml = {"listen": "127.0.0.1:0", "ledger_url": f"sqlite:///{small / 'watcher.db'}"}
        async with running_rig(tmp_path, hook="square", toml=toml, mining=0.5, window_blocks=400) as rig:
            rig.ledger = small / "watcher.db"
            async with watched(rig) as daemon:
                await rig.create()
                await daemon.until_well()
                filler = small / "filler"
                fill(filler)
                await daemon.until_down("store", "could not be written")
                assert (await daemon.metrics())["avs_watcher_ledger_failures_total", ""] >= 1
                filler.unlink()
                await daemon.until_well()
                await daemon.until_over()
                assert await daemon.daemon.stop() == 0
                await daemon.until_over()
                assert len(daemon.receiver.got) == 2
    finally:
        assert (await run("umount", str(small)))[0] == 0


async def test_a_deadline_in_danger_and_a_quiet_chain(tmp_path: Path) -> None:
    """Nothing comes from the chain for long enough that only the probe write shows the ledger; then a task is late."""
    options: dict[str, Any] = {"window_blocks": 40, "toml": {"listen": "127.0.0.1:0"}}
    async with running_rig(tmp_path, hook="patient", **options) as rig, watched(rig) as daemon:
        await rig.create()
        await rig.net.mine(32)
        began_s = time.monotonic()
        while not (report := await daemon.report()).ready["troubles"] or "deadline: " not in report.status_line:
            assert time.monotonic() - began_s < IN_TIME_S, report
            await asyncio.sleep(0.1)
        assert [condition["key"] for condition in report.ready["troubles"]] == ["deadline"]
        assert report.node_status == 206
        assert set(report.services.values()) == {"Up"}
        assert report.metrics["avs_watcher_nearest_deadline_blocks", ""] == report.ready["nearest_deadline_blocks"] == 8
        assert report.metrics["avs_watcher_tasks_in_danger", ""] == 1
        (rig.hook_folder / "open").touch()
        await rig.until(lambda: rig.in_pool() == 1, "the response is in the pool")
        await rig.net.mine(2)
        await daemon.until_well()
        assert await daemon.daemon.stop() == 0


async def test_a_deadline_that_is_a_time_is_in_danger_when_seconds_are_left(tmp_path: Path) -> None:
    """The number of a task doubles as its deadline: one far away, one in a moment."""
    options: dict[str, Any] = {"convention": "incredible-squaring", "toml": {"listen": "127.0.0.1:0"}}
    async with running_rig(tmp_path, hook="patient", **options) as rig:
        described(rig, BY_TIME, target="rig_hook:patient", listen="127.0.0.1:0")
        async with watched(rig) as daemon:
            newest = await rig.net.chain.block("latest")
            assert newest is not None
            now_s = max(int(newest["timestamp"], 16), int(time.time()))
            await rig.net.create_tasks([(now_s + left_s).to_bytes(32, "big") for left_s in (100_000, 14)])
            began_s = time.monotonic()
            while not (report := await daemon.report()).ready["troubles"]:
                assert time.monotonic() - began_s < IN_TIME_S, report
                await asyncio.sleep(0.1)
            assert [condition["key"] for condition in report.ready["troubles"]] == ["deadline"]
            assert "1 task is within 120 s of the deadline and unanswered" in report.ready["troubles"][0]["words"]
            assert 0 < report.ready["nearest_deadline_seconds"] <= 15
            assert 0 < report.metrics["avs_watcher_nearest_deadline_seconds", ""] <= 15
            assert report.metrics["avs_watcher_tasks_in_danger", ""] == 1
            (rig.hook_folder / "open").touch()
            assert await daemon.daemon.stop() == 0
