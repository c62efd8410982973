"""A chain with a history: what is still open is answered, the rest is named truly, and the proof finds a lost row."""

import sqlite3
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.system.daemon_rig import Done, Rig, running_rig

OLD, OPEN = 340, 60
WINDOW_BLOCKS = 200


async def _answered_by_somebody_else(rig: Rig, indices: Iterable[int], created: dict[int, tuple[int, bytes]]) -> None:
    before = len(await rig.net.manager.answers())
    count = 0
    for index in indices:
        block, message = created[index]
        await rig.net.aggregator.accept_answer(index, block, message, b"somebody else's answer", None)
        count += 1
    await rig.until(lambda: rig.in_pool() >= before + count, "the responses are in the pool")
    await rig.net.mine()
    assert len(await rig.net.manager.answers()) == before + count


async def _create(rig: Rig, count: int) -> dict[int, tuple[int, bytes]]:
    """index -> the block it was made in, and its message."""
    messages = rig.messages(count)
    indices = await rig.net.create_tasks(messages)
    block = await rig.net.chain.head()
    return {index: (block, message) for index, message in zip(indices, messages, strict=True)}


async def _until_idle(rig: Rig) -> None:
    """Responses are mined and become final because blocks come, as they do on a real chain."""
    async with rig.mining(0.2):
        daemon = await rig.start("--until-idle")
        assert await daemon.wait(timeout_s=90) == 0, daemon.log


def _delete(rig: Rig, index: int) -> None:
    connection = sqlite3.connect(rig.ledger)
    with connection:
        assert connection.execute("DELETE FROM tasks WHERE task_index = ?", (index,)).rowcount == 1
    connection.close()


@pytest.mark.timeout(300)
async def test_a_chain_with_a_history_is_worked_off_proven_and_repaired(tmp_path: Path) -> None:
    async with running_rig(tmp_path, window_blocks=WINDOW_BLOCKS, slots_in_epoch=2, hook="square") as rig:
        created: dict[int, tuple[int, bytes]] = {}
        for _ in range(4):
            created |= await _create(rig, OLD // 4)
            await rig.net.mine(3)
        await _answered_by_somebody_else(rig, range(100, 130), created)
        await rig.net.mine(WINDOW_BLOCKS)
        created |= await _create(rig, OPEN)
        await rig.net.mine()
        others = [*range(100, 130), *range(350, 355)]
        await _answered_by_somebody_else(rig, range(350, 355), created)
        assert len(created) == OLD + OPEN

        await _until_idle(rig)
        ours = [index for index in range(OLD, OLD + OPEN) if index not in others]
        gone = [index for index in range(OLD) if index not in others]
        assert Counter(rig.states().values()) == {
            "final": len(ours),
            "final_other": len(others),
            "expired": len(gone),
        }
        assert rig.all_in("final", indices=ours) and rig.all_in("expired", indices=gone), rig.states()
        assert sorted(key[0] for key in rig.sent()) == ours, "sent for others than the open ones"
        for task in await rig.tasks():
            if task["state"] == "final":
                assert int(task["response"], 16) == int(task["message"], 16) ** 2

        proof = await rig.prove()
        assert proof["ok"] is True
        assert (proof["known"], proof["latest_task_num"], proof["answered_by_us"]) == (
            OLD + OPEN,
            OLD + OPEN,
            len(ours),
        )
        assert (proof["answered_otherwise"], proof["expired"]) == (others, gone)
        assert (proof["missing"], proof["mismatched"], proof["open"]) == ([], [], [])

        await _a_lost_row_is_found(rig)
        await _until_idle(rig)
        repaired = await rig.prove()
        assert (repaired["ok"], repaired["known"]) == (True, OLD + OPEN), repaired
        assert rig.states()[0] == "expired"


async def _a_lost_row_is_found(rig: Rig) -> None:
    lost: list[int] = []
    for index in (OLD // 2, OLD + OPEN - 1, 0):
        _delete(rig, index)
        lost.append(index)
        done: Done = await rig.command("prove", "--json")
        assert (done.code, done.json["ok"], done.json["missing"]) == (1, False, sorted(lost)), done
    proof = await rig.command("prove")
    assert proof.code == 1
    assert f"3: {', '.join(map(str, sorted(lost)))}" in proof.out
