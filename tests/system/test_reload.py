"""SIGHUP reads the settings again: what can be taken over is, and a wrong file changes nothing."""

import re
import signal
from pathlib import Path

import aiohttp

from tests.system.daemon_rig import Daemon, Rig, running_rig
from watcher.daemon.reload import RELOADABLE, adopt, differences
from watcher.settings.model import Settings
from watcher.settings.problems import FIELDS


async def hang_up(rig: Rig, daemon: Daemon, message: str) -> None:
    """SIGHUP, and wait for the one line that tells what came of it."""
    before = daemon.log.count(message)
    daemon.send(signal.SIGHUP)
    await rig.until(lambda: daemon.log.count(message) > before, f"it says {message!r}")


def credentials(rig: Rig, password: str) -> None:
    """The password as a file that can be changed, as in a container; under systemd it is a copy."""
    folder = rig.folder / "credentials"
    folder.mkdir(exist_ok=True)
    (folder / "operator__password").write_text(password)
    rig.environment.pop("WATCHER_OPERATOR__PASSWORD", None)
    rig.environment["CREDENTIALS_DIRECTORY"] = str(folder)


async def test_corrected_password_sends_the_blocked_task_at_once(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        credentials(rig, "not the password")
        daemon = await rig.start()
        await rig.create(2)
        await rig.net.mine()
        await rig.until(lambda: "blocked" in rig.states().values(), "the API has refused us")
        credentials(rig, rig.net.options.password)
        await hang_up(rig, daemon, "settings.reloaded: the settings were read again changed=operator.password")
        # The API had been left alone for 5 seconds at least.
        await rig.until(lambda: "accepted" in rig.states().values(), "the first goes out", timeout_s=4)
        await rig.until(lambda: rig.all_in("accepted"), "the other follows")
        credentials(rig, "another")
        await hang_up(rig, daemon, "settings.reloaded: the settings were read again changed=operator.password")
        assert await daemon.stop() == 0
        for secret in ("not the password", rig.net.options.password):
            assert secret not in daemon.log


async def test_reload_notifies_the_service_manager(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        daemon = await rig.start()
        notified = len(daemon.notices())
        await hang_up(rig, daemon, "settings.reloaded: the settings were read again changed=nothing")
        await rig.until(lambda: "READY=1" in daemon.notices()[notified:], "it is ready again")
        fields = [line.partition("=")[0] for line in daemon.notices()[notified:]]
        start = fields.index("RELOADING")
        assert fields[start : start + 2] == ["RELOADING", "MONOTONIC_USEC"]
        assert "READY" in fields[start:]
        assert await daemon.stop() == 0


async def test_reload_takes_log_level_and_names_what_waits_for_the_start(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        daemon = await rig.start()
        text = rig.config.read_text()
        assert "concurrency = 4" in text
        rig.config.write_text(text.replace("concurrency = 4", "concurrency = 5") + '\n[log]\nlevel = "debug"\n')
        await hang_up(rig, daemon, "changed=log.level at_next_start=operator.concurrency")
        await rig.until(lambda: daemon.notices().count("READY=1") == 2, "it has read them")
        rig.config.write_text(text + '\n[log]\nlevel = "error"\n')
        daemon.send(signal.SIGHUP)
        await rig.until(lambda: daemon.notices().count("READY=1") == 3, "it has read them again")
        quiet = len(daemon.log)
        await rig.create(1)
        await rig.settle()
        assert daemon.log[quiet:] == ""
        assert await daemon.stop() == 0


async def readyz(daemon: Daemon) -> tuple[int, str]:
    (url,) = re.findall(r"http://127\.0\.0\.1:\d+", daemon.log)[:1]
    async with aiohttp.ClientSession() as session, session.get(f"{url}/readyz") as reply:
        return reply.status, await reply.text()


def answered(rig: Rig) -> dict[int, tuple[int, str]]:
    """Index -> the answer as a number, and the version of the hook that gave it."""
    rows = rig.query("SELECT task_index, response, hook_version FROM tasks ORDER BY task_index")
    return {index: (int.from_bytes(response), version) for index, response, version in rows}


async def test_edited_hook_answers_only_after_a_reload(tmp_path: Path) -> None:
    async with running_rig(tmp_path, hook="square") as rig:
        daemon = await rig.start(WATCHER_HTTP__LISTEN="127.0.0.1:0")
        hook = rig.hook_folder / "rig_hook.py"
        old = hook.read_text()
        await rig.create(2)
        await rig.settle()
        hook.write_text(old.replace("number * number", "number + number"))
        await rig.until(lambda: "condition=hook-changed" in daemon.log, "it warns")
        status, reasons = await readyz(daemon)
        assert (status, "rig_hook.py" in reasons, "SIGHUP" in reasons) == (503, True, True)
        await rig.create(1)
        await rig.settle()
        await hang_up(rig, daemon, "hook.reloaded: the hook has new code before=rig_hook:square@")
        await rig.until(
            lambda: "a condition ended condition=hook-changed" in daemon.log,
            "the warning is over",
        )
        assert daemon.log.count("condition=hook-changed") == 2
        await rig.create(1)
        await rig.settle()
        answers = answered(rig)
        before, version = answers[0][1], answers[3][1]
        assert answers == {0: (1, before), 1: (4, before), 2: (9, before), 3: (8, version)}
        assert f"before={before} version={version}" in daemon.log
        hook.write_text("def square(task")
        await hang_up(rig, daemon, f'the old code of the hook stays version={version} reason="hook.target')
        await rig.create(1)
        await rig.settle()
        assert await daemon.stop() == 0
        await rig.verify()


async def test_start_waits_for_a_hook_that_cannot_be_loaded_yet(tmp_path: Path) -> None:
    async with running_rig(tmp_path, hook="square") as rig:
        hook = rig.hook_folder / "rig_hook.py"
        hook.write_text("open(__file__ + '.data')\n" + hook.read_text())
        daemon = await rig.start(ready=False)
        await rig.until(lambda: 'daemon.waiting: the start waits and retries what="the hook"' in daemon.log, "it waits")
        assert daemon.running
        (rig.hook_folder / "rig_hook.py.data").touch()
        await rig.until(lambda: "READY=1" in daemon.notices(), "it is ready")
        await rig.create(1)
        await rig.settle()
        await rig.verify()
        assert await daemon.stop() == 0


async def test_wrong_file_changes_nothing_and_logs_one_line(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        daemon = await rig.start()
        good = rig.config.read_text()
        for number, (broken, message) in enumerate(
            (
                ("\n[log]\nlevel = 7\n", 'reason="log.level: must be'),
                ("\n[log\n", f'reason="{rig.config}: line'),
                ("\n[hook]\nworkers = 1\n", f'reason="{rig.config}:'),
            ),
            1,
        ):
            rig.config.write_text(good.replace("concurrency = 4", "concurrency = 1") + broken)
            await hang_up(rig, daemon, message)
            assert daemon.log.count("settings.reload_failed: ") == number
        rig.config.unlink()
        await hang_up(rig, daemon, "settings.reload_failed: ")
        rig.config.write_text(good)
        await rig.create(2)
        await rig.settle()
        await rig.verify()
        assert await daemon.stop() == 0


async def test_daemon_survives_many_hangups_before_and_after_the_start(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        daemon = await rig.start(ready=False)
        await rig.until(lambda: rig.ledger.exists(), "it has begun")
        for _ in range(100):
            daemon.send(signal.SIGHUP)
        await rig.until(lambda: "READY=1" in daemon.notices(), "it is ready")
        for _ in range(100):
            daemon.send(signal.SIGHUP)
        await rig.create(2)
        await rig.settle()
        await rig.verify()
        assert await daemon.stop() == 0


def settings(**operator: object) -> Settings:
    tables: dict[str, object] = {
        "chain": {"rpc_urls": ["http://127.0.0.1:1"], "chain_id": 1},
        "task_manager": {"address": "0x" + "11" * 20, "start_block": 0},
        "hook": {"target": "a:b"},
        "operator": {"url": "http://127.0.0.1:2", "password": "hunter2222", **operator},
    }
    return Settings(**tables)  # type: ignore[arg-type]


def test_reload_adopts_reloadable_keys_only() -> None:
    old, new = settings(), settings(password="another22", concurrency=9, retry_base_s=1.0)
    changed = {("operator", "password"), ("operator", "concurrency"), ("operator", "retry_base_s")}
    assert set(differences(old, new)) == changed
    taken = adopt(old, new)
    assert set(differences(old, taken)) == changed & RELOADABLE
    assert taken.operator.concurrency == old.operator.concurrency


def test_reload_adopts_a_nested_table_whole() -> None:
    direct = {"url": "http://127.0.0.1:3", "avs_name": "a", "password": "directsecret"}
    old, new = settings(), settings(direct=direct, failover=True, expected_quorum_numbers=(1,))
    changed = {("operator.direct", name) for name in direct} | {
        ("operator", "failover"),
        ("operator", "expected_quorum_numbers"),
    }
    assert set(differences(old, new)) == changed
    assert adopt(old, new) == new
    assert "directsecret" not in repr(new)
    assert {"directsecret", "http://127.0.0.1:3"} <= set(new.secrets())


def test_service_page_names_every_reloadable_key() -> None:
    page = (Path(__file__).parents[2] / "docs" / "service.md").read_text()
    assert set(FIELDS) >= RELOADABLE
    for section, name in RELOADABLE:
        whole_table = f"`[{section}]`" in page
        assert whole_table or f"`{section}.{name}`" in page, f"{section}.{name}"
