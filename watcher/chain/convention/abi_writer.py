"""The shorter path of `Codec.encode`: writers of values, put together once per type. Pure.

A writer takes the values that need no conversion and no rule of eth-abi's own: whole numbers, bytes, text, addresses in
lower case, flags, and tuples and lists of these. Any other value or type is `NotPlain`, and eth-abi decides.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

from watcher.chain.convention.kinds import members

_WORD = 32
_ARRAY = re.compile(r"(.+)\[(\d*)\]")
_ADDRESS = re.compile(r"0x[0-9a-f]{40}")
# Longer arrays of constant length would make a writer of as many parts.
_LENGTH_LIMIT = 1024

# Returns the encoding of one value: in its parent's head if the type is static, in its tail otherwise.
Writer = Callable[[Any], bytes]


class NotPlain(Exception):
    """The shorter path does not apply."""


def sequence_writer(kinds: Sequence[str], constants: Mapping[int, Any] = MappingProxyType({})) -> Writer:
    """Return a writer of values of these types, as `abi.encode` lays them out.

    The writer raises NotPlain for values that eth-abi has to check or convert. Raises NotPlain for a type unknown here.

    Args:
        kinds: the types.
        constants: the values that are the same in every sequence, by their places.
    """
    parts = [_part(kind) for kind in kinds]
    for place, value in constants.items():
        size, is_dynamic, write_one = parts[place]
        parts[place] = size, is_dynamic, _always(write_one(value))
    count, head_bytes = len(parts), sum(size for size, _, _ in parts)
    tails = [place for place, (_, is_dynamic, _) in enumerate(parts) if is_dynamic]
    writers = [write for _, _, write in parts]

    def write(values: Any) -> bytes:
        if type(values) not in (tuple, list) or len(values) != count:
            raise NotPlain
        encoded = [write(value) for write, value in zip(writers, values, strict=True)]
        tail_at = head_bytes
        for place in tails:  # the value goes to the end, and its offset into the head
            tail = encoded[place]
            encoded[place] = tail_at.to_bytes(_WORD)
            encoded.append(tail)
            tail_at += len(tail)
        return b"".join(encoded)

    return write


@cache
def _part(kind: str) -> tuple[int, bool, Writer]:
    """Return the size of a type's head in bytes, whether it has a tail, and its writer. Raises NotPlain."""
    if match := _ARRAY.fullmatch(kind):
        return _array(match.group(1), match.group(2))
    if kind.startswith("("):
        parts = [_part(inner) for inner in members(kind)]
        write = sequence_writer(members(kind))
        if any(is_dynamic for _, is_dynamic, _ in parts):
            return _WORD, True, write
        return sum(size for size, _, _ in parts), False, write
    if kind == "bytes":
        return _WORD, True, _octets
    if kind == "string":
        return _WORD, True, _text
    if kind == "address":
        return _WORD, False, _address
    if kind == "bool":
        return _WORD, False, _flag
    if match := re.fullmatch(r"uint(\d+)", kind):
        return _WORD, False, _unsigned(1 << int(match.group(1)))
    if match := re.fullmatch(r"bytes(\d+)", kind):
        return _WORD, False, _fixed_octets(int(match.group(1)))
    raise NotPlain


def _array(kind: str, length: str) -> tuple[int, bool, Writer]:
    size, is_dynamic, write = _part(kind)
    if length:
        count = int(length)
        if not 0 < count <= _LENGTH_LIMIT:
            raise NotPlain
        of_all = sequence_writer([kind] * count)
        return (_WORD, True, of_all) if is_dynamic else (size * count, False, of_all)

    def write_list(values: Any) -> bytes:
        if type(values) not in (tuple, list):
            raise NotPlain
        encoded = [write(value) for value in values]
        heads = [len(values).to_bytes(_WORD)]
        if is_dynamic:
            tail_at = _WORD * len(encoded)
            for item in encoded:
                heads.append(tail_at.to_bytes(_WORD))
                tail_at += len(item)
        return b"".join(heads + encoded)

    return _WORD, True, write_list


def _always(encoded: bytes) -> Writer:
    return lambda _value: encoded


def _unsigned(limit: int) -> Writer:
    def write(value: Any) -> bytes:
        if type(value) is not int or not 0 <= value < limit:
            raise NotPlain
        return value.to_bytes(_WORD)

    return write


def _fixed_octets(size: int) -> Writer:
    def write(value: Any) -> bytes:
        if type(value) is not bytes or len(value) != size:
            raise NotPlain
        return value.ljust(_WORD, b"\0")

    return write


def _flag(value: Any) -> bytes:
    if type(value) is not bool:
        raise NotPlain
    return int(value).to_bytes(_WORD)


def _address(value: Any) -> bytes:
    if type(value) is not str or not _ADDRESS.fullmatch(value):
        raise NotPlain
    return bytes.fromhex(value[2:]).rjust(_WORD, b"\0")


def _text(value: Any) -> bytes:
    if type(value) is not str:
        raise NotPlain
    try:
        return _octets(value.encode())
    except UnicodeEncodeError:
        raise NotPlain from None


def _octets(value: Any) -> bytes:
    if type(value) is not bytes:
        raise NotPlain
    return len(value).to_bytes(_WORD) + value + bytes(-len(value) % _WORD)
