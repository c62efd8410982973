"""The reply to eth_getLogs, a list, null or a refusal of any form, as checked logs."""

import asyncio
from collections.abc import Collection
from typing import Any

import msgspec

from watcher.chain.rpc.calls import Emitters
from watcher.chain.rpc.errors import WORDS_LIMIT, RpcError, clean, refused
from watcher.chain.rpc.replies import Log, octets, quantity, time_s
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
    """Return `logs` of the same arguments. Many logs are checked in a thread, to keep the event loop free."""
    if raw is not None and len(raw) > _CHECK_ASIDE:
        return await asyncio.to_thread(logs, raw, address, topics0, index, first, end)
    return logs(raw, address, topics0, index, first, end)


def logs(
    raw: Any,
    address: Emitters,
    topics0: Collection[bytes] | None,
    index: bytes | None,
    first: int,
    last: Header,
) -> tuple[tuple[Log, ...], int]:
    """Return the logs of the question, sorted and without duplicates, and the number of other logs in the reply.

    Args:
        raw: the reply, whose items may be texts; some nodes send null for no log.
        address: the emitter of the logs, or several.
        topics0: the admissible first topics; None: any, but one must be there.
        index: the second topic, None for any.
        first: the first block of the range.
        last: the last block of the range, by the header in the same batch.

    Raises:
        RetryElsewhere: a log is malformed, or the reply contradicts itself or `last`: the chain moved meanwhile.
    """
    if raw is None:
        return (), 0
    if not isinstance(raw, list):
        raise RetryElsewhere("the answer holds something else where a list of logs belongs")
    addresses = (address,) if isinstance(address, bytes) else address
    # Some nodes count logIndex within the transaction, or repeat one in a block: logs that differ are two logs.
    matching: dict[Log, None] = {}
    hashes = {last.number: last.hash}
    foreign = 0
    for item in map(_values, raw):
        log = _log(item, last)
        matches = (
            log.address in addresses
            and first <= log.block_number <= last.number
            and log.topics[:1]
            and (topics0 is None or log.topics[0] in topics0)
            and (index is None or log.topics[1:2] == (index,))
            and item.get("removed") in (None, False)  # absent, and null, at some nodes
        )
        if not matches:
            foreign += 1
            continue
        if hashes.setdefault(log.block_number, log.block_hash) != log.block_hash:
            raise RetryElsewhere(f"the chain moved meanwhile: two versions of block {log.block_number}")
        matching[log] = None
    return tuple(sorted(matching, key=lambda log: (log.block_number, log.log_index))), foreign


def _values(item: Any) -> Any:
    """Return an item of the reply as values. Raises RetryElsewhere for a text that is no JSON."""
    if not isinstance(item, msgspec.Raw):
        return item
    try:
        return msgspec.json.decode(item)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise RetryElsewhere("the answer is not JSON") from None


def _log(raw: Any, last: Header) -> Log:
    if not isinstance(raw, dict) or not isinstance(raw.get("topics"), list) or len(raw["topics"]) > 4:
        raise RetryElsewhere("the answer holds something else where a log belongs")
    block_hash = octets(raw.get("blockHash"), 32)
    return Log(
        octets(raw.get("address"), 20),
        tuple([octets(topic, 32) for topic in raw["topics"]]),
        octets(raw.get("data")),
        quantity(raw.get("blockNumber")),
        block_hash,
        octets(raw.get("transactionHash"), 32),
        quantity(raw.get("logIndex")),
        last.timestamp_s if block_hash == last.hash else _log_time_s(raw, last),
    )


def _log_time_s(raw: Any, last: Header) -> int:
    """Return the time (s) that newer nodes put into a log, 0 without one, and for one after the end of the range.

    Source: https://github.com/ethereum/execution-apis, Log.blockTimestamp.
    """
    raw_time = raw.get("blockTimestamp")
    at_s = 0 if raw_time is None else time_s(raw_time)
    return at_s if at_s <= last.timestamp_s or not last.timestamp_s else 0
