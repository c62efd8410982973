"""The body of a node's reply, read and unpacked within a limit.

Invariant: no more bytes than the limit are in memory, however far a packed body unpacks.
"""

import zlib
from collections.abc import Sequence

import aiohttp

from watcher.chain.rpc.errors import Overloaded
from watcher.errors import RetryElsewhere

# The longest reply to one call in bytes, by method. The largest blocks name some ten thousand transactions.
_MOST_BYTES = {
    "eth_getBlockByNumber": 4 * 1024 * 1024,
    "eth_getCode": 1024 * 1024,
    "eth_getTransactionByHash": 1024 * 1024,
    "eth_getTransactionReceipt": 4 * 1024 * 1024,
}
_MOST_BYTES_ELSE = 256 * 1024
_UNBOUNDED = frozenset({"eth_getLogs"})
_PACKED = frozenset({"gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd"})
_ZLIB = frozenset({"gzip", "x-gzip", "deflate"})
_EITHER_HEADER = 32 + zlib.MAX_WBITS  # zlib recognises gzip and zlib by the first bytes


def limit_bytes(methods: Sequence[str], most: int) -> int:
    """Return the longest reply to these calls in bytes. `most` is the limit of the settings, which holds for logs."""
    if not _UNBOUNDED.isdisjoint(methods):
        return most
    return min(most, sum(_MOST_BYTES.get(method, _MOST_BYTES_ELSE) for method in methods))


async def read(response: aiohttp.ClientResponse, most: int, *, cut: bool = False) -> bytes:
    """Return the unpacked body.

    Args:
        response: the reply, of which no byte is read yet.
        most: the limit in bytes.
        cut: return the beginning of a longer body instead of raising.

    Raises:
        Overloaded: the body is longer, or incomplete.
        RetryElsewhere: it is packed by another method than gzip or deflate.
    """
    unpack = _unpacker(response)
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk if unpack is None else unpack.next(chunk, most + 1 - len(body))
        if len(body) > most:
            response.close()  # the rest is not worth reading, and the connection cannot be used again
            if cut:
                break
            raise Overloaded(f"the answer is longer than {most} bytes")
    if unpack is not None and not cut:
        unpack.end()
    del body[most:]
    return bytes(body)


def _unpacker(response: aiohttp.ClientResponse) -> "_Unpacker | None":
    """Return the unpacker of a body, None for a plain one. Names that pack nothing (identity, utf-8) are ignored."""
    named = response.headers.get("Content-Encoding", "").lower().split(",")
    packed = [name.strip() for name in named if name.strip() in _PACKED]
    if not packed:
        return None
    if len(packed) > 1 or packed[0] not in _ZLIB:
        response.close()
        raise RetryElsewhere("the answer is compressed although plain bytes were asked for")
    return _Unpacker()


class _Unpacker:
    """gzip, zlib or raw deflate, one chunk after the other, within the room that is left."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_EITHER_HEADER)
        self._begun = False

    def next(self, chunk: bytes, room: int) -> bytes:
        if not self._begun and chunk:
            self._begun = True
            if chunk[0] & 0x0F != 8 and chunk[0] != 0x1F:
                self._stream = zlib.decompressobj(-zlib.MAX_WBITS)  # deflate without the header it should have
        try:
            return self._stream.decompress(chunk, max(room, 1))
        except zlib.error:
            raise RetryElsewhere("the answer is not packed as its Content-Encoding says") from None

    def end(self) -> None:
        if not self._stream.eof:
            raise Overloaded("the packed answer ends before its end")
