"""A task made up for a contract that has none yet: a log of its event with plain values, read like any other. Pure."""

from typing import Any

from eth_abi.grammar import TupleType, parse

from watcher.chain.contract import TaskManager
from watcher.chain.convention.abi import Codec
from watcher.chain.rpc.replies import Log
from watcher.errors import Quarantine
from watcher.task import Task

# 32 bytes, which most messages are made of, and not zero, which some hooks take for nothing.
_WORD = (2).to_bytes(32)


def sample_task(contract: TaskManager, chain_id: int, window: int | None = None) -> Task | None:
    """A task with the number 2, or the text "sample", wherever the event has room; None where that cannot be."""
    event = contract.convention.created
    topics, plain, types = [event.topic], [], []
    for one in event.signature.inputs:
        if one.indexed:
            topics.append(_WORD if one.is_hashed else Codec(one.type).encode([_value(one.type)]))
        else:
            plain.append(_value(one.type))
            types.append(one.type)
    log = Log(contract.address, tuple(topics), Codec(*types).encode(plain), 1, bytes(32), bytes(32), 0)
    try:
        return contract.convention.decode_task(log, chain_id, window)
    except Quarantine:
        return None


def _value(kind: str) -> Any:
    parsed = parse(kind)
    if parsed.arrlist:
        length = parsed.arrlist[-1]
        return [_value(kind[: kind.rindex("[")])] * (length[0] if length else 0)
    if isinstance(parsed, TupleType):
        return tuple(_value(one.to_type_str()) for one in parsed.components)
    plain = {
        "bytes": _WORD,
        "string": "sample",
        "address": "0x" + "00" * 19 + "02",
        "bool": False,
        "function": bytes(24),
    }
    if parsed.base in ("uint", "int"):
        return 2
    return bytes(int(parsed.sub)) if parsed.base == "bytes" and parsed.sub else plain.get(parsed.base)
