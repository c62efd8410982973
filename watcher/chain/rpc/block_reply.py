"""The reply to eth_getBlockByNumber, a block, null or a refusal, as a checked header."""

from collections.abc import Sequence
from typing import Any

from watcher.chain.rpc.errors import Paused, RpcError, refused
from watcher.chain.rpc.replies import octets, quantity, time_s
from watcher.errors import RetryElsewhere, StaleNode
from watcher.task import Header


def header(raw: Any, l1_blocks: bool | None = None) -> Header:
    """Return a block object as a header. Raises RetryElsewhere for any other value.

    `l1_blocks`: True where contracts count the parent chain's blocks (`l1BlockNumber`, which nitro adds), False where
    they count the chain's own, None where that is not known yet: then the field counts if it is there. Where it must
    be there and is not (block 0, blocks older than nitro), the lowest number stands in: no deadline is past by it.
    """
    if not isinstance(raw, dict):
        raise RetryElsewhere("the answer holds something else where a block belongs")
    hash_, parent_hash = octets(raw.get("hash"), 32), octets(raw.get("parentHash"), 32)
    l1_number = raw.get("l1BlockNumber")
    l1_block = None if l1_blocks is False or (l1_blocks is None and l1_number is None) else quantity(l1_number or "0x0")
    return Header(quantity(raw.get("number")), hash_, parent_hash, time_s(raw.get("timestamp")), l1_block)


def known(reply: Any, which: int | str, l1_blocks: bool | None) -> Header:
    """Return the header in a reply.

    Args:
        reply: the bare result, or the error.
        which: the height or the tag that was asked for.
        l1_blocks: as `header` takes it; True requires l1BlockNumber in the block of a tag.

    Raises:
        StaleNode: the node has no such block.
        RetryElsewhere: the node refuses, or replies with a block of another height.
    """
    if isinstance(reply, RpcError):
        raise refused(reply)
    if reply is None:
        raise StaleNode(f"does not have block {which}")
    block = header(reply, l1_blocks)
    if l1_blocks and isinstance(which, str) and not block.l1_block:
        raise RetryElsewhere(f"its block {block.number} has no l1BlockNumber, which this chain's contracts count")
    if isinstance(which, int) and block.number != which:
        raise RetryElsewhere(f"answered with block {block.number} when asked for {which}")
    return block


def named(reply: Any, which: int | str, l1_blocks: bool | None) -> Header | None:
    """Return the header in a reply, None if the node names no such block. Arguments and errors as `known`."""
    if reply is None:
        return None
    if isinstance(reply, RpcError) and not reply.slow_down and (reply.no_such_block or isinstance(which, str)):
        return None  # nodes that do not know the tag say so in many ways; the caller falls back on a depth
    return known(reply, which, l1_blocks)


def all_named(received: Sequence[Any], heights: Sequence[int], l1_blocks: bool | None) -> dict[int, Header]:
    """Return the headers in the replies by height, without missing and unusable ones.

    Args:
        received: the bare results or the errors.
        heights: the height that each of them was asked for.
        l1_blocks: as `known` takes it.

    Raises:
        RetryElsewhere: a reply asks to slow down, or no reply is usable.
    """
    blocks: dict[int, Header] = {}
    failure: RetryElsewhere | None = None
    for height, reply in zip(heights, received, strict=True):
        try:
            block = named(reply, height, l1_blocks)
        except Paused:
            raise
        except RetryElsewhere as error:
            failure = error
            continue
        if block is not None:
            blocks[height] = block
    if failure is not None and not blocks:
        raise failure
    return blocks


def range_end(reply: Any, height: int, l1_blocks: bool | None) -> Header:
    """Return the header at the end of a range. Raises as `known`; StaleNode also if the node says it lacks it."""
    if isinstance(reply, RpcError) and reply.no_such_block and not reply.slow_down:
        raise StaleNode(f"has not reached block {height}: {reply}")
    return known(reply, height, l1_blocks)


def continues(reply: Any, after: Header, end: Header, l1_blocks: bool | None) -> bool:
    """Return True if the chain that ends at `end` holds `after`, by the reply for its height.

    A missing block below the end is no evidence.

    Args:
        reply: the bare result, or the error.
        after: the block that the caller continues from.
        end: the last block of the range.
        l1_blocks: as `known` takes it.

    Raises:
        StaleNode: the node has no block at the height of `after`.
        RetryElsewhere: the node refuses, or replies with a block of another height.
    """
    if known(reply, after.number, l1_blocks).hash != after.hash:
        return False
    return end.number != after.number + 1 or end.parent_hash == after.hash
