"""The part of Protocol Buffers that a performer's messages need: fields of bytes and numbers. Pure.

https://protobuf.dev/programming-guides/encoding. Invariant: for any bytes `read_fields` returns fields or raises
ValueError.
"""

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VARINT_LIMIT_BYTES = 10


def bytes_field(number: int, value: bytes) -> bytes:
    """Return a field of bytes; `number` is 15 at most."""
    return bytes([number << 3 | _BYTES]) + _varint(len(value)) + value


def read_fields(body: bytes) -> dict[int, bytes | int]:
    """Return the last value of each field by its number. Raises ValueError for anything but a message."""
    return dict(_fields(body))


def _fields(body: bytes) -> Iterator[tuple[int, bytes | int]]:
    position = 0
    while position < len(body):
        key, position = _read_varint(body, position)
        kind, number = key & 7, key >> 3
        if kind == _VARINT:
            value, position = _read_varint(body, position)
            yield number, value
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(kind)
        if kind == _BYTES:
            size, position = _read_varint(body, position)
        if size is None or position + size > len(body):
            raise ValueError("not a message of Protocol Buffers")
        yield number, body[position : position + size]
        position += size


def _varint(number: int) -> bytes:
    """Return a number in groups of seven bits, the lowest first."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def _read_varint(body: bytes, position: int) -> tuple[int, int]:
    """Return the number at a position, and the position after it."""
    number = 0
    for i, byte in enumerate(body[position : position + _VARINT_LIMIT_BYTES]):
        number |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return number, position + i + 1
    raise ValueError("a number without end")
