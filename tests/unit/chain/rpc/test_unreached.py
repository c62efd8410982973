"""When a block above the head is disproved: by younger blocks below it, by time, and by the nodes asked for it."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from tests.conformance.rig import header
from tests.kit.clocks import SetClock
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.unreached import Unreached, denied
from watcher.task import Header

CURSOR = header(2_000, 1)
NOW_S = 1_700_000_000


class World:
    """A clock, a head that grows by one block with each poll, and what each node holds at the cursor's height."""

    def __init__(self, *there: Header | None, quorum: int = 1) -> None:
        self.there = there or (None,)
        self.clock = SetClock(NOW_S * 1000)
        self.unreached = Unreached(self.ask_all, self.clock, quorum)
        self.head = replace(header(100), timestamp_s=NOW_S - 5)

    async def ask_all(
        self, question: Callable[[Node], Awaitable[Any]], places: Collection[int] | None = None
    ) -> Mapping[int, Any]:
        class Asked:
            def __init__(self, stored: Header | None) -> None:
                self.stored = stored

            async def header(self, number: int) -> Header | None:
                assert number == CURSOR.number
                return self.stored

        return {place: await question(cast("Node", Asked(header))) for place, header in enumerate(self.there)}

    async def poll(self, after_s: float, chain_s: int | None = None) -> bool:
        """The next block, so much later by this machine and, if given, by the chain's clock."""
        self.clock.at_ms += int(after_s * 1000)
        time_s = self.head.timestamp_s + (int(after_s) if chain_s is None else chain_s)
        self.head = replace(header(self.head.number + 1), timestamp_s=time_s)
        self.unreached.observe(self.head)
        return await self.unreached.disproves(CURSOR, self.head)


async def test_a_block_is_disproved_when_younger_blocks_lie_below_it() -> None:
    world = World()
    assert [await world.poll(12) for _ in range(4)] == [False, False, False, True]


async def test_a_jump_of_the_chain_is_not_enough_before_ten_seconds() -> None:
    world = World()
    assert not await world.poll(1)
    assert not await world.poll(9, chain_s=500)
    assert await world.poll(1, chain_s=1)


async def test_a_node_at_rest_below_disproves_nothing() -> None:
    world = World()
    assert not any([await world.poll(60, chain_s=0) for _ in range(200)])


async def test_a_node_that_catches_up_disproves_nothing() -> None:
    """Restored from a day ago, ten times as fast as the chain."""
    world = World()
    world.head = replace(world.head, timestamp_s=NOW_S - 86_400)
    assert not any([await world.poll(1, chain_s=10) for _ in range(900)])


@pytest.mark.parametrize("lag_s", [24, 300, 3_000])
async def test_a_node_that_follows_late_disproves_nothing(lag_s: int) -> None:
    """As long as it takes to reach the cursor, which is younger than all below it."""
    world = World()
    world.head = replace(world.head, timestamp_s=NOW_S - lag_s)
    polls = min(lag_s, 590) // 12
    assert not any([await world.poll(12) for _ in range(polls)])


async def test_a_head_that_reaches_the_cursor_ends_the_wait() -> None:
    world = World()
    assert not any([await world.poll(12) for _ in range(3)])
    world.unreached.observe(CURSOR)
    assert [await world.poll(12) for _ in range(4)] == [False, False, False, True]


async def test_the_wait_is_doubled_until_an_hour_was_calm() -> None:
    world = World()

    async def polls() -> int:
        number = 1
        while not await world.poll(12):
            number += 1
        world.unreached.left()
        return number

    assert [await polls() for _ in range(9)] == [4, 4, 5, 8, 15, 28, 51, 51, 51]
    world.clock.at_ms += 3_600_000
    world.head = replace(world.head, timestamp_s=world.clock.now_ms() // 1000)
    assert await polls() < 8


@pytest.mark.parametrize(
    ("there", "quorum", "expected"),
    [
        ([None], 1, True),
        ([header(2_000)], 1, True),
        ([CURSOR], 1, False),
        ([], 1, False),
        ([None, CURSOR], 1, True),
        ([None, CURSOR, CURSOR], 1, False),
        ([None, None, CURSOR], 2, True),
        ([None], 2, False),
    ],
)
async def test_nodes_deny_a_block_when_at_most_half_hold_it(
    there: list[Header | None], quorum: int, expected: bool
) -> None:
    assert denied(there, CURSOR, quorum) is expected


async def test_a_younger_head_is_not_enough_when_the_node_holds_the_block() -> None:
    world = World(CURSOR)
    assert not any([await world.poll(12) for _ in range(100)])
