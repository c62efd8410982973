"""Stopping drains: what is on its way comes home and is written down, and the service manager is told."""

import signal
from pathlib import Path

from tests.system.daemon_rig import running_rig
from watcher.devnet.faults import Fault, FaultKind


async def test_sigterm_awaits_posts_in_flight_and_records_their_outcomes(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        daemon = await rig.start(WATCHER_OPERATOR__TIMEOUT_S="10")
        # One answer drips in for about a second, several on a loaded machine; the other never comes.
        drip = Fault(FaultKind.SLOW_DRIP, times=1, seconds=0.005)
        rig.net.hosted.faults.add(Fault(FaultKind.TIMEOUT, times=1, after=True), drip)
        await rig.create(2)
        await rig.net.mine()
        await rig.until(lambda: len(rig.received()) == 2, "both requests have reached the API")
        assert rig.all_in("sending"), rig.states()
        for _ in range(3):
            daemon.send(signal.SIGTERM)  # once more does not hurt
        assert await daemon.wait() == 0, daemon.log
        assert sorted(rig.states().values()) == ["accepted", "unknown"]
        assert len(rig.received()) == 2
        second = await rig.start()
        await rig.settle()
        await rig.verify()
        assert await second.stop() == 0


async def test_sigint_awaits_the_running_hook_and_sends_nothing_more(tmp_path: Path) -> None:
    async with running_rig(tmp_path, hook="gated") as rig:
        daemon = await rig.start()
        await rig.create(2)
        await rig.net.mine()
        await rig.until((rig.hook_folder / "entered-1").exists, "the hook has begun")
        daemon.send(signal.SIGINT)
        await rig.until(lambda: "STOPPING=1" in daemon.notices(), "draining has begun")
        (rig.hook_folder / "open").touch()
        assert await daemon.wait() == 0, daemon.log
        assert rig.all_in("computed"), rig.states()
        assert (rig.received(), daemon.group()) == ([], [])
        second = await rig.start()
        await rig.settle()
        await rig.verify()
        assert {len(answers) for answers in rig.hook_answers().values()} == {1}
        assert await second.stop() == 0


async def test_the_service_manager_hears_of_each_phase_and_of_progress(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        daemon = await rig.start(WATCHDOG_USEC="200000")
        ready = daemon.log_once.index("READY=1")
        assert daemon.log_once[ready + 1].startswith("STATUS=block ")
        await rig.until(lambda: daemon.notices().count("WATCHDOG=1") >= 10, "it says that it is alive", timeout_s=10)
        await rig.create(2)
        fresh = len(daemon.log_once)
        await rig.until(
            lambda: any(line.startswith("STATUS=") and "2 open" in line for line in daemon.notices()[fresh:]),
            "the status line follows",
            timeout_s=15,
        )
        assert await daemon.stop() == 0
        stopping = daemon.notices().index("STOPPING=1")
        assert daemon.log_once[stopping + 1] == "STATUS=draining"
        assert "READY=1" not in daemon.log_once[ready + 1 :]
