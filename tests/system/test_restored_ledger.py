"""A real daemon on a ledger that is older than what was sent from it. The hook answers differently each time."""

import shutil
from pathlib import Path

import pytest

from tests.system.daemon_rig import Rig, running_rig
from watcher.devnet.faults import Fault, FaultKind

NEVER_LANDS = Fault(FaultKind.NEVER_LANDS, times=1)


def indices_sent(rig: Rig) -> list[int]:
    return sorted(index for index, _, _ in rig.sent())


def put_back(rig: Rig, copy: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{rig.ledger}{suffix}").unlink(missing_ok=True)
    shutil.copy(copy, rig.ledger)


async def _answer_on_its_way(rig: Rig) -> Path:
    """A task was sent an answer that is not on the chain, and the daemon was killed. Returns a copy from before."""
    daemon = await rig.start()
    await rig.caught_up()
    copy = rig.folder / "copy.db"
    assert (await rig.command("db", "backup", str(copy))).code == 0
    rig.net.hosted.faults.add(NEVER_LANDS)
    await rig.create()
    await rig.net.mine()
    await rig.until(lambda: rig.all_in("accepted"), "the answer is on its way")
    await daemon.kill()
    return copy


async def test_restored_ledger_answers_no_task_twice(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        copy = await _answer_on_its_way(rig)
        put_back(rig, copy)
        checked = await rig.command("check", "--json")
        assert "copy made by `watcher db backup`" in checked.out or "the ledger knows attempt" in checked.out
        daemon = await rig.start()
        assert "ledger.restored: " in daemon.log
        await rig.create()  # of a later block than any answer
        await rig.net.mine()
        await rig.until(lambda: rig.states().get(1) == "accepted", "what is new is answered")
        assert rig.states()[0] == "ready"
        await rig.until(lambda: "condition=ledger-restored" in daemon.log, "the condition is logged")
        assert indices_sent(rig) == [0, 1]
        assert [len(answers) for answers in rig.sent().values()] == [1, 1]
        await daemon.kill()
        # A person says that no answer can be on its way.
        daemon = await rig.start("--release-held")
        await rig.net.mine()
        await rig.until(lambda: rig.states()[0] == "accepted", "what was held is answered")
        assert await daemon.stop() == 0


@pytest.mark.parametrize("happens", ["removed", "replaced"])
async def test_daemon_leaves_when_its_ledger_is_taken_away(happens: str, tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        daemon = await rig.start()
        await rig.caught_up()
        if happens == "removed":
            rig.ledger.unlink()
        else:
            other = rig.folder / "other.db"
            shutil.copy(rig.ledger, other)
            other.replace(rig.ledger)
        assert await daemon.wait() == 75
        assert "was moved, removed or replaced while it was in use" in daemon.log
