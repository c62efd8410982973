"""The encoding of Python values, as Solidity's `abi.encode` lays them out. Standard library only.

Invariant: no value is converted to another type, because the bytes are signed.
"""

import dataclasses
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from watcher.abi.decode import checksummed
from watcher.abi.types import (
    WORD_BYTES,
    AbiType,
    Address,
    Array,
    Bool,
    Bytes,
    FixedBytes,
    Misfit,
    Number,
    Tuple,
    head_bytes,
    is_dynamic,
    step_of,
)
from watcher.text import clean

_SHOWN_CHARS = 60
_NUMBER_BITS = 512


def encode(kind: AbiType, value: Any) -> bytes:
    """Return the encoding of one value, without the offset that a dynamic one has in a tuple.

    Whole numbers are int, or an object that gives one exactly (`__index__`), but no bool. Addresses are text, whose
    checksum counts where the case is mixed, or 20 bytes. `bytesN` takes N bytes. Arrays are lists or tuples; tuples
    are tuples, lists, or mappings and dataclasses with the names of the members.

    Raises:
        Misfit: the value is of another type.
    """
    match kind:
        case Bytes():
            content = _octets(kind, value)
            return len(content).to_bytes(WORD_BYTES) + content + bytes(-len(content) % WORD_BYTES)
        case Array(item, length):
            items = _listed(kind, value)
            if length is not None and len(items) != length:
                raise Misfit(f"expected {_name(kind)}, got {len(items)} items")
            body = _sequence([item] * len(items), items, [f"[{position}]" for position in range(len(items))])
            return body if length is not None else len(items).to_bytes(WORD_BYTES) + body
        case Tuple(members):
            steps = [step_of(kind, position) for position in range(len(members))]
            return _sequence([member.type for member in members], _values(kind, value), steps)
        case _:
            return _word(kind, value)


def _word(kind: Number | Bool | Address | FixedBytes, value: Any) -> bytes:
    match kind:
        case Number():
            return _number(kind, value)
        case Address():
            return _address(value).rjust(WORD_BYTES, b"\0")
        case Bool() if type(value) is bool:
            return value.to_bytes(WORD_BYTES)
        case FixedBytes(size) if isinstance(value, bytes) and len(value) == size:
            return bytes(value).ljust(WORD_BYTES, b"\0")
        case _:
            raise _unlike(kind, value)


def _sequence(kinds: Sequence[AbiType], values: Sequence[Any], steps: Sequence[str]) -> bytes:
    """Return the heads of values, with the dynamic ones behind them."""
    parts: list[tuple[AbiType, bytes]] = []
    for kind, value, step in zip(kinds, values, steps, strict=True):
        try:
            parts.append((kind, encode(kind, value)))
        except Misfit as misfit:
            raise misfit.within(step) from None
    offset = sum(head_bytes(kind) for kind in kinds)
    heads, tails = [], []
    for kind, part in parts:
        if is_dynamic(kind):
            heads.append(offset.to_bytes(WORD_BYTES))
            tails.append(part)
            offset += len(part)
        else:
            heads.append(part)
    return b"".join(heads + tails)


def _number(kind: Number, value: Any) -> bytes:
    if isinstance(value, bool):
        raise _unlike(kind, value)
    try:
        number = operator.index(value)
    except TypeError:
        raise _unlike(kind, value) from None
    if not kind.least <= number <= kind.greatest:
        raise Misfit(f"expected {kind} ({_range(kind)}), got {_kind_of(number)}")
    return number.to_bytes(WORD_BYTES, signed=kind.is_signed)


def _range(kind: Number) -> str:
    if kind.bits <= 32:
        return f"{kind.least} to {kind.greatest}"
    return f"{'-2**' + str(kind.bits - 1) if kind.is_signed else '0'} to 2**{kind.bits - kind.is_signed} - 1"


def _address(value: Any) -> bytes:
    if isinstance(value, bytes) and len(value) == 20:
        return bytes(value)
    if isinstance(value, str) and len(value) == 42 and value[:2] == "0x":
        try:
            address = bytes.fromhex(value[2:])
        except ValueError:
            raise _unlike(Address(), value) from None
        if len(address) == 20:
            digits = value[2:]
            if digits not in (digits.lower(), digits.upper()) and value != checksummed(address):
                raise Misfit(f"expected address, and the checksum of {value} is wrong (EIP-55)")
            return address
    raise _unlike(Address(), value)


def _octets(kind: Bytes, value: Any) -> bytes:
    if kind.is_text and isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise Misfit("expected string, got text that UTF-8 cannot hold") from None
    if kind.is_text or not isinstance(value, bytes):
        raise _unlike(kind, value)
    return bytes(value)


def _listed(kind: AbiType, value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise _unlike(kind, value)
    return value


def _values(kind: Tuple, value: Any) -> Sequence[Any]:
    """Return the members of a tuple's value in their order."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return _named(kind, value)
    values = _listed(kind, value)
    if len(values) != len(kind.members):
        raise Misfit(f"expected {_name(kind)}, got {len(values)} values")
    return values


def _named(kind: Tuple, value: Mapping[Any, Any]) -> Sequence[Any]:
    names = [member.name or attribute for member, attribute in zip(kind.members, kind.attributes, strict=True)]
    for key in value:
        if key not in names and key not in kind.attributes:
            raise Misfit(f"expected {_name(kind)}, which has no member {_kind_of(key)}")
    keys = [name if name in value else attribute for name, attribute in zip(names, kind.attributes, strict=True)]
    missing = [name for name, key in zip(names, keys, strict=True) if key not in value]
    if missing:
        raise Misfit(f"expected {_name(kind)}, and {missing[0]} is missing")
    return [value[key] for key in keys]


def _unlike(kind: AbiType, value: Any) -> Misfit:
    return Misfit(f"expected {_name(kind)}, got {_kind_of(value)}")


def _name(kind: AbiType) -> str:
    return clean(str(kind), 2 * _SHOWN_CHARS)


def _kind_of(value: Any) -> str:
    """Return a value of the author's for a message, without a call of its own code."""
    match value:
        case None:
            return "nothing (None)"
        case bool():
            return str(value)
        case int():
            return str(int(value)) if value.bit_length() <= _NUMBER_BITS else "a number that is far too big"
        case float():
            return f"the float {float(value)!r}"
        case str():
            return repr(str.__str__(value[:_SHOWN_CHARS])) + ("..." if len(value) > _SHOWN_CHARS else "")
        case bytes():
            return f"{len(value)} bytes"
        case list() | tuple():
            return f"a {'list' if isinstance(value, list) else 'tuple'} of {len(value)}"
        case _:
            return f"a value of type {clean(type(value).__name__, _SHOWN_CHARS)}"
