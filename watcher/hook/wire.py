"""The form of the messages between daemon and worker: JSON objects, each after its length (4 bytes, big-endian). Pure.

Invariant: bytes of a worker are hostile; for any bytes every reader here returns a value of the right type or raises
BrokenMessage. Byte strings travel as hex. The worker trusts the daemon, so its reader checks less.
"""

import json
import struct
from collections.abc import Callable, Mapping
from typing import Any

from watcher import files as watcher_files
from watcher.errors import WatcherError

_BYTES = "0x"
_PLAIN = frozenset({int, str, bool, type(None)})


def to_json(value: Any) -> Any:
    """Return the JSON form of a value: bytes become `{"0x": hex}`."""
    if isinstance(value, bytes):
        return {_BYTES: value.hex()}
    if isinstance(value, Mapping):
        return {name: item if type(item) in _PLAIN else to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [item if type(item) in _PLAIN else to_json(item) for item in value]
    return value


def _value(members: dict[str, Any]) -> object:
    """Return the value of an object: `{"0x": hex}` stands for bytes."""
    return bytes.fromhex(members[_BYTES]) if len(members) == 1 and _BYTES in members else members


_ENCODER = json.JSONEncoder(separators=(",", ":"))
_DECODER = json.JSONDecoder(object_hook=_value)

LENGTH = struct.Struct(">I")
# Exit codes of a worker that has lost its channel (os.EX_OSERR), or has no memory left for a reply.
CHANNEL_LOST = 71
NO_MEMORY = 72
Fields = Mapping[str, object]


class BrokenMessage(WatcherError):
    """The message does not follow the protocol; the process that sent it must not be used again."""


def pack(fields: Fields) -> bytes:
    """Return the bytes of a message."""
    return framed(_ENCODER.encode(fields).encode())


def framed(body: bytes) -> bytes:
    """Return the body of a message behind its length."""
    return LENGTH.pack(len(body)) + body


def unpack(body: bytes) -> Fields:
    """Return the fields of a message's body. Raises BrokenMessage if it is no JSON object."""
    try:
        fields = watcher_files.parse(body)
    except ValueError:
        raise BrokenMessage("not JSON") from None
    if not isinstance(fields, dict):
        raise BrokenMessage("not an object")
    return fields


def unpack_trusted(body: bytes) -> Fields:
    """Return the fields of a message of the daemon, with its byte strings. Raises BrokenMessage if it is corrupt."""
    try:
        fields = _DECODER.decode(body.decode())
    except (ValueError, TypeError):
        raise BrokenMessage("not JSON") from None
    if not isinstance(fields, dict):
        raise BrokenMessage("not an object")
    return fields


def length(head: bytes | bytearray, limit_bytes: int) -> int:
    """Return the body's length from a message's first four bytes. Raises BrokenMessage beyond the limit."""
    (size,) = LENGTH.unpack(head)
    if size > limit_bytes:
        raise BrokenMessage(f"a message of {size:,} bytes; the limit is {limit_bytes:,}")
    return int(size)


class Splitter:
    """Splits the bytes of a channel into messages, each of at most `limit_bytes`."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    def add(self, data: bytes) -> None:
        self._data += data

    def next_body(self) -> bytes | None:
        """Return the body of the next message, None until all of it is there. Raises BrokenMessage beyond the limit."""
        if len(self._data) < LENGTH.size:
            return None
        end = LENGTH.size + length(self._data[: LENGTH.size], self._limit_bytes)
        if len(self._data) < end:
            return None
        body = bytes(self._data[LENGTH.size : end])
        del self._data[:end]
        return body


def integer(fields: Fields, key: str) -> int:
    value = fields.get(key)
    if type(value) is not int:
        raise BrokenMessage(f"{key} is not a whole number")
    return value


def text(fields: Fields, key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise BrokenMessage(f"{key} is not text")
    return value


def byte_string(fields: Fields, key: str) -> bytes:
    digits = text(fields, key)
    try:
        value = bytes.fromhex(digits)
    except ValueError:
        raise BrokenMessage(f"{key} is not hex") from None
    if len(digits) != 2 * len(value):  # fromhex ignores white space.
        raise BrokenMessage(f"{key} is not hex")
    return value


def texts(fields: Fields, key: str) -> tuple[str, ...]:
    values = fields.get(key)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise BrokenMessage(f"{key} is not a list of texts")
    return tuple(values)


def flag(fields: Fields, key: str) -> bool:
    value = fields.get(key)
    if not isinstance(value, bool):
        raise BrokenMessage(f"{key} is not true or false")
    return value


def integer_or_none(fields: Fields, key: str) -> int | None:
    return None if fields.get(key) is None else integer(fields, key)


# The reader of a plain field, by its type.
READERS: Mapping[object, Callable[[Fields, str], object]] = {
    int: integer,
    int | None: integer_or_none,
    bytes: byte_string,
    str: text,
    bool: flag,
    tuple[str, ...]: texts,
}
