"""The blocks that each node shows at some heights."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from watcher.chain.rpc.node import Node
from watcher.task import Header

T = TypeVar("T")


class AskAll(Protocol):
    """A question to all endpoints in service, or to those at some places, at the same time."""

    async def __call__(
        self, question: Callable[[Node], Awaitable[T]], places: Collection[int] | None = None
    ) -> Mapping[int, T]:
        """Return the replies by the endpoint's place, without those that fail."""


class NodeBlocks:
    """The blocks of the nodes in service, by the place of the node and the height. `ask_all` puts the questions."""

    def __init__(self, ask_all: AskAll) -> None:
        self._ask_all = ask_all

    async def at(
        self, by_place: Mapping[int, Iterable[int]], *, looked: bool = False
    ) -> dict[int, Mapping[int, Header]]:
        """Ask each node for its heights, in one request. Return the blocks it has, by place and height.

        `looked`: those of its last look count.
        """
        asked = [(place, sorted(heights)) for place, heights in by_place.items() if heights]
        answers = await asyncio.gather(*(self._own(place, heights, looked=looked) for place, heights in asked))
        return {place: own for (place, _), own in zip(asked, answers, strict=True) if own}

    async def _own(self, place: int, heights: Sequence[int], *, looked: bool) -> Mapping[int, Header]:
        """Return the blocks of one node at some heights (eth_getBlockByNumber)."""
        if len(heights) > 1:
            return (await self._ask_all(lambda node: node.headers(heights, looked=looked), [place])).get(place, {})
        block = (await self._ask_all(lambda node: node.header(heights[0]), [place])).get(place)
        return {} if block is None else {heights[0]: block}
