"""Transitions that need a coincidence: each is brought about after the storm, until the ledger has recorded it.

Nobody else makes blocks then, so that an arrangement decides what stands on the chain, and when.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.torture import havoc
from tests.torture.hook import Manner
from tests.torture.settle import STRIDE_BLOCKS, up
from tests.torture.world import FINAL_DEPTH, World
from watcher.devnet.faults import Fault, FaultKind

Transition = tuple[str | None, str]

BLOCK_S = 0.25
TRIES = 5
PATIENCE_BLOCKS = 60


class Arranger:
    """The means of all arrangements. `window_blocks` is how long the contract takes an answer."""

    def __init__(self, world: World, window_blocks: int, dice: random.Random) -> None:
        self.world, self.window_blocks, self._dice = world, window_blocks, dice

    def recorded(self) -> set[Transition]:
        """Return every transition that the ledger has recorded."""
        return set(self.world.rig.query("SELECT DISTINCT from_state, to_state FROM journal"))

    def has(self, first_block: int, *states: str) -> bool:
        """Return True if each of these states has a task of the blocks from `first_block` on."""
        rows = self.world.rig.query(f"SELECT state FROM tasks WHERE block_number >= {first_block:d}")
        return {state for (state,) in rows} >= set(states)

    async def create(self, *manners: Manner) -> int:
        """Make tasks in the next block, three plain ones by default. Return the first block with any."""
        first = await self.world.net.chain.head() + 1
        await self.world.create([self.world.message(manner) for manner in manners or [Manner.PLAIN] * 3])
        return first

    async def blocks_until(self, is_so: Callable[[], bool], most_blocks: int = PATIENCE_BLOCKS) -> bool:
        """Make blocks, one at a time, until something is so. Return False where `most_blocks` did not bring it."""
        for _ in range(most_blocks):
            if is_so():
                return True
            await self.world.mine()
            await asyncio.sleep(BLOCK_S)
        return is_so()

    async def blocks_until_recorded(self, before: str, after: str, most_blocks: int = PATIENCE_BLOCKS) -> None:
        """Make blocks until a task has moved from one state to another."""
        await self.blocks_until(lambda: (before, after) in self.recorded(), most_blocks)

    async def strides(self, blocks: int) -> None:
        """Make many blocks."""
        for _ in range(blocks // STRIDE_BLOCKS + 1):
            await self.world.mine(STRIDE_BLOCKS)
            await asyncio.sleep(BLOCK_S)

    async def reached_in_time(self, first_block: int, state: str) -> bool:
        """Make blocks until a task is in a state. Return False if a reorg could not reach `first_block` any more."""
        blocks = await self.world.net.chain.head() + 2 - first_block  # a reorg makes one block before
        return await self.blocks_until(lambda: self.has(first_block, state), max(havoc.DEPTHS) - blocks)

    async def replace(self, first_block: int, fate: str) -> None:
        """Replace the blocks from one on."""
        await havoc.reorg(self.world, await self.world.net.chain.head() + 2 - first_block, fate)

    async def by_hand(self) -> None:
        await havoc.by_hand(self.world, self._dice)

    def spoil(self, kind: FaultKind, *, after: bool | None = None, status: int = 502) -> None:
        """Give every reply of the API this fault, until `calm`."""
        self.world.net.hosted.faults.add(Fault(kind, after=after, status=status))

    def calm(self) -> None:
        self.world.net.hosted.faults.clear()


async def _hook_gives_none(arranger: Arranger) -> None:
    first = await arranger.create(Manner.SKIP, Manner.RAISE_ALWAYS)
    await arranger.blocks_until(lambda: arranger.has(first, "skipped", "failed"))
    await arranger.by_hand()


async def _gone_before_it_is_deep(arranger: Arranger) -> None:
    """A task waits for its confirmations, and none comes before its block is gone."""
    first = await arranger.create()
    for _ in range(PATIENCE_BLOCKS):
        if arranger.has(first, "seen"):
            break
        await asyncio.sleep(BLOCK_S)
    await arranger.replace(first, "dropped")
    await arranger.strides(FINAL_DEPTH)
    await arranger.blocks_until_recorded("seen", "orphaned")


async def _gone_when_accepted(arranger: Arranger) -> None:
    """The API has accepted the answers and sends none; the tasks are gone while the daemon waits for them."""
    arranger.spoil(FaultKind.NEVER_LANDS)
    first = await arranger.create()
    if await arranger.reached_in_time(first, "accepted"):
        await arranger.replace(first, "dropped")
        await arranger.strides(FINAL_DEPTH)
        await arranger.blocks_until_recorded("accepted", "orphaned")


async def _accepted_in_vain(arranger: Arranger) -> None:
    arranger.spoil(FaultKind.NEVER_LANDS)
    await arranger.create()
    await arranger.blocks_until_recorded("accepted", "waiting")


async def _answered_by_a_rival(arranger: Arranger) -> None:
    arranger.spoil(FaultKind.RIVAL)
    await arranger.create()
    await arranger.blocks_until_recorded("accepted", "responded_other")
    await arranger.blocks_until_recorded("responded_other", "final_other", FINAL_DEPTH + PATIENCE_BLOCKS)


async def _answer_taken_back(arranger: Arranger) -> None:
    first = await arranger.create()
    if await arranger.reached_in_time(first, "responded"):
        await arranger.replace(first, "unanswered")
        await arranger.blocks_until_recorded("responded", "unknown")


async def _refused_to_the_end(arranger: Arranger) -> None:
    arranger.spoil(FaultKind.TRANSIENT_400)
    first = await arranger.create()
    await arranger.blocks_until(lambda: arranger.has(first, "waiting"))
    await arranger.blocks_until_recorded("waiting", "sending")
    await arranger.strides(arranger.window_blocks + FINAL_DEPTH)
    await arranger.blocks_until_recorded("waiting", "expired")


async def _reply_lost(arranger: Arranger) -> None:
    arranger.spoil(FaultKind.RESET, after=True)
    await arranger.create()
    await arranger.blocks_until_recorded("unknown", "responded")


async def _request_lost(arranger: Arranger) -> None:
    arranger.spoil(FaultKind.RESET, after=False)
    await arranger.create()
    await arranger.blocks_until_recorded("unknown", "waiting")


async def _credentials_refused(arranger: Arranger) -> None:
    arranger.spoil(FaultKind.STATUS, status=401, after=False)
    first = await arranger.create()
    await arranger.blocks_until(lambda: arranger.has(first, "blocked"))
    arranger.calm()
    await arranger.blocks_until_recorded("blocked", "sending")


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A way to bring about some transitions."""

    transitions: frozenset[Transition]
    arrange: Callable[[Arranger], Awaitable[None]]


def _by(arrange: Callable[[Arranger], Awaitable[None]], *transitions: Transition) -> Arrangement:
    return Arrangement(frozenset(transitions), arrange)


ARRANGEMENTS = (
    _by(_hook_gives_none, ("ready", "skipped"), ("ready", "failed"), ("skipped", "ready"), ("failed", "ready")),
    _by(_gone_before_it_is_deep, ("seen", "orphaned")),
    _by(_credentials_refused, ("sending", "blocked"), ("blocked", "sending")),
    _by(_reply_lost, ("sending", "unknown"), ("unknown", "responded")),
    _by(_request_lost, ("unknown", "waiting")),
    _by(_accepted_in_vain, ("accepted", "waiting")),
    _by(_gone_when_accepted, ("accepted", "orphaned")),
    _by(_answer_taken_back, ("responded", "unknown")),
    _by(_answered_by_a_rival, ("accepted", "responded_other"), ("responded_other", "final_other")),
    _by(_refused_to_the_end, ("sending", "waiting"), ("waiting", "sending"), ("waiting", "expired")),
)


async def bring_about(world: World, window_blocks: int, dice: random.Random, say: Callable[[str], None]) -> None:
    """Arrange each transition that the ledger has not recorded, and again where an attempt did not bring it."""
    arranger = Arranger(world, window_blocks, dice)
    for arrangement in ARRANGEMENTS:
        for _ in range(TRIES):
            if not (missing := arrangement.transitions - arranger.recorded()):
                break
            say("still to happen: " + ", ".join(f"{before} to {after}" for before, after in sorted(missing, key=str)))
            await up(world)
            await arrangement.arrange(arranger)
            arranger.calm()
