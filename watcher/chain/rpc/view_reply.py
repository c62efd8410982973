"""The replies to eth_call on the state of one block, as bytes, reverts and failed readings."""

from collections.abc import Callable, Sequence
from typing import Any

from watcher.chain.rpc import replies
from watcher.chain.rpc.errors import Paused, RpcError, refused
from watcher.chain.rpc.replies import Reverted, Unread
from watcher.errors import RetryElsewhere, StaleNode
from watcher.task import Header

Scrub = Callable[[str], str]


def viewed(reply: Any, at: Header, scrub: Scrub, *, lenient: bool = False) -> bytes | Reverted:
    """Return one reply.

    Args:
        reply: the bare result, or the error.
        at: the block whose state was asked for.
        scrub: removes secrets from a text of the node.
        lenient: the text of any refusal is a value, too.

    Raises:
        StaleNode: the node lacks the block or its state.
        RetryElsewhere: the node refuses, or its reply is not bytes.
    """
    if not isinstance(reply, RpcError):
        return replies.octets(reply)
    if reply.call_failed:
        return Reverted(scrub(reply.message), reply.data)
    if (reply.no_such_block or reply.no_such_state) and not reply.slow_down:
        raise StaleNode(f"does not have block {at.number} as asked: {reply}")
    if lenient and not reply.slow_down:
        return Reverted(scrub(reply.message), None)
    raise refused(reply)


def all_viewed(
    received: Sequence[Any], at: Header, scrub: Scrub, *, lenient: bool = False
) -> list[bytes | Reverted | Unread]:
    """Return every reply; a call that the node refuses is Unread, and the others stand. Arguments as `viewed`.

    Raises:
        StaleNode: nothing can be read, because the node lacks the block or its state.
        Paused: the node asks to slow down.
    """
    results: list[bytes | Reverted | Unread] = []
    stale: StaleNode | None = None
    for reply in received:
        try:
            results.append(viewed(reply, at, scrub, lenient=lenient))
        except Paused:
            raise
        except RetryElsewhere as error:
            stale = error if isinstance(error, StaleNode) else stale
            results.append(Unread(scrub(str(error))))
    if stale is not None and all(isinstance(result, Unread) for result in results):
        raise stale
    return results
