"""Single values of a log, checked on their way into a task or a response. Pure.

Invariant: what does not fit raises Quarantine, and nothing else.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from eth_utils.crypto import keccak

from watcher.chain.convention.abi import Codec
from watcher.chain.convention.event import Event, Place, Values
from watcher.chain.rpc.replies import Log
from watcher.errors import FixConfiguration, Quarantine
from watcher.task import Sighting


class Payload:
    """One ABI type, both ways."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._codec = Codec(kind)

    def bytes_of(self, value: Any) -> bytes:
        """The bytes that stand for a value. Raises Quarantine for text that is no text."""
        if self.kind == "bytes":
            return bytes(value)
        if self.kind == "string":
            try:
                return str(value).encode()
            except UnicodeEncodeError:
                raise Quarantine("the string is not UTF-8") from None
        return self._codec.encode([value])

    def value_of(self, data: bytes) -> Any:
        """The value that the bytes stand for. Raises Quarantine when they stand for none."""
        if self.kind == "bytes":
            return data
        if self.kind == "string":
            try:
                return data.decode()
            except UnicodeDecodeError:
                raise Quarantine("the answer must be UTF-8 text, for the contract takes a string") from None
        try:
            (value,), canonical = self._codec.decode(data)
        except Quarantine:
            value = canonical = None
        if canonical != data:
            raise Quarantine(f"the answer must be abi.encode of one {self.kind}; it is {len(data)} other bytes")
        return value


# Quorums are addressed by one byte each, and no quorum twice.
_QUORUMS_LIMIT = 256
# Room for what stands around the message: other fields, offsets, lengths, padding.
_OVERHEAD_BYTES = 4096
_UINT256_LIMIT = 2**256
# A window is added to a block, and the sum must still be what a database's integer holds.
_NATURAL_LIMIT = 2**62
_PERCENT = 100


class Hash:
    """keccak256(abi.encode(values at the paths)); of everything in the log where no path is given."""

    def __init__(self, event: Event, paths: Sequence[str]) -> None:
        places = [event.place(path) for path in paths]
        self._places = places
        self._codec = Codec(*(place.parameter.type for place in places))
        # The log's own data, where they are what is hashed: encoding them again would cost more than the hash.
        self._is_data = not paths or list(paths) == event.plain_names

    def __call__(self, values: Values, canonical: bytes) -> bytes:
        if self._is_data:
            return keccak(canonical)
        return keccak(self._codec.encode([place.read(values) for place in self._places]))


def number_at(path: str | None, event: Event) -> Callable[[Values], int] | None:
    """How to read a number, None where there is no path. Raises FixConfiguration for a value of another type."""
    if path is None:
        return None
    place = event.place(path)
    if not place.parameter.type.startswith("uint") or place.parameter.type.endswith("]"):
        raise FixConfiguration(f"{path} is {place.parameter.type}, and must be a uint")
    return place.read


def threshold_at(given: str | int, event: Event, scale: int) -> Callable[[Values], int]:
    """How to read a threshold in percent, which is at a path or the same for every task.

    Parts of `scale` become percent, rounded up: 6667 of 10000 are 67, for 66 may be too little for the contract.
    """
    if isinstance(given, int):
        fixed = _percent(given, scale)
        return lambda _values: fixed
    read = number_at(given, event)
    assert read is not None, "there is a path"
    return lambda values: natural(_percent(read(values), scale))


def _percent(value: int, scale: int) -> int:
    return -(-value * _PERCENT // scale)


def quorums_at(given: str | Sequence[int], event: Event) -> Callable[[Values], Any]:
    """How to read quorum numbers, which are at a path or the same for every task."""
    if not isinstance(given, str):
        fixed = bytes(given)
        return lambda _values: fixed
    place = event.place(given)
    if not re.fullmatch(r"bytes\d*|uint\d+\[\d*\]", place.parameter.type):
        raise FixConfiguration(f"{given} is {place.parameter.type}, and must be bytes, or a list of uint")
    return place.read


def within_limit(data: bytes, message_limit_bytes: int) -> bytes:
    """The data of a log, if they can be those of a message within the limit."""
    if len(data) > 2 * message_limit_bytes + _OVERHEAD_BYTES:
        raise Quarantine(f"the log holds {len(data)} bytes, more than any message within the limit needs")
    return data


def index_of(place: Place, values: Values) -> int:
    """Numbers and 32-byte ids as they are; whatever else names a task, by its hash."""
    value = place.read(values)
    if type(value) is int:
        if not 0 <= value < _UINT256_LIMIT:
            raise Quarantine("the task index is negative")
        return value
    if isinstance(value, bytes) and len(value) == 32:
        return int.from_bytes(value)
    return int.from_bytes(keccak(Codec(place.parameter.type).encode([value])))


def quorums(value: Any) -> bytes:
    """Quorum numbers, a byte each."""
    try:
        numbers = bytes(value)
    except (ValueError, TypeError):
        raise Quarantine("the quorum numbers are not bytes") from None
    if len(numbers) > _QUORUMS_LIMIT:
        raise Quarantine(f"the quorum numbers are too long ({len(numbers)} bytes)")
    return numbers


def natural(value: Any) -> int:
    """A number that a database's integer holds."""
    if type(value) is not int or not 0 <= value < _NATURAL_LIMIT:
        raise Quarantine("a block, a time or a threshold is beyond all measure")
    return value


def until(value: Any) -> int | None:
    """A deadline; None for 0, which contracts keep for "none", and for one beyond all time to come."""
    return None if type(value) is int and (value == 0 or value >= _NATURAL_LIMIT) else natural(value)


def sighting(log: Log) -> Sighting:
    """Where the log was seen."""
    return Sighting(log.block_number, log.block_hash, log.tx_hash, log.log_index)
