"""The end of a run: no more faults, and time for whatever can still be answered, and for finality."""

import asyncio
import time

from tests.torture.world import FINAL_DEPTH, World
from watcher.state import ENDED

# Room for the pass that looks for holes.
QUIET_S = 90.0
WORK_OFF_S = 900.0
STRIDE_BLOCKS = 40
READY_WAIT_S = 60.0


async def up(world: World) -> None:
    """Every daemon lives and has said that it is ready. A pause somebody asked it to make is not waited for."""
    daemons = [await world.ensure_up(number) for number in range(len(world.daemons))]
    await world.rig.until(
        lambda: all("READY=1" in daemon.notices() or not daemon.running for daemon in daemons),
        "ready",
        timeout_s=READY_WAIT_S,
    )


async def work_off(world: World, *, anew: bool = True) -> None:
    """Blocks as they come, until what can be answered is, or nothing moves any more.

    `anew`: the daemons start once more, because they may have been told to leave an endpoint alone for minutes.
    """
    for number in range(len(world.daemons)):
        if anew:
            await world.kill(number)
    steps, moved_s = world.rig.steps(), time.monotonic()
    stop_s = moved_s + WORK_OFF_S
    while not await _settled(world, answerable_only=True) and time.monotonic() < min(stop_s, moved_s + QUIET_S):
        await up(world)
        await asyncio.sleep(1.0)
        if world.rig.steps() != steps:
            steps, moved_s = world.rig.steps(), time.monotonic()


async def quieten(world: World, window_blocks: int) -> None:
    """Blocks come fast, past every deadline and finality, until every task has ended; then the daemons stop."""
    stop_s = time.monotonic() + 2 * QUIET_S
    past_deadlines = await world.net.chain.head() + window_blocks + FINAL_DEPTH + 5
    while not await _settled(world, answerable_only=False) and time.monotonic() < stop_s:
        await up(world)
        await world.mine(STRIDE_BLOCKS if world.past.heads[-1][1] < past_deadlines else 1)
        await asyncio.sleep(0.3)
    await world.stop_all()


async def _settled(world: World, *, answerable_only: bool) -> bool:
    """Does the ledger hold every task of the chain, each ended (or, with `answerable_only`, answered)?"""
    rows = world.rig.query("SELECT canonical, state, quorum_threshold > 100 OR attempts >= 6 FROM tasks")
    if sum(canonical for canonical, state, _ in rows if state != "quarantined") < world.count:
        return False
    if answerable_only:
        fine = {*ENDED, "responded", "responded_other"}
        return all(state in fine or hopeless for canonical, state, hopeless in rows if canonical)
    return all(state in ENDED for _, state, _ in rows)
