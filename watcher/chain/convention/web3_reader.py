"""A second reader of task logs, independent of our decoder: the contract events of web3.

For `watcher prove` and `watcher check`, which compare its values with ours. The daemon never imports this file: web3
costs half a second of CPU and 11 MiB. The ABI is made from the event's signature, so that any convention can be read.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from watcher.chain.convention.event import Event, Values
from watcher.chain.convention.signature import Parameter
from watcher.errors import Quarantine
from watcher.task import Task

_WORD = 32


class Web3Reader:
    """The logs of one event, as web3 reads them."""

    def __init__(self, event: Event) -> None:
        self._event = event
        self._decoder = _decoder(event)

    def agrees(self, task: Task) -> bool | None:
        """Return True if web3 reads the values that we read in the task's log; None where web3 reads no values."""
        try:
            ours, data = self._event.unpack(task.log)
        except Quarantine:
            return None  # the log stored with the task is damaged, which is reported as a mismatch
        topics = [task.log[at : at + _WORD] for at in range(0, len(task.log) - len(data), _WORD)]
        theirs = self._values(task, topics, data)
        return None if theirs is None else theirs == _plain(ours)

    def _values(self, task: Task, topics: Sequence[bytes], data: bytes) -> Values | None:
        log = {
            "address": "0x" + task.task_manager.hex(),
            "topics": topics,
            "data": data,
            "blockNumber": task.seen_at.block_number,
            "blockHash": task.seen_at.block_hash,
            "transactionHash": task.seen_at.tx_hash,
            "transactionIndex": 0,
            "logIndex": task.seen_at.log_index,
        }
        try:
            args = self._decoder.process_log(log)["args"]  # the indexed ones first, whatever their position
            values: Values = _plain([args[_name(at)] for at in range(len(args))])
        except Exception:  # noqa: BLE001 - web3 and eth-abi raise their own errors and any other for strange data
            return None
        return values


def _decoder(event: Event) -> Any:
    """Return web3's object for the event."""
    limit = sys.getrecursionlimit()
    from web3 import Web3

    sys.setrecursionlimit(limit)  # py_ecc raises it on import, after which deep JSON could overflow the C stack
    signature = event.signature
    inputs = [_abi(_name(at), parameter) for at, parameter in enumerate(signature.inputs)]
    contract = Web3().eth.contract(
        abi=[{"type": "event", "name": signature.name, "anonymous": False, "inputs": inputs}]
    )
    return contract.events[signature.name]()


def _name(at: int) -> str:
    """Return a name for the value at a position: web3 wants one for each, and a signature may have none."""
    return f"value{at}"


def _abi(name: str, parameter: Parameter) -> dict[str, Any]:
    """Return the entry of a parameter in ABI JSON."""
    kind = parameter.type
    if parameter.components:
        kind = "tuple" + kind[kind.rindex(")") + 1 :]
    return {
        "name": name,
        "type": kind,
        "indexed": parameter.indexed,
        "components": [_abi(f"{name}_{at}", component) for at, component in enumerate(parameter.components)],
    }


def _plain(value: Any) -> Any:
    """Return nested values as tuples in order, and addresses in lower case."""
    if isinstance(value, Mapping):
        return tuple(_plain(item) for item in value.values())
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, str) and value[:2] == "0x":
        return value.lower()
    return bytes(value) if isinstance(value, bytes) else value
