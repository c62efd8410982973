"""Nodes that lag, lie about their head, or follow forks: step by step on a clock that is set by hand."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any, cast

from tests.conformance.rig import header as block
from tests.kit.clocks import SetClock
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.replies import Reverted
from watcher.errors import RetryElsewhere, StaleNode
from watcher.task import Header


def made(number: int, fork: int = 0) -> Header:
    return replace(block(number, fork), timestamp_s=1_700_000_000 + 12 * number)


class Fake:
    """A node of a chain as high as `height`. From block `since` on it shows those of another fork, if `fork` is set.

    `names` changes the head it names; `final` is the block it calls final. `serves` says whether it reads state.
    """

    def __init__(self, name: str, height: int = 100) -> None:
        self.name = name
        self.height = height
        self.fork, self.since = 0, 0
        self.names: Callable[[Header], Header] = lambda head: head
        self.final = 0
        self.serves = True
        self.away = False
        self.asked = 0

    def at(self, number: int) -> Header:
        fork = self.fork if number >= self.since else 0
        parent = self.fork if number > self.since else 0
        return replace(made(number, fork), parent_hash=block(number - 1, parent).hash)

    async def chain_id(self) -> int:
        return 1

    async def head(self) -> Header:
        self.asked += 1
        if self.away:
            raise RetryElsewhere(f"{self.name}: no connection")
        return self.names(self.at(self.height))

    async def header(self, which: int | str) -> Header | None:
        self.asked += 1
        if self.away:
            raise RetryElsewhere(f"{self.name}: no connection")
        if isinstance(which, str):
            return self.at(self.final)
        return self.at(which) if 0 <= which <= self.height else None

    async def headers(self, heights: Sequence[int], *, looked: bool = False) -> dict[int, Header]:
        blocks = {height: await self.header(height) for height in heights}
        return {height: block for height, block in blocks.items() if block is not None}

    async def views(self, calls: Sequence[bytes], to: bytes, at: Header) -> list[bytes | Reverted]:
        if not self.serves or at.number > self.height or self.at(at.number).hash != at.hash:
            raise StaleNode(f"{self.name}: does not have block {at.number} as asked")
        return [b"\x01" * 32 for _ in calls]


class Net:
    """Fake nodes, the endpoints made of them, and the clock of both."""

    def __init__(self, nodes: int, quorum: int) -> None:
        self.clock = SetClock(1_700_001_200_000)
        self.nodes = [Fake(f"http://node-{place}") for place in range(nodes)]
        self.pool = NodePool(cast("Any", self.nodes), self.clock, Random(1), quorum)

    async def poll(self, seconds: float = 1.0) -> Header:
        self.clock.at_ms += int(seconds * 1000)
        return await self.pool.head()

    def mine(self, count: int = 1) -> None:
        for node in self.nodes:
            node.height += count

    async def read(self) -> Header:
        """Poll, and take the head as read, as the watch does."""
        head = await self.poll()
        self.pool.follow(head)
        return head
