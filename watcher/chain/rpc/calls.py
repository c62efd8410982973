"""JSON-RPC calls: method and parameters. Pure.

Source: the execution API, https://ethereum.github.io/execution-apis/.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from watcher.task import Header

Call = tuple[str, list[Any]]
# The address that emits the logs, 20 bytes, or several.
Emitters = bytes | tuple[bytes, ...]
# The topics allowed at each position of a log; none named allows any.
Topics = Sequence[Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a dry run, 20 bytes. With `next_block` its call runs in the block after the pinned one.

    That is the first block its transaction can be in; a node that cannot do so runs the call in the pinned block.
    """

    address: bytes
    next_block: bool = False


@dataclass(frozen=True, slots=True)
class LogQuery:
    """The logs to read from block `first` to `last`, both included.

    `topics0`: the admissible first topics. `after`: the block that the caller continues from, None without one.
    `topics`: the topics of one eth_getLogs each; empty: one call with `topics0`. Further logs of `topics0` in a reply
    are no fault.
    """

    emitters: Emitters
    topics0: Sequence[bytes]
    first: int
    last: int
    after: Header | None = None
    topics: Sequence[Topics] = ()


def block(which: int | str) -> Call:
    """Return the call for the block at a height or a tag, without its transactions."""
    return "eth_getBlockByNumber", [hex(which) if isinstance(which, int) else which, False]


def logs(address: Emitters, topics: Topics, first: int, last: int) -> Call:
    """Return the call for the logs of a range of blocks.

    Args:
        address: the emitter of the logs, or several.
        topics: the topics allowed at each position.
        first: the first block.
        last: the last block, included.
    """
    choices = [[octets(topic) for topic in position] or None for position in topics]
    where = {
        "address": octets(address) if isinstance(address, bytes) else [octets(emitter) for emitter in address],
        "topics": choices,
        "fromBlock": hex(first),
        "toBlock": hex(last),
    }
    return "eth_getLogs", [where]


def views(calls: Sequence[bytes], to: bytes, at: Header, caller: Caller | None) -> list[Call]:
    """Return an eth_call for each call data, all on the state of one block.

    Args:
        calls: the call data.
        to: the contract, 20 bytes.
        at: the block, pinned by its hash (EIP-1898).
        caller: the sender of a dry run; None: the sender that the node takes.
    """
    sender = {} if caller is None else {"from": octets(caller.address)}
    overrides = _next_block(at) if caller is not None and caller.next_block else []
    addressed, where = {**sender, "to": octets(to)}, [_pin(at), *overrides]
    return [("eth_call", [{**addressed, "data": octets(data)}, *where]) for data in calls]


# NUMBER, PUSH1 0, MSTORE, PUSH1 32, PUSH1 0, RETURN: the code of a contract whose creation returns `block.number`.
_BLOCK_NUMBER = "0x4360005260206000f3"


def contract_block(at: Header, *, next_block: bool = False) -> Call:
    """Return an eth_call that creates a contract, whose reply is `block.number` as contracts see it at `at`.

    With `next_block` it runs in the block after `at`.
    """
    return "eth_call", [{"data": _BLOCK_NUMBER}, _pin(at), *(_next_block(at) if next_block else [])]


def storage(address: bytes, slot: bytes, at: Header) -> Call:
    """Return the call for one word (32 bytes) of an account's storage.

    Args:
        address: the account, 20 bytes.
        slot: the storage slot, 32 bytes.
        at: the block, pinned by its hash (EIP-1898).
    """
    return "eth_getStorageAt", [octets(address), octets(slot), _pin(at)]


def code(address: bytes, at: Header) -> Call:
    """Return the call for the code at an address as of block `at`."""
    return "eth_getCode", [octets(address), _pin(at)]


def transaction(tx_hash: bytes) -> Call:
    """Return the call for a transaction."""
    return "eth_getTransactionByHash", [octets(tx_hash)]


def octets(data: bytes) -> str:
    """Return bytes as JSON-RPC writes them: 0x and lower-case hex."""
    return "0x" + data.hex()


def _next_block(at: Header) -> list[dict[str, Any]]:
    """Return the parameters of eth_call for no state overrides, and for number and time of the block after `at`.

    Source: geth's BlockOverrides, https://geth.ethereum.org/docs/interacting-with-geth/rpc/objects.
    """
    time = {"time": hex(at.timestamp_s + 1)} if at.timestamp_s else {}
    return [{}, {"number": hex(at.number + 1), **time}]


def _pin(at: Header) -> dict[str, Any]:
    """Return the block parameter of EIP-1898: this very block, if it is on the node's canonical chain."""
    return {"blockHash": octets(at.hash), "requireCanonical": True}
