"""What a node sends for eth_getLogs: a list, nothing, or a refusal in whatever form; as checked logs."""

import asyncio
from typing import Any

from watcher.chain.rpc import replies
from watcher.chain.rpc.calls import Emitters
from watcher.chain.rpc.errors import WORDS_LIMIT, RpcError, clean, refused
from watcher.chain.rpc.replies import Log
from watcher.errors import NarrowRange, RetryElsewhere
from watcher.task import Header

_CHECK_ASIDE = 300


def listed(found: Any, narrow: bool) -> list[Any] | None:
    """The logs as they came, None where there are none. Whatever stands in place of a list refuses the range."""
    if isinstance(found, RpcError):
        raise refused(found, narrow)
    if found is None or isinstance(found, list):
        return found
    kind = NarrowRange if narrow else RetryElsewhere
    raise kind(f"a list of logs was asked for, and {clean(str(found)[:WORDS_LIMIT])!r} came")


async def checked(
    raw: list[Any] | None,
    address: Emitters,
    topics0: frozenset[bytes] | None,
    index: bytes | None,
    first: int,
    end: Header,
) -> tuple[tuple[Log, ...], int]:
    """Checked logs; many are checked beside the loop, which serves deadlines and health meanwhile."""
    if raw is not None and len(raw) > _CHECK_ASIDE:
        return await asyncio.to_thread(replies.logs, raw, address, topics0, index, first, end)
    return replies.logs(raw, address, topics0, index, first, end)
