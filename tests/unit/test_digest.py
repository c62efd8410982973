"""The digest operators sign, laid out by hand: eth-abi and keccak are the oracle."""

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from watcher.digest import sig_hash
from watcher.errors import Quarantine


@given(index=st.integers(0, 2**32 - 1), message=st.binary(max_size=200))
def test_the_digest_is_the_keccak_of_what_eth_abi_encodes(index: int, message: bytes) -> None:
    assert sig_hash(index, message) == keccak(encode(["(uint32,bytes)"], [(index, message)]))


@pytest.mark.parametrize("index", [-1, 2**32, 2**256])
def test_an_index_beyond_uint32_is_set_aside(index: int) -> None:
    with pytest.raises(Quarantine, match="does not fit uint32"):
        sig_hash(index, b"")
