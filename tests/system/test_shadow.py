"""The shadow beside a running daemon: bugs of every kind cost the live hook nothing, and a promotion loses no task."""

import asyncio
import re
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.system.daemon_rig import Daemon, Rig, running_rig

TASKS = 100
TIMEOUT_S = 3
# The kind of bug by the task's number modulo 50.
SHADOW = """
import os
import sys
import time

from watcher import Later, Skip

leak = []


def respond(task):
    number = int.from_bytes(task.message, "big")
    kind = number % 50
    if kind == 1:
        raise ValueError("a bug of the shadow")
    if kind == 2:
        return b"another answer"
    if kind == 3:
        return Skip("not for the shadow")
    if kind == 4:
        return Later(blocks=3)
    if kind == 5:
        while True:
            sys.stdout.write("flood" * 10_000)
    if kind == 6:
        os._exit(3)
    if kind == 7:
        while True:
            leak.append(bytearray(10_000_000))
    if kind == 8:
        time.sleep(100)
    if kind == 9:
        return "no bytes"
    return (number * number % 2**256).to_bytes(32, "big")
"""
BUGS = {
    1: "failed",
    2: "answered",
    3: "skipped",
    4: "later",
    5: "failed",
    6: "failed",
    7: "failed",
    8: "failed",
    9: "failed",
}


def shadow_runs(rig: Rig, version: str = "%") -> dict[int, tuple[str, bool]]:
    rows = rig.query(
        "SELECT task_index, shadow_runs.outcome, agrees FROM shadow_runs JOIN tasks ON tasks.id = task_id "
        f"WHERE version LIKE '{version}'"
    )
    return {index: (outcome, bool(agrees)) for index, outcome, agrees in rows}


async def scraped(daemon: Daemon, path: str) -> tuple[int, str]:
    (url,) = re.findall(r"http://127\.0\.0\.1:\d+", daemon.log)[:1]
    async with aiohttp.ClientSession() as session, session.get(f"{url}{path}") as reply:
        return reply.status, await reply.text()


async def report(rig: Rig, *options: str) -> tuple[int, dict[str, Any]]:
    done = await rig.command("shadow", "report", "--json", *options)
    return done.code, done.json


@pytest.mark.long
async def test_shadow_with_every_bug_costs_nothing_and_is_promoted_by_a_reload(tmp_path: Path) -> None:
    async with running_rig(tmp_path, hook="square", window_blocks=5000) as rig:
        (rig.hook_folder / "shadow.py").write_text(SHADOW)
        section = f'\n[hook.shadow]\ntarget = "shadow:respond"\ntimeout_s = {TIMEOUT_S}\nmemory_mb = 150\n'
        rig.config.write_text(rig.config.read_text() + section)
        daemon = await rig.start(WATCHER_HTTP__LISTEN="127.0.0.1:0")
        first = await rig.create(TASKS)
        await rig.settle()
        assert rig.all_in("final"), "the live hook answers all of them"
        slowest = rig.query("SELECT max(duration_ms) FROM attempts WHERE kind = 'hook'")[0][0]
        assert slowest < TIMEOUT_S * 1000, "no task waits for the shadow"
        assert rig.query("SELECT count(*) FROM attempts WHERE kind = 'hook' AND outcome <> 'answered'") == [(0,)]
        await rig.until(lambda: len(shadow_runs(rig)) == TASKS, "the shadow has run on each", timeout_s=240)
        numbers = {
            index: int.from_bytes(message) for index, message in rig.query("SELECT task_index, message FROM tasks")
        }
        assert shadow_runs(rig) == {
            index: (BUGS.get(numbers[index] % 50, "answered"), numbers[index] % 50 not in BUGS) for index in first
        }
        differing = sum(number % 50 in BUGS for number in numbers.values())
        code, compared = await report(rig)
        assert (code, compared["runs"], compared["agrees"], compared["dropped"]) == (1, TASKS, TASKS - differing, 0)
        other = next(case for case in compared["differences"] if case["outcome"] == "answered")
        assert (other["shadow"]["hex"], other["first_byte"]) == ("0x" + b"another answer".hex(), 0)
        assert compared["live_ms"]["p99"] is not None and compared["versions"][0].startswith("shadow:respond@")
        status, body = await scraped(daemon, "/readyz")
        assert (status, '"shadow' in body) == (200, True), "it warns, and is ready"
        assert (
            f'avs_watcher_shadow_runs_total{{result="agrees"}} {TASKS - differing}.0'
            in (await scraped(daemon, "/metrics"))[1]
        )
        await _promote(rig, daemon)
        assert await daemon.stop() == 0
        await rig.verify()


async def _promote(rig: Rig, daemon: Daemon) -> None:
    """Swap a corrected shadow and the live hook, in the middle of a burst of tasks."""
    (rig.hook_folder / "better.py").write_text(
        "from rig_hook import square\n\n\ndef respond(task):\n    return square(task)\n"
    )
    creating = asyncio.create_task(rig.create(30))
    text = rig.config.read_text().replace('"shadow:respond"', '"rig_hook:square"')
    rig.config.write_text(text.replace('target = "rig_hook:square"', 'target = "better:respond"', 1))
    daemon.send(signal.SIGHUP)
    await rig.until(lambda: "version=better:respond@" in daemon.log, "the shadow answers now", timeout_s=120)
    late = [*await creating, *await rig.create(5)]
    await rig.settle()
    versions = {version for (version,) in rig.query("SELECT DISTINCT hook_version FROM tasks")}
    assert {version.partition("@")[0] for version in versions} == {"rig_hook:square", "better:respond"}
    await rig.until(
        lambda: set(late) <= shadow_runs(rig, "rig_hook:square%").keys(), "the old hook is the shadow", timeout_s=120
    )
    code, compared = await report(rig)
    assert (code, compared["ok"], compared["dropped"]) == (0, True, 0)
    code, _ = await report(rig, "--all-versions")
    assert code == 1


async def test_restarted_daemon_goes_on_where_the_shadow_was(tmp_path: Path) -> None:
    async with running_rig(tmp_path, hook="square") as rig:
        (rig.hook_folder / "shadow.py").write_text(
            "import time\nfrom pathlib import Path\n\n\ndef respond(task):\n"
            f"    while task.task_index > 4 and not Path({str(rig.hook_folder / 'restarted')!r}).exists():\n"
            "        time.sleep(0.02)\n    return b'x'\n"
        )
        rig.config.write_text(rig.config.read_text() + '\n[hook.shadow]\ntarget = "shadow:respond"\n')
        daemon = await rig.start()
        created = await rig.create(20)
        await rig.settle()
        await daemon.kill()
        seen = len(shadow_runs(rig))
        (rig.hook_folder / "restarted").touch()
        daemon = await rig.start()
        await rig.until(lambda: shadow_runs(rig).keys() == set(created), "no task is left out", timeout_s=120)
        assert seen < len(created)
        assert await daemon.stop() == 0


async def test_shadow_that_cannot_be_loaded_stops_nothing(tmp_path: Path) -> None:
    async with running_rig(tmp_path, hook="square") as rig:
        rig.config.write_text(rig.config.read_text() + '\n[hook.shadow]\ntarget = "nowhere:respond"\n')
        daemon = await rig.start(WATCHER_HTTP__LISTEN="127.0.0.1:0")
        await rig.create(3)
        await rig.settle()
        await rig.until(lambda: "condition=shadow" in daemon.log, "it says so")
        assert "hook.shadow.target = 'nowhere:respond': " in daemon.log, "the setting to correct"
        async with asyncio.timeout(30):
            # At the start, the ledger is not measured yet.
            while (await scraped(daemon, "/readyz"))[0] != 200:  # noqa: ASYNC110 - the daemon is another process
                await asyncio.sleep(0.2)
        rig.config.write_text(rig.config.read_text().replace('target = "nowhere:respond"', 'target = ""'))
        daemon.send(signal.SIGHUP)
        await rig.until(lambda: "a condition ended condition=shadow" in daemon.log, "without a shadow nothing is wrong")
        done = await rig.command("shadow", "report")
        assert (done.code, done.out) == (75, "") and "[hook.shadow]" in done.err
        assert await daemon.stop() == 0
        await rig.verify()
