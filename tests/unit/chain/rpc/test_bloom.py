"""The bloom filter of a header, held to the Yellow Paper. tests/integration/test_prefetch.py has one of a node."""

from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from watcher.chain.rpc.bloom import Interest

ADDRESS, TOPIC = b"\x11" * 20, b"\x22" * 32
_items = st.lists(st.binary(min_size=20, max_size=32), max_size=5)


def _filter(items: list[bytes]) -> int:
    """Return a header's filter for these addresses and topics, written after the Yellow Paper bit by bit."""
    bits = bytearray(256)
    for item in items:
        digest = keccak(item)
        for pair in (digest[0:2], digest[2:4], digest[4:6]):
            position = 2047 - (pair[0] * 256 + pair[1]) % 2048
            bits[position // 8] |= 0x80 >> position % 8
    return int.from_bytes(bits)


@given(_items)
def test_filter_with_our_log_always_concerns_us(others: list[bytes]) -> None:
    assert Interest(ADDRESS, [TOPIC]).may_be_in(_filter([*others, ADDRESS, TOPIC]))
    assert Interest((b"\x33" * 20, ADDRESS), [b"\x44" * 32, TOPIC]).may_be_in(_filter([ADDRESS, TOPIC]))


def test_filter_without_our_address_or_topic_does_not() -> None:
    interest = Interest(ADDRESS, [TOPIC])
    for items in ([], [ADDRESS], [TOPIC], [b"\x33" * 20, TOPIC]):
        assert not interest.may_be_in(_filter(items))
