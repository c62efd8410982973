"""The decoding of ABI data, as Solidity's `abi.decode` reads it (ABI coder v2, docs.soliditylang.org).

As there, offsets may have any order, and bytes may follow the last value or stand in the padding of `bytes`. Numbers
beyond their type, and `bool` or `address` with other bits set, are errors. Standard library only. Invariant: the work
is linear in the length of the data, because no byte is read twice.
"""

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

_ADDRESS_BYTES = 20


class _Data:
    """Bytes, and how many of them are still to be read."""

    __slots__ = ("_left", "octets", "size")

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.size = self._left = len(octets)

    def word(self, at: int) -> bytes:
        return self.part(at, WORD_BYTES)

    def part(self, at: int, size: int) -> bytes:
        if at + size > self.size:
            raise Misfit(f"the data ends at byte {self.size}", at)
        self._left -= size
        if self._left < 0:
            raise Misfit("its offsets overlap, so that bytes are read twice", at)
        return self.octets[at : at + size]


def decode(kind: Tuple, data: bytes) -> tuple[object, ...]:
    """Return the values in `abi.encode(...)` of the members of a tuple.

    Numbers are int, addresses text with the checksum of EIP-55, bytes are bytes, arrays lists, tuples as
    `Tuple.make` returns them.

    Raises:
        Misfit: the data holds no such values.
    """
    value = _body(kind, _Data(data), 0)
    assert isinstance(value, tuple)
    return value


def _value(kind: AbiType, data: _Data, begin: int, at: int) -> object:
    """Return the value with its head at `at`, in the tuple or array whose offsets count from `begin`."""
    if not is_dynamic(kind):
        return _body(kind, data, at)
    offset = int.from_bytes(data.word(at))
    if begin + offset > data.size:
        raise Misfit(f"its offset {_amount(offset)} leads beyond the data, which ends at byte {data.size}", at)
    return _body(kind, data, begin + offset)


def _body(kind: AbiType, data: _Data, at: int) -> object:
    """Return the value that lies at `at`."""
    match kind:
        case Bytes():
            return _octets(kind, data, at)
        case Array():
            return _items(kind, data, at)
        case Tuple():
            return _members(kind, data, at)
        case _:
            return _word(kind, data.word(at), at)


def _word(kind: Number | Address | Bool | FixedBytes, word: bytes, at: int) -> object:
    match kind:
        case Number():
            return _number(kind, word, at)
        case Address():
            if any(word[:-_ADDRESS_BYTES]):
                raise Misfit("expected address, and its upper 12 bytes are not zero", at)
            return checksummed(word[-_ADDRESS_BYTES:])
        case Bool():
            if int.from_bytes(word) > 1:
                raise Misfit("expected bool, and it is neither 0 nor 1", at)
            return word[-1] == 1
        case FixedBytes(size):
            if any(word[size:]):
                raise Misfit(f"expected {kind}, and the bytes behind it are not zero", at)
            return word[:size]


def _number(kind: Number, word: bytes, at: int) -> int:
    value = int.from_bytes(word, signed=kind.is_signed)
    if not kind.least <= value <= kind.greatest:
        raise Misfit(f"expected {kind}, and its value is out of range", at)
    return value


def _octets(kind: Bytes, data: _Data, at: int) -> bytes | str:
    size = int.from_bytes(data.word(at))
    if size > data.size - at - WORD_BYTES:
        raise Misfit(f"its length is {_amount(size)} bytes, and the data ends at byte {data.size}", at)
    content = data.part(at + WORD_BYTES, size)
    if not kind.is_text:
        return content
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Misfit("expected string, and it is not UTF-8", at + WORD_BYTES + error.start) from None


def _items(kind: Array, data: _Data, at: int) -> list[object]:
    length, begin = kind.length, at
    if length is None:
        length, begin = int.from_bytes(data.word(at)), at + WORD_BYTES
    head = head_bytes(kind.item)
    if length * head > data.size - begin:
        raise Misfit(f"it has {_amount(length)} items, and the data ends at byte {data.size}", at)
    items: list[object] = []
    for position in range(length):
        try:
            items.append(_value(kind.item, data, begin, begin + position * head))
        except Misfit as misfit:
            raise misfit.within(f"[{position}]") from None
    return items


def _members(kind: Tuple, data: _Data, at: int) -> tuple[object, ...]:
    values: list[object] = []
    place = at
    for position, member in enumerate(kind.members):
        try:
            values.append(_value(member.type, data, at, place))
        except Misfit as misfit:
            raise misfit.within(step_of(kind, position)) from None
        place += head_bytes(member.type)
    return kind.make(values)


def _amount(number: int) -> str:
    """Return a number for people, short also where it is hostile."""
    return str(number) if number < 1 << 64 else f"above 2**{number.bit_length() - 1}"


def checksummed(address: bytes) -> str:
    """Return 20 bytes as text with the checksum of EIP-55."""
    from eth_hash.auto import keccak  # late: it costs 70 ms, and most types hold no address

    digits = address.hex()
    digest = keccak(digits.encode()).hex()
    return "0x" + "".join(char.upper() if nibble > "7" else char for char, nibble in zip(digits, digest, strict=False))
