"""The daemon of the live measurement, with counters: `python -m bench.live_child TOML`.

SIGUSR1 prints the counters as one line of JSON. What is counted follows the stage that asks, by its context.
"""

import asyncio
import json
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from bench.process import cpu_s
from watcher.chain.rpc.transport import Transport
from watcher.daemon import log
from watcher.daemon.daemon import Daemon
from watcher.daemon.run_options import RunOptions
from watcher.ledger.reader import Reader
from watcher.ledger.store import Ledger
from watcher.ledger.writer import Writer
from watcher.redact import Redactor
from watcher.settings import load
from watcher.settings.avs import Avs
from watcher.stage import StageLoop

_STAGE: ContextVar[str] = ContextVar("stage", default="other")
_COUNTS: Counter[str] = Counter()


def _count(owner: type, name: str, kind: str, size: Callable[[tuple[Any, ...]], int] = lambda _args: 1) -> None:
    """Count the calls of a method as `stage:kind`."""
    original = getattr(owner, name)

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        _COUNTS[f"{_STAGE.get()}:{kind}"] += size(args)
        return original(self, *args, **kwargs)

    setattr(owner, name, counted)


def _follow_stages() -> None:
    """Count the steps of each stage, and set the stage of everything that a step starts."""
    step: Callable[[StageLoop], Awaitable[float]] = StageLoop._step

    async def counted(self: StageLoop) -> float:
        _STAGE.set(self.stage.name)
        _COUNTS[f"{self.stage.name}:steps"] += 1
        return await step(self)

    StageLoop._step = counted  # type: ignore[method-assign]


def _snapshot() -> None:
    counts = {"cpu_s": cpu_s(), "at_s": time.monotonic(), "threads": threading.active_count(), **_COUNTS}
    print(json.dumps(counts), flush=True)


async def _main(file: Path) -> None:
    settings = load.load(file)
    log.set_up(settings.log.level, settings.log.format, Redactor(settings.secrets()))
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _snapshot)
    options = RunOptions(config=file, trace="--trace" in sys.argv)
    await Daemon([Avs("", settings)], options).run()


if __name__ == "__main__":
    _follow_stages()
    _count(Transport, "send", "requests")
    _count(Transport, "send", "calls", lambda args: len(args[0]))
    _count(Ledger, "write", "writes")
    _count(Reader, "read", "reads")
    _count(Writer, "_commit", "commits")
    asyncio.run(_main(Path(sys.argv[1])))
