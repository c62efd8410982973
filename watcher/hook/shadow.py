"""The shadow: another hook that runs on each task after the live one, and sends nothing.

Invariants: its work is found in the ledger, so that a restart goes on where it was; whatever the shadow does, nothing
waits for it; a run that is not made is counted.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from loguru import logger

from watcher.clock import Clock
from watcher.errors import AttemptFailed, FixConfiguration, TryLater
from watcher.hook.respond import RunHook
from watcher.hook.runner import Runner
from watcher.hook.target import setting_of_shadow
from watcher.ledger import shadow
from watcher.ledger.shadow import LiveRun, ShadowRun
from watcher.ledger.store import Ledger
from watcher.once import LineBudget
from watcher.task import Later, Response, Skip

_PAGE = 32
_IDLE_S = 1.0
_WRITE_EVERY_S = 1.0
_LOAD_AGAIN_S = 30.0
_UNAVAILABLE_S = 5.0


class Listener(Protocol):
    """A receiver of the shadow's news."""

    def shadow_ran(self, runs: Sequence[ShadowRun]) -> None:
        """Take runs that are in the ledger."""

    def shadow_dropped(self, count: int) -> None:
        """Take the number of runs that are not made, because too many wait."""

    def shadow_unavailable(self, reason: str) -> None:
        """Take the reason why the shadow cannot run now; "": it can."""


class Shadow:
    """The shadow of one ledger."""

    def __init__(self, ledger: Ledger, clock: Clock, fit: Callable[[RunHook], RunHook], listener: Listener) -> None:
        """Keep the parts.

        Args:
            ledger: the queue of runs, and their results.
            clock: paces retries and pauses.
            fit: wraps a runner's `run` as that of the live hook is.
            listener: gets the news.
        """
        self._ledger = ledger
        self._clock = clock
        self._fit = fit
        self._listener = listener
        self._lines = LineBudget(clock.monotonic_s)

    async def run(self, open_runner: Callable[[], Runner]) -> None:
        """Run the hook of `open_runner` until cancelled. A hook that cannot be loaded is tried again."""
        # Before the hook is loaded, which takes a while: what the live hook runs meanwhile is the shadow's, too.
        with suppress(TryLater):
            await self._ledger.write(shadow.begin, self._ledger.source_id)
        while True:
            try:
                async with open_runner() as runner:
                    logger.info("shadow.loaded: the shadow runs beside the hook", version=runner.version)
                    await self._work(runner)
            except (FixConfiguration, TryLater) as error:
                reason = setting_of_shadow(str(error))
                self._listener.shadow_unavailable(reason)
                logger.warning("shadow.unavailable: the shadow cannot be loaded; retrying", reason=reason)
            await self._clock.sleep(_LOAD_AGAIN_S)

    async def _work(self, runner: Runner) -> None:
        run_hook = self._fit(runner.run)
        while True:
            try:
                is_idle = await self._next_page(run_hook, runner)
            except TryLater as error:  # no worker, or the ledger takes no write; the place in the queue stays
                self._listener.shadow_unavailable(setting_of_shadow(str(error)))
                await self._clock.sleep(_UNAVAILABLE_S)
                continue
            self._listener.shadow_unavailable("")
            if is_idle:
                await self._clock.sleep(_IDLE_S)

    async def _next_page(self, run_hook: RunHook, runner: Runner) -> bool:
        """Run the next page of the queue. Return True if nothing more waits."""
        ledger, source_id = self._ledger, self._ledger.source_id
        place = await ledger.write(shadow.begin, source_id)
        page = await ledger.read(shadow.waiting, source_id, place, _PAGE)
        if len(page) == _PAGE:
            last, count = await ledger.read(shadow.surplus, source_id, place)
            if count:
                await ledger.write(shadow.record, source_id, [], last, count)
                self._listener.shadow_dropped(count)
                if self._lines.take():
                    logger.warning(
                        "shadow.dropped: the shadow is too slow for some tasks; they are left out", runs=count
                    )
                return False
        if page:
            await self._run_page(page, place, run_hook, runner)
        return len(page) < _PAGE

    async def _run_page(self, page: Sequence[LiveRun], place: int, run_hook: RunHook, runner: Runner) -> None:
        """Run a page, and record what has ended, once a second."""
        running = {asyncio.create_task(self._run(live, run_hook, runner)): live for live in page}
        pending = set(running)
        try:
            while pending:
                done, pending = await asyncio.wait(pending, timeout=_WRITE_EVERY_S)
                if not done:
                    continue
                runs = [task.result() for task in running if task in done]
                waiting = [running[task].attempt_id for task in pending]
                place = min(waiting) - 1 if waiting else page[-1].attempt_id
                await self._ledger.write(shadow.record, self._ledger.source_id, runs, place)
                self._listener.shadow_ran(runs)
                self._log(runs)
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, live: LiveRun, run_hook: RunHook, runner: Runner) -> ShadowRun:
        """Run the shadow on one task. Raises TryLater where it cannot run now."""
        began_s = self._clock.monotonic_s()
        try:
            verdict = await run_hook(live.task)
        except AttemptFailed as error:
            outcome, reason = shadow.FAILED, str(error)
        else:
            match verdict:
                case Response(answer, version, run_ms):
                    return ShadowRun(live, version, shadow.ANSWERED, answer, "", run_ms)
                case Skip(reason):
                    outcome = shadow.SKIPPED
                case Later(reason=reason):
                    outcome = shadow.LATER
        duration_ms = round((self._clock.monotonic_s() - began_s) * 1000)
        return ShadowRun(live, runner.version, outcome, None, reason, duration_ms)

    def _log(self, runs: Sequence[ShadowRun]) -> None:
        """Log the runs that differ, within a budget."""
        for run in runs:
            if not run.agrees and self._lines.take():
                logger.info(
                    "shadow.differs: the shadow came to another result than the hook; see `watcher shadow report`",
                    task=run.live.task.task_index,
                    shadow=run.outcome,
                    live=run.live.outcome,
                    version=run.version,
                    reason=run.reason,
                )
