"""What a hook may answer, and the words about anything else."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.errors import AttemptFailed
from watcher.hook.protocol import LATER_LIMIT_BLOCKS, LATER_LIMIT_S, checked_result
from watcher.task import Later, Skip
from watcher.text import REASON_LIMIT


class Bytes(bytes):
    """Stands for HexBytes and its like."""

    def __bytes__(self) -> bytes:
        return b"something else"


@given(st.binary(max_size=64))
def test_bytes_are_taken_as_they_are_and_a_subclass_by_its_content(data: bytes) -> None:
    assert checked_result(data) == data
    assert checked_result(Bytes(data)) == data
    assert type(checked_result(Bytes(data))) is bytes


async def _coroutine() -> bytes:
    return b""


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        ("0x12", "bytes.fromhex"),
        (None, "nothing (None)"),
        (7, "to_bytes(32, 'big')"),
        (True, "returned bool"),
        (bytearray(b"x"), "bytes(...)"),
        (memoryview(b"x"), "bytes(...)"),
        ((b"x",), "returned tuple"),
        (Skip, "call it: Skip('why')"),
        (Later, "Later(blocks=5)"),
        ((n for n in b""), "not `yield`"),
        (ValueError("x"), "returned ValueError"),
    ],
)
def test_other_types_are_refused_with_what_to_return(answer: object, advice: str) -> None:
    with pytest.raises(AttemptFailed) as failure:
        checked_result(answer)
    assert advice in str(failure.value)


def test_an_awaitable_from_a_plain_function_is_refused() -> None:
    coroutine = _coroutine()
    with pytest.raises(AttemptFailed, match="async def"):
        checked_result(coroutine)
    coroutine.close()


def test_an_answer_over_the_limit_is_refused_and_one_at_the_limit_is_taken() -> None:
    assert checked_result(bytes(8), 8) == bytes(8)
    with pytest.raises(AttemptFailed, match="9 bytes; the limit is 8"):
        checked_result(bytes(9), 8)


def test_later_is_held_within_its_limits() -> None:
    assert checked_result(Later(blocks=10**30, seconds=1e300)) == Later(LATER_LIMIT_BLOCKS, LATER_LIMIT_S)
    assert checked_result(Later(blocks=3, reason="a\nb")) == Later(3, 0.0, "a\\nb")


@pytest.mark.parametrize(
    ("blocks", "seconds"),
    [(0, 0), (-1, 5), (1, -0.5), (0, math.nan), (0, math.inf), (True, 0), (1.5, 0), ("1", 0), (1, "2"), (None, None)],
)
def test_a_later_that_names_no_time_is_refused(blocks: Any, seconds: Any) -> None:
    with pytest.raises(AttemptFailed, match="Later"):
        checked_result(Later(blocks, seconds))


def test_a_reason_is_text_and_is_cut() -> None:
    long: Any = "x" * 10_000
    assert checked_result(Skip(long)) == Skip("x" * REASON_LIMIT + "...")
    not_text: Any = b"x"
    with pytest.raises(AttemptFailed, match="is a str, not bytes"):
        checked_result(Skip(not_text))
