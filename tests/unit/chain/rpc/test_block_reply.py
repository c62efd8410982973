"""A block as a header."""

import pytest

from watcher.chain.rpc import block_reply


@pytest.mark.parametrize("raw", [None, "", "0x", "12", -1, "-0x1", "0x" + "f" * 64, [], {}, True, "0xzz"])
def test_a_block_that_lies_about_the_time_is_still_a_block(raw: object) -> None:
    block = {"number": "0x5", "hash": "0x" + "11" * 32, "parentHash": "0x" + "22" * 32, "timestamp": raw}
    assert block_reply.header(block).timestamp_s == 0
    assert block_reply.header({**block, "timestamp": "0x65f00000"}).timestamp_s == 0x65F00000
