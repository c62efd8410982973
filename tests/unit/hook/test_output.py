"""The judge of answers, the check of a function's shape, and the author's test kit."""

import functools
import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.errors import AttemptFailed, FixConfiguration
from watcher.hook.load import fit
from watcher.hook.protocol import LATER_LIMIT_BLOCKS, LATER_LIMIT_S, Hook, checked_result
from watcher.task import Later, Skip, Task
from watcher.testing import make_task, run_hook
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


def _yields(task: Task) -> Iterator[bytes]:
    yield task.message


async def _yields_async(task: Task) -> AsyncIterator[bytes]:
    yield task.message


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (3, "not callable"),
        (Skip, "is a class"),
        (lambda: b"", "wrong number of arguments"),
        (lambda task, other: b"", r"wrong number of arguments.*\(task, other\)"),
        (lambda *, task: b"", "wrong number of arguments"),
        (_yields, "generator"),
        (_yields_async, "generator"),
    ],
)
def test_what_cannot_be_called_with_one_task_is_refused(function: object, message: str) -> None:
    with pytest.raises(FixConfiguration, match=message):
        fit(function, "m:f", "v")


class _Instance:
    async def __call__(self, task: Task) -> bytes:
        return task.message


async def _async_hook(task: Task, extra: int = 0) -> bytes:
    return task.message + bytes([extra])


def test_every_kind_of_callable_is_known_as_sync_or_async() -> None:
    assert not fit(lambda task: b"", "m:f", "v").is_async
    assert not fit(lambda task, extra=1: b"", "m:f", "v").is_async
    assert fit(_async_hook, "m:f", "v").is_async
    assert fit(functools.partial(_async_hook, extra=2), "m:f", "v").is_async
    assert fit(_Instance(), "m:f", "v").is_async
    assert fit(_Instance().__call__, "m:f", "v").is_async


def test_the_protocol_fits_sync_and_async_hooks() -> None:
    def plain(task: Task) -> bytes | Skip:
        return Skip(str(task.task_index))

    hooks: list[Hook] = [plain, _async_hook, _Instance()]
    assert [run_hook(hook, make_task(b"m", task_index=4)) for hook in hooks] == [Skip("4"), b"m\0", b"m"]


def test_run_hook_checks_as_the_daemon_and_raises_the_hooks_error() -> None:
    with pytest.raises(AttemptFailed, match="returned str"):
        run_hook(lambda task: "0x00", make_task())
    with pytest.raises(FixConfiguration, match="wrong number"):
        run_hook(lambda: b"", make_task())  # type: ignore[misc, arg-type]
    with pytest.raises(ZeroDivisionError):
        run_hook(lambda task: bytes([1 // len(task.message)]), make_task())


def test_made_tasks_differ_where_they_should() -> None:
    assert make_task(b"a") == make_task(b"a")
    assert make_task(b"a").task_hash != make_task(b"b").task_hash
    assert make_task(b"a").task_hash != make_task(b"a", task_index=1).task_hash
    assert len(make_task().task_hash) == 32 and len(make_task().task_manager) == 20
