"""The run of a hook in the tests of its author, and the tasks made for it."""

import pytest

from watcher.errors import AttemptFailed, FixConfiguration
from watcher.hook.protocol import Hook
from watcher.task import Skip, Task
from watcher.testing import make_task, run_hook


class _Instance:
    async def __call__(self, task: Task) -> bytes:
        return task.message


async def _async_hook(task: Task, extra: int = 0) -> bytes:
    return task.message + bytes([extra])


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
