"""One scenario from its seed to its verdict: chosen by lot, brought to rest, judged."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.simulation.chain import FATES
from tests.simulation.loop import Stuck
from tests.simulation.oracle import Violation
from tests.simulation.world import World

DONE_WITHIN_S = 400.0


@dataclass(frozen=True)
class Report:
    """What came of it; `wrong` is the broken promise. `story` is a digest of all that happened."""

    seed: int
    wrong: str | None
    lives: int
    reorgs: int
    posts: int
    transitions: Counter[tuple[str, str]]
    ends: Counter[str]


async def run_steps(world: World, steps: int) -> None:
    chance = world.chance
    await world.start()
    actions: list[tuple[float, Callable[[], Awaitable[None]]]] = [
        (40, lambda: world.mine(chance.choice((1, 1, 1, 2, 4)), quiet=chance.random() < 0.2)),
        (14, lambda: world.create(chance.choice((1, 1, 2, 3)))),
        (9, lambda: world.reorg(chance.randint(1, 8), chance.choice(FATES))),
        (4, world.crash),
        (5, lambda: world.light(chance.randint(1, 6))),
        (2, world.stop),
        (10, world.start),
        (5, lambda: world.lag(chance.randrange(3), chance.randint(0, 3))),
        (5, world.follow),
        (2, lambda: world.cut(chance.randrange(3))),
        (4, world.rival),
        (4, world.person),
    ]
    weights = [weight for weight, _ in actions]
    for _ in range(steps):
        await world.perform(chance.choices(actions, weights)[0][1])
        await asyncio.sleep(chance.choice((0, 0.02, 0.1, 0.5, 2.0, 6.0)))
        await world.reap()


async def settle(world: World) -> None:
    """Faults end, blocks go on. Raises Violation where the daemon does not come to an end with every task."""
    await world.follow()
    await world.reap()
    world.fuse = None
    world.rates = {}
    await world.start()
    world.tell("all faults end")
    stops_at = world.loop.time() + DONE_WITHIN_S
    observer = True if world.chance.random() < 0.3 else None
    if observer is not None:
        await asyncio.sleep(70)
        await world.create(1)
        await world.mine()
        world.oracle.observer = len(world.chain.head.task_hashes) - 1
    polls = 0
    while world.loop.time() < stops_at and not world.oracle.at_rest():
        # At first at the pace of a chain; then faster, for only finality and leases are waited for.
        await world.mine(1 if polls < 2 * world.rules.window and observer is not None else 1 + polls // 2)
        await asyncio.sleep(3.0 if polls < 12 else 20.0)
        world.still_stands()
        polls += 1
    await asyncio.sleep(31)  # one more look for holes
    world.still_stands()


def run(world: World, steps: int) -> None:
    """The whole scenario. Raises Violation."""
    world.loop.run_until_complete(whole(world, steps))


async def whole(world: World, steps: int) -> None:
    await run_steps(world, steps)
    await settle(world)
    await world.oracle.resolver()
    await world.stop()


def tell(seed: int, trace: Callable[[str], None] | None = None) -> Report:
    """Run the scenario of a seed; `trace` gets the story."""
    world = World(seed, trace=trace)
    wrong: str | None = None
    try:
        run(world, world.random("length").choice((8, 20, 40)))
    except (Violation, Stuck) as violation:
        wrong = str(violation)
    except Exception as bug:  # of the daemon's or of the simulation's
        wrong = f"{type(bug).__name__}: {bug}"
    finally:
        world.close()
    oracle = world.oracle
    return Report(seed, wrong, world.life, oracle.reorgs, world.api.posts, oracle.transitions, oracle.ends)
