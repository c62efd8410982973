"""Receipts and senders of transactions."""

from typing import Any

import pytest
from hypothesis import given

from tests.fuzzing import fuzzed
from tests.kit.json_values import anything
from watcher.chain.rpc import transaction_reply
from watcher.chain.rpc.errors import RpcError
from watcher.chain.rpc.transaction_reply import Sender
from watcher.errors import RetryElsewhere


@pytest.mark.parametrize(
    "raw",
    [
        None,
        {},
        {"blockHash": None, "status": "0x1"},
        {"blockHash": "0x" + "11" * 32, "blockNumber": None, "status": "0x1"},
    ],
)
def test_a_receipt_without_a_block_is_none(raw: Any) -> None:
    assert transaction_reply.receipt(raw) is None


TRANSACTION = {"hash": "0x" + "77" * 32, "from": "0x" + "5e" * 20, "blockNumber": "0x69"}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (TRANSACTION, Sender(b"\x5e" * 20, 0x69)),
        (None, None),
        (TRANSACTION | {"blockNumber": None}, None),
    ],
)
def test_the_sender_of_a_mined_transaction_is_read(raw: Any, expected: Sender | None) -> None:
    assert transaction_reply.sender(raw, b"\x77" * 32) == expected


@fuzzed
@given(anything)
def test_any_transaction_is_a_sender_or_retry_elsewhere(raw: Any) -> None:
    for value in (raw, {"blockNumber": raw}, TRANSACTION | {"from": raw}, TRANSACTION | {"hash": raw}):
        try:
            transaction_reply.sender(value, b"\x77" * 32)
        except RetryElsewhere:
            pass


def test_of_many_transactions_the_unusable_ones_are_left_out() -> None:
    refusal = RpcError(-32000, "transaction indexing is in progress")
    hashes = [b"\x77" * 32, b"\x78" * 32, b"\x79" * 32]
    senders = transaction_reply.senders([TRANSACTION, refusal, {"hash": "0x1"}], hashes)
    assert senders == {hashes[0]: Sender(b"\x5e" * 20, 0x69)}
    with pytest.raises(RetryElsewhere):
        transaction_reply.senders([refusal, refusal, refusal], hashes)
