"""What must not be worked on is refused, in words and by an exit code, and nothing is sent."""

from pathlib import Path

import pytest

from tests.system.daemon_rig import Daemon, Rig, running_rig
from watcher.devnet.chain import keep
from watcher.devnet.tasks import deploy, roles_of


async def test_second_daemon_on_a_ledger_exits_and_a_lock_dies_with_its_holder(
    tmp_path: Path,
) -> None:
    async with running_rig(tmp_path) as rig:
        first = await rig.start()
        second = await rig.start(ready=False)
        assert await second.wait() == 75
        assert f"another watcher (process {first.pid}) is running on {rig.ledger}" in second.log
        assert "Traceback" not in second.log
        await rig.create()
        await rig.settle()
        await first.kill()
        third = await rig.start()
        await rig.verify()
        assert await third.stop() == 0


async def _with_history(rig: Rig) -> None:
    """A ledger with a final task and one under way, and no daemon."""
    daemon = await rig.start()
    await rig.create()
    await rig.settle()
    await rig.create()
    await rig.net.mine()
    await rig.until(lambda: rig.in_pool() == 2, "the second answer is sent")
    assert await daemon.stop() == 0


async def _another_chain(rig: Rig) -> None:
    """The node comes back with an empty chain of the same id, and the contract at the same address with new tasks."""
    await rig.net.restart_chain()
    net = rig.net
    address = net.task_manager
    net.chain.impatient = True
    net.manager = await deploy(net.chain, await roles_of(net.chain), net.options.window_blocks)
    assert net.task_manager == address
    await net.manager.register("somebody", 100, b"\x00")
    await rig.create(3)


async def _refuses(rig: Rig, daemon: Daemon, code: int, *messages: str) -> None:
    sent = len(rig.received())
    assert await daemon.wait() == code, daemon.log
    assert len(rig.received()) == sent
    for message in messages:
        assert message in daemon.log, daemon.log
    assert "Traceback" not in daemon.log


async def test_a_reset_chain_under_an_old_ledger_is_refused_however_long_it_is(tmp_path: Path) -> None:
    """Also while its head is still below the cursor, where it looks like a lagging node."""
    async with running_rig(tmp_path) as rig:
        await _with_history(rig)
        await _another_chain(rig)
        assert await rig.net.chain.head() < rig.cursor()
        for more_blocks in (0, 40):
            if more_blocks:
                await rig.net.mine(more_blocks)
            daemon = await rig.start(ready=False)
            await _refuses(rig, daemon, 78, "ledger.url: ", "a chain that was reset needs a new ledger")
            assert rig.states() == {0: "final", 1: "accepted"}


@pytest.mark.parametrize("down", [False, True], ids=["running", "down"])
async def test_a_chain_that_breaks_its_promise_of_finality_is_not_sent_to(down: bool, tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        await _with_history(rig)
        final = rig.query("SELECT final_block FROM sources")[0][0]
        daemon = None if down else await rig.start()
        await rig.net.chain.reorg(await rig.net.chain.head() - final + 1, keep)
        for _ in range(2):  # and it does not forget at the next start
            daemon = daemon or await rig.start(ready=False)
            await _refuses(rig, daemon, 1, f"block {final} was final and has changed", "Nothing more is sent")
            daemon = None


async def test_a_chain_that_is_reset_under_a_running_daemon_stops_it(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        await _with_history(rig)
        daemon = await rig.start()
        await rig.net.anvil.stop()
        await rig.until(
            lambda: "stage.retrying: " in daemon.log and "stage=watch" in daemon.log, "the outage is noticed"
        )
        await _another_chain(rig)
        await rig.net.mine(40)
        await _refuses(rig, daemon, 1, "was final and has changed")


async def test_wrong_chain_or_missing_contract_is_a_configuration_error(
    tmp_path: Path,
) -> None:
    async with running_rig(tmp_path) as rig:
        await rig.create()
        daemon = await rig.start(ready=False, WATCHER_CHAIN__CHAIN_ID="1")
        await _refuses(rig, daemon, 78, "serves chain 31337, chain.chain_id is 1")
        rig.write_config(target="rig_hook:dice", changes={rig.net.task_manager: "0x" + "11" * 20})
        daemon = await rig.start(ready=False)
        await _refuses(rig, daemon, 78, "task_manager.address: there is no code at 0x1111")
        assert rig.states() == {}
