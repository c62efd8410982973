"""The values of an event as JSON that a worker reads back as they were. Pure.

Numbers, truth and text are themselves, lists are lists, structs are objects; bytes are an object with the one key
`0x`, which no parameter of an event can be called.
"""

from collections.abc import Mapping
from typing import Any

_BYTES = "0x"


def to_json(value: Any) -> Any:
    """What stands for the value in a frame."""
    if isinstance(value, bytes):
        return {_BYTES: value.hex()}
    if isinstance(value, Mapping):
        return {name: to_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(one) for one in value]
    return value


def from_json(value: Any) -> Any:
    """The value again. Raises ValueError for hex that is none."""
    if isinstance(value, dict):
        if value.keys() == {_BYTES}:
            return bytes.fromhex(value[_BYTES])
        return {name: from_json(one) for name, one in value.items()}
    if isinstance(value, list):
        return [from_json(one) for one in value]
    return value
