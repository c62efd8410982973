"""The replies about transactions: receipts, and senders. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from watcher.chain.rpc.errors import RpcError, refused
from watcher.chain.rpc.replies import octets, quantity
from watcher.errors import RetryElsewhere


@dataclass(frozen=True, slots=True)
class Receipt:
    """The result of a transaction: success or failure, and its block."""

    status: bool
    block_number: int
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class Sender:
    """The address (20 bytes) that sent a mined transaction, and the height of its block."""

    address: bytes
    block_number: int


def receipt(raw: Any) -> Receipt | None:
    """Return a transaction receipt, None for a transaction that is not mined: null, or an object without a block.

    Raises:
        RetryElsewhere: the value is no receipt.
    """
    if raw is None or (isinstance(raw, dict) and None in (raw.get("blockHash"), raw.get("blockNumber"))):
        return None
    if not isinstance(raw, dict):
        raise RetryElsewhere("the answer holds something else where a receipt belongs")
    status = quantity(raw.get("status"), 1) == 1
    return Receipt(status, quantity(raw.get("blockNumber")), octets(raw.get("blockHash"), 32))


def sender(raw: Any, tx_hash: bytes) -> Sender | None:
    """Return the sender of a transaction, None if the node does not know it, or it is not mined.

    Raises:
        RetryElsewhere: the value is no transaction, or another one.
    """
    if raw is None or (isinstance(raw, dict) and raw.get("blockNumber") is None):
        return None
    if not isinstance(raw, dict) or octets(raw.get("hash"), 32) != tx_hash:
        raise RetryElsewhere("the answer holds something else where a transaction belongs")
    return Sender(octets(raw.get("from"), 20), quantity(raw.get("blockNumber")))


def senders(received: Sequence[Any], tx_hashes: Sequence[bytes]) -> dict[bytes, Sender]:
    """Return the senders in the replies by hash, without missing and unusable ones.

    Raises:
        RetryElsewhere: a reply asks to slow down, or no reply is usable.
    """
    by_hash: dict[bytes, Sender] = {}
    failure: RetryElsewhere | None = None
    known_replies = 0
    for tx_hash, reply in zip(tx_hashes, received, strict=True):
        if isinstance(reply, RpcError):
            if reply.slow_down:
                raise refused(reply)
            failure = refused(reply)
            continue
        try:
            mined = sender(reply, tx_hash)
        except RetryElsewhere as error:
            failure = error
            continue
        known_replies += 1
        if mined is not None:
            by_hash[tx_hash] = mined
    if failure is not None and not known_replies:
        raise failure
    return by_hash
