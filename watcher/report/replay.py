"""The replay of past tasks through a hook: their new answers beside those that were recorded and accepted.

Invariant: memory does not grow with the number of tasks. Nothing is sent and nothing is recorded.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from watcher.errors import AttemptFailed
from watcher.ledger.replay import PastTask
from watcher.report.payload import PART_LIMIT_BYTES, Decoder, Payload, first_difference
from watcher.state import State
from watcher.task import Later, Response, Skip, Task
from watcher.text import clean, to_hex

# Kept for the report; all differences count.
KEPT_LIMIT = 1000
_PERCENTILES = (50, 90, 99)

RunHook = Callable[[Task], Awaitable[Response | Skip | Later]]


class Result(StrEnum):
    """The result of a run, compared with the past."""

    EQUAL = "equal"  # an answer that was recorded or accepted, or the same refusal to answer
    DIFFERENT = "different"
    FAILED = "failed"
    SKIPPED = "skipped"
    LATER = "later"
    NEW = "new"  # an answer to a task that had none


@dataclass(frozen=True, slots=True)
class Replayed:
    """One replayed task. `counts` says whether the result is a difference: it fails the replay.

    `message` is what the task asks, as 0x hex, None for a long one. `first_byte` is the first byte in which the answers
    differ. Durations are milliseconds.
    """

    task_index: int
    task_hash: str
    result: Result
    counts: bool
    as_accepted: bool | None
    answer: Payload | None
    recorded: Payload | None
    accepted: Payload | None
    first_byte: int | None
    reason: str
    duration_ms: int | None
    recorded_ms: int | None
    message: str | None = None


@dataclass(slots=True)
class Timing:
    """The distribution of durations in milliseconds, to two digits."""

    counts: Counter[int] = field(default_factory=Counter)

    def add(self, duration_ms: int) -> None:
        """Count one duration."""
        unit = 10 ** max(0, len(str(duration_ms)) - 2)
        self.counts[duration_ms // unit * unit] += 1

    def percentiles(self) -> dict[str, int | None]:
        """Return p50, p90 and p99, None where nothing was counted."""
        return {f"p{share}": self._at(share) for share in _PERCENTILES}

    def _at(self, share: int) -> int | None:
        rank, passed = -(-self.counts.total() * share // 100), 0
        for duration_ms in sorted(self.counts):
            passed += self.counts[duration_ms]
            if passed >= rank:
                return duration_ms
        return None


@dataclass(slots=True)
class Summary:
    """The result of a replay. The field names of `as_json` are an interface: fields are only added.

    `unlike_chain` counts the answers that equal the recorded one and not the accepted one. `kept` are the first
    differences, `KEPT_LIMIT` of them at most.
    """

    target: str
    version: str
    source: str
    counts: Counter[Result] = field(default_factory=Counter)
    differences: int = 0
    unlike_chain: int = 0
    kept: list[Replayed] = field(default_factory=list)
    replayed_ms: Timing = field(default_factory=Timing)
    recorded_ms: Timing = field(default_factory=Timing)

    @property
    def tasks(self) -> int:
        return self.counts.total()

    @property
    def ok(self) -> bool:
        """True if no task came to another result than before."""
        return not self.differences

    def add(self, replayed: Replayed) -> None:
        """Count one task."""
        self.counts[replayed.result] += 1
        self.unlike_chain += replayed.result is Result.EQUAL and replayed.as_accepted is False
        if replayed.counts:
            self.differences += 1
            if len(self.kept) < KEPT_LIMIT:
                self.kept.append(replayed)
        if replayed.duration_ms is not None:
            self.replayed_ms.add(replayed.duration_ms)
        if replayed.recorded_ms is not None:
            self.recorded_ms.add(replayed.recorded_ms)

    def as_json(self) -> dict[str, Any]:
        """Return the object that `watcher replay --json` prints."""
        return {
            "target": self.target,
            "version": self.version,
            "source": self.source,
            "tasks": self.tasks,
            **{str(result): self.counts[result] for result in Result},
            "differences": self.differences,
            "unlike_chain": self.unlike_chain,
            "replayed_ms": self.replayed_ms.percentiles(),
            "recorded_ms": self.recorded_ms.percentiles(),
            "ok": self.ok,
            "cases": [asdict(replayed) for replayed in sorted(self.kept, key=lambda case: case.task_index)],
            "cases_left_out": self.differences - len(self.kept),
        }


async def replay(
    tasks: AsyncIterator[PastTask],
    run_hook: RunHook,
    decoder: Decoder,
    parallel: int,
    listener: Callable[[Replayed], None],
) -> None:
    """Run the hook on each task, several at a time.

    Args:
        tasks: the past tasks.
        run_hook: runs the hook.
        decoder: the type of its answers.
        parallel: the number of runs at a time.
        listener: gets each result, in the order in which the runs end.

    Raises:
        TryLater: no hook can be run now, or the tasks cannot be read.
    """

    async def work() -> None:
        while True:
            async with one_reader:
                past = await anext(tasks, None)
            if past is None:
                return
            listener(await _replayed(past, run_hook, decoder))

    one_reader = asyncio.Lock()
    workers = [asyncio.create_task(work(), name=f"replay {number}") for number in range(parallel)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _replayed(past: PastTask, run_hook: RunHook, decoder: Decoder) -> Replayed:
    result: Response | Skip | Later | AttemptFailed
    try:
        result = await run_hook(past.task)
    except AttemptFailed as error:
        result = error
    return compare(past, result, decoder)


def compare(past: PastTask, result: Response | Skip | Later | AttemptFailed, decoder: Decoder) -> Replayed:
    """Return a run of the hook beside the past.

    Args:
        past: the past task.
        result: what the hook returned, or its failure.
        decoder: the type of its answers.
    """
    answer = result.resp_message if isinstance(result, Response) else None
    before = [known for known in (past.recorded, past.accepted) if known is not None]
    outcome = _outcome(past, result, before)
    reference = past.recorded if past.recorded is not None else past.accepted
    is_difference = outcome is Result.DIFFERENT
    return Replayed(
        task_index=past.task.task_index,
        task_hash="0x" + past.task.task_hash.hex(),
        result=outcome,
        counts=is_difference or (bool(before) and outcome in (Result.FAILED, Result.SKIPPED, Result.LATER)),
        as_accepted=None if answer is None or past.accepted is None else answer == past.accepted,
        answer=decoder.part_of_answer(answer),
        recorded=decoder.part_of_answer(past.recorded),
        accepted=decoder.part_of_answer(past.accepted),
        first_byte=first_difference(answer, reference) if is_difference and answer is not None and reference else None,
        reason=_reason(result),
        duration_ms=result.duration_ms if isinstance(result, Response) else None,
        recorded_ms=past.recorded_ms,
        message=to_hex(past.task.message) if len(past.task.message) <= PART_LIMIT_BYTES else None,
    )


def _outcome(past: PastTask, result: Response | Skip | Later | AttemptFailed, before: list[bytes]) -> Result:
    match result:
        case Response(answer) if not before:
            return Result.NEW
        case Response(answer):
            return Result.EQUAL if answer in before else Result.DIFFERENT
        case Skip():
            return Result.EQUAL if not before and past.state == State.SKIPPED else Result.SKIPPED
        case Later():
            return Result.LATER
        case _:
            return Result.FAILED


def _reason(result: Response | Skip | Later | AttemptFailed) -> str:
    match result:
        case Response():
            return ""
        case Skip(reason) | Later(reason=reason):
            return reason
        case _:
            return clean(str(result))
