"""Whatever bytes a node sends, parsing gives a checked value or RetryElsewhere."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import fuzzed
from watcher.chain.rpc import replies, transaction_reply
from watcher.chain.rpc.errors import Overloaded, RpcError
from watcher.chain.rpc.replies import Log
from watcher.chain.rpc.transaction_reply import Sender
from watcher.errors import RetryElsewhere
from watcher.task import Header

ADDRESS, TOPIC, OTHER = b"\x11" * 20, b"\xaa" * 32, b"\xbb" * 32
LAST = Header(20, (20).to_bytes(32), (19).to_bytes(32))
TIMED = replace(LAST, timestamp_s=1_700_000_000)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["0x", "0x0", "0X1F", "0x" + "00" * 20, "0x" + "11" * 32, "0x_1", "0x 1", "latest"])
)
MEMBERS = ["jsonrpc", "id", "result", "error", "code", "message", "number", "hash", "parentHash", "topics", "address"]
MEMBERS += ["data", "blockNumber", "blockHash", "transactionHash", "logIndex", "removed", "status"]
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=5), inner | st.just("2.0"), max_size=8)
    ),
    max_leaves=20,
)


def body(*items: Any) -> bytes:
    return json.dumps(list(items)).encode()


def ok(number: Any, result: Any = "0x1") -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "result": result}


def outcomes(raw: bytes, ids: list[int]) -> list[Any]:
    return [replies.outcome(envelope) for envelope in replies.envelopes(raw, ids)]


@fuzzed
@given(anything)
def test_any_json_is_an_outcome_or_retry_elsewhere(raw: Any) -> None:
    try:
        outcomes(json.dumps(raw).encode(), [0, 1])
    except RetryElsewhere:
        pass


@fuzzed
@given(st.binary(max_size=200))
def test_any_bytes_are_an_outcome_or_retry_elsewhere(raw: bytes) -> None:
    try:
        items = outcomes(raw, [0, 1])
    except RetryElsewhere:
        return
    assert all(isinstance(item, RpcError) for item in items), "bare text is a refusal at most"


@fuzzed
@given(anything, st.sampled_from([[0], [0, 1]]))
def test_an_http_error_s_body_is_an_answer_for_each_id_or_none(raw: Any, ids: list[int]) -> None:
    bodies = replies.answered(json.dumps(raw).encode(), ids)
    assert bodies is None or [body["id"] for body in bodies] == ids


HARMLESS: list[Any] = [
    [{"id": 0, "result": "0x1"}],
    [{"jsonrpc": None, "id": 0, "result": "0x1"}],
    [{"jsonrpc": "1.0", "id": 0, "result": "0x1", "error": None}],
    [ok("0")],
    ok("0"),
    ok(None),
    {"result": "0x1"},
]


@pytest.mark.parametrize("raw", HARMLESS)
def test_an_envelope_of_a_harmless_dialect_is_read(raw: Any) -> None:
    assert outcomes(json.dumps(raw).encode(), [0]) == ["0x1"]


@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=9, unique=True), st.randoms())
def test_ids_as_text_find_their_questions_in_any_order(ids: list[int], chance: Any) -> None:
    items = [ok(str(number) if chance.random() < 0.5 else number, f"0x{number:x}") for number in ids]
    chance.shuffle(items)
    assert outcomes(body(*items), ids) == [f"0x{number:x}" for number in ids]


envelope = st.fixed_dictionaries(
    {"id": st.sampled_from([0, 1, "0", True, 1.0])}, optional={"result": anything, "error": anything}
)


@fuzzed
@given(envelope, envelope)
def test_replies_in_order_are_read_as_those_in_any_other(first: dict[str, Any], second: dict[str, Any]) -> None:
    def read_or_none(*items: Any) -> list[Any] | None:
        try:
            return outcomes(body(*items), [0, 1])
        except RetryElsewhere:
            return None

    assert read_or_none(first, second) == read_or_none(second, first)


BARE: list[Any] = [
    ({"message": "block range is too wide"}, RpcError(None, "block range is too wide")),
    ({"code": -32005, "message": "limit"}, RpcError(-32005, "limit")),
    ({"id": None, "detail": "too much"}, RpcError(None, "too much")),
    ([{"msg": "no"}], RpcError(None, "no")),
    ("query exceeds the limit", RpcError(None, "query exceeds the limit")),
    (["too wide"], RpcError(None, "too wide")),
]


@pytest.mark.parametrize(("raw", "refusal"), BARE)
def test_a_refusal_without_an_envelope_stands_for_all(raw: Any, refusal: RpcError) -> None:
    assert outcomes(json.dumps(raw).encode(), [3, 4]) == [refusal, refusal]


def test_reply_with_more_values_than_its_length_holds_is_refused_unparsed() -> None:
    with pytest.raises(Overloaded, match="more values"):
        replies.envelopes(b'[{"id":0,"result":[' + b"0," * 700_000 + b"0]}]", [0])
    with pytest.raises(Overloaded, match="more values"):
        replies.envelopes(b'[{"id":0,"result":[' + b"{}," * 5_000 + b"0]}]", [0])
    many = [raw_log(logIndex=hex(position)) for position in range(5_000)]
    assert len(read(*replies.envelopes(body(ok(0, many)), [0])[0]["result"])[0]) == 5_000


@pytest.mark.parametrize(
    "value", [b"NaN", b"1e400", b"9" * 5000, b'"\\ud800"', b'"\xff"', b"01", b"[" * 99 + b"]" * 99, b""]
)
def test_value_that_is_no_json_is_refused(value: bytes) -> None:
    with pytest.raises(RetryElsewhere, match="is not JSON"):
        replies.envelopes(b'{"jsonrpc":"2.0","id":1,"result":' + value + b"}", [1])


def test_null_instead_of_a_list_is_no_logs() -> None:
    assert replies.logs(None, ADDRESS, {TOPIC}, None, 5, LAST) == ((), 0)


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


@fuzzed
@given(anything)
def test_any_value_is_parsed_or_retry_elsewhere(raw: Any) -> None:
    for parse in (
        replies.quantity,
        replies.octets,
        replies.header,
        transaction_reply.receipt,
        lambda value: replies.logs(value, ADDRESS, {TOPIC}, None, 0, LAST),
        lambda value: replies.logs([value], ADDRESS, {TOPIC}, None, 0, LAST),
    ):
        try:
            parse(raw)
        except RetryElsewhere:
            pass


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html><body>502 Bad Gateway</body></html>",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'[{"jsonrpc":"2.0","id":0,"result":' + b"9" * 5000 + b"}]",
        b'[{"jsonrpc":"2.0","id":0,"result":NaN}]',
        b'[{"jsonrpc":"2.0","id":0,"result":-Infinity}]',
        b'\xef\xbb\xbf[{"jsonrpc":"2.0","id":0,"result":"0x1"}]',
        '[{"jsonrpc":"2.0","id":0,"result":"0x1"}]'.encode("utf-16"),
        b'[{"jsonrpc":"2.0","id":0,"result":"0x1"}',
        b"null",
        b"[]",
        body(ok("1")),
        body(ok(" 0")),
        body(ok("0x0")),
        body(ok(0.0)),
        body(ok(False)),
        body(ok(None)),
        body(ok(1)),
        body(ok(0), ok(0)),
        body({"jsonrpc": "2.0", "id": 0}),
        body({"jsonrpc": "2.0", "id": 0, "error": None}),
        body(ok(0) | {"error": {"code": 1, "message": "no"}}),
    ],
)
def test_an_answer_that_is_not_exactly_one_per_id_is_refused(raw: bytes) -> None:
    with pytest.raises(RetryElsewhere):
        replies.envelopes(raw, [0])


def test_answers_out_of_order_are_put_in_the_order_asked() -> None:
    assert outcomes(body(ok(7, "c"), ok(5, "a"), ok(6, None)), [5, 6, 7]) == ["a", None, "c"]


def test_an_error_of_one_item_leaves_the_others_alone() -> None:
    error = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32005, "message": "too many"}, "result": None}
    assert outcomes(body(ok(0), error), [0, 1]) == ["0x1", RpcError(-32005, "too many")]


@pytest.mark.parametrize("as_list", [True, False])
def test_a_refusal_of_the_whole_batch_stands_for_every_missing_answer(as_list: bool) -> None:
    refusal = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "batch too large"}}
    raw = json.dumps([refusal] if as_list else refusal).encode()
    assert outcomes(raw, [3, 4]) == [RpcError(-32600, "batch too large")] * 2


def test_last_of_two_members_of_the_same_name_counts() -> None:
    assert outcomes(b'[{"jsonrpc":"2.0","id":9,"id":0,"result":"a","result":"b"}]', [0]) == ["b"]


@given(st.integers(0, 2**63 - 1), st.booleans(), st.integers(0, 4))
def test_quantities_of_harmless_dialects_are_read(number: int, upper: bool, zeros: int) -> None:
    digits = "0" * zeros + f"{number:x}"
    assert replies.quantity("0x" + (digits.upper() if upper else digits)) == number


BAD_QUANTITIES = ["0x", "", "1f", "-0x1", "0x-1", "0x1_0", " 0x1", "0x1\n", "0x" + "f" * 16, 5, None, True]


@pytest.mark.parametrize("raw", BAD_QUANTITIES)
def test_quantities_of_any_other_kind_are_refused(raw: Any) -> None:
    with pytest.raises(RetryElsewhere):
        replies.quantity(raw)


@pytest.mark.parametrize("raw", ["", "00", "0x0", "0x0g", "0x 00", "0x00 ", "0x\u0660\u0661", ["0x", "00"], 7, None])
def test_bytes_of_another_form_are_refused(raw: Any) -> None:
    with pytest.raises(RetryElsewhere):
        replies.octets(raw)


@given(st.binary(max_size=80))
def test_bytes_are_read_in_either_case_and_of_the_asked_size_only(data: bytes) -> None:
    assert replies.octets("0x" + data.hex()) == replies.octets("0x" + data.hex().upper(), len(data)) == data
    with pytest.raises(RetryElsewhere):
        replies.octets("0x" + data.hex(), len(data) + 1)


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
    return replies.logs(list(raw), ADDRESS, {TOPIC}, index, 5, LAST)


def test_logs_come_in_chain_order_and_once_each() -> None:
    twentieth = raw_log(blockNumber="0x14", blockHash="0x" + LAST.hash.hex())
    logs, foreign = read(twentieth, raw_log(logIndex="0x2"), raw_log(), twentieth, raw_log(logIndex="0x10"))
    assert [(log.block_number, log.log_index) for log in logs] == [(10, 0), (10, 2), (10, 16), (20, 0)]
    assert foreign == 0


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


@pytest.mark.parametrize("raw", [None, "", "0x", "12", -1, "-0x1", "0x" + "f" * 64, [], {}, True, "0xzz"])
def test_a_block_that_lies_about_the_time_is_still_a_block(raw: object) -> None:
    block = {"number": "0x5", "hash": "0x" + "11" * 32, "parentHash": "0x" + "22" * 32, "timestamp": raw}
    assert replies.header(block).timestamp_s == 0
    assert replies.header({**block, "timestamp": "0x65f00000"}).timestamp_s == 0x65F00000


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
    (log,), _ = replies.logs([raw], ADDRESS, {TOPIC}, None, 0, TIMED)
    assert log.block_time_s == expected


def test_a_log_of_the_last_block_has_the_time_of_its_header() -> None:
    raw = raw_log(blockHash="0x" + TIMED.hash.hex(), blockNumber=hex(TIMED.number), blockTimestamp="0x1")
    (log,), _ = replies.logs([raw], ADDRESS, {TOPIC}, None, 0, TIMED)
    assert log.block_time_s == TIMED.timestamp_s


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
