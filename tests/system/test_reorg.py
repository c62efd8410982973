"""A reorg drops, keeps, moves or changes a task: the end is right, and no answer is sent for another task."""

import asyncio
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.integration.node_rig import relaying
from tests.system.daemon_rig import Daemon, Rig, running_rig
from watcher.devnet.chain import Transaction, keep
from watcher.devnet.contract import call_data

REORGS = int(os.environ.get("WATCHER_TEST_REORGS", "8"))
SEED = int(os.environ.get("WATCHER_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
WORLD: dict[str, Any] = {"confirmations": 2, "slots_in_epoch": 4}  # final is the head minus 8

CREATES = "0x" + call_data("createNewTask", b"", 66, b"\x00")[:4].hex()
CREATES_MANY = "0x" + call_data("createManyTasks", [], 66, b"\x00")[:4].hex()


def creates(transaction: Transaction) -> bool:
    return transaction.request["input"].startswith((CREATES, CREATES_MANY))


def creation(rig: Rig) -> dict[str, str]:
    """A transaction that makes a task with a message of its own."""
    data = call_data("createNewTask", rig.messages(1)[0], 66, b"\x00")
    return {
        "from": rig.net.manager.roles.generator,
        "to": rig.net.task_manager,
        "input": "0x" + data.hex(),
        "gas": hex(10**6),
    }


async def reorg(rig: Rig, depth: int, fate: str) -> None:
    """Responses in these blocks are gone whatever the fate of the tasks; a moved task comes one block later."""
    places = {"dropped": None, "kept": 0, "moved": 1, "changed": None}

    def place(transaction: Transaction) -> int | None:
        shift = places[fate] if creates(transaction) else None
        return None if shift is None else transaction.offset + shift

    await rig.net.chain.reorg(depth, place, [(creation(rig), 0)] if fate == "changed" else [])


def rows(rig: Rig) -> list[tuple[int, int, str]]:
    """(index, is canonical, state) of every task the ledger ever knew, oldest first."""
    return [tuple(row) for row in rig.query("SELECT task_index, canonical, state FROM tasks ORDER BY id")]


def rewinds(rig: Rig) -> int:
    return int(rig.query("SELECT count(*) FROM events WHERE kind = 'rewind'")[0][0])


async def all_ended(rig: Rig) -> None:
    """Also those the chain does not hold any more: only finality tells that they will not come back."""
    await rig.settle()
    await rig.net.mine(20)
    await rig.until(lambda: {state for _, _, state in rows(rig)} <= {"final", "orphaned"}, "all ended")


# What the ledger holds in the end of the task and what took its place: is it canonical, its state.
IN_THE_END = {
    "dropped": [(0, "orphaned")],
    "kept": [(1, "final")],
    "moved": [(0, "orphaned"), (1, "final")],
    "changed": [(0, "orphaned"), (1, "final")],
}


async def undergoes(rig: Rig, daemon: Daemon, fate: str, *, answered: bool, down: bool = False) -> Daemon:
    """A task is made, perhaps answered, then meets its fate, and all goes on to the end. Returns the daemon alive."""
    index, known, rewound, asked_before = (
        await rig.net.manager.count(),
        len(rows(rig)),
        rewinds(rig),
        len(rig.hook_answers()),
    )
    depth = await responded(rig) if answered else await seen(rig)
    if down:
        assert await daemon.stop() == 0
    await reorg(rig, depth, fate)
    if down:
        daemon = await rig.start()
    await rig.until(lambda: rewinds(rig) == rewound + 1, f"the reorg is noticed ({fate})")
    assert "responded" not in {state for _, _, state in rows(rig)}, f"it still counts as answered ({fate})"
    await rig.net.mine(3)
    await all_ended(rig)
    assert rows(rig)[known:] == [(index, *end) for end in IN_THE_END[fate]], fate
    asked = (fate != "dropped") + (answered and fate != "kept")
    assert len(rig.hook_answers()) - asked_before == asked, f"the hook was asked for the wrong tasks ({fate})"
    return daemon


async def seen(rig: Rig) -> int:
    """Makes a task that the daemon sees, one block short of its confirmations. Returns the depth that undoes it."""
    (index,) = await rig.create()
    await rig.net.mine()
    await rig.until(lambda: rig.state(index) == "seen", "the task is seen")
    await rig.caught_up()
    return 2


async def responded(rig: Rig) -> int:
    """Makes a task and has it answered on the chain, not yet final. Returns the depth that undoes it all."""
    before = await rig.net.chain.head()
    pooled = rig.in_pool()
    (index,) = await rig.create()
    await rig.net.mine(2)
    await rig.until(lambda: rig.in_pool() > pooled, "the response is in the pool")
    await rig.net.mine()
    await rig.until(lambda: rig.state(index) == "responded", "the response is on the chain")
    return await rig.net.chain.head() - before


async def _right_in_the_end(rig: Rig, daemon: Daemon, tasks: int) -> None:
    assert len(await rig.verify()) == tasks
    assert {len(answers) for answers in rig.hook_answers().values()} == {1}, (
        "the hook was asked again for the same task"
    )
    assert await daemon.stop() == 0


async def test_a_reorg_before_the_answer_is_sent_is_as_if_it_had_never_been(tmp_path: Path) -> None:
    async with running_rig(tmp_path, **WORLD) as rig:
        daemon = await rig.start()
        for fate in IN_THE_END:
            await undergoes(rig, daemon, fate, answered=False)
        assert len(rig.sent()) == 3, "something was sent for a task that is gone"
        await _right_in_the_end(rig, daemon, 3)


async def test_a_reorg_takes_an_answered_task_back(tmp_path: Path) -> None:
    async with running_rig(tmp_path, **WORLD) as rig:
        daemon = await rig.start()
        for fate in IN_THE_END:
            await undergoes(rig, daemon, fate, answered=True)
        await _right_in_the_end(rig, daemon, 3)


async def test_reorg_during_downtime_is_found_at_the_start(tmp_path: Path) -> None:
    async with running_rig(tmp_path, **WORLD) as rig:
        daemon = await rig.start()
        for fate in ("dropped", "moved", "changed"):
            daemon = await undergoes(rig, daemon, fate, answered=True, down=True)
        await _right_in_the_end(rig, daemon, 2)


async def test_a_response_that_a_reorg_moves_is_found_again_and_not_sent_again(tmp_path: Path) -> None:
    async with running_rig(tmp_path, **WORLD) as rig:
        daemon = await rig.start()
        await responded(rig)
        await rig.net.mine()
        await rig.caught_up()
        (old,) = rig.query("SELECT responded_block FROM tasks")
        # Only the response's block and the one above it: it is mined one block later, the task's block stays.
        await rig.net.chain.reorg(2, lambda transaction: transaction.offset + 1)
        await rig.until(lambda: rewinds(rig) == 1, "the reorg is noticed")
        async with rig.mining(0.2):  # the next look may be due at the next block
            await rig.until(lambda: rig.query("SELECT responded_block FROM tasks") == [(old[0] + 1,)], "found again")
        await all_ended(rig)
        await rig.verify()
        assert len(rig.received()) == 1
        assert await daemon.stop() == 0


async def test_what_became_final_on_another_fork_is_not_taken_for_ours(tmp_path: Path) -> None:
    """The chain changes, and the change becomes final, between the questions for the head and for the final block."""
    async with running_rig(tmp_path, **WORLD) as rig, relaying(rig.net.rpc_url) as relay:
        rig.write_config(target="rig_hook:dice", changes={f'"{rig.net.rpc_url}"': f'"{relay.url}"'})
        daemon = await rig.start()
        await rig.create()
        await rig.net.mine()
        await rig.caught_up()
        next_head = await rig.net.chain.head() + 1
        changed = asyncio.Event()

        async def meanwhile(asked: list[dict[str, Any]]) -> None:
            if any("finalized" in request["params"] for request in asked) and await rig.net.chain.head() == next_head:
                relay.first = None
                await reorg(rig, 3, "changed")
                await rig.net.mine(6)  # the final block is now the old task's one, with the new task in it
                changed.set()

        relay.first = meanwhile
        await rig.net.mine()
        await asyncio.wait_for(changed.wait(), 30)
        await all_ended(rig)
        assert rows(rig) == [(0, *end) for end in IN_THE_END["changed"]]
        await rig.verify()
        assert await daemon.stop() == 0


@pytest.mark.timeout(300)
async def test_random_reorgs_leave_each_task_with_its_own_answer(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    print(f"seed {SEED}: {REORGS} reorgs; WATCHER_TEST_SEED={SEED} makes the same choices again")
    async with running_rig(tmp_path, confirmations=1, slots_in_epoch=8, window_blocks=10_000) as rig:
        daemon = await rig.start()
        for _ in range(REORGS):
            for _ in range(chance.randint(1, 3)):
                await rig.create(chance.randint(1, 4))
                await rig.net.mine(chance.randint(1, 3))
            if chance.random() < 0.5:
                await rig.caught_up()
            depth = chance.randint(1, min(12, await rig.net.chain.head() - 5))
            shuffled = await _shuffle(rig, chance, depth)
            if chance.random() < 0.3:
                await rig.net.chain.reorg(chance.randint(1, depth), keep)  # another one on its heels
            await rig.net.mine(chance.randint(1, 2))
            print(f"depth {depth}: {shuffled}")
            if chance.random() < 0.3:
                await daemon.kill()
                daemon = await rig.start()
        await all_ended(rig)
        await rig.verify()
        assert rewinds(rig) > 0
        left = {state for _, canonical, state in rows(rig) if not canonical}
        assert left <= {"orphaned"}, rows(rig)
        assert await daemon.stop() == 0


async def _shuffle(rig: Rig, chance: random.Random, depth: int) -> str:
    """A reorg that treats each old transaction by lot, and brings some new tasks."""
    made: list[int | None] = []

    def place(transaction: Transaction) -> int | None:
        latest = depth - 1
        options: Sequence[int | None] = (None, transaction.offset, min(transaction.offset + 1, latest))
        made.append(chance.choice(options))
        return made[-1]

    extra = [(creation(rig), chance.randrange(depth)) for _ in range(chance.randint(0, 2))]
    await rig.net.chain.reorg(depth, place, extra)
    return f"{made.count(None)} dropped, {len(made) - made.count(None)} kept or moved, {len(extra)} new"
