"""The bloom filter in a block's header: which addresses and topics its logs may have. Pure.

Source: Ethereum Yellow Paper, section 4.4.3, "Transaction Receipt": the function M.
"""

from collections.abc import Sequence

from eth_hash.auto import keccak

from watcher.chain.rpc.calls import Emitters

_BITS = 2048


class Interest:
    """The logs that one subscriber waits for: of these emitters, with one of these first topics."""

    def __init__(self, emitters: Emitters, topics0: Sequence[bytes]) -> None:
        addresses = (emitters,) if isinstance(emitters, bytes) else emitters
        self._masks = [_mask(address) | _mask(topic) for address in addresses for topic in topics0]

    def may_be_in(self, bloom: int) -> bool:
        """Return False if a block with this filter has no such log, unless its node lies."""
        return any(bloom & mask == mask for mask in self._masks)


def _mask(item: bytes) -> int:
    digest = keccak(item)
    return sum({1 << int.from_bytes(digest[at : at + 2]) % _BITS for at in (0, 2, 4)})
