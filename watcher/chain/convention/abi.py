"""The codec for contract data: `abi.encode` and back. Pure.

eth-abi is the authority (Contract ABI Specification, docs.soliditylang.org). Data in canonical form, which contracts
emit, takes a shorter path that is many times faster and gives the same values; all other data go through eth-abi, which
is loaded with the first of them: it costs 0.1 s of CPU and 8 MiB.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from eth_hash.auto import keccak

from watcher.chain.convention.abi_writer import NotPlain, Writer, sequence_writer
from watcher.chain.convention.kinds import members
from watcher.errors import Quarantine

if TYPE_CHECKING:
    from eth_abi.codec import ABICodec

_WORD = 32


def topic(signature: str) -> bytes:
    """Return the first topic of an event, 32 bytes, from its canonical signature such as `NewTask(uint32,bytes)`."""
    return keccak(signature.encode())


def encode_packed(types: Sequence[str], values: Sequence[Any]) -> bytes:
    """Return abi.encodePacked(values). Raises as `Codec.encode`."""
    from eth_abi.packed import encode_packed  # late, as eth-abi's codec

    return encode_packed(types, values)


@cache
def _eth_abi() -> "ABICodec":
    from eth_abi.codec import ABICodec  # late: the module's docstring says why
    from eth_abi.registry import registry

    return ABICodec(registry)


class _NotCanonical(Exception):
    """The shorter path does not apply."""


# (data, start, place, tail) -> (value, next tail). Reads the value with its head at `place`, in the tuple that starts
# at `start`. Its tail, if any, must begin at `tail`. The reader of the tuple has seen that the head lies within `data`.
_Reader = Callable[[bytes, int, int, int], tuple[Any, int]]


class Codec:
    """Values of fixed ABI types, as `abi.encode` lays them out. Built once, used for every log."""

    __slots__ = ("_head", "_read", "_write", "types")

    def __init__(self, *types: str, constants: Mapping[int, Any] = MappingProxyType({})) -> None:
        """`constants`: the values that are the same in every sequence, by their places; they are encoded once."""
        self.types = types
        readers = [_reader(kind) for kind in types]
        self._head = sum(size for size, _ in readers)
        self._read = _sequence(readers)
        self._write: Writer | None
        try:
            self._write = sequence_writer(types, constants)
        except NotPlain:
            self._write = None

    def encode(self, values: Sequence[Any]) -> bytes:
        """Return abi.encode(values). Raises eth-abi's errors, OverflowError or TypeError for values that do not fit."""
        if self._write is not None:
            try:
                return self._write(values)
            except NotPlain:
                pass
        return _eth_abi().encode(self.types, values)

    def decode(self, data: bytes) -> tuple[tuple[Any, ...], bytes]:
        """Return the values in `data`, and their canonical encoding.

        The encoding differs from `data` where offsets are unusual or bytes follow the last value.

        Raises:
            Quarantine: `data` does not hold such values.
        """
        try:
            values, end = self._read(data, 0, 0, self._head)
            if end == len(data):
                return values, data
        except _NotCanonical:
            pass
        try:
            values = _eth_abi().decode(self.types, data)
            return values, self.encode(values)
        except Exception as error:  # noqa: BLE001 - eth-abi raises its own errors, OverflowError and others
            raise Quarantine(f"the data is not abi.encode({', '.join(self.types)}): {type(error).__name__}") from None


def _reader(kind: str) -> tuple[int, _Reader]:
    """Return the size of a type's head in bytes, and its reader."""
    if kind.startswith("("):
        inner = [_reader(part) for part in members(kind)]
        size = sum(head for head, _ in inner)
        read = _sequence(inner)
        if _is_static(kind):
            # A static tuple lies in its parent's head and leaves the parent's tail alone.
            return size, lambda data, _start, place, tail: (read(data, place, place, tail)[0], tail)
        return _WORD, _dynamic(lambda data, at: read(data, at, at, at + size))
    if kind == "bytes":
        return _WORD, _dynamic(_octets)
    if kind == "bytes32":
        return _WORD, lambda data, _start, place, tail: (data[place : place + _WORD], tail)
    if match := re.fullmatch(r"uint(\d+)", kind):
        return _WORD, _unsigned(1 << int(match.group(1)))
    return _WORD, _unsupported


def _sequence(readers: Sequence[tuple[int, _Reader]]) -> _Reader:
    head = sum(size for size, _ in readers)

    def read(data: bytes, start: int, place: int, tail: int) -> tuple[Any, int]:
        if len(data) < place + head:
            raise _NotCanonical
        values = []
        for size, part in readers:
            value, tail = part(data, start, place, tail)
            values.append(value)
            place += size
        return tuple(values), tail

    return read


def _dynamic(body: Callable[[bytes, int], tuple[Any, int]]) -> _Reader:
    def read(data: bytes, start: int, place: int, tail: int) -> tuple[Any, int]:
        if int.from_bytes(data[place : place + _WORD]) != tail - start:
            raise _NotCanonical
        return body(data, tail)

    return read


def _unsigned(limit: int) -> _Reader:
    def read(data: bytes, _start: int, place: int, tail: int) -> tuple[Any, int]:
        value = int.from_bytes(data[place : place + _WORD])
        if value >= limit:
            raise _NotCanonical
        return value, tail

    return read


def _octets(data: bytes, at: int) -> tuple[bytes, int]:
    begin = at + _WORD
    end = begin + int.from_bytes(data[at:begin])
    padded = end + (begin - end) % _WORD
    if len(data) < padded or data[end:padded].strip(b"\0"):
        raise _NotCanonical
    return data[begin:end], padded


def _unsupported(_data: bytes, _start: int, _place: int, _tail: int) -> tuple[Any, int]:
    raise _NotCanonical


def _is_static(kind: str) -> bool:
    if kind.startswith("("):
        return all(map(_is_static, members(kind)))
    return bool(re.fullmatch(r"uint\d+|bytes32", kind))
