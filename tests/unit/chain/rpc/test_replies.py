"""Whatever a reply holds, reading it gives a checked value or RetryElsewhere."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import fuzzed
from tests.kit.json_values import anything
from watcher.chain.rpc import block_reply, log_reply, replies, transaction_reply
from watcher.errors import RetryElsewhere
from watcher.task import Header

ADDRESS, TOPIC, OTHER = b"\x11" * 20, b"\xaa" * 32, b"\xbb" * 32
LAST = Header(20, (20).to_bytes(32), (19).to_bytes(32))
TIMED = replace(LAST, timestamp_s=1_700_000_000)


@fuzzed
@given(anything)
def test_any_value_is_parsed_or_retry_elsewhere(raw: Any) -> None:
    for parse in (
        replies.quantity,
        replies.octets,
        block_reply.header,
        transaction_reply.receipt,
        lambda value: log_reply.logs(value, ADDRESS, {TOPIC}, None, 0, LAST),
        lambda value: log_reply.logs([value], ADDRESS, {TOPIC}, None, 0, LAST),
    ):
        try:
            parse(raw)
        except RetryElsewhere:
            pass


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
