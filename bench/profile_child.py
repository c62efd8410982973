"""The watcher with clocks: `python -m bench.profile_child run ...` is `watcher run ...`, and counts its CPU.

SIGUSR1 writes the counts, by thread and part, as JSON to the file that PROFILE_FILE names. A part is a stretch of the
code, named in `PARTS`; CPU of a part within another counts for the inner one alone. A task or a callback belongs to the
part in which it was created, so what arrives on a connection counts for the part that opened it.
"""

import asyncio
import functools
import importlib
import inspect
import json
import os
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from watcher.cli import main as cli
from watcher.stage import StageLoop

# Module, function within it, and the name of the part.
PARTS = (
    ("watcher.operator.client", "Client.send", "POST: the client, its transport, the reply"),
    ("watcher.operator.clearance", "Clearance._verdicts", "submit: verdicts and dry runs"),
    ("watcher.operator.drafts", "Drafts.draft", "submit: requests and digests"),
    ("watcher.hook.pool", "WorkerPool.run", "hook: the pool and its groups"),
    ("watcher.hook.pool", "WorkerPool._serve", "hook: the pool and its groups"),
    ("watcher.ledger.writer", "Writer._deliver", "results of commits, wake-ups"),
    ("watcher.ledger.writer", "execute", "verbs"),
    ("watcher.ledger.store", "complete", "audit chain, kept counts"),
    ("watcher.ledger.high_water", "MarkFile.follow", "the mark beside the file"),
    ("watcher.ledger.prepared", "Prepared.run", "statements"),
    ("watcher.ledger.prepared", "Question.rows", "statements"),
    ("sqlalchemy.engine.default", "DefaultDialect.do_execute", "statements"),
    ("sqlalchemy.engine.default", "DefaultDialect.do_executemany", "statements"),
    ("sqlalchemy.engine.default", "DefaultDialect.do_commit", "commits"),
)
OTHER = "callbacks and jobs of no part"

_part: ContextVar[str] = ContextVar("part", default=OTHER)


class _Clock(threading.local):
    """The part that a thread is in, None outside of all, and its CPU when it came there."""

    part: str | None = None
    since_s = 0.0


_clock = _Clock()
_cpu_s: defaultdict[tuple[str, str], float] = defaultdict(float)  # by thread and part


def _enter(part: str | None) -> str | None:
    """Count the CPU since the last change of parts. Return the part before."""
    now_s, before = time.thread_time(), _clock.part
    if before is not None:
        _cpu_s[threading.current_thread().name, before] += now_s - _clock.since_s
    _clock.part, _clock.since_s = part, now_s
    return before


def _clocked(original: Callable[..., Any], part: str) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def run(*args: Any, **kwargs: Any) -> Any:
            token, before = _part.set(part), _enter(part)
            try:
                return await original(*args, **kwargs)
            finally:
                _part.reset(token)
                _enter(before)
    else:

        @functools.wraps(original)
        def run(*args: Any, **kwargs: Any) -> Any:
            before = _enter(part)
            try:
                return original(*args, **kwargs)
            finally:
                _enter(before)

    return run


def place(module: str, function: str) -> tuple[Any, str]:
    """Return the owner of a function, a class or a module, and its name there."""
    *classes, name = function.split(".")
    owner: Any = importlib.import_module(module)
    for each in classes:
        owner = getattr(owner, each)
    return owner, name


def install() -> None:
    """Put clocks around every part, every stage, and every callback of the event loop."""
    for module, function, part in PARTS:
        owner, name = place(module, function)
        setattr(owner, name, _clocked(getattr(owner, name), part))
    step = StageLoop._step

    async def clocked_step(self: StageLoop) -> float:
        return float(await _clocked(step, f"stage {self.stage.name}")(self))

    StageLoop._step = clocked_step  # type: ignore[method-assign]
    run = asyncio.Handle._run

    def clocked_run(self: Any) -> None:
        _enter(self._context.get(_part, OTHER))
        try:
            run(self)
        finally:
            _enter(None)

    asyncio.Handle._run = clocked_run  # type: ignore[method-assign]


def counts() -> dict[str, dict[str, float]]:
    """Return the CPU seconds of each thread, "" for all of them, and of each of its parts."""
    threads: dict[str, dict[str, float]] = {}
    for thread in threading.enumerate():
        if thread.ident is not None:
            threads[thread.name] = {"": time.clock_gettime(time.pthread_getcpuclockid(thread.ident))}
    for (name, part), cpu_s in list(_cpu_s.items()):
        if name in threads:
            threads[name][part] = cpu_s
    return threads


def _write(*_: Any) -> None:
    file = Path(os.environ["PROFILE_FILE"])
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps(counts()))
    draft.replace(file)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _write)
    install()
    sys.exit(cli.run(sys.argv[1:]))
