"""Every answer is exactly one of Accepted, Refused, Unknown; and it is the right one."""

import json
from typing import Any

import pytest

from watcher.operator.refusal import REASON_LIMIT_CHARS, stubborn
from watcher.operator.reply import RETRY_AFTER_LIMIT_S, parse, retry_after_s
from watcher.task import Accepted, Outcome, Refused, Unknown

ID = 7
TX = bytes(range(1, 33))
SIG = bytes(range(101, 133))
ZERO = "0x" + "00" * 32


def ok(result: Any, request_id: Any = "7") -> bytes:
    return json.dumps({"id": request_id, "result": result, "jsonrpc": "2.0"}).encode()


def error(message: Any, code: Any = 0, request_id: Any = "7") -> bytes:
    return json.dumps({"id": request_id, "error": {"code": code, "message": message}, "jsonrpc": "2.0"}).encode()


def of(status: int, body: bytes, **headers: str) -> Outcome:
    return parse(status, {name.replace("_", "-"): value for name, value in headers.items()}, body, ID)


@pytest.mark.parametrize("request_id", ["7", 7])
def test_success_is_accepted_with_what_it_claims(request_id: object) -> None:
    result = {"task_index": 1, "tx_hash": "0x" + TX.hex(), "sig_hash": "0x" + SIG.hex()}
    assert of(200, ok(result, request_id)) == Accepted(TX, SIG)


@pytest.mark.parametrize("index", [100, "1", "x", -1, None, 2**300])
def test_the_index_of_another_task_is_no_reason_to_send_again(index: object) -> None:
    """The API's own example answers a request for task 100 with task 1."""
    assert of(200, ok({"task_index": index, "tx_hash": "0x" + TX.hex(), "sig_hash": "0x" + SIG.hex()})) == Accepted(
        TX, SIG
    )


@pytest.mark.parametrize("tx_hash", [ZERO, "", "0x", None, "00" * 32])
def test_zero_hash_is_accepted_without_a_transaction(tx_hash: object) -> None:
    assert of(200, ok({"tx_hash": tx_hash, "sig_hash": SIG.hex().upper()})) == Accepted(None, SIG)
    assert of(200, ok({"task_index": 1})) == Accepted()


@pytest.mark.parametrize(
    "tx_hash", ["0x12", "0x" + "zz" * 32, TX.hex() + "00", "x", 5, True, [], {"a": 1}, "\u0660" * 64]
)
def test_malformed_hash_is_accepted_without_it_and_says_so(tx_hash: object) -> None:
    outcome = of(200, ok({"tx_hash": tx_hash, "sig_hash": "0X" + SIG.hex()}))
    assert isinstance(outcome, Accepted)
    assert (outcome.tx_hash, outcome.sig_hash) == (None, SIG)
    assert outcome.reason.startswith("tx_hash is not a 32-byte hash")


@pytest.mark.parametrize("request_id", ["8", 8, 0, None, "07", " 7", 7.5, True, [7], {}, "0x7"])
def test_success_for_another_request_is_unknown(request_id: object) -> None:
    assert isinstance(of(200, ok({"tx_hash": "0x" + TX.hex()}, request_id)), Unknown)


@pytest.mark.parametrize("request_id", ["7", 7, 0, "0", None])
def test_error_counts_under_our_id_and_under_the_unread_one(request_id: object) -> None:
    assert isinstance(of(400, error("invalid character", 1, request_id)), Refused)
    assert isinstance(of(400, error("invalid character", 1, "99")), Unknown)


def test_error_without_any_id_counts() -> None:
    assert of(400, b'{"error":{"code":"1","message":"EOF"}}') == Refused("EOF", 1)


@pytest.mark.parametrize("result", [None, [], {}, "ok", 1, True, {"alert": 1}])
def test_unrecognised_result_is_unknown(result: object) -> None:
    assert isinstance(of(200, ok(result)), Unknown)


@pytest.mark.parametrize("status", [200, 400, 404, 429, 500, 502])
@pytest.mark.parametrize("code", [0, 1, 2, -32000, None])
def test_already_finished_is_no_failure_whatever_status_and_code(status: int, code: int | None) -> None:
    text = f"failed to call req: The task 0x{SIG.hex()} Already Finished: 0x{TX.hex()}"
    outcome = of(status, error(text, code, 0))
    assert isinstance(outcome, Accepted)
    assert (outcome.tx_hash, outcome.sig_hash, outcome.reason) == (TX, SIG, text)


@pytest.mark.parametrize(
    "text",
    [
        "execution reverted: Aggregator has already responded to the task",
        "duplicate signature from operator 6f for task 3",
        "the task already finished: 0x12",
        f"the task {ZERO} already finished: {ZERO}",
    ],
)
def test_refusal_that_names_a_finished_task_is_accepted(text: str) -> None:
    assert of(400, error(text)) == Accepted(reason=text)
    assert isinstance(of(400, text.encode()), Accepted)


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("code", [0, 1, 2, 3, -32000, -32602, 10**30, "2", None])
def test_other_errors_are_refused_and_kept_in_words(status: int, code: object) -> None:
    outcome = of(status, error("failed to call alert: create sig task failed: dial failed", code))
    assert isinstance(outcome, Refused)
    assert not outcome.endpoint
    assert "dial failed" in outcome.reason
    assert outcome.code == (code if isinstance(code, int) and code < 2**63 else 2 if code == "2" else None)


@pytest.mark.parametrize(
    "text",
    [
        "operator 6f not part of task 3's quorum",
        "Signature verification failed. Incorrect Signature.",
        "pack params respondToTask: abi: cannot use",
        "ABI: length larger than int64",
    ],
)
def test_refusals_that_stay_are_marked_but_still_refusals_of_the_task(text: str) -> None:
    outcome = of(400, error(text + " " + "x" * 1000))
    assert isinstance(outcome, Refused)
    assert stubborn(outcome)
    assert not outcome.endpoint
    assert not stubborn(of(400, error("dial tcp: connection refused")))


@pytest.mark.parametrize(
    "text", ["task 3 not initialized or already completed", "Could not send signed task response to aggregator by 5"]
)
def test_error_that_does_not_say_whether_it_was_taken_is_unknown(text: str) -> None:
    assert isinstance(of(400, error(text)), Unknown)
    assert isinstance(of(200, error("internal", -32603)), Unknown)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 401, 402, 403, 404, 405, 407, 410])
@pytest.mark.parametrize("body", [b"", b"<html>no</html>", error("no", 1), ok({"tx_hash": ZERO})])
def test_refusals_of_ourselves_block_the_endpoint(status: int, body: bytes) -> None:
    outcome = of(status, body, retry_after="3")
    assert isinstance(outcome, Refused)
    assert outcome.endpoint
    assert outcome.retry_after_s == 3
    assert f"HTTP {status}" in outcome.reason


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [
        (404, 1, "got unsupported method name: operator_createSigTaskResponse"),
        (400, 0, "got unsupported method name: x"),
        (200, -32601, "the method does not exist"),
        (400, 0, "not found avs name my-avs"),
        (400, 3, "failed to found the avs config"),
    ],
)
def test_wrong_api_or_avs_blocks_the_endpoint(status: int, code: int, text: str) -> None:
    outcome = of(status, error(text, code))
    assert isinstance(outcome, Refused)
    assert outcome.endpoint
    assert outcome.code == code
    assert text in outcome.reason


@pytest.mark.parametrize("status", [413, 414, 425, 429])
def test_too_much_and_too_early_are_refused_for_the_task_alone(status: int) -> None:
    outcome = of(status, b"<html>", retry_after="12")
    assert isinstance(outcome, Refused)
    assert (outcome.endpoint, outcome.retry_after_s) == (False, 12)


@pytest.mark.parametrize("status", [100, 101, 408, 409, 499, 500, 501, 502, 503, 504, 520, 599, 600, 999])
@pytest.mark.parametrize("body", [b"", b"<html>Bad Gateway</html>", error("no", 1), ok({"tx_hash": ZERO})])
def test_status_that_leaves_it_open_is_unknown(status: int, body: bytes) -> None:
    outcome = of(status, body, retry_after="5")
    assert isinstance(outcome, Unknown)
    assert outcome.retry_after_s == 5


def test_result_under_a_refusing_status_is_unknown() -> None:
    assert isinstance(of(400, ok({"tx_hash": ZERO})), Unknown)


DEEP = 100_000
NONSENSE = [
    b"",
    b" ",
    b"<html><body>welcome</body></html>",
    b"null",
    b"[]",
    b"true",
    b"[" * DEEP,
    b'{"id":"7","result":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    b'{"id":"7","result":{"task_index":' + b"9" * 5000 + b"}}",
    b'{"id":"7","result":{"task_index":NaN}}',
    b'{"id":"7","result":{"task_index":-Infinity}}',
    b'{"id":"7","id":"7","result":{"task_index":1}}',
    b'{"id":"7","result":{"task_index":1,"task_index":2}}',
    b"\xef\xbb\xbf" + ok({"task_index": 1}),
    ok({"task_index": 1}).decode().encode("utf-16"),
    ok({"task_index": 1})[:-1],
    ok({"task_index": 1}) * 2,
    b"[" + ok({"task_index": 1}) + b"]",
    b"\xff\xfe\x00",
]


@pytest.mark.parametrize("body", NONSENSE)
def test_nonsense_with_200_is_unknown_and_with_400_refused(body: bytes) -> None:
    assert isinstance(of(200, body), Unknown)
    if not body.startswith(b'{"id":"7","result":{"task_index":9'):
        assert isinstance(of(400, body), Refused)


@pytest.mark.parametrize(
    "given_error", ["busy", ["busy"], {"message": {"deep": "busy"}}, {"data": "busy"}, {"code": [], "message": "busy"}]
)
def test_error_of_any_shape_is_an_error_even_beside_a_result(given_error: object) -> None:
    body = json.dumps({"id": "7", "error": given_error, "result": {"tx_hash": ZERO}}).encode()
    outcome = of(200, body)
    assert isinstance(outcome, Refused)
    assert "busy" in outcome.reason


def test_lone_surrogates_and_controls_come_out_as_storable_words() -> None:
    outcome = of(400, b'{"id":"7","error":{"code":1,"message":"a\\ud800\\u001b[2J\\u202e\\nb"}}')
    assert outcome == Refused("a\\ud800\\x1b[2J\\u202e b", 1)


def test_secrets_are_hidden_before_words_are_cut() -> None:
    body = error("x" * (REASON_LIMIT_CHARS - 8) + "hunter2-secret")
    outcome = parse(400, {}, body, ID, redact=lambda text: text.replace("hunter2-secret", "***"))
    assert isinstance(outcome, Refused)
    assert "hunter" not in outcome.reason


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("1.5", 1.5),
        ("999999999999", RETRY_AFTER_LIMIT_S),
        ("9" * 400, None),
        ("-5", None),
        ("nan", None),
        ("inf", None),
        ("1e3", None),
        ("", None),
        ("soon", None),
        ("Sun, 22 Nov 2026 10:00:30 GMT", 30.0),
        ("Mon, 23 Nov 2026 10:00:00 GMT", RETRY_AFTER_LIMIT_S),
        ("Sun, 22 Nov 2026 09:00:00 GMT", None),
        ("Sun, 99 Nov 99999 10:00:00 +9999", None),
    ],
)
def test_retry_after_is_honoured_within_limits(given_value: str, expected: float | None) -> None:
    assert retry_after_s({"retry-after": given_value, "date": "Sun, 22 Nov 2026 10:00:00 GMT"}) == expected


def test_retry_after_date_without_a_date_to_count_from_is_ignored() -> None:
    assert retry_after_s({"retry-after": "Sun, 22 Nov 2026 10:00:30 GMT"}) is None
