"""Bytes of the audit chain: two rows never share them, leaves come back, and a plain encoder agrees."""

import hashlib
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.ledger.audit.changes import Bound
from watcher.ledger.audit.merkle import root_of
from watcher.ledger.audit.record import (
    HASH_BYTES,
    Leaf,
    entry_hash,
    genesis_hash,
    link,
    pack_leaves,
    row_digest,
    unpack_leaves,
)

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**256 - 1),
    st.binary(max_size=70_000),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
)
ROWS = st.lists(VALUES, max_size=30)
LEAVES = st.lists(
    st.builds(
        Leaf,
        st.sampled_from(Bound),
        st.integers(0, 2**63 - 1),
        st.one_of(st.none(), st.binary(min_size=32, max_size=32)),
    ),
    max_size=50,
)


@given(first=ROWS, second=ROWS)
def test_rows_share_a_digest_only_if_they_are_equal(first: list[Any], second: list[Any]) -> None:
    same = _typed(first) == _typed(second)
    assert (row_digest(first) == row_digest(second)) is same


def _typed(row: list[Any]) -> list[Any]:
    kept = list(row)
    while kept and kept[-1] is None:
        kept.pop()
    big = [value.to_bytes(32) if isinstance(value, int) and value >= 2**64 else value for value in kept]
    return [(type(value), value) for value in big]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([b"ab"], ["ab"]),
        ([1], [True]),
        (["1"], [1]),
        ([None, 1], [1]),
        ([b"a", b"b"], [b"ab"]),
    ],
)
def test_values_of_other_types_have_other_digests(first: list[Any], second: list[Any]) -> None:
    assert row_digest(first) != row_digest(second)


def test_null_at_the_end_changes_no_digest() -> None:
    assert row_digest([1, "a"]) == row_digest([1, "a", None, None])


@given(leaves=LEAVES)
def test_leaves_come_back(leaves: list[Leaf]) -> None:
    assert list(unpack_leaves(pack_leaves(leaves))) == leaves


@given(packed=st.binary(max_size=200))
def test_any_bytes_are_leaves_or_refused(packed: bytes) -> None:
    try:
        leaves = list(unpack_leaves(packed))
    except ValueError:
        return
    assert pack_leaves(leaves) == packed


def test_entry_follows_the_one_before() -> None:
    first = link(genesis_hash(1, b"\x11" * 20), 1, 5, "begun", "", b"")
    second = link(first.hash, 2, 6, "commit", "", pack_leaves([Leaf(Bound.TASKS, 7, b"\1" * HASH_BYTES)]))
    assert second.prev_hash == first.hash
    assert second.hash == entry_hash(first.hash, 2, 6, "commit", "", second.leaves)
    assert genesis_hash(1, b"\x11" * 20) != genesis_hash(2, b"\x11" * 20)


def test_hash_is_that_of_the_specification() -> None:
    packed = b"\x96\xc4\x20" + bytes(32) + b"\x01\xcd" + struct.pack(">H", 300) + b"\xa6commit\xa0\xc4\x00"
    assert entry_hash(bytes(32), 1, 300, "commit", "", b"") == hashlib.sha256(packed).digest()


def _slow_root(hashes: list[bytes]) -> bytes:
    """The definition of RFC 6962, section 2.1, word by word."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashlib.sha256(b"\0" + hashes[0]).digest()
    half = 1
    while half * 2 < len(hashes):
        half *= 2
    return hashlib.sha256(b"\1" + _slow_root(hashes[:half]) + _slow_root(hashes[half:])).digest()


@pytest.mark.parametrize("size", [*range(20), 63, 64, 65, 200])
def test_root_is_that_of_rfc_6962(size: int) -> None:
    hashes = [bytes([number]) * 32 for number in range(size)]
    assert root_of(hashes) == _slow_root(hashes)
