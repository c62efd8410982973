"""Whatever bytes a node sends, they are one result or error for each question, or RetryElsewhere."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import fuzzed
from tests.kit.json_values import anything
from watcher.chain.rpc.envelope import answered, envelopes, outcome
from watcher.chain.rpc.errors import Overloaded, RpcError
from watcher.errors import RetryElsewhere


def body(*items: Any) -> bytes:
    return json.dumps(list(items)).encode()


def ok(number: Any, result: Any = "0x1") -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "result": result}


def outcomes(raw: bytes, ids: list[int]) -> list[Any]:
    return [outcome(envelope) for envelope in envelopes(raw, ids)]


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
    bodies = answered(json.dumps(raw).encode(), ids)
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
        envelopes(b'[{"id":0,"result":[' + b"0," * 700_000 + b"0]}]", [0])
    with pytest.raises(Overloaded, match="more values"):
        envelopes(b'[{"id":0,"result":[' + b"{}," * 5_000 + b"0]}]", [0])
    log = {"address": "0x" + "11" * 20, "topics": ["0x" + "22" * 32] * 2, "data": "0x1234", "removed": False}
    log |= {"blockNumber": "0xa", "logIndex": "0x0", "blockHash": "0x" + "33" * 32, "transactionHash": "0x" + "44" * 32}
    received = envelopes(body(ok(0, [log] * 5_000)), [0])[0]["result"]
    assert [json.loads(bytes(text)) for text in received] == [log] * 5_000


LONG = [{"data": "0x" + "ab" * 2_000}] * 20


@pytest.mark.parametrize("replies", [[ok(3, "0x1"), ok(4, LONG)], [ok(4, LONG), ok(3, "0x1")]])
def test_items_of_a_long_list_stay_texts(replies: list[Any]) -> None:
    short, texts = outcomes(body(*replies), [3, 4])
    assert short == "0x1"
    assert [json.loads(bytes(text)) for text in texts] == LONG


def test_a_single_reply_with_a_long_list_has_texts() -> None:
    (texts,) = outcomes(json.dumps(ok(3, LONG)).encode(), [3])
    assert [json.loads(bytes(text)) for text in texts] == LONG


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        ([ok("3", LONG)], LONG),
        ([ok(3, LONG[0])], LONG[0]),
        ([ok(3, "0x" + "ab" * 40_000)], "0x" + "ab" * 40_000),
        ([ok(3, LONG) | {"error": {"code": 1, "message": "both"}}], None),
        ([{"id": 3, "error": {"code": 1, "message": "wide", "data": LONG}}], RpcError(1, "wide")),
    ],
)
def test_other_long_replies_are_read_as_short_ones_are(replies: list[Any], expected: Any) -> None:
    if expected is None:
        with pytest.raises(RetryElsewhere, match="both a result and an error"):
            outcomes(body(*replies), [3])
    else:
        assert outcomes(body(*replies), [3]) == [expected]


@pytest.mark.parametrize(
    "value", [b"NaN", b"1e400", b"9" * 5000, b'"\\ud800"', b'"\xff"', b"01", b"[" * 99 + b"]" * 99, b""]
)
def test_value_that_is_no_json_is_refused(value: bytes) -> None:
    with pytest.raises(RetryElsewhere, match="is not JSON"):
        envelopes(b'{"jsonrpc":"2.0","id":1,"result":' + value + b"}", [1])


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
        envelopes(raw, [0])


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
