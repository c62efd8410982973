"""The blocks that the contracts of a chain count: the chain's own, or those of the parent chain.

On Arbitrum and Orbit chains `block.number` is a block of the first ancestor that is no Arbitrum chain; nodes show it as
`l1BlockNumber` in each block (docs.arbitrum.io, "Block numbers and time"). Deadlines are in the contract's numbers, all
other blocks in the chain's. Invariant: a chain is refused whose contracts count blocks that its own blocks do not show,
because every deadline would be wrong there; one odd reading, or one of several endpoints, refuses no chain.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from loguru import logger

from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.clock import Clock
from watcher.errors import FixConfiguration, RetryElsewhere
from watcher.task import Header, Task

Counted = Literal["auto", "own", "parent"]

# A node that invents its readings does not invent the same one several times.
_READINGS = 3
_BETWEEN_S = 1.0
# Some clients run a call as if it were in the next block.
_TOLERANCE_BLOCKS = 1
# A contract may name a block somewhat before its own as the created block of a task, but none so far away.
_FAR_BLOCKS = 10_000
_ADVICE = (
    'if its contracts do count the chain\'s own blocks, set chain.contract_blocks = "own"; otherwise this chain cannot '
    "be served (docs/chains.md)"
)


@dataclass(frozen=True, slots=True)
class Numbering:
    """The blocks that contracts count. `l1_blocks`: the parent chain's. `proved`: by a call, or by a setting."""

    l1_blocks: bool
    proved: bool

    def read(self, header: Header) -> Header:
        """Return a header that was read before the numbering was known as it is read from now on."""
        return header if self.l1_blocks else replace(header, l1_block=None)


OWN_BLOCKS = Numbering(l1_blocks=False, proved=True)


class UnknownNumbering(FixConfiguration):
    """The contracts count blocks that the nodes do not show."""


async def settle(nodes: NodePool, clock: Clock, counted: Counted = "auto") -> Numbering:
    """Return the numbering, and have the nodes read headers by it.

    Args:
        nodes: the nodes of the chain.
        clock: for the pauses between readings.
        counted: the setting chain.contract_blocks.

    Raises:
        UnknownNumbering: contracts count blocks that the nodes do not show.
        RetryElsewhere: no endpoint answers, or the endpoints disagree.
    """
    numbering = Numbering(counted == "parent", proved=True) if counted != "auto" else await _observed(nodes, clock)
    if counted == "parent" and not any(await nodes.opinions(_shows_l1_block)):
        raise UnknownNumbering(
            'chain.contract_blocks is "parent", and no node shows l1BlockNumber in its blocks; name other nodes in '
            "chain.rpc_urls, or leave the setting out"
        )
    for node in nodes.nodes:
        node.l1_blocks = numbering.l1_blocks
    if numbering.l1_blocks:
        logger.info("chain.parent_blocks: contracts on this chain count the parent chain's blocks, and so do deadlines")
    return numbering


async def _observed(nodes: NodePool, clock: Clock) -> Numbering:
    for reading in range(_READINGS):
        if reading:
            await clock.sleep(_BETWEEN_S)
        opinions = await nodes.opinions(_read)
        if not opinions:
            raise RetryElsewhere("no endpoint of chain.rpc_urls answers now")
        known = [opinion for opinion in opinions if isinstance(opinion, Numbering)]
        proved = [numbering for numbering in known if numbering.proved]
        if proved or (known and len(known) == len(opinions)):
            return _agreed(proved or known)
    reason = next(opinion for opinion in opinions if isinstance(opinion, str))
    raise UnknownNumbering(f"chain.contract_blocks: {reason}; {_ADVICE}")


def _agreed(numberings: Sequence[Numbering]) -> Numbering:
    (most, count), *_ = Counter(numberings).most_common()
    if 2 * count <= len(numberings):
        raise RetryElsewhere("the endpoints of chain.rpc_urls do not agree on which blocks contracts count")
    return most


async def _read(node: Node) -> Numbering | str:
    """Return the numbering as one node shows it; the reason if contracts count blocks that it does not show.

    Raises RetryElsewhere if it gives no usable reply.
    """
    at = await node.head()
    counted = await node.contract_block(at)
    if counted is None:
        return Numbering(l1_blocks=at.l1_block is not None, proved=False)
    for l1_blocks, block in ((True, at.l1_block), (False, at.number)):
        if block is not None and abs(counted - block) <= _TOLERANCE_BLOCKS:
            return Numbering(l1_blocks, proved=True)
    if counted == 0:  # an empty cache shows this for as long as it is empty, and no contract does
        raise RetryElsewhere(f"{node.name}: a contract sees block 0 at block {at.number}, as with an empty state")
    l1_block = "shows no l1BlockNumber" if at.l1_block is None else f"shows {at.l1_block} as l1BlockNumber"
    return f"contracts on this chain see block {counted} where {node.name} is at block {at.number} and {l1_block}"


async def _shows_l1_block(node: Node) -> bool:
    return bool((await node.head()).l1_block)


def contradiction(task: Task, numbering: Numbering) -> str | None:
    """Return how a task contradicts a numbering that is not proved; None if it does not.

    The contract writes `created_block` from `block.number`: far from the block of the log, it counts other blocks.
    """
    if numbering.proved or numbering.l1_blocks or abs(task.created_block - task.seen_at.block_number) <= _FAR_BLOCKS:
        return None
    return (
        f"chain.contract_blocks: the contract says that task {task.task_index} was created in block "
        f"{task.created_block}, and its log is in block {task.seen_at.block_number}: contracts count other blocks than "
        f"the nodes show, or task.created_block of the convention is wrong; {_ADVICE}"
    )


async def last_block(nodes: NodePool, deadline_block: int, low_block: int, high: Header) -> Header | None:
    """Return the last block, from `low_block` to `high`, that a contract counts as `deadline_block` or lower.

    Numbers of the parent chain rise slowly and skip some, so a bisection finds the block in some thirty requests.

    Args:
        nodes: the nodes of the chain.
        deadline_block: a block as contracts count.
        low_block: the lowest block of the search, as the chain counts.
        high: the highest block of the search.

    Returns:
        The block; None if no node has it.
    """
    if high.l1_block is None:
        return await nodes.header(deadline_block)
    first, last = low_block, high.number
    newest: Header | None = None
    while first <= last:
        middle = await nodes.header((first + last) // 2)
        if middle is None:
            return None
        if middle.contract_block <= deadline_block:
            newest, first = middle, middle.number + 1
        else:
            last = middle.number - 1
    return newest
