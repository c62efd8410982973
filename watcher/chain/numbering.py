"""Whose blocks the contracts of a chain count: the chain's own, or those of the parent chain.

On Arbitrum and Orbit chains `block.number` is a block of the first ancestor that is no Arbitrum chain; nodes show it as
`l1BlockNumber` in each block (docs.arbitrum.io, "Block numbers and time"). Deadlines are in the contract's numbers, all
else is in the chain's. Invariant: a chain whose contracts count something that its blocks do not show is refused, for
every deadline would be wrong there; one odd reading, or one of several endpoints, refuses none.
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

# A node that makes its readings up does not make up the same one several times.
_READINGS = 3
_BETWEEN_S = 1.0
# Some clients run a call as if it were in the next block.
_TOLERANCE_BLOCKS = 1
# A contract may name a block somewhat before its own as the one a task was created in, never one so far away.
_FAR_BLOCKS = 10_000
_ADVICE = (
    'if its contracts count the chain\'s own blocks all the same, set chain.contract_blocks = "own"; otherwise this '
    "chain cannot be served (docs/chains.md)"
)


@dataclass(frozen=True, slots=True)
class Numbering:
    """`l1_blocks`: contracts count the parent chain's blocks. `proved`: a contract was asked, or a person says so."""

    l1_blocks: bool
    proved: bool

    def read(self, header: Header) -> Header:
        """A header that was read before this was known, as it is read from now on."""
        return header if self.l1_blocks else replace(header, l1_block=None)


OWN_BLOCKS = Numbering(l1_blocks=False, proved=True)


class UnknownNumbering(FixConfiguration):
    """Contracts count blocks that the nodes do not show."""


async def settle(nodes: NodePool, clock: Clock, counted: Counted = "auto") -> Numbering:
    """Find out what contracts count, and have the nodes read headers accordingly. `counted` as chain.contract_blocks.

    Raises UnknownNumbering when it cannot be known, RetryElsewhere when no node answers or they disagree.
    """
    numbering = Numbering(counted == "parent", proved=True) if counted != "auto" else await _found(nodes, clock)
    if counted == "parent" and not any(await nodes.opinions(_shows_l1_block)):
        raise UnknownNumbering(
            'chain.contract_blocks is "parent", and no node shows l1BlockNumber in its blocks; name other nodes in '
            "chain.rpc_urls, or leave the setting out"
        )
    for node in nodes.nodes:
        node.l1_blocks = numbering.l1_blocks
    if numbering.l1_blocks:
        logger.info("contracts on this chain count the parent chain's blocks: deadlines are in those")
    return numbering


async def _found(nodes: NodePool, clock: Clock) -> Numbering:
    for reading in range(_READINGS):
        if reading:
            await clock.sleep(_BETWEEN_S)
        found = await nodes.opinions(_read)
        if not found:
            raise RetryElsewhere("no endpoint of chain.rpc_urls answers now")
        known = [one for one in found if isinstance(one, Numbering)]
        proved = [one for one in known if one.proved]
        if proved or (known and len(known) == len(found)):
            return _agreed(proved or known)
    words = next(one for one in found if isinstance(one, str))
    raise UnknownNumbering(f"chain.contract_blocks: {words}; {_ADVICE}")


def _agreed(found: Sequence[Numbering]) -> Numbering:
    (most, count), *_ = Counter(found).most_common()
    if 2 * count <= len(found):
        raise RetryElsewhere("the endpoints of chain.rpc_urls do not agree on which blocks contracts count")
    return most


async def _read(node: Node) -> Numbering | str:
    """The numbering as one node shows it; in words what is wrong if contracts count what its blocks do not show."""
    at = await node.head()
    counted = await node.contract_block(at)
    if counted is None:
        return Numbering(l1_blocks=at.l1_block is not None, proved=False)
    for l1_blocks, shown in ((True, at.l1_block), (False, at.number)):
        if shown is not None and abs(counted - shown) <= _TOLERANCE_BLOCKS:
            return Numbering(l1_blocks, proved=True)
    shows = "shows no l1BlockNumber" if at.l1_block is None else f"shows {at.l1_block} as l1BlockNumber"
    return f"contracts on this chain see block {counted} where {node.name} is at block {at.number} and {shows}"


async def _shows_l1_block(node: Node) -> bool:
    return bool((await node.head()).l1_block)


def contradiction(task: Task, numbering: Numbering) -> str | None:
    """What a task says against a numbering that was only supposed, in words; None if nothing.

    The contract writes `created_block` from `block.number`: far from the block of the log, it counts others.
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

    None if no node has it.

    Numbers of the parent chain rise slowly and skip some: halving finds the block in some thirty questions at most.
    """
    if high.l1_block is None:
        return await nodes.header(deadline_block)
    first, last = low_block, high.number
    found: Header | None = None
    while first <= last:
        middle = await nodes.header((first + last) // 2)
        if middle is None:
            return None
        if middle.contract_block <= deadline_block:
            found, first = middle, middle.number + 1
        else:
            last = middle.number - 1
    return found
