"""Whatever arrives is one outcome, and its words are one line that any log and any ledger can hold."""

import json
import re
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import fuzzed
from watcher import files
from watcher.operator.refusal import REASON_LIMIT_CHARS
from watcher.operator.reply import RETRY_AFTER_LIMIT_S, NoReply, Success, parse, read
from watcher.task import Accepted, Outcome
from watcher.text import one_line

TX = bytes(range(1, 33))
SIG = bytes(range(101, 133))
ZERO = "0x" + "00" * 32
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
ID = 7


def ok(result: Any, request_id: Any = "7") -> bytes:
    return json.dumps({"id": request_id, "result": result, "jsonrpc": "2.0"}).encode()


def error(message: Any, code: Any = 0, request_id: Any = "7") -> bytes:
    return json.dumps({"id": request_id, "error": {"code": code, "message": message}, "jsonrpc": "2.0"}).encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["7", TX.hex(), ZERO]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["id", "result", "error", "code", "message", "data", "tx_hash", "sig_hash", "task_index"])
            | st.text(max_size=3),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
BODIES = (
    st.binary(max_size=200)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.builds(ok, JSON, st.sampled_from(["7", 7, 0, None]))
    | st.builds(error, JSON, JSON, st.sampled_from(["7", 7, 0, None]))
)
NAMES = st.sampled_from(['"a"', '"a:"', '"\\u0061"', '"\\u003a"', '"\\""', '"é"', '" "', '"b"'])
# JSON as text, so that an object may have a name twice, in one spelling or in two.
TEXTS = st.recursive(
    NAMES | st.sampled_from(["1", "-0.0", "1e999", "1" * 70, "null", '"\\ud800"', "NaN"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]")
        | st.lists(st.tuples(NAMES, inner), max_size=3).map(
            lambda pairs: "{" + " , ".join(f"{name}: {value}" for name, value in pairs) + "}"
        )
    ),
    max_leaves=8,
)
HEADERS = st.dictionaries(st.sampled_from(["retry-after", "date"]), st.text(max_size=40) | st.integers().map(str))


@fuzzed
@given(status=st.integers(0, 999) | st.sampled_from([200, 400, 404, 429, 502]), headers=HEADERS, body=BODIES)
def test_any_answer_is_one_outcome_fit_for_the_ledger(status: int, headers: dict[str, str], body: bytes) -> None:
    check(parse(status, headers, body, ID))


@fuzzed
@given(text=TEXTS)
def test_a_result_is_read_as_by_the_strict_reader(text: str) -> None:
    try:
        expected = Success(files.parse(text.encode(), unique_names=True))
    except ValueError:
        expected = None
    body = f'{{"id": 7, "result": {text}}}'.encode()
    assert read(body, ID) == (expected or NoReply(body.decode()))


def test_ten_thousand_damaged_answers_are_each_one_outcome() -> None:
    random = Random(20)
    whole = [ok({"task_index": 1, "tx_hash": ZERO, "sig_hash": "0x" + SIG.hex()}), error("already finished: " + ZERO)]
    for _ in range(10_000):
        body = bytearray(random.choice(whole))
        for _ in range(random.randint(1, 8)):
            at = random.randrange(len(body))
            body[at : at + random.randint(0, 9)] = random.randbytes(random.randint(1, 3))
        check(parse(random.choice([200, 200, 400, 500]), {}, bytes(body), ID))


def check(outcome: Outcome) -> None:
    message = outcome.reason
    assert len(message) <= REASON_LIMIT_CHARS
    assert not CONTROLS.search(message)
    assert message.encode("utf-8").decode() == message
    if isinstance(outcome, Accepted):
        assert all(value is None or (len(value) == 32 and any(value)) for value in (outcome.tx_hash, outcome.sig_hash))
    else:
        assert outcome.retry_after_s is None or 0 <= outcome.retry_after_s <= RETRY_AFTER_LIMIT_S


@given(text=st.text(alphabet=st.characters()), limit_chars=st.integers(4, 60))
def test_cleaned_words_are_one_printable_line_within_the_limit(text: str, limit_chars: int) -> None:
    cleaned = one_line(text, limit_chars)
    assert len(cleaned) <= limit_chars
    assert not CONTROLS.search(cleaned)
    assert cleaned.encode("utf-8").decode() == cleaned


@given(text=st.text(alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=REASON_LIMIT_CHARS))
def test_plain_text_within_the_limit_is_left_alone(text: str) -> None:
    assert one_line(text, REASON_LIMIT_CHARS) == text
