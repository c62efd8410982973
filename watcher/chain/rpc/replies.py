"""The values that replies hold: logs, reverts, failed readings, numbers, bytes and times, each strictly checked. Pure.

Invariant of this file and of those that read replies with it (`envelope`, `block_reply`, `log_reply`, `view_reply`,
`transaction_reply`): for any bytes of a server they return a checked value or raise RetryElsewhere, and nothing else.
The caller adds the name of the server.
"""

import re
from binascii import unhexlify
from dataclasses import dataclass, field
from typing import Any

from watcher.errors import RetryElsewhere
from watcher.task import Header

_QUANTITY = re.compile(r"0[xX][0-9a-fA-F]{1,64}")
# Heights and positions go into signed 64-bit columns.
_SMALL_MAX = 2**63 - 1
_TIME_LIMIT_S = 2**40


@dataclass(frozen=True, slots=True)
class Log:
    """One log of the asked contract, well-formed but not decoded.

    `block_time_s` is the time of its block in seconds since 1970, 0 where the reply does not show it.
    """

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    block_hash: bytes
    tx_hash: bytes
    log_index: int
    block_time_s: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class LogPage:
    """All logs of a range of blocks, with the proof that the node had reached its end.

    `logs` are in chain order and without duplicates. `continuous` is False if the chain no longer holds the block that
    the caller continues from. `foreign` counts discarded logs outside the question, of a hostile or broken node.
    """

    logs: tuple[Log, ...]
    last: Header
    continuous: bool
    foreign: int


@dataclass(frozen=True, slots=True)
class Reverted:
    """An eth_call that failed in the contract: no such function, or a failed check.

    Each kind of node words it differently, so `message` does not count in comparisons.
    """

    message: str = field(compare=False)
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Unread:
    """A failed reading, which proves nothing about the contract or the chain.

    `reverted` is True if the contract's view reverts, False if the node fails (state not kept, a value of another
    form). Reasons differ from node to node, so they do not count in comparisons.
    """

    reason: str = field(compare=False)
    reverted: bool = False


def quantity(raw: Any, most: int = _SMALL_MAX) -> int:
    """Return a 0x number of at most `most`. Leading zeros and upper-case digits are allowed.

    Raises RetryElsewhere for any other value.
    """
    if not isinstance(raw, str) or not _QUANTITY.fullmatch(raw):
        raise RetryElsewhere("the answer holds something else where a 0x number belongs")
    value = int(raw, 16)
    if value > most:
        raise RetryElsewhere("the answer holds a number beyond its limit")
    return value


def octets(raw: Any, size: int | None = None) -> bytes:
    """Return 0x bytes, exactly `size` of them unless it is None.

    Raises RetryElsewhere for any other value.
    """
    # unhexlify, unlike bytes.fromhex, lets no white space pass.
    try:
        if raw[:2] == "0x" and (size is None or len(raw) == 2 + 2 * size):
            return unhexlify(raw[2:])
    except (ValueError, TypeError, KeyError):
        pass
    raise RetryElsewhere("the answer holds something else where 0x bytes of a certain length belong")


def time_s(raw: Any) -> int:
    """Return a block's timestamp (s), 0 (unknown) for nonsense: the block is useful without it."""
    try:
        return quantity(raw, _TIME_LIMIT_S)
    except RetryElsewhere:
        return 0
