"""Which chain the nodes are on: its block 0.

Invariant: one answer that is out of line, or comes from one of several endpoints, never decides that this is another
chain: a daemon that believes so does not start again before a person has looked.
"""

from watcher.chain.endpoints import Endpoints
from watcher.errors import RetryElsewhere

# A node that makes its answers up does not make up the same one twice.
_LOOKS = 2


async def genesis_hash(nodes: Endpoints, begun_on: bytes | None) -> bytes | None:
    """The hash of block 0 (32 bytes), None where no endpoint keeps it. `begun_on` is what the ledger knows of it.

    That one is believed as soon as one endpoint shows it, another one only when all do, again and again. Raises
    RetryElsewhere where it is not certain.
    """
    found: set[bytes] = set()
    answers = 0
    for _ in range(_LOOKS):
        shown = await nodes.opinions(lambda node: node.header(0))
        answers += len(shown)
        found |= {header.hash for header in shown if header is not None}
        if begun_on in found:
            return begun_on
    if not answers:
        raise RetryElsewhere("no endpoint of chain.rpc_urls shows block 0 now")
    if len(found) > 1:
        raise RetryElsewhere("the endpoints of chain.rpc_urls do not agree on block 0")
    if found and begun_on is not None and answers < _LOOKS * len(nodes.nodes):
        raise RetryElsewhere(
            "block 0 is not that of the ledger's chain, as far as endpoints answer; the others may know it"
        )
    return next(iter(found), None)
