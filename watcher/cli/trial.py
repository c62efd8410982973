"""One run of the hook by hand: the verdict with its time, memory, output and traceback."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from watcher.errors import AttemptFailed, FixConfiguration, Quarantine, TryLater, WatcherError
from watcher.hook.footprint import Footprint, footprint_below
from watcher.hook.output import Log
from watcher.hook.pool import WorkerPool
from watcher.hook.runner import Runner
from watcher.redact import hide_urls
from watcher.report.payload import Decoder, Payload
from watcher.settings.model import Settings
from watcher.task import Later, Response, Skip, Task
from watcher.text import to_hex

_SAMPLE_EVERY_S = 0.02
_OUTPUT_LINES_LIMIT = 10_000


@dataclass(slots=True)
class Trial:
    """One run, and its measures. Times are in milliseconds, by this process's clock; None: not measured.

    `loaded` and `ended` are the memory of the worker's processes before and after the run; None where the hook runs in
    no worker. `peak_bytes` is the most that was seen.
    """

    target: str
    task: Task
    result: Response | Skip | Later | AttemptFailed | FixConfiguration | TryLater | None = None
    version: str = ""
    load_ms: float | None = None
    run_ms: float | None = None
    loaded: Footprint | None = None
    ended: Footprint | None = None
    peak_bytes: int = 0
    output: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """Return 0 for a verdict, 1 for a run that failed, else the code of the error that kept it from running."""
        if isinstance(self.result, AttemptFailed):
            return 1
        return self.result.exit_code if isinstance(self.result, WatcherError) else 0

    def as_json(self, message: Payload, decoder: Decoder) -> dict[str, Any]:
        """Return the object that `watcher hook try --json` prints. Names are an interface: fields are only added.

        Args:
            message: the message of the task, for people.
            decoder: the type of an answer.
        """
        answer = decoder.payload_of_answer(self.result.resp_message) if isinstance(self.result, Response) else None
        return {
            **self._verdict(),
            "hook_version": self.version,
            "target": self.target,
            "task_index": self.task.task_index,
            "message": asdict(message),
            "answer": None if answer is None else asdict(answer),
            "duration_ms": self.result.duration_ms if isinstance(self.result, Response) else _whole(self.run_ms),
            "run_ms": self.run_ms,
            "load_ms": self.load_ms,
            "memory": self._memory(),
            "output": self.output,
            "traceback": self.result.traceback if isinstance(self.result, WatcherError) else "",
        }

    def _verdict(self) -> dict[str, Any]:
        match self.result:
            case Response(answer):
                return {"verdict": "answer", "response": to_hex(answer)}
            case Skip(reason):
                return {"verdict": "skip", "reason": reason}
            case Later(blocks, seconds, reason):
                return {"verdict": "later", "blocks": blocks, "seconds": seconds, "reason": reason}
            case AttemptFailed():
                return {"verdict": "failed", "reason": str(self.result)}
            case _:
                return {"verdict": "not_run", "reason": str(self.result)}

    def _memory(self) -> dict[str, int] | None:
        if self.loaded is None:
            return None
        ended = self.ended or self.loaded
        return {
            "loaded_bytes": self.loaded.rss_bytes,
            "peak_bytes": self.peak_bytes,
            "growth_bytes": ended.rss_bytes - self.loaded.rss_bytes,
        }


async def try_once(settings: Settings, hidden: tuple[str, ...], task: Task, decoder: Decoder, log: Log) -> Trial:
    """Run the hook once, in one worker, as the daemon would.

    Args:
        settings: the section [hook] is read.
        hidden: the paths that the hook must not reach.
        task: the task; one with a log gets the values of its event.
        decoder: these values, and the type that an answer must have.
        log: gets each line that the hook prints, beside the trial's output.
    """
    from watcher.daemon import parts

    trial = Trial(hide_urls(settings.hook.target), task)

    def keep(task: Task | None, line: str) -> None:
        log(task, line)
        if len(trial.output) < _OUTPUT_LINES_LIMIT:
            trial.output.append(line)

    began_s = time.monotonic()
    try:
        runner = parts.hook_runner(settings.hook, hidden, workers=1, log=keep, tracebacks=True)
        async with runner:
            trial.version, trial.load_ms = runner.version, _since_ms(began_s)
            async with _measured(trial, runner):
                began_s = time.monotonic()
                try:
                    trial.result = await runner.run(_with_fields(task, decoder))
                except AttemptFailed as error:
                    trial.result = error
                trial.run_ms = _since_ms(began_s)
                trial.version = runner.version  # a service names its own with a reply
        if isinstance(trial.result, Response):
            decoder.answer(trial.result.resp_message)
    except Quarantine as unfit:
        trial.result = AttemptFailed(str(unfit))
    except (FixConfiguration, TryLater) as error:
        trial.result = error
    return trial


@asynccontextmanager
async def _measured(trial: Trial, runner: Runner) -> AsyncIterator[None]:
    """Measure the memory of the worker inside this block; a hook that is no worker of ours has none to show."""
    if not isinstance(runner, WorkerPool):
        yield
        return
    pool = runner

    def sample() -> None:
        for now in filter(None, map(footprint_below, pool.supervisors)):
            trial.loaded, trial.ended = trial.loaded or now, now
            trial.peak_bytes = max(trial.peak_bytes, now.peak_bytes)

    async def sample_often() -> None:
        while True:
            sample()
            await asyncio.sleep(_SAMPLE_EVERY_S)

    await asyncio.sleep(0)  # the pool gives the worker its slot
    sample()
    sampling = asyncio.create_task(sample_often(), name="memory of the hook")
    try:
        yield
    finally:
        sampling.cancel()
        sample()


def _with_fields(task: Task, decoder: Decoder) -> Task:
    return replace(task, fields=decoder.fields(task)) if task.log else task


def _since_ms(began_s: float) -> float:
    return round((time.monotonic() - began_s) * 1000, 3)


def _whole(number: float | None) -> int | None:
    return None if number is None else round(number)
