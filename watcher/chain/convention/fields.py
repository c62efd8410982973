"""Single values of a log, checked on their way into a task or a response. Pure.

Invariant: a value that does not fit raises Quarantine, and nothing else.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from eth_hash.auto import keccak

from watcher.chain.convention.abi import Codec
from watcher.chain.convention.event import Event, Place, Values
from watcher.chain.rpc.replies import Log
from watcher.errors import FixConfiguration, Quarantine
from watcher.task import Sighting

# A quorum has a number of one byte, and a task names each quorum once.
_QUORUMS_LIMIT = 256
# Room for the data around a message: other fields, offsets, lengths, padding.
_OVERHEAD_BYTES = 4096
_UINT256_LIMIT = 2**256
# A block plus a window must fit a signed 64-bit column.
_UINT_LIMIT = 2**62
_PERCENT = 100


class Payload:
    """A message or an answer of one ABI type: the value in a log, and the bytes that stand for it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._codec = Codec(kind)

    def bytes_of(self, value: Any) -> bytes:
        """Return the bytes that stand for a value. Raises Quarantine for a string that has no UTF-8 form."""
        if self.kind == "bytes":
            return bytes(value)
        if self.kind == "string":
            try:
                return str(value).encode()
            except UnicodeEncodeError:
                raise Quarantine("the string is not UTF-8") from None
        return self._codec.encode([value])

    def value_of(self, data: bytes) -> Any:
        """Return the value that the bytes stand for. Raises Quarantine when they stand for none."""
        if self.kind == "bytes":
            return data
        if self.kind == "string":
            try:
                return data.decode()
            except UnicodeDecodeError:
                raise Quarantine("the answer must be UTF-8 text, because the contract takes a string") from None
        try:
            (value,), canonical = self._codec.decode(data)
        except Quarantine:
            value = canonical = None
        if canonical != data:
            raise Quarantine(f"the answer must be abi.encode of one {self.kind}; it is {len(data)} other bytes")
        return value


class Hash:
    """keccak256(abi.encode(values at the paths)); of all values that are not indexed where no path is given."""

    def __init__(self, event: Event, paths: Sequence[str]) -> None:
        places = [event.place(path) for path in paths]
        self._places = places
        self._codec = Codec(*(place.parameter.type for place in places))
        # The log's own data where the hash covers all of them: a second encoding costs more than the hash.
        self._is_data = not paths or list(paths) == event.plain_names

    def __call__(self, values: Values, canonical: bytes) -> bytes:
        if self._is_data:
            return keccak(canonical)
        return keccak(self._codec.encode([place.read(values) for place in self._places]))


def number_at(path: str | None, event: Event) -> Callable[[Values], int] | None:
    """Return the reader of a uint; None where there is no path. Raises FixConfiguration for another type."""
    if path is None:
        return None
    place = event.place(path)
    if not place.parameter.type.startswith("uint") or place.parameter.type.endswith("]"):
        raise FixConfiguration(f"{path} is {place.parameter.type}, and must be a uint")
    return place.read


def threshold_at(source: str | int, event: Event, scale: int) -> Callable[[Values], int]:
    """Return the reader of a threshold in percent.

    Parts of `scale` become percent, rounded up: 6667 of 10000 are 67, because 66 may be too little for the contract.

    Args:
        source: a path, or a number for every task.
        event: the event that the path refers to.
        scale: the number that stands for the whole stake, 100 for percent.
    """
    if isinstance(source, int):
        fixed = _percent(source, scale)
        return lambda _values: fixed
    read = number_at(source, event)
    assert read is not None, "source is a path"
    return lambda values: bounded_uint(_percent(read(values), scale))


def _percent(value: int, scale: int) -> int:
    return -(-value * _PERCENT // scale)


def quorums_at(source: str | Sequence[int], event: Event) -> Callable[[Values], Any]:
    """Return the reader of quorum numbers; `source` is a path, or the numbers for every task.

    Raises:
        FixConfiguration: the value at the path is neither bytes nor a list of uint.
    """
    if not isinstance(source, str):
        fixed = bytes(source)
        return lambda _values: fixed
    place = event.place(source)
    if not re.fullmatch(r"bytes\d*|uint\d+\[\d*\]", place.parameter.type):
        raise FixConfiguration(f"{source} is {place.parameter.type}, and must be bytes, or a list of uint")
    return place.read


def within_limit(data: bytes, message_limit_bytes: int) -> bytes:
    """Return the data of a log if a message within the limit can need so many bytes. Raises Quarantine."""
    if len(data) > 2 * message_limit_bytes + _OVERHEAD_BYTES:
        raise Quarantine(f"the log holds {len(data)} bytes, more than any message within the limit needs")
    return data


def index_of(place: Place, values: Values) -> int:
    """Return the index at `place`: a number or a 32-byte id as it is, any other value by its hash (keccak256).

    Raises:
        Quarantine: the number is no uint256.
    """
    value = place.read(values)
    if type(value) is int:
        if not 0 <= value < _UINT256_LIMIT:
            raise Quarantine("the task index is negative")
        return value
    if isinstance(value, bytes) and len(value) == 32:
        return int.from_bytes(value)
    return int.from_bytes(keccak(Codec(place.parameter.type).encode([value])))


def quorums(value: Any) -> bytes:
    """Return quorum numbers, one byte each. Raises Quarantine."""
    try:
        numbers = bytes(value)
    except (ValueError, TypeError):
        raise Quarantine("the quorum numbers are not bytes") from None
    if len(numbers) > _QUORUMS_LIMIT:
        raise Quarantine(f"the quorum numbers are too long ({len(numbers)} bytes)")
    return numbers


def bounded_uint(value: Any) -> int:
    """Return a block, a time or a threshold that a column of the ledger can hold. Raises Quarantine."""
    if type(value) is not int or not 0 <= value < _UINT_LIMIT:
        raise Quarantine("a block, a time or a threshold is out of range")
    return value


def deadline_or_none(value: Any) -> int | None:
    """Return a deadline, a block or a time in seconds; None for 0, a contract's "none", and for 2**62 and more."""
    return None if type(value) is int and (value == 0 or value >= _UINT_LIMIT) else bounded_uint(value)


def sighting(log: Log) -> Sighting:
    """Return the place of a log on the chain."""
    return Sighting(log.block_number, log.block_hash, log.tx_hash, log.log_index, log.block_time_s)
