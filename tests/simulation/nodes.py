"""Replicas of the chain that play `watcher.chain.rpc.node.Node`: late, on another fork, silent, forgetful or inventive.

They answer what a `Node` passes on after its own checks; those have tests of their own. What no check could find out
about a single answer happens here: logs withheld, logs invented, a head from the past.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tests.simulation.chain import CHAIN_ID, MANAGER, THRESHOLD, Block, digest, response_words, task_words
from tests.wizard import (
    ALL_TASK_HASHES,
    ALL_TASK_RESPONSES,
    CREATED_TOPIC,
    LATEST_TASK_NUM,
    RESPONDED_TOPIC,
    RESPONSE_WINDOW,
    index_topic,
)
from watcher.chain.rpc.calls import Call, LogQuery
from watcher.chain.rpc.errors import Paused
from watcher.chain.rpc.prefetch import KEPT_S
from watcher.chain.rpc.replies import Log, LogPage, Reverted
from watcher.chain.rpc.transaction_reply import Receipt
from watcher.errors import NarrowRange, RetryElsewhere, StaleNode
from watcher.task import Header

if TYPE_CHECKING:
    from tests.simulation.world import World

_SELECTORS = {
    view.call()[:4]: view.signature.partition("(")[0]
    for view in (
        LATEST_TASK_NUM,
        ALL_TASK_HASHES,
        ALL_TASK_RESPONSES,
        RESPONSE_WINDOW,
    )
}


class Replica:
    """One endpoint."""

    def __init__(self, world: "World", name: str) -> None:
        self._world = world
        self._chance = world.random(name)
        self.name = name
        self._stale: list[Block] | None = None
        self._stale_final = 0
        self.down = False
        self._prefetched: tuple[Header, float] | None = None

    @property
    def blocks(self) -> list[Block]:
        return self._world.chain.blocks if self._stale is None else self._stale

    def lag(self, behind: int) -> None:
        """Stay where it is, `behind` blocks below, until told to follow."""
        blocks = self.blocks
        self._stale_final = min(self._final, len(blocks) - 1 - behind) if len(blocks) > behind else 0
        self._stale = blocks[: max(1, len(blocks) - behind)]

    @property
    def _final(self) -> int:
        return self._world.chain.final_number if self._stale is None else self._stale_final

    def follow(self) -> None:
        self._stale = None

    async def close(self) -> None:
        return

    async def chain_id(self) -> int:
        await self._fail_or_wait()
        return CHAIN_ID

    async def head(self, *, anew: bool = False) -> Header:
        now_s = self._world.loop.time()
        if not anew and self._prefetched is not None and now_s <= self._prefetched[1]:
            return self._prefetched[0]
        await self._fail_or_wait()
        if anew:
            self._prefetched = self.blocks[-1].header, now_s + KEPT_S
        return self.blocks[-1].header

    async def prefetch(self, calls: Sequence[Call], *, anew: bool) -> None:
        """Keep the head for the stages that ask for it at the same time; every other question is asked anew."""
        assert calls
        if anew:
            await self.head(anew=True)

    async def headers(self, heights: Sequence[int], *, looked: bool = False) -> dict[int, Header]:
        await self._fail_or_wait()
        return {height: self.blocks[height].header for height in heights if 0 <= height < len(self.blocks)}

    async def header(self, which: int | str) -> Header | None:
        await self._fail_or_wait()
        if isinstance(which, str):
            return self.blocks[min(self._final, len(self.blocks) - 1)].header
        return self.blocks[which].header if 0 <= which < len(self.blocks) else None

    async def kept(self, number: int) -> Header | None:
        return await self.header(number)

    async def page(self, query: LogQuery) -> LogPage:
        first, last, after = query.first, query.last, query.after
        await self._fail_or_wait()
        self._narrow(first, last)
        blocks = self.blocks
        if last >= len(blocks) or (after is not None and after.number >= len(blocks)):
            raise StaleNode(f"{self.name}: has not reached block {last}")
        continuous = after is None or blocks[after.number].hash == after.hash
        span = blocks[max(first, 0) : last + 1]
        logs = [log for block in span for log in block.logs if not self._withheld(log)]
        logs += self._invented(span)
        logs.sort(key=lambda log: (log.block_number, log.log_index))
        return LogPage(tuple(logs), blocks[last].header, continuous, int(self._world.happens("foreign")))

    async def find(self, address: bytes, topic0: bytes, index: bytes, first: int, last: int) -> tuple[Log, ...]:
        await self._fail_or_wait()
        self._narrow(first, last)
        if last >= len(self.blocks):
            raise StaleNode(f"{self.name}: has not reached block {last}")
        span = self.blocks[max(first, 0) : last + 1]
        key = (topic0, index)
        return tuple(log for block in span for log in block.logs if log.topics[:2] == key and not self._withheld(log))

    async def views(self, calls: Sequence[bytes], to: bytes, at: Header) -> list[bytes | Reverted]:
        await self._fail_or_wait()
        blocks = self.blocks
        if at.number >= len(blocks) or blocks[at.number].hash != at.hash:
            raise StaleNode(f"{self.name}: does not have block {at.number} as asked")
        block = blocks[at.number]
        if self._world.happens("empty views"):
            self._world.emptied += 1
            self._world.tell(f"{self.name} shows zeros at block {at.number}")
            return [bytes(32) for _ in calls]
        self._world.states[at.hash] = block
        return [self._view(call, block) for call in calls]

    async def transaction_receipt(self, tx_hash: bytes) -> Receipt | None:
        await self._fail_or_wait()
        head = self.blocks[-1]
        block = head.succeeded.get(tx_hash)
        return None if block is None else Receipt(block, head.number, head.hash)

    def _view(self, call: bytes, block: Block) -> bytes | Reverted:
        name = _SELECTORS.get(call[:4])
        if name is None:
            return Reverted("no such function", b"")  # it has no aggregator to ask in whose name: no dry run here
        if name == "latestTaskNum":
            return len(block.task_hashes).to_bytes(32)
        if name == "TASK_RESPONSE_WINDOW_BLOCK":
            return self._world.chain.window_blocks.to_bytes(32)
        index = int.from_bytes(call[4:36])
        if name == "allTaskHashes":
            return block.task_hashes[index] if index < len(block.task_hashes) else bytes(32)
        return block.responses.get(index, bytes(32))

    async def _fail_or_wait(self) -> None:
        await self._world.pause()
        self._world.alive()
        if self.down:
            raise RetryElsewhere(f"{self.name}: no connection")
        if self._world.happens("node errors"):
            if self._chance.random() < 0.3:
                raise Paused(f"{self.name}: slow down", self._chance.choice((None, 0.5, 5.0)))
            if self._chance.random() < 0.2:
                await asyncio.sleep(self._chance.uniform(0.5, 8.0))
            raise RetryElsewhere(f"{self.name}: broken answer")

    def _narrow(self, first: int, last: int) -> None:
        if last > first and (self._world.happens("narrow") or last - first >= self._world.span_limit):
            raise NarrowRange(f"{self.name}: block range too wide")

    def _withheld(self, log: Log) -> bool:
        if not self._world.happens("withheld"):
            return False
        if log.topics[0] == RESPONDED_TOPIC:
            self._world.hidden[int.from_bytes(log.data[96:128])] += 1
        self._world.withheld += 1
        self._world.tell(f"{self.name} withholds log {log.log_index} of block {log.block_number}")
        return True

    def _invented(self, span: Sequence[Block]) -> list[Log]:
        if not span:
            return []
        logs: list[Log] = []
        block = self._chance.choice(span)
        if self._world.happens("forged task"):
            index = self._chance.randint(0, len(block.task_hashes) + 1)
            message = b"forged" + self._chance.randbytes(2)
            data, task_hash = task_words(block.number - self._world.chain.drift, message)
            self._world.forged.add(task_hash)
            logs.append(self._log(block, (CREATED_TOPIC, index_topic(index)), data))
            self._world.tell(f"{self.name} invents task {index} in block {block.number}")
        if self._world.happens("forged response"):
            index = self._chance.randint(0, len(block.task_hashes))
            data, _ = response_words(index, b"evil" + self._chance.randbytes(2), block.number)
            logs.append(self._log(block, (RESPONDED_TOPIC,), data))
            self._world.tell(f"{self.name} invents a response to task {index} in block {block.number}")
        if self._world.happens("poison"):
            data = self._chance.randbytes(self._chance.choice((0, 31, 64, 200)))
            topics = self._chance.choice([(RESPONDED_TOPIC,), (CREATED_TOPIC, index_topic(THRESHOLD))])
            logs.append(self._log(block, topics, data))
            self._world.tell(f"{self.name} sends a log that nobody can decode")
        return logs

    def _log(self, block: Block, topics: tuple[bytes, ...], data: bytes) -> Log:
        place = 1000 + self._chance.randrange(1_000_000)
        return Log(MANAGER, topics, data, block.number, block.hash, digest("forged", place), place)
