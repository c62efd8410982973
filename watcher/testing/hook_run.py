"""One run of a hook, checked by the daemon's rules."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from watcher.abi.layout import BadType
from watcher.errors import FixConfiguration
from watcher.hook.load import fit
from watcher.hook.plan import PoolPlan
from watcher.hook.protocol import ANSWER_LIMIT_BYTES, Answer, checked_result
from watcher.hook.runner import open_runner
from watcher.hook.twice import agreed
from watcher.hook.values import Values, ValueTypes
from watcher.hook.worker import Caller
from watcher.task import Later, Response, Skip, Task


def run_hook(
    hook: str | Callable[[Any], object],
    task: Task,
    *,
    app_dir: str | os.PathLike[str] = ".",
    timeout_s: float = 30.0,
    answer_limit_bytes: int = ANSWER_LIMIT_BYTES,
    message: str = "",
    response: str = "",
    run_twice: bool = False,
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
        message: the ABI types of the task's message, as hook.message names them.
        response: the ABI types of the answer, as hook.response names them.
        run_twice: run the hook twice, and fail if the answers differ, as with hook.run_twice.

    Raises:
        AttemptFailed: the daemon would count the run as a failure.
        FixConfiguration: the daemon would not accept the hook.
    """
    types = ValueTypes(message, response)
    try:
        values = Values(types)
    except BadType as error:
        raise FixConfiguration(f"the types of message or response: {error}") from None
    if not isinstance(hook, str):
        loaded = fit(hook, getattr(hook, "__qualname__", "the hook"), "in this process")
        with Caller(loaded) as call:
            runs = [
                checked_result(values.encoded(call(values.decoded(task))), answer_limit_bytes)
                for _ in range(2 if run_twice else 1)
            ]
        return _answer(agreed(_verdict(runs[0]), _verdict(runs[-1]), values))
    plan = PoolPlan(
        workers=1, timeout_s=timeout_s, answer_limit_bytes=answer_limit_bytes, types=types, run_twice=run_twice
    )
    return asyncio.run(_run_target(hook, Path(app_dir), plan, task))


async def _run_target(target: str, app_dir: Path, plan: PoolPlan, task: Task) -> Answer:
    async with open_runner(target, plan, app_dir=app_dir) as runner:
        return _answer(await runner.run(task))


def _verdict(answer: Answer) -> Response | Skip | Later:
    return Response(answer, "", 0) if isinstance(answer, bytes) else answer


def _answer(verdict: Response | Skip | Later) -> Answer:
    return verdict.resp_message if isinstance(verdict, Response) else verdict
