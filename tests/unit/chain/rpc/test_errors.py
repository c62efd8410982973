"""What a node's refusal means, however it words it; and nothing secret or unprintable in the words."""

import json
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import fuzzed
from watcher.chain.rpc.errors import (
    COOL_DOWN_MAX_S,
    Overloaded,
    Paused,
    clean,
    error_text,
    http_refusal,
    retry_after_s,
    rpc_error,
)
from watcher.chain.rpc.transport import Url
from watcher.errors import FixConfiguration, RetryElsewhere

# How public nodes say that a range is too wide. None may be taken for "slow down" or "no such block".
TOO_WIDE = [
    "query returned more than 10000 results",
    "Log response size exceeded. this block range should work: [0x1, 0x2]",
    "block range is too wide",
    "eth_getLogs is limited to a 10,000 range",
    "requested too many blocks; limited to 1024 block",
    "Max range: 800",
    "Maximum allowed number of requested blocks is 500",
    "Block range limit exceeded.",
    "please limit the query to at most 1000 blocks",
    "maximum block range: 2000",
    "query exceeds max block range 100000",
    "block range greater than 1000 max",
    "block range exceeds 5000",
    "eth_getLogs range is too large, max is 1k blocks",
    "query must be smaller than size 1024",
    "up to a 2K block range",
    "maximum [from, to] blocks distance: 2000",
    "exceed max block range: 5000",
    "block range too large",
    "backend response too large",
    "query exceeds max results",
    "exceeded max allowed",
    "range threshold exceeded",
]


@pytest.mark.parametrize("message", TOO_WIDE)
def test_words_about_a_wide_range_are_a_plain_refusal(message: str) -> None:
    error = rpc_error({"code": -32005, "message": message})
    assert not (error.slow_down or error.no_such_block or error.call_failed)


@pytest.mark.parametrize(
    "raw",
    [
        {"code": -32005, "message": "project ID request rate exceeded"},
        {"code": -32029, "message": "whatever"},
        {"code": 429, "message": "Your app has exceeded its compute units per second capacity"},
        {"code": -32005, "message": "daily request count exceeded, request rate limited"},
        "Too Many Requests",
    ],
)
def test_rate_limits_are_recognised(raw: object) -> None:
    assert rpc_error(raw).slow_down


@pytest.mark.parametrize(
    "raw",
    [
        {"code": -32000, "message": "unknown block"},
        {"code": -39001, "message": "?"},
        {"code": -32000, "message": "header not found"},
        {"code": -32000, "message": "header for hash not found"},
        {"code": -32602, "message": "BlockOutOfRangeError: block height is 5 but requested was 9"},
        {"code": -32000, "message": "hash 0xabc is not currently canonical"},
        {"code": -32001, "message": "block with hash 0xabc not found"},
        {"code": -32000, "message": "invalid block range params: cannot find block"},
    ],
)
def test_a_missing_block_is_recognised(raw: object) -> None:
    assert rpc_error(raw).no_such_block


def test_what_a_contract_says_in_its_revert_means_nothing_else() -> None:
    error = rpc_error({"code": -32000, "message": "execution reverted: unknown block, rate limit"})
    assert error.call_failed
    assert not rpc_error({"code": -32601, "message": "method eth_x: block not found"}).no_such_block


def test_revert_data_is_kept() -> None:
    assert rpc_error({"code": 3, "message": "execution reverted", "data": "0x08c379a0"}).data == b"\x08\xc3\x79\xa0"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["code", "message", "data"]), inner),
)


@fuzzed
@given(json_values)
def test_any_error_object_becomes_short_printable_words(raw: object) -> None:
    error = rpc_error(raw)
    assert error.message.isascii() and (error.message.isprintable() or not error.message) and len(error.message) <= 2000


@given(st.text(st.characters(), max_size=400))
def test_cleaned_words_are_one_printable_line(message: str) -> None:
    cleaned = clean(message)
    assert cleaned.isascii() and all(" " <= character <= "~" for character in cleaned)


@fuzzed
@given(st.binary(max_size=100))
def test_error_text_of_any_body_is_read_without_raising(body: bytes) -> None:
    assert isinstance(error_text(body), str)


def test_error_text_of_an_http_error_is_its_json_rpc_error() -> None:
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": -32005, "message": "slow down"}}
    assert error_text(json.dumps(body).encode()) == error_text(json.dumps([body]).encode()) == "slow down (-32005)"
    assert error_text(b"<html>403</html>") == error_text(b"[" * 100_000) == ""


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_an_error_with_advice(status: int) -> None:
    assert "redirects" in str(http_refusal(status, "", None))


def test_http_statuses_are_sorted_by_what_to_do() -> None:
    for status in (401, 402, 403, 404):
        refused = http_refusal(status, "", None)
        assert isinstance(refused, Paused) and refused.cool_down_s == 60.0
    limited = http_refusal(429, "", 7.0)
    assert isinstance(limited, Paused) and limited.cool_down_s == 7.0
    busy = http_refusal(503, "", 5.0)
    assert isinstance(busy, Paused) and busy.cool_down_s == 5.0
    for status in (400, 413, 500, 502, 503, 504):
        assert isinstance(http_refusal(status, "", None), Overloaded)
    for status in (100, 204, 206, 418):
        assert type(http_refusal(status, "", None)) is RetryElsewhere


NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("99999999", COOL_DOWN_MAX_S),
        ("9" * 60, COOL_DOWN_MAX_S),
        (format_datetime(NOW.replace(second=20), usegmt=True), 20.0),
        (format_datetime(NOW.replace(year=2020), usegmt=True), 0.0),
        (format_datetime(NOW.replace(year=2050), usegmt=True), COOL_DOWN_MAX_S),
        (None, None),
        ("", None),
        ("soon", None),
        ("1e9", None),
        ("nan", None),
        ("7" * 100, None),
    ],
)
def test_retry_after_is_read_within_limits(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, NOW_MS) == seconds


@fuzzed
@given(st.text(max_size=70))
def test_any_retry_after_is_a_bounded_number_or_nothing(header: str) -> None:
    wait = retry_after_s(header, NOW_MS)
    assert wait is None or 0 <= wait <= COOL_DOWN_MAX_S


@pytest.mark.parametrize(
    ("whole", "origin"),
    [
        (
            "https://user:pass1234567@rpc.example.org:8443/v2/abcdef1234567890?apikey=zyxwvut987",
            "https://rpc.example.org:8443",
        ),
        ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
        ("HTTPS://[2001:db8::1]:8545/abcdef1234567890", "https://[2001:db8::1]:8545"),
        ("wss://rpc.example.org/ws/abcdef1234567890", "wss://rpc.example.org"),
    ],
)
def test_a_url_shows_its_origin_only(whole: str, origin: str) -> None:
    url = Url(whole)
    assert url.origin == str(url) == origin
    assert repr(url) == f"Url({origin})"
    assert url.whole() == whole


def test_a_url_takes_its_secrets_out_of_foreign_words() -> None:
    url = Url("https://user:pass%31234567@rpc.example.org/v2/abcdef1234567890/?apikey=zyxwvut987&net=1")
    message = "POST /v2/abcdef1234567890?apikey=zyxwvut987 by user pass%31234567 or pass1234567: not found"
    scrubbed = url.scrub(message)
    for secret in ("abcdef1234567890", "zyxwvut987", "pass%31234567", "pass1234567"):
        assert secret not in scrubbed
    assert "not found" in scrubbed


@pytest.mark.parametrize(
    "whole", ["", "localhost:8545", "http://", "/path", "http://[::1", "http://host:port/s3cr3tk3y"]
)
def test_what_is_no_url_is_refused_without_repeating_it(whole: str) -> None:
    with pytest.raises(FixConfiguration) as caught:
        Url(whole)
    assert "s3cr3tk3y" not in str(caught.value)
