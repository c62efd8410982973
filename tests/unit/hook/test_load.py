"""What can be a hook: a callable of one task."""

import functools
from collections.abc import AsyncIterator, Iterator

import pytest

from watcher.errors import FixConfiguration
from watcher.hook.load import fit
from watcher.task import Skip, Task


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
