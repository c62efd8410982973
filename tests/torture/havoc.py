"""What is done to the chain, the node, the API and the daemon; each act under its own name in `world.past.done`."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable, Mapping

from tests.torture.world import FINAL_DEPTH, World
from watcher.devnet.chain import Transaction
from watcher.devnet.contract import call_data, selector

DEPTHS = range(1, 21)
FATES = ("dropped", "kept", "moved", "changed", "unanswered")
_CREATES = tuple("0x" + selector(name).hex() for name in ("createNewTask", "createManyTasks"))


def creates(transaction: Transaction) -> bool:
    return transaction.request["input"].startswith(_CREATES)


async def reorg(world: World, depth: int, fate: str) -> None:
    """Replaces the last `depth` blocks. Responses go with their tasks, and in every fate but "kept" they are gone.

    The pool is emptied first, with nobody sending: a transaction left there would have a nonce from the old chain, and
    every later one of its account would wait behind the hole.
    """
    chain, roles = world.net.chain, world.net.manager.roles
    async with world.lock, chain._locks[roles.aggregator], chain._locks[roles.generator]:
        head = await chain.mine()
        world.max_head = max(world.max_head, head)
        depth = min(depth, head - (world.max_head - FINAL_DEPTH) - 1)
        first = head - depth + 1
        late: list[Transaction] = []

        def place(transaction: Transaction) -> int | None:
            if not creates(transaction):
                return transaction.offset if fate == "kept" else None
            if fate in ("kept", "unanswered"):
                return transaction.offset
            if fate == "moved":
                if transaction.offset + 1 < depth:
                    return transaction.offset + 1
                late.append(transaction)  # beyond the new head: mined in the next block
            return None

        extra = []
        if fate == "changed":
            data = call_data("createManyTasks", world.messages(3), 66, b"\x00")
            request = {"from": roles.generator, "to": world.net.task_manager, "input": "0x" + data.hex()}
            extra = [(request | {"gas": hex(3 * 10**6)}, 0)]
        async with world.rewriting(first):
            old = await chain.reorg(depth, place, extra)
            for transaction in late:
                await chain.rpc.call("eth_sendTransaction", transaction.request)
            if late:
                await chain.mine()
        world.past.done[f"reorg {fate}"] += 1
        world.past.done[f"depth {depth}"] += 1
        world.past.done["reorgs"] += 1
        world.past.done["reorgs that met tasks"] += any(creates(block) for block in old)
        world.past.done["reorgs that met responses"] += any(not creates(block) for block in old)


async def roll_back(world: World, blocks: int) -> None:
    """The chain becomes shorter, and grows past its old height again in other blocks."""
    chain, roles = world.net.chain, world.net.manager.roles
    async with world.lock, chain._locks[roles.aggregator], chain._locks[roles.generator]:
        head = await chain.mine()
        async with world.rewriting(head - blocks):
            await chain.rollback(blocks)
        await asyncio.sleep(0.3)
        await chain.mine(blocks + 1)
        world.past.done["roll-back"] += 1


async def node_away(world: World, seconds: float) -> None:
    """The node goes away and comes back: connections break, new ones are refused, subscriptions are lost."""
    await world.proxy.stop()
    await asyncio.sleep(seconds)
    await world.proxy.start()
    world.past.done["node away"] += 1


async def node_hangs(world: World, seconds: float) -> None:
    process = world.net.anvil._process
    assert process is not None
    async with world.lock:
        os.kill(process.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(process.pid, signal.SIGCONT)
    world.past.done["node hangs"] += 1


async def api_away(world: World, seconds: float, *, forgets: bool) -> None:
    await world.net.hosted.stop()
    if forgets:
        world.net.aggregator.forget()
    await asyncio.sleep(seconds)
    await world.net.hosted.start()
    world.past.done["API restarted, nothing remembered" if forgets else "API away"] += 1


Act = Callable[[World, random.Random], Awaitable[None]]
# Those that have no number of their own on the command line, by their names in `world.past.done`.
ACTS: Mapping[str, Act] = {
    "node away": lambda world, chance: node_away(world, chance.uniform(0.2, 2)),
    "node hangs": lambda world, chance: node_hangs(world, chance.uniform(0.2, 1.5)),
    "API away": lambda world, chance: api_away(world, chance.uniform(0.2, 2), forgets=False),
    "API restarted, nothing remembered": lambda world, chance: api_away(world, chance.uniform(0.1, 1), forgets=True),
    "roll-back": lambda world, chance: roll_back(world, chance.randint(1, 4)),
    "SIGSTOP": lambda world, chance: world.pause(chance.uniform(0.3, 2.5), chance.randrange(len(world.daemons))),
}


async def by_hand(world: World, chance: random.Random) -> None:
    """A person takes up again what failed or was skipped, or skips what was not sent yet."""
    states = world.rig.states()
    for command, *allowed in (("retry", "failed"), ("retry", "skipped"), ("skip", "seen", "ready", "computed")):
        fitting = [index for index, state in states.items() if state in allowed]
        if fitting:
            done = await world.rig.command("tasks", command, str(chance.choice(fitting)))
            world.past.done[f"tasks {command}"] += done.code == 0
