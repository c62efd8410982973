"""Merkle trees over the hashes of entries, as in RFC 6962, section 2.1. Pure."""

import hashlib
from collections.abc import Iterable


def root_of(hashes: Iterable[bytes]) -> bytes:
    """Return the root over these hashes, in memory that grows with the logarithm of their number.

    Source: https://www.rfc-editor.org/rfc/rfc6962#section-2.1. A leaf is SHA-256(0x00 || hash), a node is
    SHA-256(0x01 || left || right); the left subtree has the largest power of two of leaves below their number.
    """
    # Complete subtrees from left to right, with their sizes; two of one size become one.
    subtrees: list[tuple[int, bytes]] = []
    for value in hashes:
        size, node = 1, hashlib.sha256(b"\x00" + value).digest()
        while subtrees and subtrees[-1][0] == size:
            _, left = subtrees.pop()
            size, node = 2 * size, _node(left, node)
        subtrees.append((size, node))
    if not subtrees:
        return hashlib.sha256(b"").digest()
    _, root = subtrees.pop()
    while subtrees:
        _, left = subtrees.pop()
        root = _node(left, root)
    return root


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
