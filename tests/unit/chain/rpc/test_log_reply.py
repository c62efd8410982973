"""The logs of a reply: those of the question, each once, in the chain's order."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.chain.rpc import log_reply
from watcher.chain.rpc.replies import Log
from watcher.errors import RetryElsewhere
from watcher.task import Header

ADDRESS, TOPIC, OTHER = b"\x11" * 20, b"\xaa" * 32, b"\xbb" * 32
LAST = Header(20, (20).to_bytes(32), (19).to_bytes(32))
TIMED = replace(LAST, timestamp_s=1_700_000_000)


def test_null_instead_of_a_list_is_no_logs() -> None:
    assert log_reply.logs(None, ADDRESS, {TOPIC}, None, 5, LAST) == ((), 0)


def raw_log(**change: Any) -> dict[str, Any]:
    fields = {
        "address": "0x" + ADDRESS.hex(),
        "topics": ["0x" + TOPIC.hex(), "0x" + (5).to_bytes(32).hex()],
        "data": "0x1234",
        "blockNumber": "0xa",
        "blockHash": "0x" + (10).to_bytes(32).hex(),
        "transactionHash": "0x" + "22" * 32,
        "logIndex": "0x0",
        "removed": False,
    }
    return fields | change


def read(*raw: dict[str, Any], index: bytes | None = None) -> tuple[tuple[Log, ...], int]:
    return log_reply.logs(list(raw), ADDRESS, {TOPIC}, index, 5, LAST)


def test_logs_come_in_chain_order_and_once_each() -> None:
    twentieth = raw_log(blockNumber="0x14", blockHash="0x" + LAST.hash.hex())
    logs, foreign = read(twentieth, raw_log(logIndex="0x2"), raw_log(), twentieth, raw_log(logIndex="0x10"))
    assert [(log.block_number, log.log_index) for log in logs] == [(10, 0), (10, 2), (10, 16), (20, 0)]
    assert foreign == 0


def text_of(raw: dict[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(raw))


def test_logs_that_are_still_texts_are_read_as_values_are() -> None:
    items = [raw_log(logIndex="0x2"), raw_log(removed=True), raw_log(logIndex="0x1")]
    assert log_reply.logs([text_of(item) for item in items], ADDRESS, {TOPIC}, None, 5, LAST) == read(*items)


@pytest.mark.parametrize("text", [b"", b"{", b'{"data":"\xff"}', b"[1]", b'"0x"', b"null", b"1e999"])
def test_a_text_that_is_no_log_is_refused(text: bytes) -> None:
    with pytest.raises(RetryElsewhere):
        log_reply.logs([text_of(raw_log()), msgspec.Raw(text)], ADDRESS, {TOPIC}, None, 5, LAST)


@pytest.mark.parametrize(
    "change",
    [
        {"address": "0x" + "33" * 20},
        {"topics": ["0x" + OTHER.hex()]},
        {"topics": []},
        {"blockNumber": "0x4"},
        {"blockNumber": "0x15"},
        {"removed": True},
        {"removed": "no"},
    ],
)
def test_logs_nobody_asked_for_are_discarded_and_counted(change: dict[str, Any]) -> None:
    logs, foreign = read(raw_log(), raw_log(**change))
    assert len(logs) == 1 and foreign == 1


def test_a_log_that_says_nothing_of_being_removed_counts() -> None:
    silent = raw_log(logIndex="0x1")
    del silent["removed"]
    logs, foreign = read(raw_log(), silent, raw_log(logIndex="0x2", removed=None))
    assert (len(logs), foreign) == (3, 0)


def test_a_search_by_index_discards_the_logs_of_other_indices() -> None:
    assert read(raw_log(), index=(5).to_bytes(32))[1] == 0
    assert read(raw_log(), index=(6).to_bytes(32)) == ((), 1)
    assert read(raw_log(topics=["0x" + TOPIC.hex()]), index=(5).to_bytes(32)) == ((), 1)


@pytest.mark.parametrize(
    "second",
    [
        raw_log(blockHash="0x" + "77" * 32, logIndex="0x1"),
        raw_log(blockNumber="0x14", blockHash="0x" + "77" * 32),
    ],
)
def test_an_answer_that_contradicts_itself_or_the_header_is_refused(second: dict[str, Any]) -> None:
    with pytest.raises(RetryElsewhere, match="moved meanwhile"):
        read(raw_log(), second)


@pytest.mark.parametrize(
    "change",
    [{"transactionHash": "0x" + "33" * 32}, {"data": "0x99"}, {"topics": ["0x" + TOPIC.hex(), "0x" + "66" * 32]}],
)
def test_two_logs_at_one_place_are_both_read(change: dict[str, Any]) -> None:
    logs, foreign = read(raw_log(), raw_log(**change), raw_log())
    assert (len(logs), foreign) == (2, 0)
    assert {log.log_index for log in logs} == {0}


@given(st.lists(st.tuples(st.integers(5, 12), st.integers(0, 3), st.integers(0, 3)), max_size=20))
def test_every_different_log_is_read_once_and_in_the_order_of_blocks(places: list[tuple[int, int, int]]) -> None:
    raws = [
        raw_log(
            blockNumber=hex(block),
            blockHash="0x" + block.to_bytes(32).hex(),
            transactionHash="0x" + tx.to_bytes(32).hex(),
            logIndex=hex(index),
        )
        for block, tx, index in places
    ]
    logs, _ = read(*raws)
    assert len(logs) == len(set(places))
    assert [log.block_number for log in logs] == sorted(log.block_number for log in logs)


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ({"blockTimestamp": hex(TIMED.timestamp_s - 60)}, TIMED.timestamp_s - 60),
        ({}, 0),
        ({"blockTimestamp": None}, 0),
        ({"blockTimestamp": 17}, 0),
        ({"blockTimestamp": "0x"}, 0),
        ({"blockTimestamp": "0x" + "f" * 16}, 0),
        ({"blockTimestamp": hex(TIMED.timestamp_s + 1)}, 0),
    ],
)
def test_the_time_in_a_log_counts_within_its_range(member: dict[str, Any], expected: int) -> None:
    raw = raw_log(blockHash="0x" + "77" * 32, blockNumber=hex(TIMED.number - 1)) | member
    (log,), _ = log_reply.logs([raw], ADDRESS, {TOPIC}, None, 0, TIMED)
    assert log.block_time_s == expected


def test_a_log_of_the_last_block_has_the_time_of_its_header() -> None:
    raw = raw_log(blockHash="0x" + TIMED.hash.hex(), blockNumber=hex(TIMED.number), blockTimestamp="0x1")
    (log,), _ = log_reply.logs([raw], ADDRESS, {TOPIC}, None, 0, TIMED)
    assert log.block_time_s == TIMED.timestamp_s
