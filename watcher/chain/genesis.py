"""The identity of the chain: block 0, compared with the chain that the ledger was begun on."""

from watcher.chain.rpc.nodes import NodePool
from watcher.errors import FixConfiguration, RetryElsewhere
from watcher.ledger.known_sources import Beginning

# A node that invents a reply does not invent the same one twice.
_READINGS = 2


async def genesis_hash(nodes: NodePool, begun: Beginning | None) -> bytes | None:
    """Return the hash of block 0 (32 bytes), None where no endpoint keeps it.

    A hash in the ledger is confirmed as soon as one endpoint shows it; another hash counts only when all endpoints show
    it, `_READINGS` times.

    Args:
        nodes: the nodes of the chain.
        begun: the ledger's record of the chain, None for a new ledger.

    Raises:
        RetryElsewhere: no endpoint answers, or the endpoints contradict each other.
        FixConfiguration: all endpoints show another block in place of an old final block of the ledger.
    """
    begun_on = begun.genesis_hash if begun else None
    hashes, replies = await _block_hashes(nodes, 0, begun_on)
    if begun_on is not None and begun_on in hashes:
        return begun_on
    for number, known in begun.final_blocks if begun else ():
        if known in (await _block_hashes(nodes, number, known))[0]:
            return begun_on or (hashes.pop() if len(hashes) == 1 else None)
    if not replies:
        raise RetryElsewhere("no endpoint of chain.rpc_urls answers now")
    if len(hashes) > 1:
        raise RetryElsewhere("the endpoints of chain.rpc_urls do not agree on block 0")
    if hashes and begun_on is not None and replies < _READINGS * len(nodes.nodes):
        raise RetryElsewhere(
            "the endpoints that answer show another block 0 than the ledger's chain has; the others may know it"
        )
    if begun and not hashes:
        await _refuse_other_chain(nodes, begun)
    return next(iter(hashes), None)


async def _refuse_other_chain(nodes: NodePool, begun: Beginning) -> None:
    """Raise FixConfiguration if every endpoint shows another block in place of the ledger's oldest final block.

    The newest final block alone decides nothing: the watch halts when it has changed.
    """
    if len(begun.final_blocks) < 2:
        return
    number, known = begun.final_blocks[0]
    others, replies = await _block_hashes(nodes, number, known)
    if known not in others and len(others) == 1 and replies == _READINGS * len(nodes.nodes):
        raise FixConfiguration(
            f"ledger.url: block {number} of the ledger's chain is 0x{known.hex()}, the nodes of chain.rpc_urls have "
            f"0x{others.pop().hex()}; a chain that was reset needs a new ledger"
        )


async def _block_hashes(nodes: NodePool, number: int, known: bytes | None) -> tuple[set[bytes], int]:
    """Return the hashes that endpoints show of a block, and the number of replies, also of those without the block."""
    hashes: set[bytes] = set()
    replies = 0
    for _ in range(_READINGS):
        headers = await nodes.side.kept(number)
        replies += len(headers)
        hashes |= {header.hash for header in headers if header is not None}
        if known is not None and known in hashes:
            break
    return hashes, replies
