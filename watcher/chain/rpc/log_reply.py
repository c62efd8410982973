"""The reply to eth_getLogs, a list, null or a refusal of any form, as checked logs."""

import asyncio
from typing import Any

from watcher.chain.rpc import replies
from watcher.chain.rpc.calls import Emitters
from watcher.chain.rpc.errors import WORDS_LIMIT, RpcError, clean, refused
from watcher.chain.rpc.replies import Log
from watcher.errors import NarrowRange, RetryElsewhere
from watcher.task import Header

_CHECK_ASIDE = 300


def listed(reply: Any, narrow: bool) -> list[Any] | None:
    """Return the logs as they came, None for null. Any other value in place of a list is a refusal of the range.

    Raises:
        NarrowRange: the node refuses, and `narrow` says that a shorter range may be served.
        RetryElsewhere: the node refuses.
    """
    if isinstance(reply, RpcError):
        raise refused(reply, narrow)
    if reply is None or isinstance(reply, list):
        return reply
    kind = NarrowRange if narrow else RetryElsewhere
    raise kind(f"the reply to eth_getLogs is no list of logs: {clean(str(reply)[:WORDS_LIMIT])!r}")


async def checked(
    raw: list[Any] | None,
    address: Emitters,
    topics0: frozenset[bytes] | None,
    index: bytes | None,
    first: int,
    end: Header,
) -> tuple[tuple[Log, ...], int]:
    """Return `replies.logs` of the same arguments. Many logs are checked in a thread, to keep the event loop free."""
    if raw is not None and len(raw) > _CHECK_ASIDE:
        return await asyncio.to_thread(replies.logs, raw, address, topics0, index, first, end)
    return replies.logs(raw, address, topics0, index, first, end)
