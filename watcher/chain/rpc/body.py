"""The body of a node's reply: how long it may be, and what it was packed with.

Invariant: no more than the limit is ever held, however far a packed body unpacks.
"""

import zlib
from collections.abc import Sequence

import aiohttp

from watcher.chain.rpc.errors import Overloaded
from watcher.errors import RetryElsewhere

# Bytes that the reply to one call may have, by its method. The largest blocks name some ten thousand transactions.
_MOST_BYTES = {
    "eth_getBlockByNumber": 4 * 1024 * 1024,
    "eth_getCode": 1024 * 1024,
    "eth_getTransactionReceipt": 4 * 1024 * 1024,
}
_MOST_BYTES_ELSE = 256 * 1024
_UNBOUNDED = frozenset({"eth_getLogs"})
_PACKED = frozenset({"gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd"})
_ZLIB = frozenset({"gzip", "x-gzip", "deflate"})
_EITHER_HEADER = 32 + zlib.MAX_WBITS  # zlib tells gzip from zlib by the first bytes


def limit_bytes(methods: Sequence[str], most: int) -> int:
    """How long the reply to these calls may be. `most` is what the settings allow, and what logs may take."""
    if not _UNBOUNDED.isdisjoint(methods):
        return most
    return min(most, sum(_MOST_BYTES.get(method, _MOST_BYTES_ELSE) for method in methods))


async def read(response: aiohttp.ClientResponse, most: int, *, cut: bool = False) -> bytes:
    """The body, unpacked, of at most `most` bytes; `cut` takes the beginning of a longer one.

    Raises Overloaded when it is longer or incomplete, RetryElsewhere when it is packed in a way that is not read.
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
    return bytes(body[:most])


def _unpacker(response: aiohttp.ClientResponse) -> "_Unpacker | None":
    """What unpacks this body, None where it is plain. Names that pack nothing (identity, utf-8, none) are harmless."""
    named = response.headers.get("Content-Encoding", "").lower().split(",")
    packed = [one.strip() for one in named if one.strip() in _PACKED]
    if not packed:
        return None
    if len(packed) > 1 or packed[0] not in _ZLIB:
        response.close()
        raise RetryElsewhere("the answer is compressed although plain bytes were asked for")
    return _Unpacker()


class _Unpacker:
    """gzip, zlib or raw deflate, a piece at a time and never more than there is room for."""

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
