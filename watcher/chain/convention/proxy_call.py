"""The check that the proxy API builds the call a convention describes. Pure.

The proxy takes block, message, index and answer, and always builds the wizard's structs from them. For a contract of
another shape it accepts the answer, sends other bytes, and the contract refuses them. This file encodes a sample task
with a different value in each place both ways and compares the bytes, which also finds swapped fields of one type.
"""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from eth_hash.auto import keccak

from watcher.chain.convention import kinds
from watcher.chain.convention.abi import Codec, topic
from watcher.chain.convention.convention import Convention
from watcher.chain.convention.event import Event
from watcher.chain.convention.schema import NON_SIGNERS
from watcher.chain.rpc.replies import Log
from watcher.errors import Quarantine
from watcher.task import Call, Task

_TASK = "(uint32,uint32,bytes,bytes)"
_RESPONSE = "(uint32,bytes)"
_ANSWER = b"an answer"
# The first sample value. The values stay below 100 and 256, valid percentages and quorum numbers.
_FIRST = 11


def proxy_builds(convention: Convention) -> bool:
    """Return True if the proxy's call for a task of this convention is the convention's own call."""
    if not convention.can_answer or convention.answer.kind != "bytes":
        return False
    try:
        log = _log(convention.created)
        task = convention.decode_task(log, 1, None)
        return _has_wizard_types(convention) and _is_wizard_call(convention.call(task, _ANSWER), task)
    except Quarantine:
        return False


def _has_wizard_types(convention: Convention) -> bool:
    """Return True if the function takes the wizard's types: other types may give the same bytes after the selector."""
    signature = f"{convention.method}({_TASK},{_RESPONSE},{NON_SIGNERS})"
    return convention.selector() == topic(signature)[:4]


def _is_wizard_call(call: Call, task: Task) -> bool:
    struct = (task.created_block, task.quorum_threshold, task.message, task.quorum_numbers)
    response = (task.task_index, _ANSWER)
    return (
        call.params_raw == Codec(_TASK, _RESPONSE).encode([struct, response])
        and call.sig_hash == keccak(Codec(_RESPONSE).encode([response]))
        and call.reference_block == task.created_block
    )


def _log(event: Event) -> Log:
    """Return a log of the event with a different value in every place."""
    numbers = count(_FIRST)
    topics, plain, types = [event.topic], [], []
    for parameter in event.signature.inputs:
        value = _value(parameter.type, numbers)
        if parameter.indexed:
            topics.append(keccak(b"") if parameter.is_hashed else Codec(parameter.type).encode([value]))
        else:
            plain.append(value)
            types.append(parameter.type)
    return Log(bytes(20), tuple(topics), Codec(*types).encode(plain), next(numbers), bytes(32), bytes(32), 0)


def _value(kind: str, numbers: Iterator[int]) -> Any:
    if items := kinds.array(kind):
        return [_value(items[0], numbers) for _ in range(items[1] or 1)]
    if members := kinds.members(kind):
        return tuple(_value(member, numbers) for member in members)
    name, size = kinds.sized(kind)
    number = next(numbers)
    makers: dict[str, Callable[[], Any]] = {
        "uint": lambda: number,
        "int": lambda: number,
        "bool": lambda: True,
        "string": lambda: f"text {number}",
        "address": lambda: "0x" + number.to_bytes(20).hex(),
        "bytes": lambda: number.to_bytes(size or 1),
    }
    return makers[name]()
