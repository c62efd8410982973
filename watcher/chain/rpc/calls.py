"""JSON-RPC calls: method and parameters. Pure.

Source: the execution API, https://ethereum.github.io/execution-apis/.
"""

from collections.abc import Sequence
from typing import Any

from watcher.task import Header

Call = tuple[str, list[Any]]
# The address that emits the logs, 20 bytes, or several.
Emitters = bytes | tuple[bytes, ...]
# The topics allowed at each position of a log; none named allows any.
Topics = Sequence[Sequence[bytes]]


def block(which: int | str) -> Call:
    """Return the call for the block at a height or a tag, without its transactions."""
    return "eth_getBlockByNumber", [hex(which) if isinstance(which, int) else which, False]


def logs(address: Emitters, topics: Topics, first: int, last: int) -> Call:
    """Return the call for the logs of one or several addresses from block `first` to `last`."""
    choices = [[octets(topic) for topic in position] or None for position in topics]
    where = {
        "address": octets(address) if isinstance(address, bytes) else [octets(emitter) for emitter in address],
        "topics": choices,
        "fromBlock": hex(first),
        "toBlock": hex(last),
    }
    return "eth_getLogs", [where]


def view(data: bytes, to: bytes, at: Header, sender: bytes | None) -> Call:
    """Return an eth_call on the state of one block. `sender` is the caller's address, None for the node's default."""
    caller = {} if sender is None else {"from": octets(sender)}
    return "eth_call", [{**caller, "to": octets(to), "data": octets(data)}, _pin(at)]


# NUMBER, PUSH1 0, MSTORE, PUSH1 32, PUSH1 0, RETURN: the code of a contract whose creation returns `block.number`.
_BLOCK_NUMBER = "0x4360005260206000f3"


def contract_block(at: Header) -> Call:
    """Return an eth_call that creates a contract, whose reply is `block.number` as contracts see it at `at`."""
    return "eth_call", [{"data": _BLOCK_NUMBER}, _pin(at)]


def storage(address: bytes, slot: bytes, at: Header) -> Call:
    """Return the call for one word (32 bytes) of an account's storage."""
    return "eth_getStorageAt", [octets(address), octets(slot), _pin(at)]


def code(address: bytes, at: Header) -> Call:
    """Return the call for the code at an address."""
    return "eth_getCode", [octets(address), _pin(at)]


def octets(data: bytes) -> str:
    """Return bytes as JSON-RPC writes them: 0x and lower-case hex."""
    return "0x" + data.hex()


def _pin(at: Header) -> dict[str, Any]:
    """Return the block parameter of EIP-1898: this very block, if it is on the node's canonical chain."""
    return {"blockHash": octets(at.hash), "requireCanonical": True}
