"""Made-up values of any ABI types, for tasks that nobody asked."""

from typing import Any

from watcher.abi.layout import Layout
from watcher.abi.types import AbiType, Address, Array, Bool, Bytes, FixedBytes, Number, Tuple

_ADDRESS_BYTES = 20
_ITEMS = 2
_ITEMS_LIMIT = 16


def sample_message(form: Layout, number: int) -> bytes:
    """Return the bytes of a sample of these values."""
    return form.encode(sample(form.type, number))


def sample(kind: AbiType, number: int) -> Any:
    """Return a value of the type, small, and another one for most numbers. Arrays of fixed length are made in full."""
    match kind:
        case Number():
            return number % (kind.greatest + 1)
        case Bool():
            return number % 2 == 1
        case Address():
            return "0x" + (number % 2**160).to_bytes(_ADDRESS_BYTES, "big").hex()
        case FixedBytes(size_bytes):
            return (number % 256**size_bytes).to_bytes(size_bytes, "big")
        case Bytes(is_text):
            return f"sample {number}" if is_text else (number % 2**64).to_bytes(8, "big")
        case Array(item, length):
            count = _ITEMS if length is None else length
            return [sample(item, number + place % _ITEMS_LIMIT) for place in range(count)]
        case Tuple(members):
            return tuple(sample(member.type, number + place) for place, member in enumerate(members))
