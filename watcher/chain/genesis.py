"""Which chain the nodes are on: its block 0, or any final block the ledger remembers.

Invariant: one answer that is out of line, or comes from one of several endpoints, never decides that this is another
chain: a daemon that believes so does not start again before a person has looked. Nodes that keep no old blocks, in
whatever words they refuse them, are no reason to wait.
"""

from watcher.chain.endpoints import Endpoints
from watcher.errors import FixConfiguration, RetryElsewhere
from watcher.ledger.reading import Beginning

# A node that makes its answers up does not make up the same one twice.
_LOOKS = 2


async def genesis_hash(nodes: Endpoints, begun: Beginning | None) -> bytes | None:
    """Return the hash of block 0 (32 bytes), None where no endpoint keeps it. `begun` is what the ledger remembers.

    A remembered hash is believed as soon as one endpoint shows it, another block 0 only when all do, again and again.

    Raises:
        RetryElsewhere: the endpoints answer nothing, or contradict each other.
        FixConfiguration: all endpoints show another block than an old, final one of the ledger, again and again.
    """
    begun_on = begun.genesis_hash if begun else None
    shown, answers = await _shown(nodes, 0, begun_on)
    if begun_on is not None and begun_on in shown:
        return begun_on
    for number, known in begun.final_blocks if begun else ():
        if known in (await _shown(nodes, number, known))[0]:
            return begun_on or (shown.pop() if len(shown) == 1 else None)
    if not answers:
        raise RetryElsewhere("no endpoint of chain.rpc_urls answers now")
    if len(shown) > 1:
        raise RetryElsewhere("the endpoints of chain.rpc_urls do not agree on block 0")
    if shown and begun_on is not None and answers < _LOOKS * len(nodes.nodes):
        raise RetryElsewhere(
            "block 0 is not that of the ledger's chain, as far as endpoints answer; the others may know it"
        )
    if begun and not shown:
        await _refuse_another(nodes, begun)
    return next(iter(shown), None)


async def _refuse_another(nodes: Endpoints, begun: Beginning) -> None:
    """Raise FixConfiguration where every endpoint shows another block in place of the oldest final one remembered.

    The newest final block alone decides nothing: the watch halts where that one has changed.
    """
    if len(begun.final_blocks) < 2:
        return
    number, known = begun.final_blocks[0]
    others, answers = await _shown(nodes, number, known)
    if known not in others and len(others) == 1 and answers == _LOOKS * len(nodes.nodes):
        raise FixConfiguration(
            f"ledger.url: block {number} of the ledger's chain is 0x{known.hex()}, the nodes of chain.rpc_urls have "
            f"0x{others.pop().hex()}; a chain that was reset needs a new ledger"
        )


async def _shown(nodes: Endpoints, number: int, known: bytes | None) -> tuple[set[bytes], int]:
    """The hashes that endpoints show of a block, and how many answers there were, also those without the block."""
    found: set[bytes] = set()
    answers = 0
    for _ in range(_LOOKS):
        shown = await nodes.side.kept(number)
        answers += len(shown)
        found |= {header.hash for header in shown if header is not None}
        if known is not None and known in found:
            break
    return found, answers
