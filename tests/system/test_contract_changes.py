"""The daemon and a contract that refuses, or changes: what is sent, what is not, and what is said about it."""

import re
from dataclasses import replace
from pathlib import Path

from tests.system.daemon_rig import Rig, running_rig
from watcher.devnet.contract import call_data

MISMATCH = "length mismatch (all but the signatures holds)"


def error(rig: Rig, index: int) -> str:
    rows = rig.query("SELECT error FROM tasks WHERE canonical AND task_index = ?", index)
    return str(rows[0][0] or "") if rows else ""


def changes(rig: Rig) -> list[str]:
    return [message for (message,) in rig.query("SELECT words FROM events WHERE kind = 'contract changed' ORDER BY id")]


async def test_an_answer_the_contract_would_refuse_is_not_sent_and_says_why(tmp_path: Path) -> None:
    async with running_rig(tmp_path, window_blocks=20) as rig:
        daemon = await rig.start()
        (good,) = await rig.create(1)
        bad = await rig.net.manager.create_task(b"\x07", 66, b"")
        await rig.net.mine()
        await rig.until(lambda: "a dry run" in error(rig, bad), "the dry run has refused it")
        assert (rig.state(bad), error(rig, bad).startswith("parked: ")) == ("computed", True)
        await rig.settle()
        assert rig.states() == {good: "final", bad: "expired"}
        await rig.until(lambda: error(rig, bad).startswith("a dry run at block"), "and says so again")
        assert "empty quorum input" in error(rig, bad)
        assert {index for index, _, _ in rig.sent()} == {good}
        assert daemon.log.count("empty quorum input") == 1
        assert await daemon.stop() == 0


async def test_without_the_dry_run_it_is_sent(tmp_path: Path) -> None:
    async with running_rig(tmp_path, window_blocks=20) as rig:
        daemon = await rig.start(WATCHER_TASK_MANAGER__DRY_RUN="false")
        bad = await rig.net.manager.create_task(b"\x07", 66, b"")
        await rig.net.mine()
        await rig.until(lambda: bool(rig.received()), "it is sent")
        assert "dry run" not in error(rig, bad)
        assert await daemon.stop() == 0


async def test_an_answer_that_nobody_signed_expires_with_the_reason(tmp_path: Path) -> None:
    async with running_rig(tmp_path, window_blocks=20) as rig:
        rig.net.aggregator.absent = {0, 1, 2}
        daemon = await rig.start()
        (index,) = await rig.create(1)
        await rig.settle()
        assert rig.state(index) == "expired"
        await rig.until(lambda: MISMATCH in error(rig, index), "why")
        assert rig.received(), "it was sent"
        assert await daemon.stop() == 0


async def test_new_aggregator_is_noticed_after_a_restart(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        daemon = await rig.start()
        await rig.create(2)
        await rig.settle()
        assert (changes(rig), await daemon.stop()) == ([], 0)
        roles = rig.net.manager.roles
        await rig.net.chain.run(roles.owner, rig.net.task_manager, call_data("setAggregator", roles.owner))
        rig.net.manager.roles = replace(roles, aggregator=roles.owner)
        daemon = await rig.start()
        message = f"its aggregator was {roles.aggregator.lower()}, and is {roles.owner.lower()} now"
        assert changes(rig) == [message]
        assert daemon.log.count(message) == 1
        await rig.create(2)
        await rig.settle()
        await rig.verify()
        assert changes(rig) == [message]
        assert await daemon.stop() == 0


async def test_an_upgrade_to_a_longer_window_saves_the_tasks_that_were_open(tmp_path: Path) -> None:
    async with running_rig(tmp_path, window_blocks=6, upgradeable=True) as rig:
        daemon = await rig.start()
        await rig.create(1)
        await rig.settle()
        await rig.verify()
        (index,) = await rig.create(1)
        await rig.until(lambda: rig.state(index) == "seen", "it is known")
        assert await daemon.stop() == 0
        await rig.net.manager.upgrade(window_blocks=200)
        await rig.net.mine(20)
        daemon = await rig.start()
        await rig.settle()
        await rig.verify()
        assert re.search(r"chain\.deadlines_changed: .* window_blocks=200", daemon.log)
        assert any("response window was 6, and is 200 now" in change for change in changes(rig))
        assert await daemon.stop() == 0
