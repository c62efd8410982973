"""Messages and answers as the bytes that hooks and the ledger know, and as the value that the ABI knows. Pure.

`bytes` are themselves, `string` is UTF-8, and every other type is its abi.encode: a uint256 is 32 bytes, big-endian.
"""

from typing import Any

from watcher.chain.abi import Codec
from watcher.errors import Quarantine


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
