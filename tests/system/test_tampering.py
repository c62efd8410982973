"""A ledger that somebody has changed by hand: the proof names each task that is not as the chain tells it."""

import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.system.daemon_rig import Rig, running_rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

WINDOW_BLOCKS = 60
EXPIRED, ANSWERED = 0, 1


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """Two tasks, one too old to be answered and one answered by us, both in an end state; no daemon runs."""
    folder = tmp_path_factory.mktemp("tampering")
    async with running_rig(folder, window_blocks=WINDOW_BLOCKS, slots_in_epoch=2, hook="square") as rig:
        await rig.create(1)
        await rig.net.mine(WINDOW_BLOCKS)
        await rig.create(1)
        async with rig.mining(0.2):
            daemon = await rig.start("--until-idle")
            assert await daemon.wait(timeout_s=90) == 0, daemon.log
        assert rig.states() == {EXPIRED: "expired", ANSWERED: "final"}
        assert (await rig.prove())["ok"] is True
        with sqlite3.connect(rig.ledger) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        yield rig


@pytest.fixture
def ledger(rig: Rig, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return Path(shutil.copy(rig.ledger, tmp_path / "copy.db"))


LIES = {
    "another state": (ANSWERED, "state = 'expired'"),
    "a state that gives the task up": (ANSWERED, "state = 'orphaned'"),
    "no state at all": (ANSWERED, "state = 'bogus'"),
    "an answer nobody gave": (EXPIRED, "state = 'final'"),
    "a chain without the task": (EXPIRED, "state = 'orphaned'"),
    "a window that is still open": (EXPIRED, "deadline_block = 100000"),
    "other bytes sent": (ANSWERED, "response = x'1234'"),
    "another hash of the answer": (ANSWERED, "response_hash = zeroblob(32)"),
    "another block of the answer": (ANSWERED, "responded_block = 1"),
    "another task": (ANSWERED, "task_hash = zeroblob(32)"),
    "another message": (ANSWERED, "message = x'01'"),
    "another creation": (ANSWERED, "created_block = 1"),
    "another threshold": (EXPIRED, "quorum_threshold = 1"),
    "other quorums": (EXPIRED, "quorum_numbers = x'05'"),
    "another log": (ANSWERED, "log = (SELECT log FROM tasks WHERE task_index = 0)"),
    "no log": (ANSWERED, "log = x''"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_each_lie_is_told(rig: Rig, ledger: Path, lie: str) -> None:
    index, change = LIES[lie]
    with sqlite3.connect(ledger) as connection:
        assert connection.execute(f"UPDATE tasks SET {change} WHERE task_index = ?", (index,)).rowcount == 1
    connection.close()
    done = await rig.command("prove", "--json", environment={"WATCHER_LEDGER__URL": f"sqlite:///{ledger}"})
    assert (done.code, done.json["ok"], done.json["mismatched"]) == (1, False, [index]), done


async def test_a_ledger_that_claims_to_begin_later_is_told(rig: Rig, ledger: Path) -> None:
    with sqlite3.connect(ledger) as connection:
        connection.execute("UPDATE sources SET start_block = start_block + 5")
    connection.close()
    done = await rig.command("prove", "--json", environment={"WATCHER_LEDGER__URL": f"sqlite:///{ledger}"})
    assert (done.code, done.out) == (78, "")
    assert "this ledger was begun at block" in done.err
