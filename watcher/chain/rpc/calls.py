"""JSON-RPC calls as a node takes them. Pure."""

from collections.abc import Sequence
from typing import Any

from watcher.task import Header

Call = tuple[str, list[Any]]
# The address whose logs are asked for, or several.
Emitters = bytes | tuple[bytes, ...]
# The topics allowed at each position of a log; none named allows any.
Topics = Sequence[Sequence[bytes]]


def block(which: int | str) -> Call:
    """The block at a height or a tag, without its transactions."""
    return "eth_getBlockByNumber", [hex(which) if isinstance(which, int) else which, False]


def logs(address: Emitters, topics: Topics, first: int, last: int) -> Call:
    """Return the question for the logs of one or several addresses from block `first` to `last`."""
    wanted = [[octets(topic) for topic in choices] or None for choices in topics]
    where = {
        "address": octets(address) if isinstance(address, bytes) else [octets(one) for one in address],
        "topics": wanted,
        "fromBlock": hex(first),
        "toBlock": hex(last),
    }
    return "eth_getLogs", [where]


def view(data: bytes, to: bytes, at: Header, sender: bytes | None) -> Call:
    """eth_call on the state of one block; `sender` is who seems to call, None for nobody in particular."""
    played = {} if sender is None else {"from": octets(sender)}
    return "eth_call", [{**played, "to": octets(to), "data": octets(data)}, _pin(at)]


# NUMBER, PUSH1 0, MSTORE, PUSH1 32, PUSH1 0, RETURN: the code of a contract whose creation returns `block.number`.
_BLOCK_NUMBER = "0x4360005260206000f3"


def contract_block(at: Header) -> Call:
    """eth_call that creates a contract, and so needs none: returns `block.number` as contracts see it at `at`."""
    return "eth_call", [{"data": _BLOCK_NUMBER}, _pin(at)]


def storage(address: bytes, slot: bytes, at: Header) -> Call:
    """One word of an account's storage."""
    return "eth_getStorageAt", [octets(address), octets(slot), _pin(at)]


def code(address: bytes, at: Header) -> Call:
    """The code at an address."""
    return "eth_getCode", [octets(address), _pin(at)]


def octets(data: bytes) -> str:
    """Bytes as JSON-RPC writes them."""
    return "0x" + data.hex()


def _pin(at: Header) -> dict[str, Any]:
    """EIP-1898: this very block, as long as it is on the node's canonical chain."""
    return {"blockHash": octets(at.hash), "requireCanonical": True}
