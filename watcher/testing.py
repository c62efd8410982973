"""Help for the tests of hooks: make a task, run the hook on it, get the answer as the daemon would take it.

    from watcher.testing import make_task, run_hook

    def test_squares() -> None:
        assert run_hook(respond, make_task((3).to_bytes(32, "big"))) == (9).to_bytes(32, "big")

Imports the hook package and nothing heavier.
"""

import asyncio
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from watcher.hook.load import fit
from watcher.hook.pool import PoolPlan
from watcher.hook.protocol import ANSWER_LIMIT_BYTES, Answer, checked_result
from watcher.hook.runner import open_runner
from watcher.hook.worker import Caller
from watcher.task import Response, Sighting, Task

__all__ = ["make_task", "run_hook"]


def make_task(
    message: bytes = b"",
    *,
    task_index: int = 0,
    chain_id: int = 31337,
    task_manager: bytes = b"\x11" * 20,
    task_hash: bytes | None = None,
    created_block: int = 100,
    quorum_numbers: bytes = b"\x00",
    quorum_threshold: int = 66,
    deadline_block: int | None = 130,
    seen_at: Sighting | None = None,
    fields: Mapping[str, Any] | None = None,
) -> Task:
    """Return a task with plausible values for the arguments left out.

    The default `task_hash` is 32 bytes that depend on the index and the message; a real one is the keccak of the
    contract's struct, which a hook has no need to compute. `fields` are the values of the event by name.
    """
    content = task_index.to_bytes(32, "big") + message
    return Task(
        chain_id=chain_id,
        task_manager=task_manager,
        task_index=task_index,
        task_hash=_stand_in(b"task" + content) if task_hash is None else task_hash,
        created_block=created_block,
        message=message,
        quorum_numbers=quorum_numbers,
        quorum_threshold=quorum_threshold,
        deadline_block=deadline_block,
        seen_at=seen_at or Sighting(created_block, _stand_in(b"block" + content), _stand_in(b"tx" + content), 0),
        fields=fields or {},
    )


def run_hook(
    hook: str | Callable[[Task], object],
    task: Task,
    *,
    app_dir: str | os.PathLike[str] = ".",
    timeout_s: float = 30.0,
    answer_limit_bytes: int = ANSWER_LIMIT_BYTES,
) -> Answer:
    """Run a hook on one task and return its answer, checked by the daemon's rules. Not for a running event loop.

    A function runs in this process, where a debugger sees it; its exceptions reach the caller, and `timeout_s` does not
    apply. A target (`"module:attribute"`) runs exactly as in the daemon, in a worker process.

    Args:
        hook: the function, or its target.
        task: the task, from `make_task` for example.
        app_dir: the folder from which a target is imported.
        timeout_s: the time limit of a run.
        answer_limit_bytes: the longest answer.

    Raises:
        AttemptFailed: the daemon would count the run as a failure.
        FixConfiguration: the daemon would not accept the hook.
    """
    if not isinstance(hook, str):
        loaded = fit(hook, getattr(hook, "__qualname__", "the hook"), "in this process")
        with Caller(loaded) as call:
            return checked_result(call(task), answer_limit_bytes)
    plan = PoolPlan(workers=1, timeout_s=timeout_s, answer_limit_bytes=answer_limit_bytes)
    return asyncio.run(_run_target(hook, Path(app_dir), plan, task))


async def _run_target(target: str, app_dir: Path, plan: PoolPlan, task: Task) -> Answer:
    async with open_runner(target, plan, app_dir=app_dir) as runner:
        verdict = await runner.run(task)
    return verdict.resp_message if isinstance(verdict, Response) else verdict


def _stand_in(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
