"""The shipped units under a real systemd: what they promise an operator holds, from the start to three in the morning.

The machine and the devnet are shared by the tests of this file, which run in order: the later ones find the instance
`demo` as the earlier ones leave it, running.
"""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.system.real_systemd import PROGRAM, Machine, Missing, booted, prepared
from watcher.devnet.faults import Fault, FaultKind
from watcher.devnet.world import Devnet, DevnetOptions

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

UNIT = "watcher@demo.service"
LEDGER = "/var/lib/avs-watcher/demo/watcher.db"
BY_HAND = "put it into root's shell:"
EXPOSURE_LIMIT = 15  # tenths
# The unit as it is, but a hang is noticed within seconds.
QUICK = "[Service]\nWatchdogSec=5\nRestartSec=1\n"


class Gate:
    """The way to the node, which can be closed."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server: asyncio.Server | None = None
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, back), _pump(there, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


class World:
    """The machine, the chain outside it, and questions to both."""

    def __init__(self, machine: Machine, net: Devnet, gate: Gate) -> None:
        self.machine, self.net, self.gate = machine, net, gate
        self._numbers = 0

    async def ok(self, *command: str, timeout_s: float = 60) -> str:
        return await asyncio.to_thread(self.machine.ok, *command, timeout_s=timeout_s)

    async def show(self, *names: str, unit: str = UNIT) -> dict[str, str]:
        return await asyncio.to_thread(self.machine.show, unit, *names)

    async def value(self, name: str, unit: str = UNIT) -> str:
        return (await self.show(name, unit=unit))[name]

    async def watcher(self, *arguments: str, instance: str = "demo", user: str = "avs-watcher") -> Any:
        """A command of ours, as somebody without root; its JSON."""
        ledger = f"WATCHER_LEDGER__URL=sqlite:////var/lib/avs-watcher/{instance}/watcher.db"
        config = f"/etc/avs-watcher/{instance}.toml"
        command = ["runuser", "-u", user, "--", "env", ledger, PROGRAM, *arguments, "--json", "--config", config]
        return json.loads(await self.ok(*command))

    async def state(self, index: int) -> str | None:
        """What the ledger says of a task; None where it does not know it."""
        listed = await self.watcher("tasks", "list")
        return next((task["state"] for task in listed if task["task_index"] == index), None)

    async def follow(self, heading: str, copy: str = "") -> None:
        """Type the commands that follow these words on the page, into one shell of root's, up to one that fails."""
        steps = _page_block(heading).replace("my-avs", "demo").replace("watcher-TIME.db", copy)
        await self.ok("bash", "-ec", f"{_page_block(BY_HAND)}\n{steps}", timeout_s=120)

    async def create(self, count: int) -> list[int]:
        first = self._numbers
        self._numbers += count
        return await self.net.create_tasks([n.to_bytes(32, "big") for n in range(first, self._numbers)])

    async def until(
        self, ask: Callable[[], Awaitable[Any]], condition: Callable[[Any], bool], what: str, timeout_s: float = 30
    ) -> Any:
        deadline_s = time.monotonic() + timeout_s
        while not condition(last := await ask()):
            if time.monotonic() > deadline_s:
                log = await asyncio.to_thread(self.machine.run, "journalctl", "--no-pager", "-n", "40", "-u", UNIT)
                raise AssertionError(f"not within {timeout_s:g} s: {what}; it is {last!r}\n{log.out}")
            await asyncio.sleep(0.1)
        return last

    async def active(self, unit: str = UNIT) -> None:
        await self.until(lambda: self.value("ActiveState", unit), lambda now: now == "active", f"{unit} is active")

    async def answered(self, indices: list[int]) -> None:
        """The chain shows an answer to each, exactly one, and it is the right one."""

        async def answers() -> list[tuple[int, bytes]]:
            return [
                (answer.index, answer.message) for answer in await self.net.manager.answers() if answer.index in indices
            ]

        shown_answers = await self.until(answers, lambda now: len(now) >= len(indices), f"answers to {indices}", 45)
        assert sorted(index for index, _ in shown_answers) == indices
        assert {index: int.from_bytes(message, "big") for index, message in shown_answers} == {
            n: n * n for n in indices
        }

    async def until_logged(self, unit: str, text: str) -> None:
        """The unit's log holds these words."""
        await self.until(
            lambda: self.ok("journalctl", "--no-pager", "-u", unit),
            lambda now: text in now,
            f"{unit} says {text!r}",
        )

    async def knows(self, count: int, instance: str) -> None:
        """The ledger of an instance holds so many tasks."""
        await self.until(
            lambda: self.watcher("tasks", "list", instance=instance), lambda now: len(now) == count, "all tasks"
        )

    async def main_pid(self) -> int:
        return int(await self.value("MainPID"))

    async def signal(self, name: str, *pids: int) -> None:
        await self.ok("sh", "-c", f"kill -s {name} {' '.join(map(str, pids))}")

    async def workers(self) -> list[int]:
        """The children of the main process."""
        return [
            int(word)
            for word in (await self.ok("sh", "-c", f"cat /proc/{await self.main_pid()}/task/*/children")).split()
        ]

    async def recovered(self, restarts: int) -> None:
        """Restarted by the manager, once more than before, and back at work on tasks made meanwhile."""
        indices = await self.create(3)
        await self.until(lambda: self.value("NRestarts"), lambda now: int(now) == restarts + 1, "a restart", 40)
        await self.active()
        await self.answered(indices)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with ExitStack() as stack:
        try:
            up = stack.enter_context(booted(prepared(), tmp_path_factory.mktemp("machine") / "boot.log"))
        except Missing as reason:
            pytest.skip(str(reason))
        yield up


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("devnet")
    options = DevnetOptions(directory=folder, mining=0.5, slots_in_epoch=1, confirmations=1, persist=False)
    async with Devnet(options) as net:
        gate = Gate(int(net.rpc_url.rpartition(":")[2]))
        await gate.open()
        world = World(machine, net, gate)
        await asyncio.to_thread(_furnish, world)
        yield world
        await gate.close()


def _furnish(world: World) -> None:
    """What an operator does: the units, the settings, the password, the hook."""
    machine, net = world.machine, world.net
    machine.ok(PROGRAM, "systemd", "install")
    hook = (Path(__file__).parents[2] / "examples" / "squaring" / "squaring.py").read_text()
    machine.write("/opt/hook/squaring.py", hook)
    toml = net.toml(app_dir="/opt/hook", ledger_url="sqlite:///x.db").replace('url = "sqlite:///x.db"', "")
    toml = toml.replace(f'"{net.rpc_url}", "{net.ws_url}"', f'"http://127.0.0.1:{world.gate.port}"')
    machine.write("/etc/avs-watcher/demo.toml", toml)
    machine.write("/etc/avs-watcher/demo.password", net.options.password + "\n", 0o600)
    machine.write("/etc/avs-watcher/second.toml", toml.replace('api = "proxy"', 'api = "none"'))
    machine.write("/etc/avs-watcher/second.password", net.options.password + "\n", 0o600)
    machine.write("/etc/avs-watcher/wrong.toml", toml.replace("chain_id = 31337", "chain_id = 0"))
    machine.write("/etc/avs-watcher/wrong.password", net.options.password + "\n", 0o600)
    machine.write("/etc/systemd/system/watcher@.service.d/quick.conf", QUICK)
    machine.ok("systemctl", "daemon-reload")


async def test_it_is_active_only_once_the_node_is_there(world: World) -> None:
    await world.gate.close()
    await world.ok("systemctl", "start", "--no-block", UNIT)
    waiting = await world.until(
        lambda: world.show("ActiveState", "StatusText"), lambda now: "waiting" in now["StatusText"], "it waits"
    )
    assert waiting["ActiveState"] == "activating"
    await world.gate.open()
    await world.active()
    assert await world.value("NRestarts") == "0"


async def test_the_status_line_follows_the_chain_and_tasks_are_answered(world: World) -> None:
    first = await world.until(
        lambda: world.value("StatusText"), lambda now: now.startswith("block "), "a status line with a block"
    )
    indices = await world.create(3)
    await world.until(lambda: world.value("StatusText"), lambda now: now.split()[1] != first.split()[1], "it moves")
    await world.answered(indices)


@pytest.mark.parametrize("signal", ["KILL", "TERM"])  # TERM ends with exit code 0, as one from a hook would
async def test_a_killed_main_process_comes_back_and_nothing_is_lost(world: World, signal: str) -> None:
    restarts = int(await world.value("NRestarts"))
    on_their_way = await world.create(4)
    await world.signal(signal, await world.main_pid())
    await world.recovered(restarts)
    await world.answered(on_their_way)


async def test_a_killed_hook_worker_is_replaced_without_a_restart(world: World) -> None:
    before = await world.show("NRestarts", "MainPID")
    workers = await world.workers()
    assert len(workers) == 2
    await world.signal("KILL", *workers)
    await world.answered(await world.create(3))
    assert await world.show("NRestarts", "MainPID") == before
    await world.until(world.workers, lambda now: len(set(now) - set(workers)) == 2, "two new workers")


async def test_a_stopped_main_process_is_noticed_by_the_watchdog(world: World) -> None:
    restarts = int(await world.value("NRestarts"))
    await world.signal("STOP", await world.main_pid())
    await world.recovered(restarts)
    # A lifeless process cannot tell itself: the manager did.
    assert "Watchdog timeout" in await world.ok("journalctl", "--no-pager", "-u", UNIT)


async def test_a_reload_takes_the_new_settings_and_refuses_wrong_ones(world: World) -> None:
    before = await world.show("NRestarts", "MainPID")
    path = "/etc/avs-watcher/demo.toml"
    good = await world.ok("cat", path)
    for text, message in (
        (good + '\n[log]\nlevel = "debug"\n', "settings.reloaded: "),
        (good + "\n[log]\nlevel = \n", "settings.reload_failed: "),
    ):
        await asyncio.to_thread(world.machine.write, path, text)
        await world.ok("systemctl", "reload", UNIT)
        await world.until_logged(UNIT, message)
        await world.active()
    await asyncio.to_thread(world.machine.write, path, good)
    assert await world.show("NRestarts", "MainPID") == before
    await world.answered(await world.create(1))


async def test_two_instances_run_side_by_side(world: World) -> None:
    second = "watcher@second.service"
    await world.ok("systemctl", "start", second)
    await world.active(second)
    await world.answered(await world.create(2))
    count = await world.net.manager.count()
    for instance in ("demo", "second"):
        await world.knows(count, instance)
    await world.ok("systemctl", "stop", second)


async def test_a_wrong_configuration_fails_at_once_and_is_not_tried_again(world: World) -> None:
    unit = "watcher@wrong.service"
    began_s = time.monotonic()
    done = await asyncio.to_thread(world.machine.run, "systemctl", "start", unit)
    assert done.code != 0
    assert time.monotonic() - began_s < 20
    await asyncio.sleep(2)  # longer than RestartSec: a restart would show
    properties = await world.show("ActiveState", "Result", "ExecMainStatus", "NRestarts", unit=unit)
    assert properties == {"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "78", "NRestarts": "0"}
    assert "chain.chain_id: must be 1 or more" in await world.ok("journalctl", "--no-pager", "-u", unit)


async def test_an_auditor_reads_the_ledger_without_root_and_without_the_password(world: World) -> None:
    await world.ok("useradd", "--system", "--groups", "avs-watcher", "auditor")
    tasks = await world.watcher("tasks", "list", user="auditor")
    assert len(tasks) == await world.net.manager.count()
    for command in (("cat", "/etc/avs-watcher/demo.password"), ("test", "-w", LEDGER)):
        denied = await asyncio.to_thread(world.machine.run, "runuser", "-u", "auditor", "--", *command)
        assert denied.code != 0
    await world.ok("useradd", "--system", "stranger")
    denied = await asyncio.to_thread(world.machine.run, "runuser", "-u", "stranger", "--", "cat", LEDGER)
    assert denied.code != 0


async def test_the_backup_unit_copies_and_relieves_the_ledger_beside_the_daemon(world: World) -> None:
    drop_in = "/etc/systemd/system/watcher-backup@.service.d/now.conf"
    await asyncio.to_thread(world.machine.write, drop_in, "[Service]\nEnvironment=KEEP_DAYS=0\n")
    await world.ok("systemctl", "daemon-reload")
    before = await world.watcher("prove")
    await world.ok("systemctl", "start", "watcher-backup@demo.service")
    made = (await world.ok("find", "/var/lib/avs-watcher/demo", "-type", "f")).split()
    assert len([line for line in made if "/backup/watcher-" in line]) == 1
    archives = [line for line in made if "/archive/" in line]
    assert len(archives) == 2, archives
    await world.ok("sh", "-c", "cd /var/lib/avs-watcher/demo/archive && sha256sum --check *.sha256")
    after = await world.watcher("prove")
    assert before["ok"]
    assert after["ok"]
    assert after["answered_by_us"] >= before["answered_by_us"] > 0
    assert await world.value("ActiveState") == "active"
    await world.ok("systemctl", "start", "watcher-backup@demo.timer")


async def test_commands_by_hand_work_as_the_page_says(world: World) -> None:
    by_hand = _page_block(BY_HAND)
    checked = await world.ok("bash", "-c", f"{by_hand}\nby_hand demo check --json")
    assert json.loads(checked)
    listed = await world.ok("bash", "-c", f"{by_hand}\nby_hand demo tasks list --json")
    assert len(json.loads(listed)) == await world.net.manager.count()
    assert (await world.ok("stat", "-c", "%a %U %G", str(Path(LEDGER).parent))).split() == ["750", *["avs-watcher"] * 2]


async def test_a_copy_is_restored_as_the_page_says(world: World) -> None:
    before = await world.watcher("prove")
    copy = (await world.ok("find", "/var/lib/avs-watcher/demo/backup", "-name", "watcher-*.db")).split()[-1]
    # An answer that the copy does not know, and that the chain does not show either.
    world.net.hosted.faults.add(Fault(FaultKind.NEVER_LANDS))
    (index,) = await world.create(1)
    await world.until(lambda: world.state(index), lambda now: now == "accepted", "the answer is on its way")
    await world.follow("Restore:", Path(copy).name)
    world.net.hosted.faults.clear()
    await world.active()
    await world.answered(await world.create(2))
    assert await world.state(index) == "ready"  # to be answered, and held back
    after = await world.watcher("prove", user="auditor")
    assert after["ok"]
    assert after["known"] == before["known"] + 3
    assert after["answered_otherwise"] == []

    await world.follow("If you know that nothing was sent")
    await world.active()
    await world.answered([index])


def _page_block(heading: str) -> str:
    """The commands that follow these words on the page for operators, as they stand there."""
    page = (Path(__file__).parents[2] / "docs" / "service.md").read_text()
    (following,) = page.split(heading)[1:]
    return following.split("```sh\n")[1].partition("```")[0]


async def test_the_exposure_of_the_installed_units_is_low(world: World) -> None:
    for unit in (UNIT, "watcher-backup@demo.service"):
        await world.ok("systemd-analyze", "security", f"--threshold={EXPOSURE_LIMIT}", unit)


async def test_stopping_drains_and_ends_well(world: World) -> None:
    indices = await world.create(3)
    await world.ok("systemctl", "stop", UNIT, timeout_s=100)
    # The manager forgets an instance that has ended well, and keeps one that has not as failed; the journal remembers.
    assert await world.value("ActiveState") == "inactive"
    log = await world.ok("journalctl", "--no-pager", "-n", "20", "-u", UNIT)
    assert "daemon.stopped: " in log
    assert f"{UNIT}: Deactivated successfully." in log
    await world.ok("systemctl", "start", UNIT)
    await world.active()
    await world.answered(indices)
    proof = await world.until(lambda: world.watcher("prove"), lambda now: not now["open"], "no task is open")
    assert proof["ok"]
    assert proof["answered_by_us"] == proof["known"] == await world.net.manager.count()


async def test_the_password_is_in_no_line_of_the_journal(world: World) -> None:
    await world.ok("systemctl", "stop", UNIT)
    everything = await asyncio.to_thread(world.machine.journal, "*")
    password = world.net.options.password
    assert "daemon.watching: " in everything
    assert password not in everything
    assert base64.b64encode(f"{world.net.options.username}:{password}".encode()).decode() not in everything
